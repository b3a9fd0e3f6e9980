package faultconn

import (
	"sync"
	"time"
)

// A deadline is a time that may be moved while others wait for it.
//
// Each set makes a new state and closes the old one's moved channel, so that whoever watches the old one looks again. A
// timer closes a channel of its own state only, so a late one harms nobody.
type deadline struct {
	mu    sync.Mutex // held for a few instructions, never over a wait
	state *deadlineState
}

type deadlineState struct {
	timer  *time.Timer   // nil if there is no deadline or if it has passed already
	passed chan struct{} // closed when the deadline has passed
	moved  chan struct{} // closed when another state took this one's place
}

func newDeadlineState() *deadlineState {
	return &deadlineState{passed: make(chan struct{}), moved: make(chan struct{})}
}

func (d *deadline) init() { d.state = newDeadlineState() }

// set moves the deadline to t; the zero time is no deadline.
func (d *deadline) set(t time.Time) {
	s := newDeadlineState()
	if wait := time.Until(t); t.IsZero() {
		// Never passes.
	} else if wait <= 0 {
		close(s.passed)
	} else {
		s.timer = time.AfterFunc(wait, func() { close(s.passed) })
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.timer != nil {
		d.state.timer.Stop()
	}
	close(d.state.moved)
	d.state = s
}

// passed returns a channel that is closed once the deadline, as it is now, has passed.
func (d *deadline) passed() <-chan struct{} {
	p, _ := d.watch()
	return p
}

// watch returns the channel of the deadline as it is now, and one that is closed when the deadline is moved.
func (d *deadline) watch() (passed, moved <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state.passed, d.state.moved
}
