package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/internal/faultconn"
	"github.com/vtmux/vtmux/pool"
)

// badStream is what a peer says in the tests that cut it: two connections, one of
// which it ends, data for one that the session has opened, and for nobody.
func badStream() []byte {
	return vtBytes(
		vtOpen(vtA), vtData(vtA, "hello"),
		vtOpen(vtB), vtData(vtB, strings.Repeat("b", 150)), vtEnd(vtB),
		vtData(vtC, "answer"), vtData(testOtherAddr, "to nobody"), vtData(vtA, "bye"), vtEnd(vtA),
	)
}

// badExpect returns what the connections have seen when stream ends; C is open from
// the start. Payload counts as it comes, not by whole frames.
func badExpect(stream []byte) []vtConnSeen {
	seen, _ := vtExpect(stream, []addr.SocketAddr{vtC})
	_, rest := vtDecode(stream)
	if len(rest) > 20 {
		a := addr.SocketAddrFrom(addr.IPAddrFrom16([16]byte(rest[:16])), uint16(rest[16])<<8|uint16(rest[17]))
		for i := range seen {
			if seen[i].addr == a {
				seen[i].data += string(rest[20:])
			}
		}
	}
	return seen
}

// wantTransportError fails the test unless err is a *TransportError around target, and
// nothing that reads as a clean end.
func wantTransportError(t *testing.T, what string, err, target error) {
	t.Helper()
	var te *TransportError
	if !errors.As(err, &te) || !errors.Is(err, target) || errors.Is(err, io.EOF) {
		t.Errorf("%s returned %v, want a *TransportError around %v", what, err, target)
	}
}

