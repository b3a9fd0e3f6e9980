package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
)

// A vtState is a state of address vtA, and how to get there.
type vtState struct {
	name   string
	listen []bool // in which kinds of session it exists
	halves halves
	enter  func(*vtTest) *Conn // nil where the application has none
	cfg    *Config

	onData, onZero vtOutcome
}

// A vtOutcome is what a frame leads to.
type vtOutcome struct {
	halves    halves
	answer    []vtFrame
	read      string // what the application's connection then reads
	readErr   error  // and what follows that; nil: it waits
	discarded uint64 // payload bytes that no connection took
	accepts   bool   // a new connection can be accepted
	queued    bool   // the one that was queued before the frame can be
	writeErr  error  // what a Write then returns, where the application has a connection
}

var (
	vtOnlyListener = []bool{true}
	vtOnlyPipe     = []bool{false}
	vtBoth         = []bool{true, false}
)

const (
	vtFree     = halves(0)
	vtBothOpen = recvOpen | sendOpen
)

// vtStates are all states that an address can be in, and in each what the two frames
// that can come lead to.
func vtStates() []vtState {
	opened := func(tc *vtTest) *Conn {
		c := tc.open(vtA)
		tc.want("an open", vtOpen(vtA))
		return c
	}
	accepted := func(tc *vtTest) *Conn {
		tc.send(vtOpen(vtA))
		c := tc.accept(vtA)
		tc.wantIdle("an accept has no answer")
		return c
	}
	then := func(enter func(*vtTest) *Conn, more func(*vtTest, *Conn)) func(*vtTest) *Conn {
		return func(tc *vtTest) *Conn {
			c := enter(tc)
			more(tc, c)
			return c
		}
	}
	without := func(enter func(*vtTest) *Conn) func(*vtTest) *Conn {
		return func(tc *vtTest) *Conn { enter(tc); return nil }
	}
	weEnd := func(tc *vtTest, c *Conn) {
		c.CloseWrite()
		tc.want("our end", vtEnd(vtA))
	}
	weClose := func(tc *vtTest, c *Conn) {
		c.Close()
		tc.want("Close ends our half", vtEnd(vtA))
	}
	closed := func(tc *vtTest, c *Conn) {
		c.Close()
		tc.wantIdle("our end has gone out before")
	}
	peerEnds := func(tc *vtTest, c *Conn) {
		tc.send(vtEnd(vtA))
		tc.wantIdle("an end has no answer")
	}
	peerSaysAndEnds := func(tc *vtTest, c *Conn) {
		tc.send(vtData(vtA, "old"), vtEnd(vtA))
		tc.wantIdle("an end has no answer")
	}
	weStopReading := func(tc *vtTest, c *Conn) {
		c.CloseRead()
		tc.wantIdle("the peer can't be told that nobody reads")
	}

	both := func(enter func(*vtTest) *Conn, name string, listen []bool) []vtState {
		return []vtState{{
			name: "both open, " + name, listen: listen, halves: vtBothOpen, enter: enter,
			onData: vtOutcome{halves: vtBothOpen, read: "hello"},
			onZero: vtOutcome{halves: sendOpen, readErr: io.EOF},
		}, {
			name: "we have ended, " + name, listen: listen, halves: recvOpen, enter: then(enter, weEnd),
			onData: vtOutcome{halves: recvOpen, read: "hello", writeErr: syscall.EPIPE},
			onZero: vtOutcome{halves: vtFree, readErr: io.EOF, writeErr: syscall.EPIPE},
		}, {
			name: "we have closed, " + name, listen: listen, halves: recvOpen, enter: then(enter, weClose),
			onData: vtOutcome{halves: recvOpen, readErr: net.ErrClosed, discarded: 5, writeErr: net.ErrClosed},
			onZero: vtOutcome{halves: vtFree, readErr: net.ErrClosed, writeErr: net.ErrClosed},
		}, {
			name: "we have ended, then closed, " + name, listen: listen, halves: recvOpen, enter: then(then(enter, weEnd), closed),
			onData: vtOutcome{halves: recvOpen, readErr: net.ErrClosed, discarded: 5, writeErr: net.ErrClosed},
			onZero: vtOutcome{halves: vtFree, readErr: net.ErrClosed, writeErr: net.ErrClosed},
		}, {
			name: "we read no more, " + name, listen: listen, halves: vtBothOpen, enter: then(enter, weStopReading),
			onData: vtOutcome{halves: vtBothOpen, readErr: net.ErrClosed, discarded: 5},
			onZero: vtOutcome{halves: sendOpen, readErr: net.ErrClosed},
		}, {
			name: "the peer has ended, " + name, listen: listen, halves: sendOpen, enter: then(enter, peerEnds),
			onData: vtOutcome{halves: sendOpen, readErr: io.EOF, discarded: 5},
			// The address is open here, so the frame can't be an open.
			onZero: vtOutcome{halves: vtFree, readErr: io.EOF, writeErr: syscall.ECONNRESET},
		}, {
			name: "the peer has ended, its bytes are unread, " + name, listen: listen, halves: sendOpen, enter: then(enter, peerSaysAndEnds),
			onData: vtOutcome{halves: sendOpen, read: "old", readErr: io.EOF, discarded: 5},
			onZero: vtOutcome{halves: vtFree, read: "old", readErr: io.EOF, writeErr: syscall.ECONNRESET},
		}}
	}
	ended := func(listen []bool, onZero func(vtOutcome) vtOutcome) []vtState {
		return []vtState{{
			name: "free", listen: listen, halves: vtFree, enter: func(*vtTest) *Conn { return nil },
			onData: vtOutcome{halves: vtFree, discarded: 5},
			onZero: onZero(vtOutcome{}),
		}, {
			name: "both have ended, we first", listen: listen, halves: vtFree, enter: then(then(opened, weEnd), peerEnds),
			onData: vtOutcome{halves: vtFree, readErr: io.EOF, discarded: 5, writeErr: syscall.EPIPE},
			onZero: onZero(vtOutcome{readErr: io.EOF, writeErr: syscall.EPIPE}),
		}, {
			name: "both have ended, the peer first", listen: listen, halves: vtFree, enter: then(then(opened, peerEnds), weEnd),
			onData: vtOutcome{halves: vtFree, readErr: io.EOF, discarded: 5, writeErr: syscall.EPIPE},
			onZero: onZero(vtOutcome{readErr: io.EOF, writeErr: syscall.EPIPE}),
		}, {
			name: "both have ended, bytes are unread", listen: listen, halves: vtFree, enter: then(then(opened, weEnd), peerSaysAndEnds),
			onData: vtOutcome{halves: vtFree, read: "old", readErr: io.EOF, discarded: 5, writeErr: syscall.EPIPE},
			onZero: onZero(vtOutcome{read: "old", readErr: io.EOF, writeErr: syscall.EPIPE}),
		}, {
			name: "both have ended, we have closed", listen: listen, halves: vtFree, enter: then(then(opened, weClose), peerEnds),
			onData: vtOutcome{halves: vtFree, readErr: net.ErrClosed, discarded: 5, writeErr: net.ErrClosed},
			onZero: onZero(vtOutcome{readErr: net.ErrClosed, writeErr: net.ErrClosed}),
		}}
	}
	refused := func(name string, listen []bool, cfg *Config, before ...vtFrame) vtState {
		return vtState{
			name: "refused, " + name, listen: listen, halves: recvOpen, cfg: cfg,
			enter: func(tc *vtTest) *Conn {
				tc.send(append(before, vtOpen(vtA))...)
				tc.want("an open that nobody will take is answered with an end", vtEnd(vtA))
				return nil
			},
			onData: vtOutcome{halves: recvOpen, discarded: 5},
			onZero: vtOutcome{halves: vtFree},
		}
	}

	states := both(opened, "opened here", vtBoth)
	states = append(states, both(accepted, "accepted", vtOnlyListener)...)
	states = append(states, ended(vtOnlyListener, func(o vtOutcome) vtOutcome {
		o.halves, o.accepts = vtBothOpen, true
		return o
	})...)
	states = append(states, ended(vtOnlyPipe, func(o vtOutcome) vtOutcome {
		o.halves, o.answer = recvOpen, []vtFrame{vtEnd(vtA)}
		return o
	})...)
	states = append(states,
		refused("by a Pipe", vtOnlyPipe, nil),
		refused("by a full backlog", vtOnlyListener, &Config{AcceptBacklog: 1}, vtOpen(vtB)),
		vtState{
			name: "both open, not accepted", listen: vtOnlyListener, halves: vtBothOpen,
			enter:  without(func(tc *vtTest) *Conn { tc.send(vtOpen(vtA)); return nil }),
			onData: vtOutcome{halves: vtBothOpen, queued: true, read: "hello"},
			onZero: vtOutcome{halves: sendOpen, queued: true, readErr: io.EOF},
		},
		vtState{
			name: "the peer has ended, not accepted", listen: vtOnlyListener, halves: sendOpen,
			enter:  without(func(tc *vtTest) *Conn { tc.send(vtOpen(vtA), vtData(vtA, "old"), vtEnd(vtA)); return nil }),
			onData: vtOutcome{halves: sendOpen, queued: true, read: "old", readErr: io.EOF, discarded: 5},
			onZero: vtOutcome{halves: vtFree, queued: true, read: "old", readErr: io.EOF, writeErr: syscall.ECONNRESET},
		},
	)
	return states
}

