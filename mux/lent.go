package mux

import (
	"sync"
	"sync/atomic"

	"github.com/vtmux/vtmux/wire"
)

const (
	// lendFrom is the least Write that is sent from the caller's own slice. Less is
	// copied: a copy of this size costs less than waiting for the flusher.
	lendFrom = 8 << 10
	// lentFrames bounds the frames of one lent payload, and lentMax its bytes. A
	// longer Write is lent piece by piece, so that bulk writers take turns.
	lentFrames = 17
	lentMax    = 256 << 10 // less than lentFrames of the least payload that a peer may announce
)

// A lentState says who may touch a lent payload.
//
//	queued ──claim──▶ claimed ──sent──▶ done          flusher, flusher
//	       ──withdraw▶ leaving ──▶ withdrawn          owner lets go of p: the flusher recycles it
//	                           ──▶ abandoned          flusher, which came by: the owner recycles it
//	       ──promote─▶ promoted                       flusher: its owner has the role now
//	                   promoted ──take───▶ queued     owner, which flushes
//	                            ──leave──▶ withdrawn  owner lets go of p, and passes the role on
//	                   claimed ──recall─▶ recalled ──copied──▶ done
//	                                                  owner: the flusher copies what is unsent
//	queued, claimed, recalled ──▶ failed              flusher, when the session has ended
//
// Before claimed and after done, failed or withdrawn nobody but the owner reads
// the payload; that is what lets Write return. What is withdrawn may wait for the flusher as
// long as the peer likes, so it must not keep the caller's slice.
type lentState = uint32

const (
	lentQueued lentState = iota
	lentClaimed
	lentRecalled
	lentPromoted
	lentDone
	lentFailed
	lentWithdrawn
	lentLeaving
	lentAbandoned
)

// A lent is a piece of a caller's slice on its way to the transport. The owner is
// the goroutine in Write; one that was withdrawn belongs to the flusher.
type lent struct {
	state atomic.Uint32
	next  *lent // in the stack, later in the flusher's queue

	c *conn
	w *waiter // where the owner parks
	p []byte

	hdrs [lentFrames]wire.VTHeader // the flusher's: room for the headers in front of the pieces of p

	// The flusher's: the headers and pieces are batch[first:past].
	first, past int
}

var lents = sync.Pool{New: func() any { return new(lent) }}

func newLent(c *conn, w *waiter, p []byte) *lent {
	l := lents.Get().(*lent)
	l.c, l.w, l.p = c, w, p
	l.state.Store(lentQueued)
	return l
}

func (l *lent) recycle() {
	l.c, l.w, l.p, l.next = nil, nil, nil, nil
	lents.Put(l)
}

// dropped is the flusher's for one that it could not claim.
func (l *lent) dropped() {
	if !l.state.CompareAndSwap(lentLeaving, lentAbandoned) {
		l.recycle()
	}
}

// finish ends l in state to and wakes the owner. l is the owner's after that.
func (l *lent) finish(to lentState) {
	w := l.w
	l.state.Store(to)
	w.Wake()
}

// A lentStack takes payloads from any goroutine, and gives all of them to the
// flusher at once. Push is one CAS, take one swap: nothing is ever popped singly,
// so no element can come back between a load and a CAS with another next.
type lentStack struct{ top atomic.Pointer[lent] }

func (s *lentStack) push(l *lent) {
	for {
		top := s.top.Load()
		l.next = top
		if s.top.CompareAndSwap(top, l) {
			return
		}
	}
}

// A lentQueue is the flusher's own, the longest waiting first.
type lentQueue struct{ head, tail *lent }

// take moves everything from the stack to the queue's end, in order of pushing.
func (q *lentQueue) take(s *lentStack) {
	if s.top.Load() == nil {
		return
	}
	l := s.top.Swap(nil)
	last := l
	var first *lent
	for l != nil {
		next := l.next
		l.next = first
		first, l = l, next
	}
	if q.tail == nil {
		q.head = first
	} else {
		q.tail.next = first
	}
	q.tail = last
}

func (q *lentQueue) pop() *lent {
	l := q.head
	if l == nil {
		return nil
	}
	q.head = l.next
	if q.head == nil {
		q.tail = nil
	}
	l.next = nil
	return l
}

// writeLent sends p, of at most lentMax bytes, from where it lies. It returns
// len(p) once p is sent, or copied because the caller could wait no longer; else 0
// and why.
func (c *conn) writeLent(p []byte) (int, error) {
	s := c.s
	c.letGo()
	c.wrote()
	w := s.waiters.get(nil)
	l := newLent(c, w, p)
	c.setSender(w)
	s.out.lent.push(l)
	if s.out.claim() {
		s.runFlusher(c, l)
	}
	n, err := c.awaitLent(l, w)
	c.setSender(nil)
	s.waiters.put(w)
	return n, err
}

// awaitLent waits until l is no longer the flusher's.
func (c *conn) awaitLent(l *lent, w *waiter) (int, error) {
	s := c.s
	for {
		state := l.state.Load()
		switch state {
		case lentDone:
			n := len(l.p)
			l.recycle()
			return n, nil
		case lentFailed:
			l.recycle()
			return 0, c.lost()
		}
		err := c.cantWrite()
		switch {
		case state == lentPromoted && err == nil:
			// The role is ours, for this once: runFlusher may pass it on with l
			// still unsent. Nobody else changes l's state while we hold it.
			s.out.stg.flusher.take()
			l.state.Store(lentQueued)
			s.runFlusher(c, l)
		case state == lentPromoted:
			s.out.stg.flusher.take()
			l.p, l.c = nil, nil
			l.state.Store(lentWithdrawn) // no time for the role
			s.passOn()
			return 0, err
		case err == nil:
			c.parkWriter(w)
		case state == lentQueued:
			if l.state.CompareAndSwap(lentQueued, lentLeaving) {
				l.p, l.c = nil, nil
				if !l.state.CompareAndSwap(lentLeaving, lentWithdrawn) {
					l.recycle()
				}
				return 0, err
			}
		case state == lentClaimed:
			if l.state.CompareAndSwap(lentClaimed, lentRecalled) {
				s.out.recallNow()
			}
		default: // recalled: the flusher is on its way out of the transport
			w.Park(0)
		}
	}
}