// wantAllFail makes every call of a session that has ended, and fails the test unless
// each returns at once an error that check takes. c is one of its connections, not
// ended, with nothing left to read.
func (tc *vtTest) wantAllFail(c *Conn, check func(what string, err error)) {
	tc.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	start := time.Now()
	_, err := c.Read(make([]byte, 1))
	check("Read", err)
	_, err = c.WriteTo(io.Discard)
	check("WriteTo", err)
	_, err = c.Write([]byte("x"))
	check("Write", err)
	_, err = c.Write(make([]byte, 300<<10))
	check("large Write", err)
	_, err = c.WriteBuffers(&net.Buffers{[]byte("x")})
	check("WriteBuffers", err)
	_, err = c.ReadFrom(strings.NewReader("x"))
	check("ReadFrom", err)
	check("CloseWrite", c.CloseWrite())
	_, err = tc.p.Open(ctx, testOtherAddr)
	check("Open", err)
	if tc.l != nil {
		_, err = tc.l.Accept()
		check("Accept", err)
		_, err = tc.l.AcceptConn(ctx)
		check("AcceptConn", err)
		_, err = tc.l.AcceptPending(ctx)
		check("AcceptPending", err)
	}
	_, err = tc.p.Ping(ctx)
	check("Ping", err)
	check("Err", tc.p.Err())
	check("Shutdown", tc.p.Shutdown(ctx))
	if err := c.Close(); err != nil {
		tc.t.Errorf("Close of a connection returned %v", err)
	}
	if err := tc.p.Close(); err != nil {
		tc.t.Errorf("Close of the session returned %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		tc.t.Errorf("Read after Close returned %v", err)
	}
	if took := time.Since(start); took > 0 {
		tc.t.Errorf("calls after the end took %v", took)
	}
}

// TestTransportCutAnywhere cuts the transport at every byte of a peer's stream, in
// every way that a transport has to say so.
func TestTransportCutAnywhere(t *testing.T) {
	stream := badStream()
	for _, tt := range []struct {
		name   string
		faults faultconn.Faults
		target error
		plan   faultconn.Plan
	}{
		{name: "EOF", faults: faultconn.Faults{CutErr: io.EOF}, target: io.ErrUnexpectedEOF},
		{name: "EOF with bytes", faults: faultconn.Faults{CutErr: io.EOF, ErrWithBytes: true}, target: io.ErrUnexpectedEOF},
		{name: "reset", faults: faultconn.Faults{CutErr: syscall.ECONNRESET}, target: syscall.ECONNRESET},
		{name: "reset with bytes", faults: faultconn.Faults{CutErr: syscall.ECONNRESET, ErrWithBytes: true}, target: syscall.ECONNRESET},
		{name: "EOF byte by byte", faults: faultconn.Faults{CutErr: io.EOF, MaxPiece: 1}, target: io.ErrUnexpectedEOF},
		{name: "EOF without deadlines", faults: faultconn.Faults{CutErr: io.EOF}, target: io.ErrUnexpectedEOF, plan: faultconn.Plan{NoDeadlines: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for at := 0; at <= len(stream); at++ {
				plan := tt.plan
				plan.Read = tt.faults
				plan.Read.End, plan.Read.EndAt = faultconn.Cut, int64(at)
				if at == 0 && plan.Read.ErrWithBytes {
					continue // there are no bytes for it to come with
				}
				badCut(t, plan, stream, at, tt.target)
				if t.Failed() {
					t.Fatalf("cut at byte %d of %d", at, len(stream))
				}
			}
		})
	}
}

func badCut(t *testing.T, plan faultconn.Plan, stream []byte, at int, target error) {
	t.Helper()
	wrap := func(c net.Conn) net.Conn { return faultconn.New(c, plan) }
	vtRunOver(t, true, nil, wrap, func(tc *vtTest) {
		var k vtSink
		c, err := tc.p.Open(context.Background(), vtC)
		if err != nil {
			if at > 0 {
				tc.t.Fatal(err)
			}
			var te *TransportError // around io.EOF too: nothing was open yet
			if !errors.As(err, &te) {
				tc.t.Errorf("Open returned %v, want a *TransportError", err)
			}
			return
		}
		k.take(tc, c)
		k.accept(tc)
		tc.sendRaw(stream)
		select {
		case <-tc.p.Done():
		default:
			tc.t.Fatal("the session goes on")
		}
		k.wg.Wait()
		want := badExpect(stream[:at])
		if len(k.seen) != len(want) {
			tc.t.Fatalf("%d connections, want %d", len(k.seen), len(want))
		}
		for i, seen := range k.seen {
			if *seen != want[i] {
				tc.t.Errorf("%v has read %s, ended %t (%v), want %s, ended %t",
					seen.addr, vtShort(seen.data), seen.ended, k.errs[i], vtShort(want[i].data), want[i].ended)
			}
			if !seen.ended {
				wantTransportError(tc.t, fmt.Sprintf("Read of %v", seen.addr), k.errs[i], target)
			}
		}
		wantTransportError(tc.t, "Err", tc.p.Err(), target)
	})
}

// TestEveryCallTellsWhyTheSessionEnded: pending and later calls, for each cause. All
// tell the same.
func TestEveryCallTellsWhyTheSessionEnded(t *testing.T) {
	// A net.Pipe that its peer has closed fails for the reader and for the writer,
	// and either may be first.
	cut := func(err error) bool {
		var te *TransportError
		return errors.As(err, &te) && !errors.Is(err, io.EOF) &&
			(te.Op == "read" && te.Err == io.ErrUnexpectedEOF || te.Op == "write" && te.Err == io.ErrClosedPipe)
	}
	for _, tt := range []struct {
		name  string
		cause func(*vtTest)
		is    func(error) bool
	}{
		{"the peer ends the transport", func(tc *vtTest) { tc.peer.close() }, cut},
		{"the peer ends it in a header", func(tc *vtTest) { tc.sendRaw([]byte{0, 0, 0}); tc.peer.close() }, cut},
		{"the peer breaks the protocol", func(tc *vtTest) {
			for i := range 8 {
				tc.send(vtOpen(addr.SocketAddrFrom(vtA.IP(), uint16(i+1))))
			}
		}, func(err error) bool {
			var pe *ProtocolError
			return errors.As(err, &pe) && errors.Is(err, ErrTooManyConns)
		}},
		{"Close", func(tc *vtTest) { tc.p.Close() }, func(err error) bool { return errors.Is(err, net.ErrClosed) }},
	} {
		for _, side := range vtSides {
			t.Run(tt.name+"/"+side.name, func(t *testing.T) {
				vtRun(t, side.listen, &Config{MaxConns: 8}, func(tc *vtTest) {
					check := func(what string, err error) {
						if !tt.is(err) || err.Error() != tc.p.Err().Error() {
							tc.t.Errorf("%s returned %v; the session ended with %v", what, err, tc.p.Err())
						}
					}
					a, b, c := tc.open(vtA), tc.open(vtB), tc.open(vtC)
					tc.settle()
					tc.peer.setDeaf(true)
					pending := []*vtOp{
						tc.start("pending small Write", func() (int, error) { return c.Write([]byte("x")) }),
						tc.start("pending Read", func() (int, error) { return c.Read(make([]byte, 10)) }),
						tc.start("pending large Write", func() (int, error) { return a.Write(make([]byte, 300<<10)) }),
						tc.start("pending WriteTo", func() (int, error) { n, err := a.WriteTo(io.Discard); return int(n), err }),
						tc.start("second pending large Write", func() (int, error) { return b.Write(make([]byte, 300<<10)) }),
						tc.start("Write waiting for its turn", func() (int, error) { return b.Write([]byte("x")) }),
						tc.start("Open waiting for room", func() (int, error) { _, err := tc.p.Open(context.Background(), testOtherAddr); return 0, err }),
					}
					if tc.l != nil {
						pending = append(pending,
							tc.start("pending Accept", func() (int, error) { _, err := tc.l.Accept(); return 0, err }),
							tc.start("pending AcceptPending", func() (int, error) { _, err := tc.l.AcceptPending(context.Background()); return 0, err }))
						if tt.name == "the peer breaks the protocol" {
							pending = pending[:len(pending)-2] // they get connections first
						}
					}
					for _, op := range pending {
						op.wantBlocked("nothing has happened yet")
					}
					tt.cause(tc)
					tc.settle()
					for _, op := range pending {
						select {
						case <-op.done:
							check(op.name, op.err)
						default:
							tc.t.Errorf("%s still waits", op.name)
						}
					}
					if tc.t.Failed() {
						return
					}
					for tc.l != nil { // what the peer has opened before
						d, err := tc.l.Accept()
						if err != nil {
							break
						}
						d.Close()
					}
					tc.wantAllFail(c, check)
				})
			})
		}
	}
}

// TestPendingShutdownEndsWithTheTransport: it has waited for a connection that the
// transport's end has cut, and must not call that success.
func TestPendingShutdownEndsWithTheTransport(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		op := tc.startErr("Shutdown", func() error { return tc.p.Shutdown(context.Background()) })
		op.wantBlocked("a connection is open")
		tc.peer.close()
		tc.settle()
		op.want("it has ended", 0, io.ErrUnexpectedEOF)
		wantTransportError(tc.t, "Shutdown", op.err, io.ErrUnexpectedEOF)
		wantTransportError(tc.t, "CloseWrite", c.CloseWrite(), io.ErrUnexpectedEOF)
	})
}