// TestStateTimesFrame asserts every cell of the table: in each state of an address,
// for each kind of session, what each frame leads to.
func TestStateTimesFrame(t *testing.T) {
	for _, st := range vtStates() {
		for _, listen := range st.listen {
			side := map[bool]string{true: "listener", false: "pipe"}[listen]
			t.Run(side+"/"+st.name+"/data", func(t *testing.T) {
				vtRun(t, listen, st.cfg, func(tc *vtTest) { vtCheckCell(tc, st, vtData(vtA, "hello"), st.onData) })
			})
			t.Run(side+"/"+st.name+"/zero", func(t *testing.T) {
				vtRun(t, listen, st.cfg, func(tc *vtTest) { vtCheckCell(tc, st, vtFrame{addr: vtA}, st.onZero) })
			})
		}
	}
}

func vtCheckCell(tc *vtTest, st vtState, f vtFrame, want vtOutcome) {
	tc.t.Helper()
	c := st.enter(tc)
	tc.wantHalves("before the frame", vtA, st.halves)
	before := tc.p.Stats()

	tc.send(f)
	tc.want("the answer", want.answer...)
	tc.wantHalves("after the frame", vtA, want.halves)
	if n := tc.p.Stats().Discarded - before.Discarded; n != want.discarded {
		tc.t.Errorf("%d payload bytes were discarded, want %d", n, want.discarded)
	}
	if want.queued {
		c = tc.accept(vtA)
	}
	if c != nil {
		tc.wantRead("the connection that was there", c, want.read, want.readErr)
		n, err := c.Write([]byte("x"))
		if want.writeErr == nil {
			if n != 1 || err != nil {
				tc.t.Errorf("Write returned %d, %v, want 1, nil", n, err)
			}
			tc.want("what was written", vtData(vtA, "x"))
		} else if n != 0 || !errors.Is(err, want.writeErr) {
			tc.t.Errorf("Write returned %d, %v, want 0, %v", n, err, want.writeErr)
		}
	}
	if want.accepts {
		d := tc.accept(vtA)
		tc.send(vtData(vtA, "new"))
		tc.wantRead("the new connection", d, "new", nil)
		if c != nil {
			if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
				tc.t.Errorf("the old connection has read %d of the new one's bytes", n)
			}
			c.Close()
			tc.wantIdle("the old connection's Close sends nothing under the new one's address")
		}
		d.Close()
		tc.want("the new connection's end", vtEnd(vtA))
	} else if st.cfg == nil {
		tc.wantNoAccept("nothing was opened")
	}
	if want.halves != vtFree && !want.accepts {
		tc.wantOpenErr("the address is in use", vtA, ErrAddrInUse)
	}
	if c != nil && !want.accepts {
		c.Close()
		end := []vtFrame{vtEnd(vtA)}
		if want.halves&sendOpen == 0 {
			end = nil
		}
		tc.want("Close sends an end if our half is open, and else nothing", end...)
		c.Close()
		tc.wantIdle("the second Close sends nothing")
	}
}

