package mux

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/internal/faultconn"
	"github.com/vtmux/vtmux/wire"
)

// shutdown begins a Shutdown.
func (tc *oneTest) shutdown(ctx context.Context) *vtOp {
	tc.takePings()
	return tc.startErr("Shutdown", func() error { return tc.p.Shutdown(ctx) })
}

// TestShutdownTakesTwoSteps: GOAWAY without a limit and PING; at the ACK GOAWAY with
// the highest ID seen; the transport's end when all connections have ended and the peer
// has shown that it knows.
func TestShutdownTakesTwoSteps(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		theirs := tc.acceptIDs(1)[0]
		ours := tc.openIDs(1)[0]
		op := tc.shutdown(context.Background())
		ack := tc.wantPing("the first step", "GOAWAY 4294967295 0")
		tc.wantOpenErr("the session opens nothing more", ErrDraining)
		tc.send("OPEN 3", `DATA 1 "on"`, `DATA YOURS 1 "on"`)
		tc.wantRead("what is open goes on", theirs, "on", nil)
		tc.wantRead("what is open goes on", ours, "on", nil)
		served := tc.servedOrRefused(3)
		op.wantBlocked("no ACK has come")

		tc.send(ack)
		tc.want("the second step", "GOAWAY 3 0")
		tc.send("OPEN 5", `DATA 5 "too late" FIN`, "OPEN 7")
		tc.want("an OPEN above the last ID is not answered")
		tc.wantAlive("and is no violation")
		tc.wantNoMore("nobody gets it")
		tc.send("DATA 1 100*x FIN")
		tc.wantRead("what is open goes on to its end", theirs, strings.Repeat("x", 100), io.EOF)
		tc.write(theirs, "bye")
		theirs.Close()
		tc.want("at this end too", `DATA YOURS 1 "bye" FIN`)
		tc.finishOne(served, 3)
		op.wantBlocked("one connection is open")
		ours.Close()
		tc.want("the last one ends", "STOP 1 9", "FIN 1")
		op.wantBlocked("the peer's half is open")
		if _, err := tc.peer.ended(); err != nil {
			tc.t.Errorf("the transport ends early: %v", err)
		}
		tc.send("RESET YOURS 1 9")
		tc.endShutdown()
		op.want("Shutdown", 0, nil)
		tc.want("nothing more")
	})
}

// endShutdown fails the test unless the session wants to know whether the peer has read
// everything, since this transport has no halves, and then ends the transport. lines is what
// it sends before that.
func (tc *oneTest) endShutdown(lines ...string) {
	tc.t.Helper()
	ack := tc.wantPing("all has ended", lines...)
	if _, err := tc.peer.ended(); err != nil {
		tc.t.Errorf("the transport ends early: %v", err)
	}
	tc.sendNow(ack)
	tc.wantGone("the transport's end")
}

// servedOrRefused returns the connection that the peer has opened as id while a
// Shutdown had begun, or nil if it was refused with code 6. Both is allowed: 2.11.
func (tc *oneTest) servedOrRefused(id int) *Conn {
	tc.t.Helper()
	tc.settle()
	got := oneLines(tc.sent())
	if oneMatch(got, []string{fmt.Sprintf("REFUSED %d 6 *", id)}) {
		return nil
	}
	if len(got) > 0 {
		tc.t.Fatalf("an OPEN behind the first GOAWAY:%s", oneShort(got))
	}
	return tc.accept(vtA)
}

// finishOne ends a connection of the peer's, if there is one.
func (tc *oneTest) finishOne(c *Conn, id int) {
	tc.t.Helper()
	if c == nil {
		return
	}
	c.CloseWrite()
	tc.want("served to its end", fmt.Sprintf("FIN YOURS %d", id))
	tc.send(fmt.Sprintf("FIN %d", id))
	c.Close()
}

// wantNoMore fails the test if a connection can be accepted, now or later.
func (tc *oneTest) wantNoMore(sentence string) {
	tc.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := tc.l.AcceptConn(ctx)
	if c != nil {
		tc.conns = append(tc.conns, c)
		tc.t.Fatalf("%s: accepted %v", sentence, c.Addr())
	}
	if !errors.Is(err, ErrDraining) && !errors.Is(err, context.DeadlineExceeded) {
		tc.t.Fatalf("%s: AcceptConn returned %v", sentence, err)
	}
}

