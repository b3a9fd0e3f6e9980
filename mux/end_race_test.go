package mux

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// A session's end is not one step. These tests stand between two of its steps.

// TestShutdownKeepsWhatHasEndedAndNobodyHasAccepted: the opener has said all that it had to
// say, so the table has forgotten the connection. It can still be accepted.
// To see it fail: in end, refuse what is queued wherever the cause is net.ErrClosed.
func TestShutdownKeepsWhatHasEndedAndNobodyHasAccepted(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.send("OPEN 1", "STOP 1 9", `DATA 1 "x" FIN`)
		tc.want("both halves have ended", "RESET YOURS 1 9")
		op := tc.shutdown(context.Background())
		tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
		tc.endShutdown("GOAWAY 1 0")
		op.want("Shutdown", 0, nil)
		tc.wantRead("what came", tc.accept(vtA), "x", io.EOF)
		if c, err := tc.l.Accept(); !errors.Is(err, net.ErrClosed) {
			tc.t.Errorf("Accept returned %v, %v", c, err)
		}
	})
	oneRun(t, oneListener, func(tc *oneTest) { // the peer shuts down first
		tc.send("OPEN 1", "STOP 1 9", `DATA 1 "x" FIN`)
		tc.want("both halves have ended", "RESET YOURS 1 9")
		op := tc.shutdown(context.Background())
		tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
		tc.wantPing("the second step, and nothing is open", "GOAWAY 1 0")
		tc.peer.close()
		op.want("Shutdown", 0, nil)
		tc.wantRead("what came", tc.accept(vtA), "x", io.EOF)
	})
}

// TestEndThatWasNotSentIsACut: the table forgets a connection when its end has been built. If
// the peer is gone before that is sent, not all was done.
// To see it fail: in unfinished, look at the table alone.
func TestEndThatWasNotSentIsACut(t *testing.T) {
	var gone atomic.Bool
	setup := oneSetup{listen: true, wrap: func(c net.Conn) net.Conn {
		return oddConn{Conn: c, read: func(c net.Conn, p []byte) (int, error) {
			n, err := c.Read(p)
			if gone.Load() {
				return 0, io.EOF
			}
			return n, err
		}}
	}}
	for _, drains := range []bool{false, true} {
		gone.Store(false)
		oneRun(t, setup, func(tc *oneTest) {
			cs := tc.acceptIDs(2)
			tc.send("FIN 1", "FIN 2")
			var op *vtOp
			if drains {
				op = tc.shutdown(context.Background())
				tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
				tc.want("the second step", "GOAWAY 2 0")
			}
			tc.deaf(true)
			first := tc.startWrite(cs[1], "D")
			first.wantBlocked("the transport takes nothing")
			tc.startWrite(cs[0], "lost").want("what goes with the next batch", 4, nil)
			wantErr(tc.t, "CloseWrite", cs[0].CloseWrite(), nil)
			wantErr(tc.t, "CloseWrite", cs[1].CloseWrite(), nil)
			first.want("the first batch goes", 1, nil)
			tc.pace(wire.HeaderLen+1, time.Second)
			tc.deaf(false)
			tc.pass(time.Second)
			tc.wantNow("and nothing more", `DATA YOURS 2 "D"`)
			gone.Store(true)
			tc.peer.queue([]byte("x"))
			<-tc.l.Done()
			wantTransportError(tc.t, "Err", tc.l.Err(), io.ErrUnexpectedEOF)
			if op != nil {
				op.want("Shutdown", 0, io.ErrUnexpectedEOF)
			}
			tc.pace(0, 0)
			tc.peer.close()
			tc.settle()
			tc.sent()
		})
	}
}

// TestEndThatIsOnItsWayCounts: the transport's end is met while it is being sent.
// To see it fail: in finish, take endsOut away.
func TestEndThatIsOnItsWayCounts(t *testing.T) {
	over := false
	setup := oneSetup{listen: true, wrap: func(c net.Conn) net.Conn {
		return oddConn{Conn: c, read: func(c net.Conn, p []byte) (int, error) {
			n, err := c.Read(p)
			if over {
				return 0, io.EOF
			}
			return n, err
		}}
	}}
	oneRun(t, setup, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		tc.send("FIN 1")
		tc.deaf(true)
		wantErr(tc.t, "CloseWrite", c.CloseWrite(), nil)
		synctest.Wait()
		over = true
		tc.peer.queue([]byte("x"))
		tc.pass(endLinger / 2)
		wantErr(tc.t, "Err, with the FIN on its way", tc.l.Err(), nil)
		tc.deaf(false)
		synctest.Wait()
		wantErr(tc.t, "Err", tc.l.Err(), io.EOF)
		tc.sent()
	})
}

