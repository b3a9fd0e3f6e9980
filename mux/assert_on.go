//go:build vtmuxdebug

package mux

import (
	"fmt"
	"sync/atomic"
)

// What internal/model proves of a model, a debug build checks of the code itself.

// A leaderCheck sees to it that one waiter leads at a time.
type leaderCheck struct{ leads atomic.Pointer[waiter] }

func (k *leaderCheck) begin(w *waiter) {
	if !k.leads.CompareAndSwap(nil, w) {
		panic(fmt.Sprintf("BUG: %p leads while %p does", w, k.leads.Load()))
	}
}

// end comes before the token is given up.
func (k *leaderCheck) end(w *waiter) {
	if !k.leads.CompareAndSwap(w, nil) {
		panic(fmt.Sprintf("BUG: %p ends its lead while %p leads", w, k.leads.Load()))
	}
}

// A flusherCheck sees to it that one goroutine has the flusher's role at a time. Who
// gets the role takes, who gives it up leaves before it does so.
type flusherCheck struct{ held atomic.Bool }

func (k *flusherCheck) take() {
	if !k.held.CompareAndSwap(false, true) {
		panic("BUG: two have the flusher's role")
	}
}

func (k *flusherCheck) leave() { k.held.Store(false) }

// must is for who is about to do what only the role's holder may.
func (k *flusherCheck) must() {
	if !k.held.Load() {
		panic("BUG: flushing without the flusher's role")
	}
}

// assertLocked checks what holds whenever mu is free. It is called right after Lock.
func (t *readToken) assertLocked() {
	stalled := t.stalled.Load()
	if t.leader != nil && (stalled != nil || t.leader.queued) {
		panic(fmt.Sprintf("BUG: leader %p, queued %v, stalled on %p", t.leader, t.leader.queued, stalled))
	}
	if t.leader == nil && stalled == nil && !t.closed && t.head != nil {
		panic("BUG: the read token is free, and an eager waiter waits")
	}
	last := assertList(t.head, false)
	if last != t.tail {
		panic(fmt.Sprintf("BUG: the eager waiters end at %p, tail is %p", last, t.tail))
	}
	last = assertList(t.lazy, true)
	for w := t.lazy; w != nil; w = w.next {
		if w.standby && w != last {
			panic("BUG: the standby is not the last of the lazy waiters")
		}
	}
}

// assertList checks the links and flags of one of the token's lists, and returns its last.
func assertList(head *waiter, lazy bool) (last *waiter) {
	for w := head; w != nil; last, w = w, w.next {
		if w.prev != last || !w.queued || w.lazy != lazy {
			panic(fmt.Sprintf("BUG: waiter %p in the token's list: prev %p, want %p; queued %v, lazy %v", w, w.prev, last, w.queued, w.lazy))
		}
	}
	return last
}

// assertSettled checks that the sealed buffer, which is about to be sent, is committed,
// and is not sent a second time: settle is needed in between.
func (o *writeSide) assertSettled() {
	o.stg.flusher.must()
	if o.phase != phaseSealed {
		panic(fmt.Sprintf("BUG: building a batch in phase %d", o.phase))
	}
	if done := o.stg.done[o.sealed].Load(); o.end > 0 && done != sealed {
		panic(fmt.Sprintf("BUG: %d bytes of a sealed buffer are to be sent, but done is %#x", o.end, done))
	}
}

// assertLent checks that every payload of the batch is still the flusher's to read.
func (o *writeSide) assertLent() {
	o.stg.flusher.must()
	for _, l := range o.claimed {
		if l == nil {
			continue
		}
		if state := l.state.Load(); state != lentClaimed && state != lentRecalled {
			panic(fmt.Sprintf("BUG: a payload in state %d is to be sent", state))
		}
	}
}
