package mux

import (
	"sync"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// watch is the session's clock: it bounds the wait for the preface, and then keeps
// the transport alive (PROTOCOL.md, 2.2 and 2.10; hostile peers, R9). It is one timer,
// which fires once an interval at most. What the transport takes is writeWatch's.
type watch struct {
	mu    sync.Mutex
	timer *time.Timer // nil until needed
	phase watchPhase

	pingedAt     int64  // when a PING was sent in the present silence, or bytes went since; 0: none was
	taken, acked uint64 // writeSide.progress when it was looked at last
	looked       bool   // nobody led at the end of the silence, and somebody has been sent to look
}

// lookFor is what a look at the transport may take, at the end of a silence.
const lookFor = 100 * time.Millisecond

type watchPhase uint8

const (
	watchNew watchPhase = iota // nothing has come, and nothing is awaited yet
	watchOff
	watchFirst // waits for the peer's first byte, or all of its preface
	watchRest  // waits for the rest of the preface
	watchAlive // keeps alive
)

// await ends s unless the peer has begun by then. Where the session has ended before, or
// something has come, there is nothing to wait for.
func (w *watch) await(s *session, limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == watchNew {
		w.startLocked(s, watchFirst, limit)
	}
}

// awaitRest ends s unless the preface that has begun is whole by then.
func (w *watch) awaitRest(s *session, limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != watchRest {
		w.startLocked(s, watchRest, limit)
	}
}

// keepAlive begins when the preface has arrived.
func (w *watch) keepAlive(s *session) {
	w.mu.Lock()
	w.startLocked(s, watchAlive, s.cfg.KeepAliveInterval)
	w.mu.Unlock()
}

func (w *watch) startLocked(s *session, phase watchPhase, after time.Duration) {
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

// A watchDuty is what a look at the transport asks for.
type watchDuty uint8

const (
	dutyNone   watchDuty = iota
	dutyPing             // ask whether the peer is there
	dutyEnd              // it is not
	dutySilent           // it has not begun
)

func (s *session) onWatch() {
	w := &s.watch
	w.mu.Lock()
	duty := dutyNone
	switch w.phase {
	case watchFirst, watchRest:
		w.phase, duty = watchOff, dutySilent
	case watchAlive:
		var again time.Duration
		if again, duty = s.lookAliveLocked(w); duty == dutyEnd {
			w.phase = watchOff
		} else {
			w.timer.Reset(again)
		}
	}
	w.mu.Unlock() // what follows may end the session, which stops the watch
	switch duty {
	case dutyPing:
		s.pings.send(s)
		s.token.nudge() // somebody must read the answer
	case dutyEnd:
		s.fail(&TransportError{Op: "keep-alive", Err: ErrSilent}, CodeTimeout, "nothing came for too long")
	case dutySilent:
		s.onSilence()
	}
}

// lookAliveLocked asks for a PING when nothing has come for KeepAliveInterval, and for
// the end when the transport has been silent both ways for KeepAliveTimeout after
// that. It returns when to look again.
func (s *session) lookAliveLocked(w *watch) (again time.Duration, duty watchDuty) {
	now, last := s.now(), s.token.lastRead()
	interval, timeout := int64(s.cfg.KeepAliveInterval), int64(s.cfg.KeepAliveTimeout)
	if w.pingedAt != 0 && last >= w.pingedAt {
		w.pingedAt, w.looked = 0, false // it is there
	}
	taken, acked, blocked, ping := s.out.progress()
	switch {
	case now-last < interval:
		w.pingedAt, w.looked = 0, false
		return time.Duration(interval - (now - last)), dutyNone
	case w.pingedAt == 0:
		w.pingedAt, w.taken, w.acked = now, taken, acked
		return time.Duration(min(interval, timeout)), dutyPing
	case now-w.pingedAt < timeout:
		return time.Duration(min(interval, timeout-(now-w.pingedAt))), dutyNone
	case blocked && taken > w.taken+ping || acked > w.acked+ping:
		// That a transport takes bytes at once shows nothing, and our PING is no
		// sign of the peer's life. But this is.
		w.pingedAt, w.taken, w.acked, w.looked = now, taken, acked, false
		return time.Duration(min(interval, timeout)), dutyNone
	case !w.looked && s.token.nudge():
		// The answer may have come after the last reader left.
		w.looked = true
		return min(lookFor, s.cfg.KeepAliveTimeout), dutyNone
	}
	return 0, dutyEnd
}

// progress tells how many bytes the transport has taken and, where that is known, the
// peer's kernel acknowledged, and whether there are more that wait for the transport. A
// PING of ours adds so many to either number at most.
func (o *writeSide) progress() (taken, acked uint64, blocked bool, ping uint64) {
	acked, _ = o.s.t.Acked()
	taken, ping = o.s.count.bytesOut.Load(), wire.PingLen
	if drained, able := o.s.t.Drained(); able {
		taken += drained
		ping += wire.PingLen + recordMost
	}
	return taken, acked, o.role.Load() != flushIdle, ping
}

// recordMost is more than a TLS record has beside a PING: header, nonce, padding, MAC.
const recordMost = 128
