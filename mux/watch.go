package mux

import (
	"sync"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// watch is the session's clock: it bounds the wait for the preface, and then keeps
// the transport alive (PROTOCOL.md, 2.2 and 2.10). It is one timer, which fires once
// an interval at most.
type watch struct {
	mu    sync.Mutex
	timer *time.Timer // nil until needed
	phase watchPhase

	pinged       bool   // a PING has been sent in the present silence
	taken, acked uint64 // writeSide.progress when it was looked at last
}

type watchPhase uint8

const (
	watchOff   watchPhase = iota
	watchFirst            // waits for the peer's first byte, or all of its preface
	watchRest             // waits for the rest of the preface
	watchAlive            // keeps alive
)

// await ends s unless the peer has begun by then.
func (w *watch) await(s *session, limit time.Duration) { w.start(s, watchFirst, limit) }

// awaitRest ends s unless the preface that has begun is whole by then.
func (w *watch) awaitRest(s *session, limit time.Duration) {
	w.mu.Lock()
	begun := w.phase == watchRest
	w.mu.Unlock()
	if !begun {
		w.start(s, watchRest, limit)
	}
}

// keepAlive begins when the preface has arrived.
func (w *watch) keepAlive(s *session) { w.start(s, watchAlive, s.cfg.KeepAliveInterval) }

func (w *watch) start(s *session, phase watchPhase, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.dead.Load() {
		return // end stops the timer after it has set dead
	}
	w.phase = phase
	if after <= 0 {
		w.stopLocked()
	} else if w.timer == nil {
		w.timer = time.AfterFunc(after, func() { s.onWatch() })
	} else {
		w.timer.Reset(after)
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	w.stopLocked()
	w.mu.Unlock()
}

func (w *watch) stopLocked() {
	w.phase = watchOff
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (s *session) onWatch() {
	w := &s.watch
	w.mu.Lock()
	phase, silent := w.phase, false
	switch phase {
	case watchFirst, watchRest:
		w.phase = watchOff
	case watchAlive:
		var again time.Duration
		if again, silent = s.lookAliveLocked(w); silent {
			w.phase = watchOff
		} else {
			w.timer.Reset(again)
		}
	}
	w.mu.Unlock()
	switch {
	case silent:
		s.fail(&TransportError{Op: "keep-alive", Err: ErrSilent}, CodeTimeout, "nothing came for too long")
	case phase == watchFirst || phase == watchRest:
		s.onSilence()
	}
}

// lookAliveLocked sends a PING when nothing has come for KeepAliveInterval, and
// reports the peer as silent when the transport has been so both ways for
// KeepAliveTimeout after that. Else it returns when to look again.
func (s *session) lookAliveLocked(w *watch) (again time.Duration, silent bool) {
	interval, timeout := s.cfg.KeepAliveInterval, max(s.cfg.KeepAliveTimeout, 1)
	silence := time.Duration(s.now() - s.token.lastRead())
	if silence < interval {
		w.pinged = false
		return interval - silence, false
	}
	taken, acked, blocked := s.out.progress()
	if !w.pinged {
		w.pinged, w.taken, w.acked = true, taken, acked
		s.pings.send(s)
		s.token.nudge() // somebody must read the answer
		return timeout, false
	}
	// That a transport takes bytes at once shows nothing, and our PING is no sign of
	// the peer's life.
	if blocked && taken > w.taken+wire.PingLen || acked > w.acked+wire.PingLen {
		w.taken, w.acked = taken, acked
		return timeout, false
	}
	return 0, true
}

// progress tells how many bytes the transport has taken and, where that is known, the
// peer's kernel acknowledged, and whether there are more that wait for the transport.
func (o *writeSide) progress() (taken, acked uint64, blocked bool) {
	acked, _ = o.s.t.Acked()
	return o.s.count.bytesOut.Load(), acked, o.role.Load() != flushIdle
}