// TestPeerThatNeverReads: writers wait, and deadlines, contexts and Close end that.
func TestPeerThatNeverReads(t *testing.T) {
	for _, tt := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{
		{"deadlines", nil},
		{"no deadlines", func(c net.Conn) net.Conn { return faultconn.New(c, faultconn.Plan{NoDeadlines: true}) }},
		{"stalls in a frame", func(c net.Conn) net.Conn {
			return faultconn.New(c, faultconn.Plan{Write: faultconn.Faults{End: faultconn.Stall, EndAt: 60 + 20 + 7}})
		}},
	} {
		run := func(name string, f func(tc *vtTest, c, other *Conn)) {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				vtRunOver(t, true, nil, tt.wrap, func(tc *vtTest) {
					c, other := tc.open(vtA), tc.open(vtB)
					tc.open(vtC)
					tc.settle()
					tc.peer.setDeaf(true)
					f(tc, c, other)
				})
			})
		}
		big := strings.Repeat("x", 1<<20)
		run("a write deadline passes", func(tc *vtTest, c, other *Conn) {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			other.SetWriteDeadline(time.Now().Add(2 * time.Second))
			start := time.Now()
			op, op2 := tc.startWrite(c, big), tc.startWrite(other, big)
			op.wantBlocked("the peer reads nothing")
			<-op.done
			if took := time.Since(start); !errors.Is(op.err, os.ErrDeadlineExceeded) || took != time.Second {
				tc.t.Errorf("Write returned %v after %v", op.err, took)
			}
			<-op2.done
			if took := time.Since(start); !errors.Is(op2.err, os.ErrDeadlineExceeded) || took != 2*time.Second {
				tc.t.Errorf("the other Write returned %v after %v", op2.err, took)
			}
		})
		run("a write deadline is set", func(tc *vtTest, c, other *Conn) {
			op := tc.startWrite(c, big)
			op.wantBlocked("the peer reads nothing")
			c.SetWriteDeadline(time.Unix(1, 0))
			tc.settle()
			op.want("the deadline has passed", -1, os.ErrDeadlineExceeded)
			op = tc.startWrite(other, big)
			op.wantBlocked("the deadline was another's")
			other.Close()
			tc.settle()
			op.want("Close ends a Write", -1, net.ErrClosed)
		})
		run("a context ends Open", func(tc *vtTest, c, other *Conn) {
			op, op2 := tc.startWrite(c, big), tc.startWrite(other, big)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			open := tc.startErr("Open", func() error { _, err := tc.p.Open(ctx, testOtherAddr); return err })
			open.wantBlocked("there is no room")
			<-open.done
			open.want("its time is over", 0, context.DeadlineExceeded)
			tc.wantHalves("what was never announced is forgotten", testOtherAddr, vtFree)
			op.wantBlocked("a context is one call's")
			op2.wantBlocked("a context is one call's")
		})
		run("reading goes on", func(tc *vtTest, c, other *Conn) {
			op := tc.startWrite(c, big)
			r := tc.reading(c)
			tc.send(vtData(vtA, "hello"), vtEnd(vtA), vtOpen(testOtherAddr))
			r.want("who reads doesn't wait for who writes", "hello", io.EOF)
			d := tc.accept(testOtherAddr)
			d.Close()
			op.wantBlocked("the peer reads nothing")
		})
		run("Shutdown's context", func(tc *vtTest, c, other *Conn) {
			op := tc.startWrite(c, big)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := tc.p.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				tc.t.Errorf("Shutdown returned %v", err)
			}
			op.want("the session has ended", -1, net.ErrClosed)
		})
		run("Close", func(tc *vtTest, c, other *Conn) {
			op := tc.startWrite(c, big)
			start := time.Now()
			tc.p.Close()
			if took := time.Since(start); took > closeLinger {
				tc.t.Errorf("Close took %v", took)
			}
			op.want("the session has ended", -1, net.ErrClosed)
		})
	}
}

