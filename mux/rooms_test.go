package mux

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// wokenOf returns which of ws have a wake, and takes it.
func wokenOf(ws []*waiter) (woken []int) {
	for i, w := range ws {
		if w.Park(time.Nanosecond) {
			woken = append(woken, i)
		}
	}
	return woken
}

// A batch wakes one of those that wait for room, and who leaves the next: 10,000 that wait
// must not all look each time that a few find room.
// To see it fail: make wakeRooms a wakeAll, or take the wake out of leave.
func TestBatchWakesWhoIsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		o := &b.s.out
		ws := make([]*waiter, 5)
		for i := range ws {
			ws[i] = b.s.waiters.get(nil)
			q := &o.rooms
			if i >= 3 {
				q = &o.watchers
			}
			o.enter(q, ws[i])
		}
		want := func(what string, f func(), want ...int) {
			t.Helper()
			f()
			got := wokenOf(ws)
			if len(got) != len(want) {
				t.Fatalf("%s wakes %v, want %v", what, got, want)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%s wakes %v, want %v", what, got, want)
				}
			}
		}
		want("a batch", o.wakeRooms, 0, 3, 4)
		want("the end", o.wakeAll, 0, 1, 2, 3, 4)
		want("who leaves from the middle", func() { o.leave(&o.rooms, ws[1]) }, 0)
		want("the first, which leaves,", func() { o.leave(&o.rooms, ws[0]) }, 2)
		want("another batch", o.wakeRooms, 2, 3, 4)
		want("the last, which leaves,", func() { o.leave(&o.rooms, ws[2]) })
		want("who watched", func() { o.leave(&o.watchers, ws[3]); o.leave(&o.watchers, ws[4]) })
		if n := o.waiting.Load(); n != 0 || o.rooms != (waitQueue{}) || o.watchers != (waitQueue{}) {
			t.Errorf("%d wait when all have left", n)
		}
	})
}

// keep keeps cs from the garbage collector, which would close them, until the test ends.
func (b *bare) keep(cs []*Conn) { b.t.Cleanup(func() { runtime.KeepAlive(cs) }) }

// roomWaiters fills staging, while the test has the flusher's role, and starts a Write of a
// whole frame on each of n connections from 2 on, which all wait.
func (b *bare) roomWaiters(n int) (p []byte, writes []<-chan result) {
	b.t.Helper()
	x := b.open(1)
	cs := []*Conn{x}
	for i := range n {
		cs = append(cs, b.open(2+i))
	}
	b.keep(cs)
	if !b.s.out.claim() {
		b.t.Fatal("the role is not free")
	}
	p = testBytes(copyMax, 1)
	for range 2 {
		b.now("Write of what fits", background(func() (int, error) { return x.Write(p) }))
	}
	for _, c := range cs[1:] {
		w := background(func() (int, error) { return c.Write(p) })
		b.pending("Write without room", w)
		writes = append(writes, w)
	}
	return p, writes
}

// Writes that wait for room find it in the order in which they came.
// To see it fail: in reserveWait, leave and enter again before each look.
func TestWritesFindRoomInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		p, writes := b.roomWaiters(7)
		go b.s.runFlusher(nil, nil)
		for i := range 9 {
			b.frame(max(1, i), p)
		}
		for _, w := range writes {
			b.now("Write", w)
		}
	})
}

// Who waits for room and becomes the flusher holds up none that waits behind it.
// To see it fail: in reserveWait, stay in the queue while the flusher runs.
func TestFlusherHoldsUpNoneThatWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		o := &b.s.out
		p, writes := b.roomWaiters(3)
		o.stg.flusher.leave()
		o.role.Store(flushIdle)
		o.wakeRooms()
		synctest.Wait() // the first has the role, and nobody reads what it sends
		b.pending("Write of the flusher", writes[0])
		b.now("Write behind it", writes[1])
		b.now("Write behind it", writes[2])
		for _, i := range []int{1, 1, 3, 4, 2} {
			b.frame(i, p)
		}
		b.now("Write of the flusher", writes[0])
	})
}

// A Write or an Open that fits is let past one that waits for more room than there is.
// To see it fail: take passOver out of reserveWait.
func TestSmallFitsBesideALargeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		var cs []*Conn
		for i := range 4 {
			cs = append(cs, b.open(20+i))
		}
		b.keep(cs)
		p, large := b.roomWaiters(0)
		for i, n := range []int{20_000, 20_000, copyMax} {
			w := background(func() (int, error) { return cs[i].Write(p[:n]) })
			b.pending("Write without room", w)
			large = append(large, w)
		}
		small := background(func() (int, error) { return cs[3].Write(p[:10]) })
		b.pending("small Write without room", small)
		var opened *Conn
		open := background(func() (n int, err error) {
			opened, err = b.s.open(context.Background(), testAddr(77))
			return 0, err
		})
		b.pending("Open without room", open)
		go b.s.runFlusher(nil, nil) // nobody reads
		b.now("the first", large[0])
		b.now("the second", large[1])
		b.pending("the third, which is too large,", large[2])
		b.now("the small Write behind it", small)
		b.now("the Open behind it", open)
		opened.Close()
	})
}
