package mux

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/pool"
	"github.com/vtmux/vtmux/wire"
)

// stuckWriter's Write returns, as written, when it is let go.
type stuckWriter chan struct{}

func (w stuckWriter) Write(p []byte) (int, error) {
	<-w
	return len(p), nil
}

// stuckWriteTo starts a WriteTo of what c has received, whose writer waits until w is closed.
func (tc *vtTest) stuckWriteTo(c *Conn) (w stuckWriter, op *vtOp) {
	tc.t.Helper()
	w = make(stuckWriter)
	op = tc.start("WriteTo", func() (int, error) {
		n, err := c.WriteTo(w)
		return int(n), err
	})
	op.wantBlocked("its writer is stuck")
	return w, op
}

// What WriteTo has taken is granted anew when its writer has it. Else a peer that makes that
// one slow would have us hold two windows.
// To see it fail: in writeTo, call tookLocked when the bytes are taken.
func TestWriteToGrantsWhatIsWritten(t *testing.T) {
	t.Run("one", func(t *testing.T) {
		oneRun(t, oneListener, func(tc *oneTest) {
			c := tc.acceptIDs(1)[0]
			tc.send("DATA 1 32768*x", "DATA 1 32768*x")
			w, op := tc.stuckWriteTo(c)
			tc.wantIdle("nothing is granted")
			close(w)
			tc.want("and now it is", "WINDOW YOURS 1 131072")
			tc.send("FIN 1")
			op.want("WriteTo", 65536, nil)
		})
	})
	t.Run("vt", func(t *testing.T) {
		vtRun(t, true, &Config{MaxWindow: minMaxWindow}, func(tc *vtTest) {
			tc.send(vtOpen(vtA))
			c := tc.accept(vtA)
			piece := vtData(vtA, strings.Repeat("x", minMaxWindow/2))
			tc.send(piece, piece)
			w, op := tc.stuckWriteTo(c)
			tc.send(piece) // taken, for a Read may wait for it
			tc.peer.queue(vtBytes(piece))
			synctest.Wait()
			if tc.s.token.stalled.Load() != c.c {
				tc.t.Error("the session reads on, beyond MaxWindow")
			}
			close(w)
			synctest.Wait()
			if tc.s.token.stalled.Load() != nil {
				tc.t.Error("the session does not read on")
			}
			tc.send(vtEnd(vtA))
			op.want("WriteTo", minMaxWindow*2, nil)
		})
	})
}

// besideWriteTo starts a WriteTo whose writer is stuck with MaxWindow, and returns what lets it
// go.
func (tc *vtTest) besideWriteTo(c *Conn) (free func()) {
	piece := vtData(c.Addr(), strings.Repeat("x", minMaxWindow/2))
	tc.send(piece, piece)
	w, op := tc.stuckWriteTo(c)
	return func() {
		close(w)
		tc.settle()
		tc.send(vtEnd(c.Addr()))
		op.want("WriteTo", -1, nil)
	}
}

// A Read beside a WriteTo that holds all that may be held gets what comes: the piece is taken as
// a whole, and once.
// To see it fail: in roomLocked, do without in.n == 0.
func TestReadBesideAStuckWriteTo(t *testing.T) {
	for _, leads := range []bool{false, true} {
		vtRun(t, true, &Config{MaxWindow: minMaxWindow}, func(tc *vtTest) {
			tc.send(vtOpen(vtA), vtOpen(vtB))
			c, d := tc.accept(vtA), tc.accept(vtB)
			free := tc.besideWriteTo(c)
			if leads { // who is delivered to by the standby makes it give up the token
				rd := tc.start("Read of another", func() (int, error) { return d.Read(make([]byte, 1)) })
				tc.peer.queue(vtBytes(vtData(vtB, "1")))
				rd.want("Read of another", 1, nil)
			}
			buf := make([]byte, 4)
			op := tc.start("Read", func() (int, error) { return c.Read(buf) })
			op.wantBlocked("nothing has come")
			if l := tc.s.token.leader; leads && (l == nil || l.deadline != &c.c.readDeadline) {
				tc.t.Fatal("the Read does not lead")
			}
			tc.peer.queue(vtBytes(vtData(vtA, "abcdefgh"), vtData(vtB, "y")))
			synctest.Wait()
			op.want("Read", 4, nil)
			rest := make([]byte, 8)
			n, err := c.Read(rest)
			if got := string(buf) + string(rest[:n]); got != "abcdefgh" || err != nil {
				tc.t.Errorf("Reads get %q, %v", got, err)
			}
			tc.wantRead("another goes on", d, "y", nil)
			free()
		})
	}
}

