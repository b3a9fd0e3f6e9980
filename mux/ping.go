package mux

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// pinger is the session's part in PING (PROTOCOL.md, 2.10). One PING is out at a time,
// and all who ask share it.
type pinger struct {
	mu      sync.Mutex
	out     bool     // one is out, or owed
	seq     uint64   // the 8 bytes of the latest
	sentAt  int64    // when it was asked for
	called  int64    // when one was last sent because Ping was called; 0: never
	waiters waitList // who waits for its ACK
	acked   uint64   // the latest that was answered
	last    int64    // what it took, in nanoseconds
	pong    [8]byte  // the 8 bytes that we owe the peer: those of its latest PING
	closed  bool

	rtt     atomic.Int64 // smoothed, in nanoseconds; 0: not known yet
	probeAt atomic.Int64 // when the latest was asked for
}

// probeEvery bounds how often a PING is sent only to know the round-trip time.
const probeEvery = 100 * time.Millisecond

// callEvery bounds how often one is sent because Ping is called: the peer ends a session
// that sends more than it has tokens for, 100 a second (PROTOCOL.md, 2.13).
const callEvery = 100 * time.Millisecond

// send makes sure that a PING is out. The caller flushes, or send does.
func (p *pinger) send(s *session) {
	p.mu.Lock()
	began := p.beginLocked(s)
	p.mu.Unlock()
	if began {
		s.tryFlush()
	}
}

func (p *pinger) beginLocked(s *session) bool {
	if p.out || p.closed {
		return false
	}
	p.out = true
	p.seq++
	p.sentAt = s.now()
	p.probeAt.Store(p.sentAt)
	s.owes.Or(owesPing)
	return true
}

// probe makes the round-trip time known, or newer. The caller flushes.
func (p *pinger) probe(s *session, now int64) {
	if at := p.probeAt.Load(); at != 0 && now-at < int64(probeEvery) {
		return
	}
	p.mu.Lock()
	p.beginLocked(s)
	p.mu.Unlock()
}

// put writes the PING that is owed.
func (p *pinger) put(b []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var opaque [8]byte
	binary.BigEndian.PutUint64(opaque[:], p.seq)
	return wire.PutPing(b, false, opaque)
}

// putPong writes the ACK that is owed.
func (p *pinger) putPong(b []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return wire.PutPing(b, true, p.pong)
}

// owe makes the ACK of the peer's PING owed.
func (p *pinger) owe(s *session, opaque [8]byte) {
	p.mu.Lock()
	p.pong = opaque
	p.mu.Unlock()
	s.owes.Or(owesPong)
}

// onAck handles an ACK, and reports whether somebody waited for it.
func (p *pinger) onAck(s *session, opaque [8]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.out || binary.BigEndian.Uint64(opaque[:]) != p.seq {
		return false
	}
	p.out, p.acked = false, p.seq
	took := max(s.now()-p.sentAt, 1)
	p.last = took
	if old := p.rtt.Load(); old != 0 {
		took = old + (took-old)/8
	}
	p.rtt.Store(took)
	p.wakeLocked(s)
	return true
}

func (p *pinger) wakeLocked(s *session) {
	for w := p.waiters.pop(); w != nil; w = p.waiters.pop() {
		if w != s.in.leader {
			s.token.rouse(w)
		}
	}
}

// close ends every wait.
func (p *pinger) close(s *session) {
	p.mu.Lock()
	p.closed = true
	for w := p.waiters.pop(); w != nil; w = p.waiters.pop() {
		s.token.rouse(w)
	}
	p.mu.Unlock()
}

// join makes w wait for the ACK of a PING, which begins if none is out. Where it must not
// begin yet, for patient says that callEvery is kept, join does nothing and returns when.
func (p *pinger) join(s *session, w *waiter, patient bool) (began bool, early time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		w.satisfied.Store(true)
		return false, 0
	}
	if patient && !p.out {
		now := s.now()
		if early = time.Duration(p.called - now + int64(callEvery)); p.called != 0 && early > 0 {
			return false, early
		}
		p.called = now
	}
	p.waiters.push(w)
	return p.beginLocked(s), 0
}

// answered returns which PING was answered last, and what that took; began is the
// latest that was sent or is about to be.
func (p *pinger) answered() (acked, began uint64, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked, p.seq, time.Duration(p.last)
}

// roundTrip waits for an ACK; where fresh, for that of a PING that begins after the
// call. Meanwhile it leads if nobody else does.
func (s *session) roundTrip(ctx context.Context, fresh bool) (time.Duration, error) {
	_, before, _ := s.pings.answered()
	for {
		w := s.waiters.get(nil)
		began, early := s.pings.join(s, w, !fresh)
		if early > 0 {
			s.waiters.put(w)
			if err := s.pause(ctx, early); err != nil {
				return 0, err
			}
			continue
		}
		if began {
			s.tryFlush()
		}
		err := s.awaitAck(ctx, w)
		if err == nil {
			err = s.overErr()
		}
		if err != nil {
			return 0, err
		}
		if acked, _, took := s.pings.answered(); !fresh || acked > before {
			return took, nil
		}
	}
}

// pause waits for d, or until ctx is done or the session ends, and returns why it did not.
func (s *session) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.leaving:
		return s.overErr()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitAck waits until w is satisfied or ctx is done, and gives w back.
func (s *session) awaitAck(ctx context.Context, w *waiter) (err error) {
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { s.token.rouse(w) })
		defer stop()
	}
	w.since = s.now()
	leads, enlisted := s.token.enlist(w), true
	for !w.satisfied.Load() && !s.dead.Load() {
		if err = ctx.Err(); err != nil {
			break
		}
		switch {
		case leads || w.promoted.Load():
			s.lead(w, nil)
			leads, enlisted = false, false
		case !enlisted:
			leads, enlisted = s.token.enlist(w), true
		default:
			w.Park(0)
		}
	}
	if enlisted {
		s.leave(w)
	}
	p := &s.pings
	p.mu.Lock()
	if !w.satisfied.Load() {
		p.waiters.remove(w)
	}
	p.mu.Unlock()
	s.waiters.put(w)
	return err
}