// TestShutdownOfNothing: both steps are taken where nothing is open, too.
func TestShutdownOfNothing(t *testing.T) {
	for _, o := range []oneSetup{onePipe, oneListener} {
		oneRun(t, o, func(tc *oneTest) {
			op := tc.shutdown(context.Background())
			tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
			tc.endShutdown("GOAWAY 0 0")
			op.want("Shutdown", 0, nil)
		})
	}
}

// TestShutdownWaitsForThePeersFirstWords: the peer's preface, and what it opens with it, may
// be on their way when a Listener on Auto begins to shut down. That is not cut, but told
// what is served, as later. A peer that says nothing for a second is not waited for.
// To see it fail: in drain, leave out awaitFirst.
func TestShutdownWaitsForThePeersFirstWords(t *testing.T) {
	silent := oneSetup{listen: true, preface: "-"}
	for _, wait := range []time.Duration{0, endLinger - 1} {
		oneRun(t, silent, func(tc *oneTest) {
			op := tc.shutdown(context.Background())
			tc.passUntil(wait)
			tc.wantAlive("the peer has not spoken")
			tc.send("PREFACE", "OPEN 1", `DATA 1 "hi" FIN`)
			ack := tc.wantPing("the first step", "PREFACE", "GOAWAY 4294967295 0")
			c := tc.accept(vtA)
			tc.send(ack)
			tc.want("the second step", "GOAWAY 1 0")
			tc.wantRead("what came with the preface is served", c, "hi", io.EOF)
			c.Close()
			tc.endShutdown("FIN YOURS 1")
			op.want("Shutdown", 0, nil)
		})
	}
	oneRun(t, silent, func(tc *oneTest) {
		op := tc.shutdown(context.Background())
		tc.passUntil(endLinger - 1)
		tc.wantAlive("a moment before the second is over")
		tc.pass(1)
		tc.want("without a word")
		tc.wantGone("the transport's end")
		op.want("Shutdown", 0, nil)
	})
	oneRun(t, silent, func(tc *oneTest) {
		ctx, cancel := context.WithCancel(context.Background())
		op := tc.shutdown(ctx)
		op.wantBlocked("the peer has not spoken")
		cancel()
		op.want("Shutdown", 0, context.Canceled)
		tc.wantGone("the transport is closed")
	})
}

// TestShutdownWaitsBehindAHandshake: while TLS shakes hands the peer can't speak, however
// long that takes.
// To see it fail: in awaitFirst, leave out awaitFlushed.
func TestShutdownWaitsBehindAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		cert := testCert()
		l, err := NewListener(tls.Server(near, &tls.Config{Certificates: []tls.Certificate{cert}}), nil)
		if err != nil {
			t.Fatal(err)
		}
		shut := async(func() error { return l.Shutdown(context.Background()) })
		<-time.After(3 * endLinger)
		p, err := NewPipe(tls.Client(far, &tls.Config{InsecureSkipVerify: true}), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closeBoth(p, l)
		x, err := p.Open(context.Background(), vtA)
		if err != nil {
			t.Fatal(err)
		}
		y, err := l.AcceptConn(context.Background())
		if err != nil {
			t.Fatalf("AcceptConn: %v", err)
		}
		x.Close()
		y.Close()
		wantErr(t, "Shutdown", <-shut, nil)
	})
}

// TestShutdownAndWhatNobodyHasAccepted: it is refused with code 6, or it can be served.
func TestShutdownAndWhatNobodyHasAccepted(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.send("OPEN 1", "OPEN 2")
		op := tc.shutdown(context.Background())
		synctest.Wait()
		got := oneLines(tc.sent())
		var ack string
		refused := 0
		for _, l := range got {
			switch {
			case strings.HasPrefix(l, "PING"):
				ack = "ACK" + strings.TrimPrefix(l, "PING")
			case oneMatch([]string{l}, []string{"REFUSED 1 6 *"}), oneMatch([]string{l}, []string{"REFUSED 2 6 *"}):
				refused++
			}
		}
		if ack == "" || refused != 0 && refused != 2 || len(got) != 2+refused {
			tc.t.Fatalf("the first step:%s", oneShort(got))
		}
		tc.send(ack)
		tc.want("the second step", "GOAWAY 2 0")
		if refused == 0 {
			for id := 1; id <= 2; id++ {
				tc.finishOne(tc.accept(vtA), id)
			}
		}
		tc.endShutdown()
		op.want("Shutdown", 0, nil)
	})
}

