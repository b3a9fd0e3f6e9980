package mux

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
)

// inList returns the waiters of l, and checks its ends.
func inList(t *testing.T, l *waitList) (all []*waiter) {
	t.Helper()
	for w := l.first(); w != nil; w = l.after(w) {
		all = append(all, w)
		if len(all) > 1000 {
			t.Fatal("the ring does not come back to its last waiter")
		}
	}
	if n := len(all); n > 0 && all[n-1] != l.last {
		t.Fatalf("the list's last is %p, and its last waiter %p", l.last, all[n-1])
	}
	return all
}

func TestWaitListIsFirstInFirstOut(t *testing.T) {
	var l waitList
	if l.pop() != nil {
		t.Fatal("an empty list has a waiter")
	}
	var ws [3]waiter
	for range 2 { // the list is as new after its last waiter is out
		for i := range ws {
			ws[i].satisfied.Store(false)
			l.push(&ws[i])
		}
		for i := range ws {
			if ws[i].satisfied.Load() {
				t.Errorf("waiter %d: its wait is over before its turn", i)
			}
			if w := l.pop(); w != &ws[i] {
				t.Fatalf("pop %d is another waiter", i)
			}
			if !ws[i].satisfied.Load() || ws[i].link != nil {
				t.Errorf("waiter %d after pop: satisfied %v, link %p", i, ws[i].satisfied.Load(), ws[i].link)
			}
		}
		if l.pop() != nil || l.last != nil {
			t.Fatal("the list is not empty after the last pop")
		}
	}
}

func TestTakeEndsAWaitAndRemoveDoesNot(t *testing.T) {
	for i := range 3 {
		for _, take := range []bool{false, true} {
			var l waitList
			ws := []*waiter{new(waiter), new(waiter), new(waiter)}
			for _, w := range ws {
				l.push(w)
			}
			w := ws[i]
			if take {
				l.take(w)
			} else {
				l.remove(w)
				l.remove(w) // it is out already
			}
			if w.satisfied.Load() != take || w.link != nil {
				t.Errorf("waiter %d, take %v: satisfied %v, link %p", i, take, w.satisfied.Load(), w.link)
			}
			if got := inList(t, &l); !slices.Equal(got, slices.Delete(slices.Clone(ws), i, i+1)) {
				t.Errorf("waiter %d, take %v: others are left than the others", i, take)
			}
		}
	}
}

// TestWaitListAgreesWithASlice does random steps on a list and on a slice.
func TestWaitListAgreesWithASlice(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var l waitList
	var want []*waiter
	ws := make([]waiter, 8)
	for step := range 20000 {
		w := &ws[random.IntN(len(ws))]
		at := slices.Index(want, w)
		switch k := random.IntN(6); {
		case k < 3 && at < 0:
			w.satisfied.Store(false)
			l.push(w)
			want = append(want, w)
		case k == 3:
			l.remove(w) // it may not be in
			if at >= 0 {
				want = slices.Delete(want, at, at+1)
			}
		case k == 4 && at >= 0:
			l.take(w)
			want = slices.Delete(want, at, at+1)
		case k == 5:
			got := l.pop()
			if (got == nil) != (len(want) == 0) || got != nil && got != want[0] {
				t.Fatalf("step %d: pop is not the first", step)
			}
			want = want[min(1, len(want)):]
		}
		if got := inList(t, &l); !slices.Equal(got, want) {
			t.Fatalf("step %d: the list has %d waiters, want %d in their order", step, len(got), len(want))
		}
	}
}

func TestPooledWaiterIsAsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p waiterPool
		c := new(conn)
		for range 100 { // the pool may or may not give back what it got
			w := p.get(c)
			if w.deadline != &c.readDeadline || !w.reader || w.satisfied.Load() || w.roused.Load() || w.promoted.Load() || w.lazy || w.standby || w.queued || w.passedOver {
				t.Fatalf("a waiter from the pool is marked: %+v", w)
			}
			if w.Park(1) {
				t.Fatal("a waiter from the pool has kept a wake")
			}
			w.satisfied.Store(true)
			w.roused.Store(true)
			w.lazy, w.passedOver = true, true
			w.Wake()
			p.put(w)
			if w.deadline != nil || w.reader {
				t.Fatal("a pooled waiter keeps a connection")
			}
		}
	})
}

// A lateCtx is done when its Err is asked for the n-th time, and does something
// first. It has no Done, so that nothing else notices.
type lateCtx struct {
	context.Context
	n    int
	do   func()
	done bool
}

func (c *lateCtx) Err() error {
	if c.done {
		return context.Canceled
	}
	if c.n--; c.n == 0 {
		c.done = true
		c.do()
		return context.Canceled
	}
	return nil
}

// TestAcceptorThatGivesUpPassesItsTurnOn tells a race step by step:
//
//  1. An Accept waits. Its context is about to be done.
//  2. A second Accept waits behind it.
//  3. The peer opens a connection: the first one's wait is over.
//  4. The first one sees its context and returns.
//
// The connection must wake the second.
func TestAcceptorThatGivesUpPassesItsTurnOn(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		leader := tc.open(vtA)
		reading := tc.reading(leader) // reads the transport, so that Accept need not
		var second *vtOp
		ctx := &lateCtx{Context: context.Background(), n: 1, do: func() {
			second = tc.startErr("the second Accept", func() error {
				c, err := tc.l.AcceptConn(context.Background())
				if err == nil {
					tc.conns = append(tc.conns, c)
				}
				return err
			})
			synctest.Wait()
			tc.send(vtOpen(vtB))
		}}
		if _, err := tc.l.AcceptConn(ctx); err != context.Canceled {
			tc.t.Fatalf("the first Accept returned %v", err)
		}
		second.want("the connection goes to who still waits", 0, nil)
		tc.send(vtEnd(vtA))
		reading.want("the leader's own", "", io.EOF)
	})
}