// TestClosedSessionGivesNoForeignBytes: Close empties the table and reads on. With the
// vt-muxer protocol another connection may come under an address that is gone.
// To see it fail: in receiver, don't look at flagReadOver.
func TestClosedSessionGivesNoForeignBytes(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		tc.send(vtOpen(vtA), vtOpen(vtB))
		c, d := tc.accept(vtA), tc.accept(vtB)
		c.CloseWrite()
		tc.want("our end", vtEnd(vtA))
		tc.send(vtData(vtA, "old"))
		tc.peer.setDeaf(true)
		tc.startWrite(d, "holds the transport").wantBlocked("the peer reads nothing")
		closed := tc.startErr("Close", tc.p.Close)
		closed.wantBlocked("it waits for half a second")
		tc.peer.queue(vtBytes(vtEnd(vtA), vtOpen(vtA), vtData(vtA, "new")))
		<-time.After(closeLinger / 2)
		synctest.Wait()
		closed.wantBlocked("it waits for half a second")
		tc.wantRead("the old one's", c, "old", net.ErrClosed)
	})
}

// TestNoEndBehindALostWrite: an end waits for a Write, which Close fails. The peer must not
// take for whole what the writer takes for lost.
// To see it fail: in lost, leave c.ending.
func TestNoEndBehindALostWrite(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		tc.deaf(true)
		op := tc.startWrite(c, strings.Repeat("x", 20000))
		op.wantBlocked("the peer reads nothing")
		tc.p.s.closing.Store(true) // as Close begins
		wantErr(tc.t, "CloseWrite", c.CloseWrite(), nil)
		op.want("Write", 0, net.ErrClosed)
		tc.p.s.abortAll(net.ErrClosed) // as Close goes on
		tc.deaf(false)
		tc.settle()
		for _, l := range oneLines(tc.sent()) {
			if strings.HasSuffix(l, "FIN") || strings.HasPrefix(l, "FIN") {
				tc.t.Errorf("sent %.40s", l)
			}
		}
		tc.p.s.end(net.ErrClosed)
	})
	vtRun(t, false, nil, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.want("our open", vtOpen(vtA))
		tc.peer.setDeaf(true)
		op := tc.startWrite(c, "x")
		op.wantBlocked("the peer reads nothing")
		tc.p.s.closing.Store(true)
		wantErr(tc.t, "CloseWrite", c.CloseWrite(), nil)
		op.want("Write", 0, net.ErrClosed)
		tc.p.s.abortAll(net.ErrClosed)
		tc.peer.setDeaf(false)
		tc.want("no end", vtData(vtA, "x"))
		tc.p.s.end(net.ErrClosed)
	})
}

// A brokenHalf takes nothing more once its sending half has ended.
type brokenHalf struct {
	net.Conn
	ended *atomic.Bool
}

func (c brokenHalf) CloseWrite() error { c.ended.Store(true); return nil }

func (c brokenHalf) Write(p []byte) (int, error) {
	if c.ended.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// TestWriteOfAForgottenConnection: the leader has forgotten the connection, and not aborted
// it yet. A Shutdown that finds nothing left ends our half of the transport meanwhile.
// To see it fail: let lostErr return s.failure in any case.
func TestWriteOfAForgottenConnection(t *testing.T) {
	var ended atomic.Bool
	oneRun(t, oneSetup{wrap: func(c net.Conn) net.Conn { return brokenHalf{c, &ended} }}, func(tc *oneTest) {
		s := tc.p.s
		s.lending = true
		c := tc.openIDs(1)[0]
		s.table.mu.Lock() // as the leader, for a REFUSED
		s.table.setLocked(c.c, 0)
		s.table.mu.Unlock()
		down := tc.startErr("Shutdown", func() error { return tc.p.Shutdown(context.Background()) })
		tc.wantNow("nothing is open", "GOAWAY 4294967295 0", "GOAWAY 0 0")
		if !ended.Load() {
			tc.t.Fatal("our half is open")
		}
		op := tc.start("Write", func() (int, error) { return c.Write(make([]byte, lendFrom)) })
		op.want("Write", 0, syscall.EPIPE)
		c.c.abort(&RefusedError{Code: CodeDraining}) // as the leader goes on
		s.end(net.ErrClosed)
		tc.settle()
		down.want("Shutdown", 0, nil)
		tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) }).want("Read", 0, syscall.EPIPE)
	})
}