// TestShutdownWaitsForTheOtherPing: one PING at a time.
func TestShutdownWaitsForTheOtherPing(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.peer.pings = true
		ping := tc.startErr("Ping", func() error { _, err := tc.p.Ping(context.Background()); return err })
		first := tc.wantPing("Ping")
		op := tc.shutdown(context.Background())
		tc.want("the PING of the first step waits", "GOAWAY 4294967295 0")
		tc.sendNow(first)
		ping.want("Ping", 0, nil)
		second := tc.wantPing("now it goes")
		op.wantBlocked("no ACK of its own has come")
		tc.sendNow(second)
		tc.endShutdown("GOAWAY 0 0")
		op.want("Shutdown", 0, nil)
	})
}

// TestShutdownEndsWithItsContext as by Close.
func TestShutdownEndsWithContextOne(t *testing.T) {
	for _, acked := range []bool{false, true} {
		oneRun(t, oneListener, func(tc *oneTest) {
			c := tc.acceptIDs(1)[0]
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			op := tc.shutdown(ctx)
			ack := tc.wantPing("the first step", "GOAWAY 4294967295 0")
			if acked {
				tc.send(ack)
				tc.want("the second step", "GOAWAY 1 0")
			}
			tc.pass(time.Minute)
			tc.want("as Close", "GOAWAY 1 9 *")
			tc.wantGone("the transport is closed")
			op.want("Shutdown", 0, context.DeadlineExceeded)
			wantErrAs(tc.t, "Read", tc.readErr(c), is(net.ErrClosed))
		})
	}
}

// TestLastIDDoesNotRiseBehindAShutdown: a GOAWAY with a code repeats the last ID of the
// GOAWAY before it, though a higher ID has been seen since.
func TestLastIDDoesNotRiseBehindAShutdown(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.draining()
		tc.send("OPEN 5", "FIN 9")
		tc.wantEnd("a violation", 1, CodeProtocol)
	})
	oneRun(t, oneListener, func(tc *oneTest) {
		op := tc.draining()
		tc.send("OPEN 5")
		tc.p.Close()
		tc.want("Close", "GOAWAY 1 9 *")
		op.want("Shutdown", 0, net.ErrClosed)
	})
}

// TestShutdownLeavesTheLastWordToClose: Close cuts what Shutdown waits for, and may still
// have to say so.
func TestShutdownLeavesTheLastWordToClose(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		op := tc.draining()
		tc.deaf(true)
		closed := tc.startErr("Close", tc.p.Close)
		tc.pass(closeLinger / 2)
		op.wantBlocked("Shutdown, while Close goes on")
		tc.deaf(false)
		tc.want("Close", "GOAWAY 1 9 *")
		closed.want("Close", 0, nil)
		op.want("Shutdown", 0, net.ErrClosed)
	})
}

// TestShutdownTellsWhatCutIt: a peer that fails meanwhile cuts connections, also where our
// half of the transport can end, and nothing is open any more, before the session is over.
func TestShutdownTellsWhatCutIt(t *testing.T) {
	violates := func(tc *oneTest) {
		tc.send(`DATA YOURS 9 "x"`)
		tc.want("a violation", "GOAWAY 1 2 *")
	}
	isSilent := func(tc *oneTest) {
		tc.pass(45 * time.Second)
		tc.want("silence", "PING *", "GOAWAY 1 8 *")
	}
	for _, tt := range []struct {
		name  string
		fails func(*oneTest)
		err   error
	}{{"violation", violates, ErrProtocol}, {"silence", isSilent, ErrSilent}} {
		for _, halved := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, halved %t", tt.name, halved), func(t *testing.T) {
				setup := oneAlive(true)
				if halved {
					setup.wrap = func(c net.Conn) net.Conn { return halvedConn{c} }
				}
				oneRun(t, setup, func(tc *oneTest) {
					op := tc.draining()
					tt.fails(tc)
					tc.pass(failLinger)
					op.want("Shutdown", 0, tt.err)
				})
			})
		}
	}
}

