package mux

import (
	"sync"
	"sync/atomic"

	"github.com/vtmux/vtmux/internal/park"
)

// A waiter is one goroutine that waits for something: bytes, a connection to
// accept, room to write. It is in the list of what it waits for (link), and a
// reader's also in the read token's list (next, prev).
type waiter struct {
	park.Spot

	// satisfied is set, under the lock of the list that link belongs to, by who
	// takes the waiter from that list because its wait is over. For a write lock it is
	// set as well by who wakes the waiter to try again, which stays in the list.
	satisfied atomic.Bool
	// promoted is set, under the token's lock, when the waiter is given the token later
	// than by enlist.
	promoted atomic.Bool
	// roused is set by who wants the waiter to look at more than satisfied.
	roused atomic.Bool

	// Guarded by the lock of what is waited for.
	link *waiter
	// passedOver: it was woken to take a lock and found it taken again, so the next unlock
	// hands it over.
	passedOver bool
	// p is a Read's slice, nil for anything else. While the waiter is in its
	// connection's list, whoever leads may fill it; n tells how far that was done.
	p []byte
	n int

	next, prev *waiter // in the token's lists, guarded by its mu; or in a waitQueue
	queued     bool    // guarded by readToken.mu

	need      int  // bytes of staging, where it is in writeSide.rooms
	forCredit bool // conn.sender waits for sendLimit; guarded by conn.mu

	// On the session's clock. They are a reader's own, but that until is set before
	// satisfied is by who delivers.
	since int64 // when the wait began
	until int64 // when what it waited for came, or it gave the token up again; 0: not known

	// Constant while the waiter is in use.
	deadline *atomic.Int64 // that counts; nil: none
	reader   bool          // waits for bytes; then a rouse alone does not end its lead
	lazy     bool          // waits for no bytes of a connection: see readToken
	standby  bool          // is the session's own lazy waiter
}

// ledLocked follows when w gives the token up. The token's lock is held.
func (w *waiter) ledLocked() {
	if w.promoted.Load() {
		w.promoted.Store(false)
	}
}

// waiterPool keeps a session's waiters. It belongs to the session because a
// waiter's channel belongs to the synctest bubble that made it.
type waiterPool struct{ pool sync.Pool }

// get returns a waiter that is in no list, for a Read of c, or with nil for anything
// else. A stale wake may still be kept in it.
func (p *waiterPool) get(c *conn) *waiter {
	w, _ := p.pool.Get().(*waiter)
	if w == nil {
		w = new(waiter)
		w.Init()
	}
	w.satisfied.Store(false)
	if w.roused.Load() {
		w.roused.Store(false)
	}
	if c != nil {
		w.deadline, w.reader = &c.readDeadline, true
	}
	return w
}

// put takes back a waiter that is in no list and does not lead.
func (p *waiterPool) put(w *waiter) {
	w.deadline, w.reader, w.lazy = nil, false, false
	w.p, w.n, w.passedOver, w.forCredit = nil, 0, false, false
	w.Drain()
	p.pool.Put(w)
}

// A waitList is a first-in-first-out list of waiters, guarded by its owner's lock. It is
// a ring, so that a connection has one pointer for it.
type waitList struct{ last *waiter } // its link is the first

// first returns the one that waits the longest, or nil.
func (l *waitList) first() *waiter {
	if l.last == nil {
		return nil
	}
	return l.last.link
}

// after returns the one behind w, or nil.
func (l *waitList) after(w *waiter) *waiter {
	if w == l.last {
		return nil
	}
	return w.link
}

func (l *waitList) push(w *waiter) {
	if l.last == nil {
		w.link = w
	} else {
		w.link, l.last.link = l.last.link, w
	}
	l.last = w
}

// pop takes the first waiter and marks its wait as over. The caller wakes it.
func (l *waitList) pop() *waiter {
	w := l.first()
	if w != nil {
		l.cut(l.last, w)
		w.satisfied.Store(true)
	}
	return w
}

// take takes w out and marks its wait as over.
func (l *waitList) take(w *waiter) {
	l.remove(w)
	w.satisfied.Store(true)
}

// remove takes w out if it is in.
func (l *waitList) remove(w *waiter) {
	before := l.last
	for x := l.first(); x != nil; before, x = x, l.after(x) {
		if x == w {
			l.cut(before, w)
			return
		}
	}
}

// cut takes w out, which is behind before.
func (l *waitList) cut(before, w *waiter) {
	switch {
	case before == w:
		l.last = nil
	case w == l.last:
		l.last = before
	}
	before.link = w.link
	w.link = nil
}
