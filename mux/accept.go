package mux

import (
	"context"
	"net"
	"sync"
)

// acceptQueue holds the connections that the peer has opened and nobody has
// accepted, the oldest first.
type acceptQueue struct {
	mu         sync.Mutex
	head, tail *conn
	n          int
	waiters    waitList
	closed     bool
}

// offer queues c for the application, or refuses it. The leader calls it, and never
// waits for an application here (hostile peers, R2).
func (s *session) offer(c *conn) {
	q := &s.accept
	q.mu.Lock()
	if !s.accepting || q.closed || q.n >= s.cfg.AcceptBacklog || s.draining.Load() {
		q.mu.Unlock()
		s.refuseNew(c)
		return
	}
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.acceptNext = c
	}
	q.tail = c
	q.n++
	w := q.waiters.pop()
	q.mu.Unlock()
	s.in.to = c
	if w != nil && w != s.in.leader {
		s.in.delivered++
		s.token.rouse(w)
	}
}

// refuseNew is refuse for a connection that nobody else has seen. The leader calls
// it, and flushes when it has handed out all that it has read.
func (s *session) refuseNew(c *conn) {
	s.count.refused.Add(1)
	c.mu.Lock()
	c.readErr, c.writeErr = net.ErrClosed, net.ErrClosed
	c.flags.Or(flagClosed | flagReadShut | flagReadOver | flagWriteShut)
	c.mu.Unlock()
	s.out.debts.add(c, owesEnd)
	s.in.owes = true
}

// refuse answers an open the only way the vt-muxer protocol has: by ending our half
// at once, so that the opener reads io.EOF, and discarding what it sends. A
// vt-muxer end ignores such an open, which leaves the opener waiting for ever.
func (s *session) refuse(c *conn) {
	s.count.refused.Add(1)
	c.close(net.ErrClosed, net.ErrClosed)
}

// nextLocked takes the oldest connection, or nil.
func (q *acceptQueue) nextLocked() *conn {
	c := q.head
	if c == nil {
		return nil
	}
	q.head, c.acceptNext = c.acceptNext, nil
	if q.head == nil {
		q.tail = nil
	}
	q.n--
	return c
}

// close ends every wait. What is queued is refused, or else can still be accepted:
// a peer that opens, sends, ends and goes must not be lost.
func (q *acceptQueue) close(s *session, refuse bool) {
	q.mu.Lock()
	q.closed = true
	var head *conn
	if refuse {
		head = q.head
		q.head, q.tail, q.n = nil, nil, 0
	}
	for w := q.waiters.pop(); w != nil; w = q.waiters.pop() {
		s.token.rouse(w)
	}
	q.mu.Unlock()
	for c := head; c != nil; {
		next := c.acceptNext
		c.acceptNext = nil
		s.refuse(c)
		c = next
	}
}

// acceptState waits for a connection. While nobody reads, it leads.
func (s *session) acceptState(ctx context.Context) (*conn, error) {
	q := &s.accept
	for {
		q.mu.Lock()
		c := q.nextLocked()
		closed := q.closed
		var w *waiter
		if c == nil && !closed {
			w = s.waiters.get(nil)
			w.lazy = true
			q.waiters.push(w)
		}
		q.mu.Unlock()
		switch {
		case c != nil:
			s.count.accepted.Add(1)
			return c, nil
		case closed:
			return nil, s.acceptErr()
		}
		if err := s.awaitAccept(ctx, w); err != nil {
			return nil, err
		}
	}
}

func (s *session) acceptErr() error {
	if s.closing.Load() {
		return net.ErrClosed
	}
	if err := s.err(); err != nil {
		return err
	}
	return ErrDraining
}

// awaitAccept waits until w is satisfied or ctx is done, and gives w back.
func (s *session) awaitAccept(ctx context.Context, w *waiter) (err error) {
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { s.token.rouse(w) })
		defer stop()
	}
	leads := s.token.enlist(w)
	for !w.satisfied.Load() {
		if err = ctx.Err(); err != nil {
			break
		}
		if leads || w.promoted.Load() {
			s.lead(w, nil, nil)
			leads = !w.satisfied.Load() && s.token.enlist(w)
			continue
		}
		w.Park(0)
	}
	s.leave(w)
	q := &s.accept
	q.mu.Lock()
	switch {
	case !w.satisfied.Load():
		q.waiters.remove(w)
	case err != nil && q.head != nil:
		// The turn was ours; another's now.
		if next := q.waiters.pop(); next != nil {
			s.token.rouse(next)
		}
	}
	q.mu.Unlock()
	s.waiters.put(w)
	return err
}