// TestShutdownThatFailedEndsWithItsContext: it does not wait until the peer has read why.
func TestShutdownThatFailedEndsWithItsContext(t *testing.T) {
	setup := oneSetup{listen: true, wrap: func(c net.Conn) net.Conn { return halvedConn{c} }}
	oneRun(t, setup, func(tc *oneTest) {
		tc.acceptIDs(1)
		ctx, cancel := context.WithCancel(context.Background())
		op := tc.shutdown(ctx)
		tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
		tc.want("the second step", "GOAWAY 1 0")
		tc.sendNow(`DATA YOURS 9 "x"`)
		tc.wantNow("a violation", "GOAWAY 1 2 *")
		op.wantBlocked("Shutdown")
		cancel()
		synctest.Wait()
		op.want("Shutdown", 0, ErrProtocol)
	})
}

// TestBothShutDown: both ends at the same time, with connections of both, over a real
// pair of sessions.
func TestBothShutDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		la, err := NewListener(a, &Config{Protocol: Protocol1})
		if err != nil {
			t.Fatal(err)
		}
		lb, err := NewListener(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		x, err := la.Open(ctx, vtA)
		if err != nil {
			t.Fatal(err)
		}
		y, err := lb.AcceptConn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		downs := []<-chan error{
			async(func() error { return la.Shutdown(ctx) }),
			async(func() error { return lb.Shutdown(ctx) }),
		}
		<-time.After(time.Second)
		x.Write([]byte("bye"))
		x.Close()
		if got, err := io.ReadAll(y); string(got) != "bye" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		y.Close()
		for i, down := range downs {
			if err := <-down; err != nil {
				t.Errorf("Shutdown of end %d: %v", i, err)
			}
		}
	})
}

// TestGoAwayIsSafeToRetry: what the session has opened above the last ID ends as if it
// were refused with code 6; nothing more is opened, or sent on those; the rest goes on.
func TestGoAwayIsSafeToRetry(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		theirs := tc.acceptIDs(1)[0]
		cs := tc.openIDs(4)
		tc.send("GOAWAY 4294967295 0")
		tc.wantOpenErr("the peer is shutting down", ErrDraining)
		tc.send("GOAWAY 2 0")
		for _, c := range cs[2:] {
			wantErrAs(tc.t, "Read above the last ID", tc.readErr(c), isRefusedWith(CodeDraining))
			wantErrAs(tc.t, "Write above the last ID", writeErr(c), isRefusedWith(CodeDraining))
		}
		cs[2].Close()
		cs[3].Reset(300)
		tc.want("nothing more is sent on them")
		tc.write(cs[1], "hi")
		tc.write(theirs, "hi")
		tc.want("the others go on", `DATA 2 "hi"`, `DATA YOURS 1 "hi"`)
		tc.send("OPEN 2", `DATA 2 "x"`, `DATA YOURS 1 "y"`)
		tc.wantRead("the peer may open", tc.accept(vtA), "x", nil)
		tc.wantRead("and go on", cs[0], "y", nil)
		tc.send("GOAWAY 2 0", "GOAWAY 1 0")
		wantErrAs(tc.t, "Read above the lower one", tc.readErr(cs[1]), isRefusedWith(CodeDraining))
		if n := tc.p.Stats().Conns; n != 3 {
			tc.t.Errorf("%d connections are open, want 3", n)
		}
		tc.send("FIN YOURS 3")
		tc.wantAlive("a frame for what the GOAWAY has ended is a stray")
	})
}

// TestGoAwayThatRises is a violation.
func TestGoAwayThatRises(t *testing.T) {
	for _, last := range [][]string{{"GOAWAY 1 0", "GOAWAY 2 0"}, {"GOAWAY 4294967295 0", "GOAWAY 0 0", "GOAWAY 1 0"}, {"GOAWAY 0 0", "GOAWAY 4294967295 7"}} {
		oneRun(t, onePipe, func(tc *oneTest) {
			tc.openIDs(2)
			tc.send(last...)
			tc.wantEnd("a last ID above an earlier one", 0, CodeProtocol)
		})
	}
}