// TestCrossedOpensAreNoticedAndNotEnded: both ends open one address at once, and each
// takes the other's open for an end. When the peer ends its connection we learn it;
// an end from us would open a ghost at the peer, which has forgotten the address.
func TestCrossedOpensAreNoticedAndNotEnded(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.want("our open", vtOpen(vtA))
		tc.send(vtOpen(vtA))
		tc.wantRead("the peer's open looks like an end", c, "", io.EOF)
		tc.write(c, "lost")
		tc.want("the peer discards this", vtData(vtA, "lost"))
		tc.send(vtData(vtA, "lost too"))
		tc.wantHalves("nothing has told us yet", vtA, sendOpen)

		tc.send(vtEnd(vtA))
		tc.wantHalves("the address is free", vtA, vtFree)
		n, err := c.Write([]byte("x"))
		var re *ResetError
		if n != 0 || !errors.As(err, &re) || re.Code != CodeCrossedOpen || !re.Remote {
			tc.t.Errorf("Write returned %d, %v, want a *ResetError with CodeCrossedOpen", n, err)
		}
		if err := c.CloseWrite(); !errors.As(err, &re) {
			tc.t.Errorf("CloseWrite returned %v, want a *ResetError", err)
		}
		c.Close()
		tc.wantIdle("no end for an address that the peer has forgotten")
		tc.wantNoAccept("the peer's end has opened nothing")

		d := tc.open(vtA)
		tc.want("the address can be opened again", vtOpen(vtA))
		tc.send(vtData(vtA, "fine"))
		tc.wantRead("and works", d, "fine", nil)
	})
}

// TestCrossedAddressIsFreeBehindItsBytes: what a Write has published of a connection that was
// crossed must not follow the next OPEN of its address, and no Write comes later.
// To see it fail: in onVTHeader, set the halves to 0 where opens cross.
func TestCrossedAddressIsFreeBehindItsBytes(t *testing.T) {
	for _, peerOpens := range []bool{false, true} {
		vtRun(t, true, &Config{MaxConns: 3}, func(tc *vtTest) { // the crossed one counts until it is closed
			c, d := tc.open(vtA), tc.open(vtB)
			tc.want("opens", vtOpen(vtA), vtOpen(vtB))
			tc.send(vtEnd(vtA)) // or the peer's OPEN
			tc.peer.setDeaf(true)
			synctest.Wait()
			hold := tc.startWrite(d, "holds the transport")
			hold.wantBlocked("the peer is deaf")
			tc.startWrite(c, "old").want("staged", 3, nil)
			tc.peer.queue(vtBytes(vtEnd(vtA)))
			synctest.Wait()
			var re *ResetError
			if n, err := c.Write([]byte("late")); n != 0 || !errors.As(err, &re) || re.Code != CodeCrossedOpen {
				tc.t.Errorf("Write returned %d, %v", n, err)
			}
			if peerOpens {
				tc.peer.queue(vtBytes(vtOpen(vtA), vtData(vtA, "mine")))
				synctest.Wait()
				tc.wantRead("the peer may open it", tc.accept(vtA), "mine", nil)
				tc.peer.setDeaf(false)
				tc.want("what was published", vtData(vtB, "holds the transport"), vtData(vtA, "old"))
				return
			}
			var e *Conn
			op := tc.startErr("Open", func() (err error) {
				if e, err = tc.p.Open(context.Background(), vtA); err == nil {
					tc.conns = append(tc.conns, e)
				}
				return err
			})
			op.wantBlocked("bytes of the old connection are on their way")
			tc.peer.setDeaf(false)
			op.want("Open", 0, nil)
			tc.want("in this order", vtData(vtB, "holds the transport"), vtData(vtA, "old"), vtOpen(vtA))
			tc.send(vtData(vtA, "fine"))
			tc.wantRead("the new one works", e, "fine", nil)
		})
	}
}

// TestCrossedOpensAfterOurEndLeaveAGhost: had our end gone out before the peer's came,
// that one opens. There is no cure, but it must be a connection like any other.
func TestCrossedOpensAfterOurEndLeaveAGhost(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.send(vtOpen(vtA))
		tc.wantRead("the peer's open looks like an end", c, "", io.EOF)
		c.Close()
		tc.want("our end, which opens a ghost at the peer", vtOpen(vtA), vtEnd(vtA))
		tc.send(vtEnd(vtA))
		if tc.l != nil {
			ghost := tc.accept(vtA)
			tc.wantRead("a ghost says nothing", ghost, "", nil)
			ghost.Close()
		}
		tc.want("both ends come to an end with it", vtEnd(vtA))
		tc.send(vtEnd(vtA))
		tc.wantHalves("the address is free again", vtA, vtFree)
	})
}

// TestCrossedOpensBetweenTwoSessions lets two Listeners open one address while the
// other's open is under way.
func TestCrossedOpensBetweenTwoSessions(t *testing.T) {
	vtRun(t, true, nil, func(a *vtTest) {
		near, far := net.Pipe()
		l, err := NewListener(near, vtConfig)
		if err != nil {
			t.Fatal(err)
		}
		b := &vtTest{t: a.t, s: l.s, l: l, p: l.Pipe(), peer: newVTPeer(far), slabs: -1}
		a.t.Cleanup(b.finish)
		// carry takes what is under way to where it goes, until nothing is.
		carry := func() {
			for {
				fromA, fromB := a.frames(), b.frames()
				if len(fromA)+len(fromB) == 0 {
					return
				}
				b.send(fromA...)
				a.send(fromB...)
			}
		}
		x, y := a.open(vtA), b.open(vtA)
		carry()
		a.wantRead("the other's open looks like an end", x, "", io.EOF)
		b.wantRead("the other's open looks like an end", y, "", io.EOF)
		a.write(x, "into the void")
		carry()
		x.Close()
		carry()
		if _, err := y.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			a.t.Errorf("Write returned %v, want a reset", err)
		}
		y.Close()
		a.wantHalves("free at the one", vtA, vtFree)
		b.wantHalves("free at the other", vtA, vtFree)
		b.wantIdle("and no ghost")

		x = a.open(vtA)
		carry()
		y = b.accept(vtA)
		a.write(x, "hello")
		carry()
		b.wantRead("the address works again", y, "hello", nil)
	})
}

// TestACrossingTakesOurPendingEndBack: our end is owed and the transport takes
// nothing. Meanwhile the peer's crossing end comes: then ours must not go out.
func TestACrossingTakesOurPendingEndBack(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c, other := tc.open(vtA), tc.open(vtB)
		tc.want("two opens", vtOpen(vtA), vtOpen(vtB))
		tc.send(vtOpen(vtA))
		tc.peer.setDeaf(true)
		op := tc.startWrite(other, "holds the transport")
		op.wantBlocked("the peer reads nothing")
		c.Close()
		tc.send(vtEnd(vtA))
		tc.peer.setDeaf(false)
		tc.want("no end behind what was under way", vtData(vtB, "holds the transport"))
		op.want("it is out", 19, nil)
		tc.wantHalves("the peer has forgotten the address, and so have we", vtA, vtFree)
	})
}

