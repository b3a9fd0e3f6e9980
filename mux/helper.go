package mux

// The helper is the session's goroutine for flushes that nobody else can see
// through: a leader, a Close or a finalizer must not block in the transport, a
// writer's deadline has passed, a streak of small writes is better sent together,
// or the transport can't resume an interrupted write. It is started when it is
// first needed.

// flush sends what the caller has published, for a Write of c that may block.
// last is what staging.commit said.
func (s *session) flush(c *conn, last bool) {
	late := c.cameForward()
	if !last && !s.out.claim() {
		c.wrote()
		return
	}
	if c.leased != 0 {
		c.endLease() // or c's own lock would keep the flusher from what c has published
	}
	s.out.late = late
	if c.inStreak() || !s.inline {
		s.handOver()
		return
	}
	s.runFlusher(c, nil)
}

// tryFlush sends what the caller has published without ever waiting for the
// transport. What the transport doesn't take at once is left to the helper.
func (s *session) tryFlush() {
	if s.out.claim() {
		s.trySend()
	}
}

// trySend is tryFlush for who holds the flusher's role.
func (s *session) trySend() {
	o := &s.out
	for range fairRounds {
		if s.dead.Load() {
			s.runFlusher(nil, nil) // nothing blocks any more
			return
		}
		if o.phase == phaseNone && !o.collect() {
			return
		}
		if o.phase == phaseSealed {
			o.build()
		}
		if o.phase == phaseNone {
			if !o.pending() && o.rest() {
				return
			}
			continue
		}
		if len(o.vec) > 0 || !s.inline {
			break
		}
		if o.arm(nil) != nil {
			o.recall(nil, false)
		}
		if !s.t.CanTry() {
			break
		}
		err := o.try()
		if err != nil && o.isMoot(err) {
			o.failBatch()
			continue
		}
		if err != nil {
			s.end(&TransportError{Op: "write", Err: err})
			continue
		}
		if o.unsent() {
			break
		}
		o.finish(nil)
	}
	s.handOver()
}

// passOn hands the flusher's role to a lent writer that waits, else to the helper.
func (s *session) passOn() {
	o := &s.out
	for l := o.queue.head; l != nil; l = o.queue.head {
		w := l.w // l may be recycled once it is promoted
		o.stg.flusher.leave()
		if l.state.CompareAndSwap(lentQueued, lentPromoted) {
			w.Wake()
			return
		}
		o.stg.flusher.take()
		o.queue.pop()
		l.dropped() // withdrawn
	}
	s.handOver()
}

// handOver hands the flusher's role to the helper.
func (s *session) handOver() {
	s.out.stg.flusher.leave()
	s.handed.Store(true)
	s.helperMu.Lock()
	if !s.helping && !s.dead.Load() {
		s.helping = true
		s.helpers.Add(1)
		go s.help()
	}
	s.helperMu.Unlock()
	select {
	case s.work <- struct{}{}:
	default:
	}
	// The helper ends with the session. One that has looked at handed for the
	// last time before it was set here did so after dead was.
	if s.dead.Load() && s.handed.CompareAndSwap(true, false) {
		s.out.stg.flusher.take()
		s.runFlusher(nil, nil)
	}
}

func (s *session) help() {
	defer s.helpers.Done()
	for {
		select {
		case <-s.work:
		case <-s.done:
		}
		over := s.dead.Load()
		if s.handed.CompareAndSwap(true, false) {
			s.out.stg.flusher.take()
			s.runFlusher(nil, nil)
			continue
		}
		if over {
			return
		}
	}
}