// TestGoAwayWithACode ends the session: all that is open fails with the code and the
// text, and what has ended before is not touched.
func TestGoAwayWithACode(t *testing.T) {
	for _, o := range []oneSetup{onePipe, oneListener} {
		oneRun(t, o, func(tc *oneTest) {
			cs := tc.openIDs(3)
			tc.send("DATA YOURS 1 100*x FIN", "DATA YOURS 2 100*y")
			r := tc.reading(cs[2])
			tc.send("GOAWAY 3 10 \"out of \\xff memory\"")
			gone := all(isGoAway(CodeInternal, "out of \uFFFD memory"), is(io.ErrUnexpectedEOF))
			tc.want("it has no answer")
			tc.wantGone("the transport is closed")
			tc.wantFails("the session is over", gone)
			r.mu.Lock()
			wantErrAs(tc.t, "a Read that waited", r.err, gone)
			r.mu.Unlock()
			tc.wantRead("ended before", cs[0], strings.Repeat("x", 100), io.EOF)
			wantErrAs(tc.t, "Write where the peer's half alone had ended", writeErr(cs[0]), gone)
			tc.wantRead("cut, with bytes unread", cs[1], strings.Repeat("y", 100), io.ErrUnexpectedEOF)
			wantErrAs(tc.t, "Read behind them", tc.readErr(cs[1]), gone)
		})
	}
}

// TestGoAwayWithACodeAndALastID: what is above the last ID may go elsewhere.
func TestGoAwayWithACodeAndALastID(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		cs := tc.openIDs(2)
		tc.send(`GOAWAY 1 9 "bye"`)
		wantErrAs(tc.t, "at the last ID", tc.readErr(cs[0]), isGoAway(CodeClosed, "bye"))
		wantErrAs(tc.t, "above it", tc.readErr(cs[1]), isRefusedWith(CodeDraining))
	})
}

// TestCloseOfASession: where connections are open it sends GOAWAY(9) with the highest ID
// seen, behind what was written before, and nothing behind it. Then the transport ends.
func TestCloseOfASession(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    oneSetup
		do   func(*oneTest)
		last int // -1: no GOAWAY
		want []string
	}{
		{"a Pipe with a connection", onePipe, func(tc *oneTest) { tc.openIDs(1) }, 0, nil},
		{"a Pipe that has written", onePipe, func(tc *oneTest) { tc.write(tc.openIDs(1)[0], "hi") }, 0, []string{`DATA 1 "hi"`}},
		{"a Listener with connections", oneListener, func(tc *oneTest) { tc.acceptIDs(3) }, 3, nil},
		{"a Listener with a refused one", oneSetup{listen: true, cfg: Config{MaxConns: 1}}, func(tc *oneTest) {
			tc.acceptIDs(1)
			tc.send("OPEN 9")
			tc.want("refused", "REFUSED 9 4 *")
		}, 9, nil},
		{"no connection", oneListener, func(tc *oneTest) {}, -1, nil},
		{"connections that have ended", oneListener, func(tc *oneTest) {
			c := tc.acceptIDs(1)[0]
			tc.send("FIN 1")
			c.Close()
			tc.want("the end", "FIN YOURS 1")
		}, -1, nil},
		{"not accepted", oneListener, func(tc *oneTest) { tc.send("OPEN 1", "OPEN 2", "OPEN 5") }, 5, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			oneRun(t, tt.o, func(tc *oneTest) {
				tt.do(tc)
				op := tc.startErr("Close", tc.p.Close)
				tc.settle()
				var got []string
				for _, l := range oneLines(tc.sent()) {
					if !strings.HasPrefix(l, "REFUSED") { // ahead of GOAWAY they do no harm; oneLaw sees those behind
						got = append(got, l)
					}
				}
				want := oneCanonical(tt.want)
				if tt.last >= 0 {
					want = append(want, fmt.Sprintf("GOAWAY %d 9 *", tt.last))
				}
				if !oneMatch(got, want) {
					tc.t.Errorf("Close sends:%s\nwant:%s", oneShort(got), oneShort(want))
				}
				tc.wantGone("the transport is closed")
				op.want("Close", 0, nil)
				for _, c := range tc.conns {
					wantErrAs(tc.t, "Write", writeErr(c), is(net.ErrClosed))
				}
				if err := tc.p.Close(); err != nil {
					tc.t.Errorf("Close again: %v", err)
				}
			})
		})
	}
}

// TestPeerOfAClosedSession: the other end's calls fail with the code and never with
// io.EOF.
func TestPeerOfAClosedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := sessionPair(t, overPipe)
		x, y := connPair(t, p, l, 1)
		x.Write([]byte("hello"))
		p.Close()
		b, err := io.ReadAll(eofKeeper{y})
		if string(b) != "hello" {
			t.Errorf("read %q", b)
		}
		wantErrAs(t, "Read", err, all(isGoAwayWith(CodeClosed), is(io.ErrUnexpectedEOF)))
		wantErrAs(t, "Accept", second(l.Accept()), isGoAwayWith(CodeClosed))
		<-l.Done()
	})
}