// TestAddrInUseUntilBothHaveEnded goes the two ways from open to free.
func TestAddrInUseUntilBothHaveEnded(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		for _, weFirst := range []bool{true, false} {
			c := tc.open(vtA)
			tc.wantOpenErr("both halves are open", vtA, ErrAddrInUse)
			tc.want("one open, for the one that succeeded", vtOpen(vtA))
			if weFirst {
				c.Close()
				tc.want("our end", vtEnd(vtA))
				tc.wantOpenErr("the peer has not ended", vtA, ErrAddrInUse)
				tc.send(vtEnd(vtA))
			} else {
				tc.send(vtEnd(vtA))
				tc.wantOpenErr("we have not ended", vtA, ErrAddrInUse)
				c.Close()
				tc.want("our end", vtEnd(vtA))
			}
			tc.wantIdle("a failed open sends nothing")
			tc.wantHalves("both have ended", vtA, vtFree)
		}
	})
}

// TestOpenWaitsUntilOurEndIsOut: the peer has ended and we have closed, but our end
// waits for the transport. An open now would reach the peer as that end.
func TestOpenWaitsUntilOurEndIsOut(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c, other := tc.open(vtA), tc.open(vtB)
		tc.want("two opens", vtOpen(vtA), vtOpen(vtB))
		tc.send(vtEnd(vtA))
		tc.wantOpenErr("we have not ended", vtA, ErrAddrInUse)
		tc.peer.setDeaf(true)
		write := tc.startWrite(other, "x")
		write.wantBlocked("the peer reads nothing")
		c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		late := tc.startErr("Open with a context", func() error { _, err := tc.p.Open(ctx, vtA); return err })
		var again *Conn
		open := tc.startErr("Open", func() (err error) { again, err = tc.p.Open(context.Background(), vtA); return err })
		open.wantBlocked("our end has not gone out")
		late.wantBlocked("our end has not gone out")
		<-late.done
		late.want("its time is over", 0, context.DeadlineExceeded)
		open.wantBlocked("our end has not gone out")
		tc.peer.setDeaf(false)
		tc.want("our end, and then the open", vtData(vtB, "x"), vtEnd(vtA), vtOpen(vtA))
		open.want("it is out", 0, nil)
		tc.conns = append(tc.conns, again)
		tc.send(vtData(vtA, "hello"))
		tc.wantRead("and it works", again, "hello", nil)
	})
}

// TestUnknownAddressDataIsDiscarded sends much data for addresses that nobody has
// opened, between the frames of one that is open.
func TestUnknownAddressDataIsDiscarded(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtB)
		tc.want("our open", vtOpen(vtB))
		r := tc.reading(c)
		junk := strings.Repeat("j", 65535)
		for range 10 {
			tc.send(vtData(vtA, junk), vtData(vtB, "mine,"), vtData(vtC, "j"))
		}
		r.want("the open connection's bytes, and no others", strings.Repeat("mine,", 10), nil)
		tc.wantIdle("discarded data has no answer")
		if st := tc.p.Stats(); st.Discarded != 10*65536 || st.Conns != 1 {
			tc.t.Errorf("%d bytes discarded and %d connections, want %d and 1", st.Discarded, st.Conns, 10*65536)
		}
	})
}

// TestPipeAnswersOpensWithEnds: the opener reads the end at once, and what it sends on
// is discarded until its own.
func TestPipeAnswersOpensWithEnds(t *testing.T) {
	vtRun(t, false, nil, func(tc *vtTest) {
		tc.send(vtOpen(vtA), vtData(vtA, "hello"), vtOpen(vtB))
		tc.want("an end for each", vtEnd(vtA), vtEnd(vtB))
		tc.send(vtData(vtB, "more"), vtEnd(vtB))
		tc.wantIdle("one end is enough")
		tc.wantHalves("the peer has not ended", vtA, recvOpen)
		tc.wantHalves("the peer has ended", vtB, vtFree)
		tc.send(vtEnd(vtA), vtOpen(vtA))
		tc.want("the next open is refused as well", vtEnd(vtA))
		if st := tc.p.Stats(); st.Refused != 3 || st.Discarded != 9 {
			tc.t.Errorf("%d refused and %d bytes discarded, want 3 and 9", st.Refused, st.Discarded)
		}
	})
}

// TestNothingIsSentAfterOurEnd tries everything that could send.
func TestNothingIsSentAfterOurEnd(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		for _, closed := range []bool{false, true} {
			a, want := vtA, error(syscall.EPIPE)
			if closed {
				a, want = vtB, net.ErrClosed
			}
			c := tc.open(a)
			c.CloseWrite()
			if closed {
				c.Close()
			}
			tc.want("open and end", vtOpen(a), vtEnd(a))
			if _, err := c.Write([]byte("x")); !errors.Is(err, want) {
				tc.t.Errorf("Write returned %v, want %v", err, want)
			}
			if _, err := c.WriteBuffers(&net.Buffers{[]byte("x"), []byte("y")}); !errors.Is(err, want) {
				tc.t.Errorf("WriteBuffers returned %v, want %v", err, want)
			}
			if _, err := c.ReadFrom(strings.NewReader("x")); !errors.Is(err, want) {
				tc.t.Errorf("ReadFrom returned %v, want %v", err, want)
			}
			if err := c.CloseWrite(); closed != errors.Is(err, net.ErrClosed) || !closed && err != nil {
				tc.t.Errorf("the second CloseWrite returned %v", err)
			}
			c.Close()
			c.Reset(7)
			tc.wantIdle("our half has ended")
		}
	})
}

// TestEmptyWritesSendNothing: an empty frame would be an end.
func TestEmptyWritesSendNothing(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.want("our open", vtOpen(vtA))
		for _, write := range []func() (int64, error){
			func() (int64, error) { n, err := c.Write(nil); return int64(n), err },
			func() (int64, error) { n, err := c.Write([]byte{}); return int64(n), err },
			func() (int64, error) { return c.WriteBuffers(&net.Buffers{}) },
			func() (int64, error) { return c.WriteBuffers(&net.Buffers{nil, {}, nil}) },
			func() (int64, error) { return c.ReadFrom(strings.NewReader("")) },
		} {
			if n, err := write(); n != 0 || err != nil {
				tc.t.Errorf("an empty write returned %d, %v", n, err)
			}
		}
		tc.wantIdle("no frame for an empty write")
		tc.write(c, "x")
		tc.want("and the connection works", vtData(vtA, "x"))
	})
}