// TestShutdownThatCloseOvertakes: the peer has ended the transport, and before the leader has
// ended the session, Close cuts what is open.
// To see it fail: in end, look at closing first.
func TestShutdownThatCloseOvertakes(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.acceptIDs(1)
		op := tc.shutdown(context.Background())
		tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
		tc.want("the second step", "GOAWAY 1 0")
		s := tc.l.s
		s.table.mu.Lock()
		ended := async(func() error { s.end(&TransportError{Op: "read", Err: io.EOF}); return nil }) // the leader
		for s.endMu.TryLock() {
			s.endMu.Unlock()
			runtime.Gosched()
		}
		for range 1000 { // it comes to the table
			runtime.Gosched()
		}
		s.closing.Store(true) // as Close
		all := s.table.allLocked()
		s.table.byID = nil
		s.table.mu.Unlock()
		for _, c := range all {
			c.abort(net.ErrClosed)
		}
		wantErr(tc.t, "end", <-ended, nil)
		op.want("Shutdown", 0, net.ErrClosed)
	})
}

// TestShutdownWhoseLastPingFails ends.
// To see it fail: in awaitPeersEnd, set halfClosed before the PING.
func TestShutdownWhoseLastPingFails(t *testing.T) {
	pings := 0
	setup := oneSetup{wrap: func(c net.Conn) net.Conn {
		return oddConn{Conn: c, write: func(c net.Conn, p []byte) (int, error) {
			if len(p) == wire.PingLen && p[0] == byte(wire.TypePing) && p[1] == 0 {
				pings++
			}
			if pings > 1 {
				return 0, syscall.EPIPE
			}
			return c.Write(p)
		}}
	}}
	oneRun(t, setup, func(tc *oneTest) {
		op := tc.startErr("Shutdown", func() error { return tc.p.Shutdown(context.Background()) })
		tc.wantNow("both steps", "GOAWAY 4294967295 0", "GOAWAY 0 0")
		tc.pass(endLinger)
		op.want("Shutdown", 0, syscall.EPIPE)
	})
}

// TestShutdownSendsNoPartOfAFrame: where the peer does as we do, the ACK of its last PING is
// on the way when that of ours comes. To end then cuts it, and the peer takes itself for cut.
func TestShutdownSendsNoPartOfAFrame(t *testing.T) {
	setup := oneSetup{wrap: func(c net.Conn) net.Conn {
		return oddConn{Conn: c, write: func(c net.Conn, p []byte) (int, error) {
			if p[0] != byte(wire.TypePing) || p[1] != byte(wire.FlagAck) {
				return c.Write(p)
			}
			n, err := c.Write(p[:5])
			if err != nil {
				return n, err
			}
			<-time.After(time.Millisecond)
			m, err := c.Write(p[n:])
			return n + m, err
		}}
	}}
	oneRun(t, setup, func(tc *oneTest) {
		op := tc.shutdown(context.Background())
		tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
		ack := tc.wantPing("both steps", "GOAWAY 0 0")
		tc.sendNow("PING 0102030405060708", ack)
		op.wantBlocked("its ACK is on the way")
		tc.pass(time.Millisecond)
		tc.want("the whole of it", "ACK 0102030405060708")
		tc.wantGone("and then the transport's end")
		op.want("Shutdown", 0, nil)
	})
}

// TestShutdownLetsTheFailureOut: the peer breaks the protocol when it is asked for the last
// time, and is told.
// To see it fail: in shutdown, don't wait for who ends the session.
func TestShutdownLetsTheFailureOut(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		op := tc.shutdown(context.Background())
		tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
		tc.wantPing("both steps", "GOAWAY 0 0")
		tc.deaf(true)
		tc.peer.say(`DATA 77 "x"`) // was never opened
		tc.pass(failLinger / 2)
		op.wantBlocked("the GOAWAY is on its way")
		tc.deaf(false)
		tc.wantNow("the reason", "GOAWAY 0 2 *")
		<-op.done
		var pe *ProtocolError
		wantErrAs(tc.t, "Shutdown", op.err, func(err error) bool { return errors.As(err, &pe) })
	})
}

// TestShutdownWhoseContextEndsLast: all has been sent, and nobody knows whether the peer has
// read it.
func TestShutdownWhoseContextEndsLast(t *testing.T) {
	for _, halves := range []bool{true, false} {
		setup := onePipe
		if halves {
			setup.wrap = func(c net.Conn) net.Conn { return halvedConn{c} }
		}
		oneRun(t, setup, func(tc *oneTest) {
			ctx, cancel := context.WithTimeout(context.Background(), endLinger/2)
			defer cancel()
			op := tc.shutdown(ctx)
			tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
			tc.pass(endLinger / 2)
			op.want("Shutdown", 0, context.DeadlineExceeded)
			if !errors.Is(tc.p.Err(), net.ErrClosed) {
				tc.t.Errorf("Err returned %v", tc.p.Err())
			}
			tc.sent()
		})
	}
}