// TestOpenGoesAheadOfTheAck: an OPEN that was under way when the GOAWAY arrived goes
// ahead of the ACK of the PING behind that.
func TestOpenGoesAheadOfTheAck(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		first := tc.openIDs(1)[0]
		tc.deaf(true)
		tc.startWrite(first, strings.Repeat("x", 65536)) // fills what the transport takes
		for range 10 {
			tc.open(vtB)
		}
		tc.sendNow("GOAWAY 4294967295 0", "PING 0102030405060708")
		tc.deaf(false)
		tc.settle()
		opens := 0
		for _, f := range tc.sent() {
			switch {
			case f.t == wire.TypeOpen:
				opens++
			case f.t == wire.TypePing && opens != 10:
				tc.t.Errorf("the ACK comes behind %d of 10 OPENs", opens)
			}
		}
		if opens != 10 {
			tc.t.Errorf("%d of 10 OPENs came", opens)
		}
	})
}

// TestCleanEnd: the transport's end at a frame boundary is clean when no connection is
// known, and cuts what is open otherwise, with a GOAWAY(0) before it as well.
func TestCleanEnd(t *testing.T) {
	for _, goAway := range []bool{false, true} {
		for _, open := range []bool{false, true} {
			for _, cut := range []string{"", "\x02"} {
				oneRun(t, oneListener, func(tc *oneTest) {
					c := tc.acceptIDs(1)[0]
					if !open {
						c.Close()
						tc.want("the end", "STOP YOURS 1 9", "FIN YOURS 1")
						tc.send("FIN 1")
					}
					if goAway {
						tc.send("GOAWAY 0 0")
					}
					tc.sendRaw([]byte(cut))
					tc.peer.conn.Close()
					tc.settle()
					<-tc.l.Done()
					clean := !open && cut == ""
					if err := tc.l.Err(); errors.Is(err, io.EOF) != clean || errors.Is(err, io.ErrUnexpectedEOF) == clean {
						tc.t.Errorf("open %v, GOAWAY %v, cut %q: Err is %v", open, goAway, cut, err)
					}
					if open {
						wantErrAs(tc.t, "Read", tc.readErr(c), is(io.ErrUnexpectedEOF))
					}
				})
			}
		}
	}
}

// TestNothingFollowsTheLastGoAway: what the session comes to owe while the GOAWAY of Close
// waits for the transport is not said behind it.
func TestNothingFollowsTheLastGoAway(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		tc.deaf(true)
		op := tc.startErr("Close", tc.p.Close)
		tc.pass(10 * time.Millisecond)
		tc.sendNow("PING 0102030405060708", "OPEN 3")
		c.Close()
		tc.deaf(false)
		tc.want("the session ends", "GOAWAY 1 9 *")
		tc.wantGone("and nothing more is said")
		op.want("Close", 0, nil)
	})
}

// TestAnAnswerThatCanNotBeSentLosesNothing: a peer that drains may have gone before it has
// our ACK. What it said before that is still to be read.
func TestAnAnswerThatCanNotBeSentLosesNothing(t *testing.T) {
	o := oneListener
	o.wrap = func(near net.Conn) net.Conn {
		ours := int64(wire.PrefaceFrameLen + wire.HeaderLen) // the preface, and FIN
		return faultconn.New(near, faultconn.Plan{Write: faultconn.Faults{End: faultconn.Cut, EndAt: ours}})
	}
	oneRun(t, o, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		c.CloseWrite()
		tc.want("the end of our half", "FIN YOURS 1")
		tc.sendNow("GOAWAY 4294967295 0", "PING 0102030405060708")
		tc.wantNow("the ACK can't be sent")
		tc.wantAlive("the peer still has something to say")
		tc.sendNow(`DATA 1 "hello"`, "FIN 1")
		tc.peer.conn.Close()
		b, err := io.ReadAll(c)
		if string(b) != "hello" || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		<-tc.l.Done()
		if err := tc.l.Err(); !errors.Is(err, io.EOF) {
			t.Errorf("Err is %v, want a clean end", err)
		}
	})
}

// A halvedConn has halves, of which it forgets that one has ended.
type halvedConn struct{ net.Conn }

