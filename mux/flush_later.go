package mux

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// flushWithin is how long what was published by flushLater stays unsent at most. It is not
// lazyAfter: where both timers are set at once, the order of what they do is to be certain.
const flushWithin = 900 * time.Microsecond

// A laterFlush is for what can wait for others to send it along, so that it costs no call of
// its own and wakes no peer twice: for OPENs, which mostly a first Write or Read follows, for
// WINDOWs that the peer does not need yet, and for ends that nobody waits for.
//
// If neither comes, the timer's flush does. It is not stopped when one comes, but left to
// fire in vain, once in flushWithin: each new timer interrupts the poller, which costs as
// much as the call that was saved.
type laterFlush struct {
	armed atomic.Bool // timer will fire
	opens atomic.Bool // and perhaps an OPEN waits for it
	timer *time.Timer // who sets armed sets it
}

// flushLater has what the caller has published sent within flushWithin. What was published
// is found by any flush.
func (s *session) flushLater() {
	l := &s.later
	if l.armed.Swap(true) {
		return
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(math.MaxInt64, s.onLater) // it must not fire before it is here
	}
	l.timer.Reset(flushWithin)
}

// openLater is flushLater for an OPEN.
func (s *session) openLater() {
	s.later.opens.Store(true)
	s.flushLater()
}

func (s *session) onLater() {
	s.later.armed.Store(false) // before the look: what is published later sets the timer again
	s.later.opens.Store(false)
	if s.out.published() {
		s.tryFlush()
	}
}

// flushDue sends now the OPENs that wait for a later flush, for somebody who waits for the
// answer.
func (s *session) flushDue() {
	if s.later.opens.Load() && s.out.published() {
		s.tryFlush()
	}
}

// endsCanWait reports whether nobody waits for a connection to end: no Shutdown, and nobody who
// opens connections, for at most half of the places are in use that MaxConns, here and at the
// peer, allows. A peer that announces the least number may have fewer.
func (s *session) endsCanWait() bool {
	t, peers := &s.table, s.peer.maxConns.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	used := uint64(max(t.slots, t.ours))
	return peers > wire.MinConns && used <= min(uint64(s.cfg.MaxConns), uint64(peers))/2 && !s.drainsLocked()
}