// TestEndIsSentExactlyOnce calls everything that ends the half, at once.
func TestEndIsSentExactlyOnce(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		for range 50 {
			c := tc.open(vtA)
			tc.want("our open", vtOpen(vtA))
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() { c.Close() })
				wg.Go(func() { c.CloseWrite() })
				wg.Go(func() { c.Reset(1) })
				wg.Go(func() { c.Write(nil) })
			}
			wg.Wait()
			tc.want("one end", vtEnd(vtA))
			tc.send(vtEnd(vtA))
			tc.wantHalves("the address is free", vtA, vtFree)
		}
	})
}

// TestEndFollowsTheDataInOneWrite: what a connection has written and its end, both
// waiting for the transport, go out together and in order. vt-muxer hangs less the
// fewer ends arrive alone.
func TestEndFollowsTheDataInOneWrite(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		a, b, c := tc.open(vtA), tc.open(vtB), tc.open(vtC)
		tc.want("three opens", vtOpen(vtA), vtOpen(vtB), vtOpen(vtC))
		tc.peer.setDeaf(true)
		first := tc.startWrite(a, "holds the transport")
		first.wantBlocked("the peer reads nothing")
		tc.write(b, "data of b")
		tc.write(c, "data of c")
		b.Close()
		c.CloseWrite()
		tc.peer.setDeaf(false)
		first.want("it is out", 19, nil)
		tc.settle()
		writes := tc.peer.take()
		if len(writes) != 2 {
			tc.t.Fatalf("%d writes, want 2", len(writes))
		}
		frames, _ := vtDecode(writes[1])
		slices.SortFunc(frames[min(2, len(frames)):], func(x, y vtFrame) int { return -x.addr.Compare(y.addr) })
		want := []vtFrame{vtData(vtB, "data of b"), vtData(vtC, "data of c"), vtEnd(vtB), vtEnd(vtC)}
		if !slices.Equal(frames, want) {
			tc.t.Errorf("the second write is %v, want %v", frames, want)
		}
	})
}

// TestEndFollowsAWriteThatIsCut: Close interrupts a Write half-way. What the Write
// counts goes out, then the end, and nothing after it.
func TestEndFollowsAWriteThatIsCut(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.want("our open", vtOpen(vtA))
		tc.peer.setDeaf(true)
		data := strings.Repeat("0123456789", 100_000)
		op := tc.startWrite(c, data)
		op.wantBlocked("the peer reads nothing")
		c.Close()
		synctest.Wait()
		<-op.done
		if !errors.Is(op.err, net.ErrClosed) {
			tc.t.Errorf("Write returned %v, want net.ErrClosed", op.err)
		}
		tc.peer.setDeaf(false)
		frames := tc.frames()
		var got strings.Builder
		for i, f := range frames {
			if f.addr != vtA || (f.data == "") != (i == len(frames)-1) {
				tc.t.Fatalf("frame %d of %d is %v", i, len(frames), f)
			}
			got.WriteString(f.data)
		}
		if got.String() != data[:op.n] {
			tc.t.Errorf("%d bytes were sent, want the %d that Write counted", got.Len(), op.n)
		}
	})
}

// vtPlayer is a peer that keeps the rules: it follows every address, ends
// what the session ends, and finds every frame that comes out of order. The n-th
// connection of an address must carry exactly the tag of the n-th.
type vtPlayer struct {
	mu    sync.Mutex
	open  map[addr.SocketAddr]bool
	times map[addr.SocketAddr]int
	got   map[addr.SocketAddr]string
	bad   []string
}

func vtTag(a addr.SocketAddr, n int) string { return fmt.Sprintf("<%v #%d>", a, n) }

// frame takes a frame and returns the answer.
func (p *vtPlayer) frame(f vtFrame, filler int) (answer []vtFrame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f.data != "" && !p.open[f.addr]:
		p.bad = append(p.bad, fmt.Sprintf("data for %v, which is not open", f.addr))
	case f.data != "":
		p.got[f.addr] += f.data
	case !p.open[f.addr]:
		p.open[f.addr] = true
		p.times[f.addr]++
		p.got[f.addr] = ""
	default:
		n := p.times[f.addr]
		if want := vtTag(f.addr, n) + strings.Repeat("f", filler); p.got[f.addr] != want {
			p.bad = append(p.bad, fmt.Sprintf("connection %d of %v carried %s, want %s", n, f.addr, vtShort(p.got[f.addr]), vtShort(want)))
		}
		p.open[f.addr] = false
		return []vtFrame{vtEnd(f.addr)}
	}
	return nil
}

// serve reads frames from conn until its end.
func (p *vtPlayer) serve(conn net.Conn, filler int) {
	p.open, p.times, p.got = map[addr.SocketAddr]bool{}, map[addr.SocketAddr]int{}, map[addr.SocketAddr]string{}
	answers := make(chan []byte, 1<<16) // never full: one for each connection
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := range answers {
			conn.Write(b)
		}
	})
	var rest []byte
	buf := make([]byte, 256<<10)
	for {
		n, err := conn.Read(buf)
		var frames []vtFrame
		frames, rest = vtDecode(append(rest, buf[:n]...))
		var b []byte
		for _, f := range frames {
			b = append(b, vtBytes(p.frame(f, filler)...)...)
		}
		if len(b) > 0 {
			answers <- b
		}
		if err != nil {
			break
		}
	}
	close(answers)
	wg.Wait()
}

// TestNoOpenOvertakesAnEnd opens, writes, ends and opens again the same addresses
// from many goroutines at once, some of them with much data. The two frames are alike, so
// the peer would notice only that data is missing or comes under a closed address.
func TestNoOpenOvertakesAnEnd(t *testing.T) {
	for _, tt := range []struct {
		name   string
		filler int
	}{{"small writes", 0}, {"large writes", 20_000}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Run("pipe", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					vtReopen(t, near, far, tt.filler)
				})
			})
			t.Run("tcp", func(t *testing.T) {
				near, far := tcpPair(t)
				vtReopen(t, near, far, tt.filler)
			})
		})
	}
}