func (halvedConn) CloseWrite() error { return nil }

// TestShutdownWaitsWhileThePeerReads: what the kernel still has to send would be lost if
// the transport were closed while the peer goes on reading and saying so.
func TestShutdownWaitsWhileThePeerReads(t *testing.T) {
	setup := oneSetup{wrap: func(c net.Conn) net.Conn { return halvedConn{c} }}
	oneRun(t, setup, func(tc *oneTest) {
		returned := async(func() error { return tc.p.Shutdown(context.Background()) })
		for i := range 10 {
			<-time.After(endLinger * 2 / 3)
			select {
			case err := <-returned:
				tc.t.Fatalf("Shutdown returned %v behind %d words of the peer", err, i)
			default:
			}
			tc.peer.say("PING 0102030405060708")
		}
		began := time.Now()
		wantErr(tc.t, "Shutdown, when the peer says no more", <-returned, nil)
		if d := time.Since(began); d > 2*endLinger {
			tc.t.Errorf("Shutdown returned %v after the peer's last word", d)
		}
	})
}

// A resetConn ends by a reset.
type resetConn struct{ net.Conn }

func (c resetConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}
	return n, err
}

// TestResetBehindTheLastConnectionIsAnEnd: who drains closes the transport in the end, and
// what the other end says at that moment resets it. That is no failure where nothing is
// open and nothing will be, and one everywhere else.
func TestResetBehindTheLastConnectionIsAnEnd(t *testing.T) {
	setup := oneSetup{listen: true, wrap: func(c net.Conn) net.Conn { return resetConn{c} }}
	for _, goAway := range []bool{false, true} {
		for _, open := range []bool{false, true} {
			for _, cut := range []string{"", "\x02"} {
				oneRun(t, setup, func(tc *oneTest) {
					if open {
						tc.acceptIDs(1)
					}
					if goAway {
						tc.send("GOAWAY 0 0")
					}
					tc.sendRaw([]byte(cut))
					tc.peer.conn.Close()
					tc.settle()
					<-tc.l.Done()
					clean := goAway && !open && cut == ""
					if err := tc.l.Err(); errors.Is(err, io.EOF) != clean || errors.Is(err, syscall.ECONNRESET) == clean {
						tc.t.Errorf("open %v, GOAWAY %v, cut %q: Err is %v", open, goAway, cut, err)
					}
				})
			}
		}
	}
}

// A slowToClose's Close waits for closing to be closed.
type slowToClose struct {
	net.Conn
	closing chan struct{}
}

func (c slowToClose) Close() error {
	<-c.closing
	return c.Conn.Close()
}

// TestCloseReturnsWhenTheEndIsOver: a session that is being ended by the reader that led
// when the transport failed still has its transport, and its connections.
func TestCloseReturnsWhenTheEndIsOver(t *testing.T) {
	var closing chan struct{}
	setup := oneSetup{wrap: func(c net.Conn) net.Conn {
		closing = make(chan struct{}) // in the bubble
		return slowToClose{c, closing}
	}}
	oneRun(t, setup, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		reader := tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) })
		tc.settle()
		tc.peer.conn.Close()
		<-tc.p.Done()
		closer := tc.startErr("Close", tc.p.Close)
		closer.wantBlocked("the reader closes the transport still")
		close(closing)
		closer.want("the transport is closed", 0, nil)
		reader.want("the reader", 0, io.ErrUnexpectedEOF)
	})
}

