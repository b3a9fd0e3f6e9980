package mux

import (
	"sync/atomic"
)

// A calm is the session's bucket of tokens for frames that bring nothing forward
// (PROTOCOL.md, 2.13; hostile peers, R7). The leader owns it, but for allowance.
type calm struct {
	tokens int64
	at     int64  // when tokens was last filled, on the session's clock
	bytes  uint64 // payload both ways, and connections, that have been counted by then
	conns  uint64

	crossed  uint64 // frames for closed connections that were free: see session.crossed
	refusals uint64 // OPENs that got no place

	// allowance is how many bytes of stray DATA are free: what may be in flight for
	// connections that we have refused.
	allowance atomic.Int64
}

const (
	calmBurst     = 1000
	calmPerSecond = 100
	calmBytes     = 4 << 10 // of payload, for one token
	calmPerConn   = 2

	// refusedPerToken is how many OPENs that get no place cost a token, at least: see
	// noPlace.
	refusedPerToken = 64
)

// charge takes cost tokens and reports whether they were there. Nothing costs any once
// Close has begun: all that comes is stray then, and Close ends within closeLinger.
func (s *session) charge(cost int64) bool {
	if s.closing.Load() {
		return true
	}
	k := &s.in.calm
	const tick = 1e9 / calmPerSecond
	if now := s.now(); k.at == 0 {
		k.at, k.tokens = now, calmBurst
	} else if n := (now - k.at) / tick; n > 0 {
		k.at += n * tick
		k.tokens += n
	}
	if n := (s.in.known + s.payloadOut() - k.bytes) / calmBytes; n > 0 {
		k.bytes += n * calmBytes
		k.tokens += int64(n)
	}
	if n := s.count.accepted.Load() + s.count.opened.Load() - k.conns; n > 0 {
		k.conns += n
		k.tokens += int64(n * calmPerConn)
	}
	k.tokens = min(k.tokens, calmBurst)
	if k.tokens < cost {
		return false
	}
	k.tokens -= cost
	return true
}

// crossedPerConn is how many frames but DATA are free for each connection that has
// been forgotten: a STOP, a RESET, and a WINDOW for each quarter of a window may have been
// on their way.
const crossedPerConn = 6

// crossed reports whether a frame for a closed connection is one of those.
func (s *session) crossed() bool {
	k := &s.in.calm
	if k.crossed >= crossedPerConn*s.table.ended.Load() {
		return false
	}
	k.crossed++
	return true
}

// stray charges for a DATA of n bytes for a closed connection, unless the allowance
// covers it. The size of the frames does not matter: an honest opener may have filled
// the window with the smallest before our refusal came.
func (s *session) stray(n int, fin bool) *ProtocolError {
	k := &s.in.calm
	take := int64(n)
	if fin {
		take = max(take, 1)
	}
	for take > 0 {
		have := k.allowance.Load()
		if have < take {
			break
		}
		if k.allowance.CompareAndSwap(have, have-take) {
			return nil
		}
	}
	return s.cost(1, "DATA for closed connections")
}

// noPlace charges for an OPEN that gets no place. What crosses its refusal is free. An
// opener that keeps to the announced number does not know the backlog, and may have nearly
// as many refused at once: all of them cost half a full bucket.
func (s *session) noPlace(what string) *ProtocolError {
	k := &s.in.calm
	k.refused(s.cfg.InitialWindow)
	s.table.ended.Add(1)
	if k.refusals++; k.refusals%uint64(max(refusedPerToken, s.cfg.MaxConns/512)) != 0 {
		return nil
	}
	return s.cost(1, what)
}

// refused adds what may be in flight for a connection that we refuse: a window, and FIN.
func (k *calm) refused(window int) { k.allowance.Add(int64(window) + 1) }