func vtReopen(t *testing.T, near, far net.Conn, filler int) {
	const workers, rounds = 16, 40
	p, err := NewPipe(near, vtConfig)
	if err != nil {
		t.Fatal(err)
	}
	var peer vtPlayer
	var served sync.WaitGroup
	served.Go(func() { peer.serve(far, filler) })
	var wg sync.WaitGroup
	var opens atomic.Int64
	for i := range workers {
		wg.Go(func() {
			a := addr.SocketAddrFrom(vtA.IP(), uint16(i+1))
			for n := 1; n <= rounds; n++ {
				c, err := p.Open(context.Background(), a)
				if err != nil {
					t.Errorf("open %d of %v, which both have ended: %v", n, a, err)
					return
				}
				opens.Add(1)
				c.SetDeadline(time.Now().Add(time.Minute))
				_, err = c.Write([]byte(vtTag(a, n) + strings.Repeat("f", filler)))
				if err == nil {
					err = c.CloseWrite()
				}
				if _, rerr := c.Read(make([]byte, 1)); err != nil || rerr != io.EOF {
					t.Errorf("connection %d of %v: write %v, read %v", n, a, err, rerr)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	p.Close()
	far.Close()
	served.Wait()
	if n := opens.Load(); n != workers*rounds {
		t.Errorf("%d connections, want %d", n, workers*rounds)
	}
	for _, bad := range peer.bad[:min(len(peer.bad), 10)] {
		t.Error(bad)
	}
	for a, n := range peer.times {
		if n != rounds || peer.open[a] {
			t.Errorf("%v was opened %d times, still open: %t", a, n, peer.open[a])
		}
	}
}

// TestBacklogExcessIsRefusedAndStallsNothing: nobody accepts, and the peer opens more than
// the backlog holds.
func TestBacklogExcessIsRefusedAndStallsNothing(t *testing.T) {
	vtRun(t, true, &Config{AcceptBacklog: 2}, func(tc *vtTest) {
		c := tc.open(vtC)
		r := tc.reading(c)
		tc.want("our open", vtOpen(vtC))
		many := make([]addr.SocketAddr, 5)
		for i := range many {
			many[i] = addr.SocketAddrFrom(vtA.IP(), uint16(i+1))
			tc.send(vtOpen(many[i]), vtData(many[i], "first"), vtData(vtC, "still here,"))
		}
		tc.want("an end for each beyond the second", vtEnd(many[2]), vtEnd(many[3]), vtEnd(many[4]))
		r.want("others go on", strings.Repeat("still here,", 5), nil)
		for _, a := range many[:2] {
			tc.wantRead("what is queued is whole", tc.accept(a), "first", nil)
		}
		tc.wantNoAccept("what was refused is not accepted")
		tc.send(vtEnd(many[2]), vtOpen(many[2]))
		tc.accept(many[2])
		tc.wantIdle("there is room again, and the refused one can come back")
		if st := tc.p.Stats(); st.Refused != 3 || st.Accepted != 3 {
			tc.t.Errorf("%d refused and %d accepted, want 3 and 3", st.Refused, st.Accepted)
		}
	})
}

// TestTooManyConnsByThePeerEndsTheSession: refusing would need state for each, which is
// what the limit bounds.
func TestTooManyConnsByThePeerEndsTheSession(t *testing.T) {
	for _, side := range vtSides {
		t.Run(side.name, func(t *testing.T) {
			vtRun(t, side.listen, &Config{MaxConns: 2}, func(tc *vtTest) {
				c := tc.open(vtC)
				r := tc.reading(c)
				tc.send(vtOpen(vtA), vtData(vtC, "bye"))
				tc.wantOpenErr("the limit is reached", testOtherAddr, ErrTooManyConns)
				if tc.s.err() != nil {
					tc.t.Fatalf("the session has ended within the limit: %v", tc.s.err())
				}
				tc.send(vtOpen(vtB), vtData(vtC, "lost"))
				<-tc.p.Done()
				err := tc.p.Err()
				var pe *ProtocolError
				if !errors.As(err, &pe) || !errors.Is(err, ErrTooManyConns) || !errors.Is(err, ErrProtocol) {
					tc.t.Fatalf("the session ended with %v, want a *ProtocolError that is ErrTooManyConns", err)
				}
				if pe.Addr != vtB || pe.Offset != 20+23+20 {
					tc.t.Errorf("the error tells of %v at byte %d, want %v at 63", pe.Addr, pe.Offset, vtB)
				}
				r.want("what came before is read, and then the cause", "bye", ErrTooManyConns)
				if _, err := c.Write([]byte("x")); !errors.Is(err, ErrTooManyConns) {
					tc.t.Errorf("Write returned %v", err)
				}
				tc.wantOpenErr("the session has ended", testOtherAddr, ErrTooManyConns)
				if tc.l != nil {
					for {
						c, err := tc.l.Accept()
						if err != nil {
							if !errors.Is(err, ErrTooManyConns) {
								tc.t.Errorf("Accept returned %v", err)
							}
							break
						}
						tc.conns = append(tc.conns, c.(*Conn))
					}
				}
			})
		})
	}
}

// TestAConnectionTakesAPlaceUntilTheApplicationHasClosedIt: else a peer that opens an address,
// ends it, and crosses the end that is still owed, could set any number of handlers to work
// (hostile peers, A1 and R3).
func TestAConnectionTakesAPlaceUntilTheApplicationHasClosedIt(t *testing.T) {
	vtRun(t, true, &Config{MaxConns: 2}, func(tc *vtTest) {
		var held []*Conn
		for _, a := range []addr.SocketAddr{vtA, vtB} {
			tc.send(vtOpen(a))
			held = append(held, tc.accept(a))
			tc.send(vtEnd(a), vtEnd(a))
			tc.wantHalves("a crossing frees the address", a, 0)
		}
		tc.send(vtOpen(vtC), vtData(vtC, "in vain"))
		tc.want("an open is refused while the application has two", vtEnd(vtC))
		tc.send(vtEnd(vtC), vtOpen(vtC))
		tc.want("and again", vtEnd(vtC))
		tc.send(vtEnd(vtC))
		tc.wantNoAccept("no handler sees it")
		held[0].Close()
		tc.send(vtOpen(vtC))
		c := tc.accept(vtC)
		tc.wantIdle("it has let go of one, so there is a place")
		tc.send(vtOpen(vtA))
		tc.want("and no more than one", vtEnd(vtA))
		tc.send(vtEnd(vtA))
		held[1].Close()
		c.Close()
		tc.want("its end", vtEnd(vtC))
		tc.send(vtEnd(vtC))
		for _, a := range []addr.SocketAddr{vtA, vtB} {
			tc.send(vtOpen(a))
			tc.accept(a)
		}
		tc.wantIdle("both places are free")
		if st := tc.p.Stats(); st.Refused != 3 || st.Accepted != 5 {
			tc.t.Errorf("%d refused and %d accepted, want 3 and 5", st.Refused, st.Accepted)
		}
	})
}

// TestCloseCutsWhatNobodyHasAccepted: an END would tell the opener that all is well.
func TestCloseCutsWhatNobodyHasAccepted(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		tc.send(vtOpen(vtA), vtData(vtA, "hello"))
		tc.p.Close()
		tc.wantIdle("nothing is said of it")
		if c, err := tc.l.Accept(); !errors.Is(err, net.ErrClosed) {
			tc.t.Errorf("Accept after Close: %v, %v", c, err)
		}
	})
}

// TestCloseCutsWhatComesBehindTheQueuesEnd: an open that arrives when Close has emptied the
// accept queue, and has not come to the table yet. To see it fail: let refuseNew owe an END
// then too.
func TestCloseCutsWhatComesBehindTheQueuesEnd(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		tc.s.closing.Store(true) // as Close begins
		tc.s.accept.close(tc.s, true)
		tc.send(vtOpen(vtB), vtData(vtB, "hello"))
		tc.wantIdle("nothing is said of it")
		tc.s.abortAll(net.ErrClosed) // as Close goes on
		tc.wantIdle("nor now")
		tc.s.end(net.ErrClosed)
	})
}

var testOtherAddr = addr.MustParseSocketAddr("203.0.113.9:9")

// vtStallCfg has the smallest window.
var vtStallCfg = &Config{MaxWindow: minMaxWindow}

// stall fills c, and sends one byte more for it and "behind" for other.
func (tc *vtTest) stall(c, other *Conn) {
	tc.t.Helper()
	full := strings.Repeat("u", 65535)
	tc.send(vtData(c.Addr(), full), vtData(c.Addr(), full))
	tc.send(vtData(other.Addr(), "before"))
	tc.wantAllTaken("a full window is no stall")
	tc.send(vtData(c.Addr(), "!"), vtData(other.Addr(), "behind"))
	tc.send(vtData(other.Addr(), "more"))
	if tc.peer.left() == 0 {
		tc.t.Fatal("the session reads on although a connection is more than full")
	}
}

// TestAFullConnectionStallsTheSession until its application reads or gives up. Others
// read meanwhile what they have.
func TestAFullConnectionStallsTheSession(t *testing.T) {
	all := strings.Repeat("u", 2*65535) + "!"
	for _, tt := range []struct {
		name string
		end  func(*vtTest, *Conn) // what ends the stall
		rest string               // what is left to read
		err  error
	}{
		{"Read", func(tc *vtTest, c *Conn) {
			if n, err := io.ReadFull(c, make([]byte, 10)); n != 10 || err != nil {
				tc.t.Errorf("Read returned %d, %v", n, err)
			}
		}, all[10:], nil},
		{"WriteTo", func(tc *vtTest, c *Conn) {
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if n, err := c.WriteTo(io.Discard); n != int64(len(all)) || !errors.Is(err, os.ErrDeadlineExceeded) {
				tc.t.Errorf("WriteTo returned %d, %v", n, err)
			}
		}, "", nil},
		{"Close", func(tc *vtTest, c *Conn) { c.Close() }, "", net.ErrClosed},
		{"CloseRead", func(tc *vtTest, c *Conn) { c.CloseRead() }, "", net.ErrClosed},
		{"Reset", func(tc *vtTest, c *Conn) { c.Reset(3) }, "", syscall.ECONNRESET},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, side := range vtSides {
				t.Run(side.name, func(t *testing.T) {
					vtRun(t, side.listen, vtStallCfg, func(tc *vtTest) {
						c, other := tc.open(vtA), tc.open(vtB)
						tc.stall(c, other)
						tc.wantRead("what others have got is theirs during the stall", other, "before", nil)
						r := tc.reading(other)
						r.want("the rest is not read yet", "", nil)

						tt.end(tc, c)
						r.want("the stall has ended", "behindmore", nil)
						tc.wantAllTaken("the stall has ended")
						if tt.name != "Reset" && tt.name != "Close" {
							tc.wantRead("nothing is lost", c, tt.rest, tt.err)
						} else if _, err := c.Read(make([]byte, 1)); !errors.Is(err, tt.err) {
							tc.t.Errorf("Read returned %v, want %v", err, tt.err)
						}
						if st := tc.p.Stats(); st.Blocked.Stalled <= 0 {
							tc.t.Errorf("the stall lasted %v by the counters", st.Blocked.Stalled)
						}
					})
				})
			}
		})
	}
}