// A WriteTo ends a stall when it takes what is unread, though its writer is stuck: others read on.
// To see it fail: in writeTo, take unstall out.
func TestStuckWriteToEndsAStall(t *testing.T) {
	vtRun(t, true, vtStallCfg, func(tc *vtTest) {
		tc.send(vtOpen(vtA), vtOpen(vtB))
		c, other := tc.accept(vtA), tc.accept(vtB)
		tc.stall(c, other)
		w, op := tc.stuckWriteTo(c)
		tc.wantAllTaken("the session reads on")
		tc.wantRead("what came behind", other, "beforebehindmore", nil)
		close(w)
		tc.send(vtEnd(vtA))
		op.want("WriteTo", 2*65535+1, nil)
	})
}

// panicWriter takes nothing.
type panicWriter struct{}

func (panicWriter) Write([]byte) (int, error) { panic("no room") }

// A WriteTo whose writer panics holds up the session no more than one whose writer fails.
// To see it fail: take the call of written out of the deferred function.
func TestWriterThatPanicsStallsNothing(t *testing.T) {
	vtRun(t, true, &Config{MaxWindow: minMaxWindow}, func(tc *vtTest) {
		tc.send(vtOpen(vtA))
		c := tc.accept(vtA)
		for range 2 {
			tc.send(vtData(vtA, strings.Repeat("x", minMaxWindow/2)))
		}
		func() {
			defer func() { recover() }()
			c.WriteTo(panicWriter{})
		}()
		tc.send(vtData(vtA, "fine"))
		tc.wantRead("the session reads on", c, "fine", nil)
	})
}

// A WriteTo that waits keeps no list of what it has written.
// To see it fail: in writeTo, keep back while it waits.
func TestWriteToKeepsNoList(t *testing.T) {
	const window = 16 << 20
	oneRun(t, oneSetup{listen: true, cfg: Config{WriteTimeout: -1, InitialWindow: window}}, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		total := 0
		for ; total+lendSlabFrom+1 <= window; total += lendSlabFrom + 1 {
			tc.peer.say(fmt.Sprintf("DATA 1 %d*x", lendSlabFrom), `DATA 1 "y"`)
			synctest.Wait()
		}
		op := tc.start("WriteTo", func() (int, error) {
			n, err := c.WriteTo(struct{ io.Writer }{io.Discard})
			return int(n), err
		})
		op.wantBlocked("it waits for more")
		before := heap()
		for last := before + 1<<20; last-before > 1<<10; before = heap() {
			last = before // what earlier tests left is still being given back
		}
		tc.peer.say("FIN 1")
		op.want("WriteTo", total, nil)
		if kept := before - heap(); kept > 32<<10 {
			tc.t.Errorf("a WriteTo that waits keeps %d bytes", kept)
		}
		tc.peer.takeFrames()
	})
}

// Pieces that are kept by reference, each with a byte behind it, cost little more than
// without: that byte's segment is the smallest.
// To see it fail: in add, tell segmentFor of q.n alone.
func TestBytesBetweenReferencesTakeLittle(t *testing.T) {
	const n = 64
	var q recvQueue
	slab := pool.GetSlab(readSlabSize)
	defer slab.Release()
	for range n {
		q.add(slab.Bytes()[:lendSlabFrom], slab)
		q.add([]byte("y"), nil)
	}
	copied := 0
	for g := q.first(); ; g = g.next {
		if g.own != nil {
			copied += cap(g.own.B)
		}
		if g == q.last {
			break
		}
	}
	if copied > n*512 {
		t.Errorf("%d bytes take %d, want 512 each", n, copied)
	}
	releaseAll(q.takeAll())
}

// A queue whose reader keeps up takes little, however many bytes have gone through it.
// To see it fail: in add, tell segmentFor of the run alone.
func TestQueueOfAReaderThatKeepsUpTakesLittle(t *testing.T) {
	var q recvQueue
	p := make([]byte, 100)
	q.add(p, nil)
	for range 10_000 {
		q.add(p, nil)
		q.read(p)
	}
	if held := queueHolds(&q); held > 4<<10 {
		t.Errorf("%d bytes take %d", q.n, held)
	}
	releaseAll(q.takeAll())
}

