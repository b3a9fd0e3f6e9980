// Package park puts one goroutine to sleep until it is woken or its time has come.
package park

import "time"

// A Spot is where one goroutine parks. A wake that comes while nobody is parked
// is kept for the next Park, and several of them count as one; so a wake may be
// stale, and whoever returns from Park looks at its condition again.
//
// Spots hold a channel and a timer, both bound to the testing/synctest bubble
// that made them: keep them in a pool of the session's, never in a global one.
type Spot struct {
	ch    chan struct{} // capacity 1: the kept wake
	timer *time.Timer   // nil until the first Park with a limit
}

// Init readies s. It must be called once, before any other method.
func (s *Spot) Init() { s.ch = make(chan struct{}, 1) }

// Wake ends the current Park, or else the next one. It never blocks.
func (s *Spot) Wake() {
	select {
	case s.ch <- struct{}{}:
	default:
	}
}

// Drain takes back a wake that was kept. A goroutine calls it before it
// publishes that it is about to wait, so that old wakes cost it no turn.
func (s *Spot) Drain() {
	select {
	case <-s.ch:
	default:
	}
}

// Park sleeps until Wake. A limit above zero bounds the sleep; Park then reports
// whether it was woken, also where the limit has passed as well. Without a limit it
// always reports true. Only one goroutine may park at a time.
func (s *Spot) Park(limit time.Duration) bool {
	if limit <= 0 {
		<-s.ch
		return true
	}
	if s.timer == nil {
		s.timer = time.NewTimer(limit)
	} else {
		s.timer.Reset(limit)
	}
	select {
	case <-s.ch:
		s.timer.Stop() // since Go 1.23 no stale tick can follow
		return true
	case <-s.timer.C:
	}
	// Of a wake and a limit that are both there, select takes either.
	select {
	case <-s.ch:
		return true
	default:
		return false
	}
}

// Until turns a deadline and the present, both in nanoseconds of one clock, into a
// limit for Park; no deadline (0) into none.
func Until(at, now int64) time.Duration {
	if at == 0 {
		return 0
	}
	return time.Duration(max(at-now, 1))
}
