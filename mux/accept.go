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
	head, tail *offered
	n          int
	waiters    waitList
	closed     bool
}

// offered is a connection's place in the acceptQueue.
type offered struct {
	c          *conn
	next, prev *offered
}

var offers = sync.Pool{New: func() any { return new(offered) }}

// full reports whether as many connections wait as may.
func (q *acceptQueue) full(most int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n >= most
}

// offer queues c for the application, or refuses it. The leader calls it, and never
// waits for an application here (hostile peers, R2).
func (s *session) offer(c *conn) {
	q := &s.accept
	q.mu.Lock()
	if !s.accepting || q.closed || q.n >= s.cfg.backlog(s.one) || !s.one && s.draining.Load() {
		q.mu.Unlock()
		s.refuseNew(c)
		return
	}
	q.pushLocked(c)
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
	c.readErr, c.writeErr = &reasonClosed, &reasonClosed
	r := c.rareLocked()
	r.refused, r.refusal, r.stopCode = true, CodeDraining, CodeDraining
	c.flags.Or(flagClosed | flagReadShut | flagReadOver | flagWriteShut)
	c.mu.Unlock()
	if c.id != 0 {
		s.in.calm.refused(s.cfg.InitialWindow)
		s.owe(c, owesRefusal)
		return
	}
	if !s.closing.Load() { // Close cuts it: an END would look like a clean end
		s.owe(c, owesEnd)
	}
}

// refuse refuses a connection that was queued. The vt-muxer protocol has one way
// only: our half ends at once, so that the opener reads io.EOF, and what it sends is
// discarded. A vt-muxer end ignores such an open, which leaves the opener waiting for
// ever.
func (s *session) refuse(c *conn, code Code, reason string) bool {
	if c.id == 0 {
		if !c.close(net.ErrClosed, net.ErrClosed) {
			return false
		}
	} else if !c.closeRefusing(code, reason) {
		return false
	}
	s.count.refused.Add(1)
	return true
}

func (q *acceptQueue) pushLocked(c *conn) {
	o := offers.Get().(*offered)
	c.offered = o
	o.c, o.prev = c, q.tail
	if q.tail == nil {
		q.head = o
	} else {
		q.tail.next = o
	}
	q.tail = o
	q.n++
}

func (q *acceptQueue) unlinkLocked(o *offered) {
	if o.prev == nil {
		q.head = o.next
	} else {
		o.prev.next = o.next
	}
	if o.next == nil {
		q.tail = o.prev
	} else {
		o.next.prev = o.prev
	}
	o.c.offered = nil
	*o = offered{}
	offers.Put(o)
	q.n--
}

// remove takes c out, and reports whether it was in.
func (q *acceptQueue) remove(c *conn) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.offered == nil {
		return false
	}
	q.unlinkLocked(c.offered)
	return true
}

// nextLocked takes the oldest connection, or nil.
func (q *acceptQueue) nextLocked() *conn {
	o := q.head
	if o == nil {
		return nil
	}
	c := o.c
	q.unlinkLocked(o)
	return c
}

// close ends every wait. What is queued is refused, or else can still be accepted:
// a peer that opens, sends, ends and goes must not be lost.
func (q *acceptQueue) close(s *session, refuse bool) {
	q.mu.Lock()
	q.closed = true
	var unserved []*conn
	for refuse && q.head != nil {
		unserved = append(unserved, q.nextLocked())
	}
	for w := q.waiters.pop(); w != nil; w = q.waiters.pop() {
		s.token.rouse(w)
	}
	q.mu.Unlock()
	for _, c := range unserved {
		if c.id == 0 && s.closing.Load() {
			c.abort(net.ErrClosed) // no END: see refuseNew
		}
		s.refuse(c, CodeDraining, "")
	}
}

// acceptState waits for a connection. While nobody reads, it leads.
func (s *session) acceptState(ctx context.Context) (*conn, error) {
	q := &s.accept
	_ = ctx.Done() // a nil context panics here, and not while it waits
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
	if err := s.overErr(); err != nil {
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
			s.lead(w, nil)
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