// The peer decides how far off it seems, by when it answers a PING. A reader gets the largest
// window only where it reads one in two seconds.
// To see it fail: in growLocked, take maxSpan out.
func TestWindowDoesNotGrowForLateAnswers(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		const rtt = 20 * time.Second
		c := tc.acceptIDs(1)[0]
		s := tc.sending(rtt, 65536)
		tc.peer.mu.Lock()
		tc.peer.onFrame = func(f oneFrame) { // it sends at once, and answers late
			if f.preface == nil && f.t == wire.TypeWindow {
				limit := wire.View[wire.WindowBody]([]byte(f.body)).Limit.Get()
				s.limit = limit
				time.AfterFunc(time.Microsecond, func() { s.upTo(limit) })
			}
		}
		tc.peer.mu.Unlock()
		for range 300 {
			if _, err := io.ReadFull(c, make([]byte, 65536)); err != nil {
				tc.t.Fatal(err)
			}
			tc.pass(3 * time.Second)
		}
		if got := tc.p.Stats().RTT; got < 5*time.Second {
			tc.t.Errorf("the round trip is taken for %v", got)
		}
		if got := c.c.recv.size; got != 65536 {
			tc.t.Errorf("a reader of 22 KB/s has got a window of %d bytes", got)
		}
		c.Close()
		tc.pass(time.Minute)
		tc.peer.takeFrames()
	})
}

// A table gives back what it took when it was full.
// To see it fail: take shrinkLocked out of setLocked.
func TestTableShrinks(t *testing.T) {
	for _, one := range []bool{false, true} {
		var tb table
		tb.init()
		before := heap()
		all := make([]*conn, 65536)
		for i := range all {
			c := &conn{addr: testAddr(i)}
			if one {
				c.id = wire.ID(i + 1)
			}
			all[i] = c
			tb.addLocked(c, sendOpen)
		}
		for _, c := range all[:len(all)-10] {
			tb.setLocked(c, 0)
		}
		if tb.lenLocked() != 10 {
			t.Fatalf("%d are left", tb.lenLocked())
		}
		for _, c := range all[len(all)-10:] {
			if tb.byAddr[c.addr] != c && tb.byID[c.key()] != c {
				t.Error("one has been lost")
			}
		}
		clear(all)
		wantHeap(t, fmt.Sprintf("one %v: a table of 10 connections", one), before+8*int64(len(all)), 256<<10)
		tb.each(func(*conn) {})
	}
}

// What this end has opened counts until the application has closed it, as what the peer has
// does: its unread bytes stay that long.
// To see it fail: in announce, look at t.opened; in register, at the table alone.
func TestOwnConnsCountUntilClosed(t *testing.T) {
	t.Run("one", func(t *testing.T) {
		oneRun(t, oneSetup{cfg: Config{MaxConns: 2}}, func(tc *oneTest) {
			cs := tc.openIDs(2)
			for i := range cs {
				tc.send(fmt.Sprintf("FIN YOURS %d", i+1), fmt.Sprintf("STOP YOURS %d 9", i+1))
				tc.want("its end", fmt.Sprintf("RESET %d 9", i+1))
			}
			tc.wantOpenErr("both have ended, and are held", ErrTooManyConns)
			if n := tc.p.Stats().Conns; n != 0 {
				tc.t.Errorf("%d connections are open", n)
			}
			cs[0].Close()
			tc.open(vtA)
			tc.want("there is a place", "OPEN 3 192.0.2.1:8080")
			tc.wantOpenErr("two again", ErrTooManyConns)
		})
	})
	t.Run("vt", func(t *testing.T) {
		vtRun(t, true, &Config{MaxConns: 2}, func(tc *vtTest) {
			c, d := tc.open(vtA), tc.open(vtB)
			tc.want("opens", vtOpen(vtA), vtOpen(vtB))
			for _, x := range []*Conn{c, d} {
				tc.send(vtEnd(x.Addr()))
				x.CloseWrite()
				tc.want("its end", vtEnd(x.Addr()))
			}
			tc.wantOpenErr("both have ended, and are held", vtC, ErrTooManyConns)
			tc.send(vtOpen(vtC))
			tc.want("the peer's is refused", vtEnd(vtC))
			tc.send(vtEnd(vtC))
			c.Close()
			tc.send(vtOpen(vtA))
			tc.accept(vtA)
			d.Close()
			tc.open(vtB)
			tc.want("there is a place", vtOpen(vtB))
		})
	})
}