// TestGarbageIsNoHarm sends random bytes. Every header is a legal one, so most of them are
// data for nobody; what opens is refused or accepted.
func TestGarbageIsNoHarm(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		garbage := make([]byte, 200+rnd.IntN(200_000))
		for i := range garbage {
			garbage[i] = byte(rnd.Uint32())
			if seed%4 == 1 { // many zeros: headers without payload
				for range 5 {
					garbage[i] &= byte(rnd.Uint32())
				}
			}
			if seed%4 == 2 {
				garbage[i] = 0
			}
		}
		var cuts []int
		for at := 0; at < len(garbage); at += 1 + rnd.IntN(5000) {
			cuts = append(cuts, at)
		}
		vtRun(t, seed%2 == 0, &Config{MaxConns: 1000, AcceptBacklog: 3}, func(tc *vtTest) {
			c := tc.open(vtC)
			r := tc.reading(c)
			tc.sendRaw(garbage, cuts...)
			if err := tc.p.Err(); err != nil && !errors.Is(err, ErrTooManyConns) {
				tc.t.Fatalf("seed %d: the session ended with %v", seed, err)
			}
			tc.peer.close()
			tc.settle()
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.got.Len() > 0 || r.err == nil || errors.Is(r.err, io.EOF) {
				tc.t.Errorf("seed %d: the connection read %d bytes, %v", seed, r.got.Len(), r.err)
			}
			var te *TransportError
			if !errors.As(r.err, &te) && !errors.Is(r.err, ErrProtocol) {
				tc.t.Errorf("seed %d: Read returned %v, which tells nothing", seed, r.err)
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestRandomFramesKeepTheSessionAlive sends frames of a few addresses in random order,
// to an application that accepts, reads, ends and closes at random. Whatever an address has
// gone through, the session goes on, and one that was left alone works.
func TestRandomFramesKeepTheSessionAlive(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		vtRun(t, seed%3 > 0, &Config{AcceptBacklog: 4}, func(tc *vtTest) {
			c := tc.open(vtC)
			var live []*Conn
			for range 200 {
				a := addr.SocketAddrFrom(vtA.IP(), uint16(rnd.IntN(5)))
				switch rnd.IntN(10) {
				case 0, 1, 2:
					tc.peer.queue(vtBytes(vtFrame{addr: a}))
				case 3, 4, 5:
					tc.peer.queue(vtBytes(vtData(a, strings.Repeat("d", 1+rnd.IntN(3000)))))
				case 6:
					if d, err := tc.p.Open(context.Background(), a); err == nil {
						live = append(live, d)
					} else if !errors.Is(err, ErrAddrInUse) {
						tc.t.Fatalf("Open returned %v", err)
					}
				case 7:
					if tc.l != nil {
						ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
						if d, err := tc.l.AcceptConn(ctx); err == nil {
							live = append(live, d)
						}
						cancel()
					}
				default:
					if len(live) == 0 {
						continue
					}
					i := rnd.IntN(len(live))
					d := live[i]
					d.SetDeadline(time.Now().Add(time.Millisecond))
					switch rnd.IntN(5) {
					case 0:
						d.Read(make([]byte, 1+rnd.IntN(2000)))
					case 1:
						d.Write(make([]byte, 1+rnd.IntN(2000)))
					case 2:
						d.CloseWrite()
					case 3:
						d.CloseRead()
					default:
						d.Close()
						live = append(live[:i], live[i+1:]...)
					}
				}
			}
			tc.conns = append(tc.conns, live...)
			tc.settle()
			tc.frames()
			tc.send(vtData(vtC, "alive"))
			tc.wantRead("the one that was left alone", c, "alive", nil)
			tc.write(c, "well")
			tc.want("and it writes", vtData(vtC, "well"))
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// An oddConn does what few transports do and the io contracts allow, or nearly.
type oddConn struct {
	net.Conn
	read  func(c net.Conn, p []byte) (int, error)
	write func(c net.Conn, p []byte) (int, error)
}

func (c oddConn) Read(p []byte) (int, error) {
	if c.read != nil {
		return c.read(c.Conn, p)
	}
	return c.Conn.Read(p)
}

func (c oddConn) Write(p []byte) (int, error) {
	if c.write != nil {
		return c.write(c.Conn, p)
	}
	return c.Conn.Write(p)
}

// TestReadsThatBringNothing: now and then they are borne, for ever they are not.
func TestReadsThatBringNothing(t *testing.T) {
	calls := 0
	sometimes := func(c net.Conn) net.Conn {
		return oddConn{Conn: c, read: func(c net.Conn, p []byte) (int, error) {
			if calls++; calls%50 != 0 {
				return 0, nil
			}
			return c.Read(p)
		}}
	}
	vtRunOver(t, true, nil, sometimes, func(tc *vtTest) {
		c := tc.open(vtA)
		r := tc.reading(c)
		for range 20 {
			tc.send(vtData(vtA, "x"))
		}
		r.want("empty reads lose nothing", strings.Repeat("x", 20), nil)
	})
	never := func(c net.Conn) net.Conn {
		return oddConn{Conn: c, read: func(net.Conn, []byte) (int, error) { return 0, nil }}
	}
	vtRunOver(t, true, nil, never, func(tc *vtTest) {
		<-tc.p.Done()
		wantTransportError(tc.t, "Err", tc.p.Err(), io.ErrNoProgress)
		_, err := tc.l.Accept()
		wantTransportError(tc.t, "Accept", err, io.ErrNoProgress)
	})
}

// TestShortWrites: a write that took less than all without an error is gone on with, in
// the middle of a header too.
func TestShortWrites(t *testing.T) {
	for _, most := range []int{1, 7, 19, 20, 21, 1000} {
		short := func(c net.Conn) net.Conn {
			return oddConn{Conn: c, write: func(c net.Conn, p []byte) (int, error) { return c.Write(p[:min(len(p), most)]) }}
		}
		vtRunOver(t, false, nil, short, func(tc *vtTest) {
			c := tc.open(vtA)
			data := string(testBytes(5000, 1))
			tc.write(c, data)
			c.Close()
			tc.settle()
			var got []byte
			for _, w := range tc.peer.take() {
				got = append(got, w...)
			}
			if string(got) != string(vtBytes(vtOpen(vtA), vtData(vtA, data), vtEnd(vtA))) {
				frames, rest := vtDecode(got)
				tc.t.Errorf("by %d bytes: %v and %d bytes more", most, frames, len(rest))
			}
		})
	}
}

// TestWritesThatTakeNothing: a transport that takes no byte and says nothing is wrong
// must end the session, and not keep it busy for ever.
func TestWritesThatTakeNothing(t *testing.T) {
	var calls atomic.Int64
	never := func(c net.Conn) net.Conn {
		return oddConn{Conn: c, write: func(net.Conn, []byte) (int, error) {
			if calls.Add(1) > 100_000 {
				return 0, errBusy // else the test would not end
			}
			return 0, nil
		}}
	}
	vtRunOver(t, false, nil, never, func(tc *vtTest) {
		if c, err := tc.p.Open(context.Background(), vtA); err == nil {
			tc.conns = append(tc.conns, c)
			c.Write([]byte("x"))
		}
		tc.settle()
		var te *TransportError
		if err := tc.p.Err(); !errors.As(err, &te) || errors.Is(err, errBusy) {
			tc.t.Errorf("after %d writes the session has ended with %v, want a *TransportError soon", calls.Load(), err)
		}
	})
}

var errBusy = errors.New("the session has tried a hundred thousand times")

// badConversation is a session's life with a peer that keeps the rules: two
// connections opened, one accepted, data both ways, all ended. It returns the first error of
// each call that had one.
func badConversation(tc *vtTest, peer badPeer) (errs []error) {
	note := func(err error) bool {
		if err != nil && err != io.EOF {
			errs = append(errs, err)
		}
		return err == nil || err == io.EOF
	}
	exchange := func(c *Conn, data string) {
		_, err := c.Write([]byte(data))
		if !note(err) {
			return
		}
		_, err = io.ReadFull(c, make([]byte, len(data)))
		if err == io.ErrUnexpectedEOF || err == io.EOF {
			err = errors.New("a clean end that nobody sent")
		}
		note(err)
	}
	for i, a := range []addr.SocketAddr{vtA, vtB} {
		c, err := tc.p.Open(context.Background(), a)
		if !note(err) {
			continue
		}
		tc.conns = append(tc.conns, c)
		exchange(c, "hello")
		exchange(c, strings.Repeat("h", 40_000*i+1))
		if note(c.CloseWrite()) {
			_, err = io.Copy(io.Discard, c)
			note(err)
		}
		c.Close()
	}
	peer.opens()
	nc, err := tc.l.Accept()
	if note(err) {
		c := nc.(*Conn)
		tc.conns = append(tc.conns, c)
		_, err = io.ReadFull(c, make([]byte, 9))
		note(err)
		c.Close()
		peer.ends()
	}
	note(tc.p.Shutdown(context.Background()))
	return errs
}

// A badPeer sends back what it gets, ends what the session ends, and opens one
// connection when it is told to.
type badPeer interface {
	opens()
	ends() // of that connection
}

// A badEcho is a vt-muxer peer that sends back what it gets, and ends what the session ends.
type badEcho struct {
	conn net.Conn
	out  chan []byte
	open map[addr.SocketAddr]bool
	wg   sync.WaitGroup
}

func newBadEcho(conn net.Conn) *badEcho {
	e := &badEcho{conn: conn, out: make(chan []byte, 1000), open: map[addr.SocketAddr]bool{vtC: true}}
	e.wg.Go(func() {
		for b := range e.out {
			e.conn.Write(b)
		}
	})
	return e
}

func (e *badEcho) say(frames ...vtFrame) { e.out <- vtBytes(frames...) }

func (e *badEcho) opens() { e.say(vtOpen(vtC), vtData(vtC, "to accept")) }
func (e *badEcho) ends()  { e.say(vtEnd(vtC)) }

// A badSession is a peer with protocol 1.
type badSession struct {
	l  *Listener
	c  *Conn
	wg sync.WaitGroup
}

func newBadSession(conn net.Conn) (*badSession, error) {
	l, err := NewListener(conn, &Config{Protocol: Protocol1})
	if err != nil {
		return nil, err
	}
	e := &badSession{l: l}
	e.wg.Go(func() {
		for {
			c, err := l.AcceptConn(context.Background())
			if err != nil {
				return
			}
			e.wg.Go(func() {
				io.Copy(c, c)
				c.Close()
			})
		}
	})
	return e, nil
}

func (e *badSession) opens() {
	c, err := e.l.Open(context.Background(), vtC)
	if err != nil {
		return // the session has ended, which is the test's business
	}
	e.c = c
	c.Write([]byte("to accept"))
}

func (e *badSession) ends() {
	if e.c != nil {
		e.c.Close()
	}
}

func (e *badEcho) listen() {
	var rest []byte
	buf := make([]byte, 128<<10)
	for {
		n, err := e.conn.Read(buf)
		var frames []vtFrame
		frames, rest = vtDecode(append(rest, buf[:n]...))
		for _, f := range frames {
			switch {
			case f.data != "":
				e.say(f)
			case !e.open[f.addr]:
				e.open[f.addr] = true
			case f.addr != vtC: // the test ends that
				e.open[f.addr] = false
				e.say(vtEnd(f.addr))
			}
		}
		if err != nil {
			return
		}
	}
}

// TestErrorAtTheNthCall lets the n-th Read, then the n-th Write of the transport
// fail, for every n that there is.
func TestErrorAtTheNthCall(t *testing.T) {
	for _, tt := range []struct {
		name string
		op   string
		plan func(n int) faultconn.Plan
	}{
		{"Read", "read", func(n int) faultconn.Plan { return faultconn.Plan{Read: faultconn.Faults{FailCall: n}} }},
		{"Read with bytes", "read", func(n int) faultconn.Plan {
			return faultconn.Plan{Read: faultconn.Faults{FailCall: n, ErrWithBytes: true}}
		}},
		{"Write", "write", func(n int) faultconn.Plan { return faultconn.Plan{Write: faultconn.Faults{FailCall: n}} }},
		{"Write with bytes", "write", func(n int) faultconn.Plan {
			return faultconn.Plan{Write: faultconn.Faults{FailCall: n, ErrWithBytes: true, MaxPiece: 13}}
		}},
		{"Read without deadlines", "read", func(n int) faultconn.Plan {
			return faultconn.Plan{NoDeadlines: true, Read: faultconn.Faults{FailCall: n}}
		}},
		{"Write without deadlines", "write", func(n int) faultconn.Plan {
			return faultconn.Plan{NoDeadlines: true, Write: faultconn.Faults{FailCall: n}}
		}},
	} {
		overPipe.withEach(t, func(t *testing.T, tr transport) {
			t.Run(tt.name, func(t *testing.T) { errorAtTheNthCall(t, tr, tt.op, tt.plan) })
		})
	}
}

func errorAtTheNthCall(t *testing.T, tr transport, op string, plan func(int) faultconn.Plan) {
	failed := 0
	for n := 1; ; n++ {
		if n > 1000 {
			t.Fatal("the conversation never comes to an end")
		}
		var errs []error
		var cause error
		synctest.Test(t, func(t *testing.T) { errs, cause = badCall(t, tr, plan(n)) })
		if len(errs) == 0 {
			if n == 1 || failed < 5 {
				t.Errorf("only %d of the calls failed", failed)
			}
			return
		}
		failed++
		for _, err := range errs {
			wantTransportError(t, fmt.Sprintf("with call %d failing, a call", n), err, faultconn.ErrInjected)
		}
		var te *TransportError
		if !errors.As(cause, &te) || te.Op != op {
			t.Errorf("call %d: the session ended with %v, want the %s's error", n, cause, op)
		}
	}
}

// badCall has the conversation over a transport that fails as planned. It returns the
// errors of its calls, and why the session ended.
func badCall(t *testing.T, tr transport, plan faultconn.Plan) (errs []error, cause error) {
	near, far := tr.dial(t)
	slabs, buffers := pool.Outstanding()
	l, err := NewListener(faultconn.New(near, plan), tr.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	tc := &vtTest{t: t, s: l.s, l: l, p: l.Pipe(), peer: &vtPeer{conn: far, quit: make(chan struct{})}, slabs: slabs, buffers: buffers}
	if tr.one() {
		peer, err := newBadSession(far)
		if err != nil {
			t.Fatal(err)
		}
		tc.slabs = -1 // the peer has some as well
		errs = badConversation(tc, peer)
		cause = tc.p.Err()
		tc.finish()
		peer.l.Close()
		peer.ends()
		peer.wg.Wait()
		if s, b := pool.Outstanding(); s != slabs || b != buffers {
			t.Errorf("%d slabs and %d buffers are left, want %d and %d\n%s", s, b, slabs, buffers, pool.Leaks())
		}
		return errs, cause
	}
	echo := newBadEcho(far)
	echo.wg.Go(echo.listen)
	errs = badConversation(tc, echo)
	cause = tc.p.Err()
	tc.finish()
	close(echo.out)
	echo.wg.Wait()
	return errs, cause
}
