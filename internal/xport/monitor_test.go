//go:build linux && (amd64 || arm64) && !race && !msan && !asan

package xport

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestMonitorKeepsItsTimer, whatever calls come while it ticks: in all states but resting it
// is set once, and it comes to rest. To see it fail: in tick, try to go on before to rest.
func TestMonitorKeepsItsTimer(t *testing.T) {
	var set atomic.Bool
	m := &monitor{set: func() {
		if set.Swap(true) {
			t.Error("the timer is set twice")
		}
	}}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // the timer, which does not wait
		defer close(stopped)
		for {
			if set.CompareAndSwap(true, false) {
				m.tick()
				continue
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			var sink int
			for range 1_500_000 {
				m.awake()
				for range rand.IntN(60) {
					sink++
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-stopped
	for set.CompareAndSwap(true, false) {
		m.tick()
	}
	if m.state.Load() != monitorResting {
		t.Errorf("state %d, and no timer is set", m.state.Load())
	}
}

// TestMonitorHasNoTimerOfABubble: it would stand still with the bubble's clock, and for all
// others.
func TestMonitorHasNoTimerOfABubble(t *testing.T) {
	m := newMonitor()
	synctest.Test(t, func(*testing.T) { m.awake() })
	if m.state.Load() != monitorResting {
		t.Error("a timer was set in a bubble")
	}
}

// TestMonitorComesToRest when there are no more calls, by its own timer.
func TestMonitorComesToRest(t *testing.T) {
	m := newMonitor()
	m.awake()
	deadline := time.After(10 * time.Second)
	for m.state.Load() != monitorResting {
		select {
		case <-deadline:
			t.Fatalf("state %d, 10 s after the last call", m.state.Load())
		case <-time.After(time.Millisecond):
		}
	}
}
