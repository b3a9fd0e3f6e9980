package mux

import (
	"sync"
	"sync/atomic"
	"time"
)

// A writeWatch ends the session when the transport takes nothing for
// Config.WriteTimeout while something waits to be sent (hostile peers, R9; PROTOCOL.md,
// 2.10), whatever the peer sends meanwhile. It costs a flusher that may block one
// atomic load, and one that need not block nothing: a timer begins with the first
// write that may block, looks at the counters once a second, and ends when it
// finds nobody flushing.
//
// Signs of life are, each time it looks: bytes that writes have taken, and those that
// the peer's kernel has acknowledged, or a socket below TLS has taken. Where none can be
// seen while a write is under way, that write is interrupted when the time is over, and
// tells. Where that is not possible either, only whole writes count, which are of at
// most 68 KiB there.
type writeWatch struct {
	// on: the timer runs. No wait is overlooked: a flusher has the role before it loads
	// on, and the watch clears on before it looks whether somebody has the role.
	on atomic.Bool

	// verdict is 1 more than the bytes that had been taken when the time was over; 0:
	// it is not. The flusher ends the session if that is all still.
	verdict atomic.Uint64

	mu           sync.Mutex
	timer        *time.Timer // nil until needed
	since        int64       // when progress was seen last, on the session's clock
	taken, moved uint64      // as they were then
}

// lookEvery is how often the watch looks, at most, and so how late it may be: by a
// thirtieth of the limit where that is less.
const lookEvery = time.Second

func looksAfter(limit time.Duration) time.Duration { return min(limit/30, lookEvery) }

// begin starts the watch. The flusher calls it before it may block, unless on is set.
func (w *writeWatch) begin(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit := s.cfg.writeTimeout(s.isKnown() && s.one)
	if w.on.Load() || s.dead.Load() { // end stops the timer after it has set dead
		return
	}
	w.on.Store(true)
	if limit == 0 {
		return
	}
	w.since, w.taken = s.now(), s.count.bytesOut.Load()
	w.moved, _ = s.t.Moved()
	if w.timer == nil {
		w.timer = time.AfterFunc(looksAfter(limit), func() { s.onWriteWatch() })
	} else {
		w.timer.Reset(looksAfter(limit))
	}
}

func (w *writeWatch) stop() {
	w.mu.Lock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
}

func (s *session) onWriteWatch() {
	w := &s.writes
	w.mu.Lock()
	over := s.lookAtWritesLocked(w)
	w.mu.Unlock()
	if over {
		s.end(&TransportError{Op: "write", Err: ErrWriteTimeout})
	}
}

// lookAtWritesLocked reports whether the session is over. If the flusher is to find
// that out, it is interrupted.
func (s *session) lookAtWritesLocked(w *writeWatch) (over bool) {
	o := &s.out
	w.on.Store(false)
	if s.dead.Load() || o.role.Load() == flushIdle {
		return false // the next that may block begins anew
	}
	w.on.Store(true)
	now, taken := s.now(), s.count.bytesOut.Load()
	moved, known := s.t.Moved()
	if taken != w.taken || moved != w.moved {
		w.since, w.taken, w.moved = now, taken, moved
	}
	limit := s.cfg.writeTimeout(s.isKnown() && s.one)
	left := limit - time.Duration(now-w.since)
	switch {
	case left > 0:
	case known || !s.t.Resumable():
		return true
	default:
		w.verdict.Store(taken + 1)
		o.mu.Lock()
		o.interruptLocked()
		o.mu.Unlock()
		left = limit
	}
	w.timer.Reset(min(left, looksAfter(limit)))
	return false
}

// condemned reports whether the time is over for a write that was interrupted and took
// nothing. The flusher calls it.
func (w *writeWatch) condemned(s *session) bool {
	return w.verdict.Load() == s.count.bytesOut.Load()+1
}