// TestDuringAStall looks at what must work while the session doesn't read.
func TestDuringAStall(t *testing.T) {
	run := func(name string, f func(tc *vtTest, c, other *Conn)) {
		t.Run(name, func(t *testing.T) {
			vtRun(t, true, vtStallCfg, func(tc *vtTest) {
				c, other := tc.open(vtA), tc.open(vtB)
				tc.want("two opens", vtOpen(vtA), vtOpen(vtB))
				tc.stall(c, other)
				f(tc, c, other)
			})
		})
	}
	run("writes and ends go out", func(tc *vtTest, c, other *Conn) {
		tc.write(other, "x")
		tc.write(c, "y")
		tc.open(vtC).Close()
		tc.want("all of it", vtData(vtB, "x"), vtData(vtA, "y"), vtOpen(vtC), vtEnd(vtC))
	})
	run("read deadlines pass", func(tc *vtTest, c, other *Conn) {
		tc.wantRead("what was there", other, "before", nil)
		other.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := other.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			tc.t.Errorf("Read returned %v", err)
		}
	})
	run("a context ends Accept", func(tc *vtTest, c, other *Conn) {
		tc.wantNoAccept("nothing has come")
	})
	run("closing another ends nothing", func(tc *vtTest, c, other *Conn) {
		other.Close()
		tc.want("its end", vtEnd(vtB))
		if tc.peer.left() == 0 {
			tc.t.Error("the session reads on although a connection is more than full")
		}
	})
	run("the session can be closed", func(tc *vtTest, c, other *Conn) {
		tc.wantRead("what was there", other, "before", nil)
		r := tc.reading(other)
		tc.p.Close()
		r.want("what waited", "", net.ErrClosed)
		if n, err := io.Copy(io.Discard, c); n != 2*65535 || !errors.Is(err, net.ErrClosed) {
			tc.t.Errorf("the full connection gave %d bytes, %v", n, err)
		}
	})
	run("the full connection can fill again", func(tc *vtTest, c, other *Conn) {
		io.ReadFull(c, make([]byte, 10))
		tc.wantAllTaken("the stall has ended")
		tc.send(vtData(vtA, strings.Repeat("v", 1000)))
		tc.wantAllTaken("there was room for one byte, and the rest came with it")
		tc.send(vtData(vtA, "w"))
		tc.send(vtData(vtB, "behind"))
		if tc.peer.left() == 0 {
			tc.t.Error("the session reads on although a connection is more than full")
		}
		c.Close()
		tc.wantAllTaken("the second stall has ended")
	})
}