// atOnce fails the test unless f returns within a tenth of a second.
func (tc *oneTest) atOnce(what string, f func()) {
	tc.t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > 100*time.Millisecond {
		tc.t.Errorf("%s returns after %v", what, took)
	}
}

// TestOpenEndsWithClose: an Open that waits for the peer's preface, while Close waits for the
// transport. To see it fail: in abortAll, take wakeAll away.
func TestOpenEndsWithClose(t *testing.T) {
	oneRun(t, oneSetup{preface: "-"}, func(tc *oneTest) {
		tc.deaf(true)
		for range 128 {
			tc.open(vtA)
		}
		op := tc.startErr("Open", func() error { _, err := tc.p.Open(context.Background(), vtA); return err })
		op.wantBlocked("the peer has not told its limit")
		closed := tc.startErr("Close", tc.p.Close)
		tc.atOnce("Open", func() { <-op.done })
		wantErr(tc.t, "Open", op.err, net.ErrClosed)
		<-closed.done
		tc.deaf(false)
		tc.settle()
		tc.peer.takeFrames()
	})
}

// TestProtocolIsNotAwaitedByAnEnd is the same where it is not known yet what the peer speaks.
// To see it fail: in awaitProtocol, wait for done.
func TestProtocolIsNotAwaitedByAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		l, err := NewListener(near, nil)
		if err != nil {
			t.Fatal(err)
		}
		op := async(func() error { _, err := l.Open(context.Background(), testAddr(1)); return err })
		synctest.Wait()
		began := time.Now()
		closed := async(l.Close)
		wantErr(t, "Open", <-op, net.ErrClosed)
		if took := time.Since(began); took > 0 {
			t.Errorf("Open returns %v after Close has begun", took)
		}
		wantErr(t, "Close", <-closed, nil)
	})
}

// TestPingEndsWithAFailure: the session has a second to tell the peer why it fails, and Ping
// is nothing that the peer is asked for then.
// To see it fail: in abortAll, take the close of pings away.
func TestPingEndsWithAFailure(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.deaf(true)
		c := tc.open(vtA)
		ping := func() error { _, err := tc.p.Ping(context.Background()); return err }
		op := tc.startErr("Ping", ping)
		op.wantBlocked("the peer is deaf")
		tc.peer.say(`DATA 77 "x"`) // was never opened
		tc.atOnce("Ping", func() { <-op.done })
		var pe *ProtocolError
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &pe) {
			tc.t.Errorf("Read returned %v", err)
		}
		wantErr(tc.t, "the Ping that waited", op.err, pe)
		tc.atOnce("another Ping", func() { wantErr(tc.t, "another Ping", ping(), pe) })
		tc.deaf(false)
		tc.settle()
		tc.peer.takeFrames()
	})
}

// TestReadKeepsItsDeadlineAtTheEnd: it has led, and met the transport's end while ends were
// on their way out, to a peer that reads no more.
// To see it fail: in readOver, wait until the ends are out.
func TestReadKeepsItsDeadlineAtTheEnd(t *testing.T) {
	over := false
	setup := oneSetup{listen: true, wrap: func(c net.Conn) net.Conn {
		return oddConn{Conn: c, read: func(c net.Conn, p []byte) (int, error) {
			n, err := c.Read(p)
			if n > 0 && over {
				return 0, io.EOF
			}
			return n, err
		}}
	}}
	oneRun(t, setup, func(tc *oneTest) {
		cs := tc.acceptIDs(2)
		op := tc.start("Read", func() (int, error) {
			cs[1].Read(make([]byte, 1))
			return cs[1].Read(make([]byte, 1)) // leads
		})
		tc.send(`DATA 2 "x"`)
		tc.deaf(true)
		cs[0].CloseWrite()
		synctest.Wait()
		tc.atOnce("Read", func() {
			cs[1].SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			<-time.After(40 * time.Millisecond)
			over = true
			tc.peer.queue([]byte("x"))
			<-op.done
		})
		wantErr(tc.t, "Read", op.err, os.ErrDeadlineExceeded)
		tc.deaf(false)
		tc.settle()
		tc.peer.takeFrames()
	})
}