// TestNothingFollowsTheGoAwayOfAFailure: what connections publish behind it, before they learn
// that they have failed, is not sent, and their Writes say so.
//
//  1. The leader finds a violation, and makes a GOAWAY owed. Its core is given away.
//  2. A writer, which has seen nothing yet, publishes, and flushes both.
func TestNothingFollowsTheGoAwayOfAFailure(t *testing.T) {
	large := bytes.Repeat([]byte("large"), 5000)
	for _, lending := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBareOf(t, Protocol1, lending)
			first, second := b.open(1), b.open(2)
			write := func(c *Conn, p []byte) <-chan error {
				done := async(func() error { _, err := c.Write(p); return err })
				synctest.Wait()
				return done
			}
			if !b.s.out.claim() {
				t.Fatal("somebody flushes")
			}
			before := write(second, []byte("before"))
			along := write(first, large)
			cause := &ProtocolError{Rule: "for the test"}
			b.s.failure = cause
			b.s.tell(b.s.lastSeen(), CodeProtocol, "")
			async(func() error { b.s.runFlusher(nil, nil); return nil })
			b.frame(2, []byte("before"))
			if !lending { // it was in staging before the GOAWAY
				b.frame(1, large)
			}
			if f := b.one.read(b); f.header.Type != wire.TypeGoAway {
				t.Fatalf("got %v, want the GOAWAY", f.header)
			}
			wantErr(t, "the small Write before", <-before, nil)
			if lending {
				wantErr(t, "the large Write", <-along, cause)
			} else {
				wantErr(t, "the large Write", <-along, nil)
			}
			wantErr(t, "the small Write behind", <-write(second, []byte("behind")), cause)
			wantErr(t, "the large Write behind", <-write(first, large), cause)
			b.far.SetReadDeadline(time.Now().Add(time.Hour))
			if n, err := b.far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("lending: %v; behind the GOAWAY came %d bytes, %v", lending, n, err)
			}
		})
	}
}

// TestOpenThatWaitsLooksAgain: what it waits for, or that it waits in vain, is known, though the
// transport takes nothing.
// To see it fail: in onGoAway or onPreface, take wakeAll away.
func TestOpenThatWaitsLooksAgain(t *testing.T) {
	t.Run("GOAWAY", func(t *testing.T) {
		oneRun(t, onePipe, func(tc *oneTest) {
			cs := tc.openIDs(2)
			tc.deaf(true)
			tc.startWrite(cs[0], "holds the transport").wantBlocked("the peer is deaf")
			for _, n := range []int{16 << 10, 16 << 10, 16 << 10, 16<<10 - 40} {
				tc.startWrite(cs[1], strings.Repeat("x", n)).want("staged", n, nil)
			}
			op := tc.startErr("Open", func() error { _, err := tc.p.Open(context.Background(), vtA); return err })
			op.wantBlocked("no room")
			tc.peer.say("GOAWAY 4294967295 0")
			op.want("Open", 0, ErrDraining)
			tc.deaf(false)
			tc.settle()
			tc.sent()
		})
	})
	t.Run("preface", func(t *testing.T) {
		oneRun(t, oneSetup{preface: "-"}, func(tc *oneTest) {
			for range 128 {
				tc.open(vtA)
			}
			tc.settle()
			tc.peer.takeFrames()
			tc.deaf(true)
			tc.startWrite(tc.conns[0], "holds the transport").wantBlocked("the peer is deaf")
			op := tc.startErr("Open", func() error {
				c, err := tc.p.Open(context.Background(), vtA)
				if c != nil {
					tc.conns = append(tc.conns, c)
				}
				return err
			})
			op.wantBlocked("the peer has not told its limit")
			tc.peer.say("PREFACE")
			op.want("Open", 0, nil)
			tc.deaf(false)
			tc.settle()
			tc.peer.takeFrames()
		})
	})
}

// TestLowerLastID: whichever way they are looked for, those above the last ID are found. It
// must not cost a look at all connections each time that the last ID falls by one.
func TestLowerLastID(t *testing.T) {
	for _, open := range []int{0, 3, 1000} {
		rnd := rand.New(rand.NewPCG(1, uint64(open)))
		s := &session{}
		tb := &s.table
		tb.init()
		tb.allotted = 1000
		for range open {
			c := &conn{s: s, id: wire.ID(1 + rnd.IntN(1000)), opener: rnd.IntN(2) == 0}
			tb.byID[c.key()] = c
		}
		for tb.peerLast > 0 {
			var last wire.ID
			if tb.peerLast > 1 {
				last = wire.ID(rnd.IntN(int(min(tb.peerLast, 1200))))
			}
			if rnd.IntN(2) == 0 {
				last = max(last, min(tb.peerLast, tb.allotted)-1)
			}
			want := make(map[*conn]bool)
			for _, c := range tb.byID {
				if c.opener && c.id > last {
					want[c] = true
				}
			}
			got := tb.lowerLocked(last)
			for _, c := range got {
				if !want[c] {
					t.Fatalf("%d open, last ID %d: %d is not served", open, last, c.id)
				}
				delete(tb.byID, c.key())
			}
			if len(got) != len(want) || tb.peerLast != last {
				t.Fatalf("%d open, last ID %d: %d are not served, want %d", open, last, len(got), len(want))
			}
		}
	}
}