// TestTwoFullConnectionsStallOneAfterTheOther: the end of one stall may uncover the next.
func TestTwoFullConnectionsStallOneAfterTheOther(t *testing.T) {
	vtRun(t, true, vtStallCfg, func(tc *vtTest) {
		a, b, other := tc.open(vtA), tc.open(vtB), tc.open(vtC)
		full := strings.Repeat("u", 65535)
		for range 2 {
			tc.send(vtData(vtA, full), vtData(vtB, full))
		}
		tc.wantAllTaken("two full windows are no stall")
		tc.send(vtData(vtA, "!"), vtData(vtB, "!"), vtData(vtC, "behind"))
		r := tc.reading(other)
		r.want("a stalls", "", nil)
		b.Close()
		r.want("b was not the one that stalled", "", nil)
		a.Close()
		r.want("none is full any more", "behind", nil)
	})
	vtRun(t, true, vtStallCfg, func(tc *vtTest) {
		a, b, other := tc.open(vtA), tc.open(vtB), tc.open(vtC)
		full := strings.Repeat("u", 65535)
		for range 2 {
			tc.send(vtData(vtA, full), vtData(vtB, full))
		}
		tc.send(vtData(vtA, "!"), vtData(vtB, "!"), vtData(vtC, "behind"))
		r := tc.reading(other)
		a.Close()
		r.want("now b stalls", "", nil)
		b.Close()
		r.want("none is full any more", "behind", nil)
	})
}

// TestOpenGivenUpAnswersThePeersOpen: an Open waits for room in staging when the peer opens the
// same address, which looks like an END. When its context ends, it has never been sent.
// To see it fail: in unregister, always set the halves to 0.
func TestOpenGivenUpAnswersThePeersOpen(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		var cs []*Conn
		for i := range 3 {
			tc.send(vtOpen(testAddr(i)))
			cs = append(cs, tc.accept(testAddr(i)))
		}
		tc.peer.setDeaf(true)
		synctest.Wait()
		tc.startWrite(cs[0], strings.Repeat("x", copyMax)).wantBlocked("deaf")
		tc.startWrite(cs[1], strings.Repeat("x", copyMax)).want("staged", copyMax, nil)
		tc.startWrite(cs[2], strings.Repeat("x", copyMax)).want("staged", copyMax, nil)
		ctx, cancel := context.WithCancel(context.Background())
		op := tc.startErr("Open", func() error { _, err := tc.p.Open(ctx, vtA); return err })
		op.wantBlocked("no room")
		tc.peer.queue(vtBytes(vtOpen(vtA)))
		synctest.Wait()
		cancel()
		op.want("Open", 0, context.Canceled)
		tc.peer.setDeaf(false)
		tc.settle()
		ended := false
		for _, f := range tc.frames() {
			ended = ended || f.addr == vtA && f.data == ""
		}
		if !ended {
			tc.t.Error("the peer's OPEN is not answered by END")
		}
		tc.send(vtData(vtA, "hello"), vtEnd(vtA))
		tc.wantNoAccept("its END is no OPEN")
		tc.send(vtOpen(vtA), vtData(vtA, "again"))
		tc.wantRead("the address is free", tc.accept(vtA), "again", nil)
	})
}

// TestCrossedOpensWithoutEnd: a peer that reads nothing opens, ends and crosses one address
// again and again. What has not been settled is bounded.
// To see it fail: in onVTHeader, don't look at orphans.
func TestCrossedOpensWithoutEnd(t *testing.T) {
	vtRun(t, true, &Config{MaxConns: 16}, func(tc *vtTest) {
		tc.peer.setDeaf(true)
		tc.settle()
		round := vtBytes(vtOpen(vtA), vtEnd(vtA), vtEnd(vtA))
		tc.peer.queue(bytes.Repeat(round, maxOrphans-1))
		synctest.Wait()
		tc.wantAlive("it is not too many")
		tc.peer.setDeaf(false)
		tc.settle()
		tc.frames()
		if n := tc.s.table.orphans; n != 0 {
			tc.t.Errorf("%d are left when the transport takes all", n)
		}
		tc.peer.setDeaf(true)
		tc.settle()
		tc.peer.queue(bytes.Repeat(round, 2*maxOrphans))
		tc.wantTooMany("it is")
		tc.peer.setDeaf(false)
	})
}

// crossedWhileItWaits returns a session that has given an Open of address 77 up: it waited for
// room in staging, which is full still, when so many zeros came for that address. The test has
// the flusher's role.
func crossedWhileItWaits(t *testing.T, zeros int) *bare {
	t.Helper()
	b := newBare(t, true, false)
	b.roomWaiters(0)
	op := background(func() (int, error) {
		_, err := b.s.open(context.Background(), testAddr(77))
		return 0, err
	})
	b.pending("Open without room", op)
	b.far.Write(bytes.Repeat(frameBytes(77, nil), zeros))
	var re *ResetError
	if r := b.now("Open", op); !errors.As(r.err, &re) || re.Code != CodeCrossedOpen {
		t.Errorf("Open: %v", r.err)
	}
	return b
}

// TestOpenGivenUpEndsWhatHasCrossed: an Open waits for room in staging; meanwhile the peer opens
// its address and ends it. Our OPEN, which would stand for our END there, is never sent, so the
// END is: else the peer's address were in use for ever.
// To see it fail: in unregister, make no answer.
func TestOpenGivenUpEndsWhatHasCrossed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := crossedWhileItWaits(t, 2)
		go b.s.runFlusher(nil, nil)
		for range 2 {
			b.frame(1, testBytes(copyMax, 1))
		}
		b.frame(77, nil)
		b.far.Write(frameBytes(77, nil)) // and opens it once more
		c, err := b.s.acceptState(context.Background())
		if err != nil || c.addr != testAddr(77) {
			t.Errorf("AcceptConn: %v, %v", c.addr, err)
		}
	})
}

// TestOpenGivenUpLeavesNoOrphan: an Open waits for room in staging; meanwhile the peer opens its
// address, ends it, and opens it once more.
// To see it fail: in unregister, set the halves to 0 where opens have crossed.
func TestOpenGivenUpLeavesNoOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := crossedWhileItWaits(t, 3)
		sent := drain(b.far)
		b.s.runFlusher(nil, nil)
		synctest.Wait()
		b.s.table.mu.Lock()
		if n := b.s.table.orphans; n != 0 {
			t.Errorf("%d orphans are left", n)
		}
		b.s.table.mu.Unlock()
		b.far.Close()
		<-sent
	})
}
