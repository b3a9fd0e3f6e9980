//go:build linux && (amd64 || arm64) && !race && !msan && !asan

package xport

import (
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// monitorEvery bounds how long the runtime's monitor sleeps while sockets are in use. At 10 ms
// a round trip took 1 µs more.
const monitorEvery = 20 * time.Millisecond

// The runtime's monitor preempts who computes for 10 ms, and polls the network while all Ps
// are busy. When the process has nothing to do it goes to sleep, until the next timer or
// until a system call of which the scheduler is told. The network poller does not wake it:
// the runtime counts on the read that follows. Direct calls are none, so a timer bounds the
// monitor's sleep while there are any. Without it, as many handlers as there are Ps could
// compute for a minute, and nobody else would run, nor any PING be answered. With it the
// network is looked at within 20 ms, and who computes is preempted within 40.
//
//	resting ──awake──▶ used ──tick──▶ set ──tick──▶ resting
//	                        ◀─awake──
//
// In all states but resting the timer is set, or who is about to set it runs or may run: then
// a P is not idle, and the monitor does not go to sleep. Who leaves resting sets the timer, and
// then wakes the monitor, which may have gone to sleep when there was none. Only tick leaves
// used, and only tick comes to rest.
type monitor struct {
	state atomic.Uint32
	set   func() // sets the timer, which calls tick
}

const (
	monitorResting uint32 = iota
	monitorSet            // the timer is set; no call since it was
	monitorUsed           // it is set, and there have been calls since
)

var theMonitor = newMonitor()

func newMonitor() *monitor {
	m := new(monitor)
	var timer *time.Timer // made when needed, by who first leaves resting: it starts the network poller
	m.set = func() {
		if timer == nil {
			timer = time.AfterFunc(time.Hour, m.tick)
		}
		timer.Reset(monitorEvery)
	}
	return m
}

// wokeUp follows a direct call that may be what the process has woken up for: one that
// waits for the network poller.
func wokeUp() { theMonitor.awake() }

// awake is wokeUp.
func (m *monitor) awake() {
	if m.state.Load() != monitorUsed {
		m.awakeSlow()
	}
}

func (m *monitor) awakeSlow() {
	if now := time.Now(); now == now.Round(0) {
		// No monotonic clock: a testing/synctest bubble, which has timers of its own.
		tellScheduler()
		return
	}
	if m.state.CompareAndSwap(monitorSet, monitorUsed) || !m.state.CompareAndSwap(monitorResting, monitorUsed) {
		return // another has done it, or a tick: that follows a call of which this is one
	}
	m.set()
	tellScheduler()
}

// tellScheduler wakes the monitor, by a call of which the scheduler is told: any will do.
func tellScheduler() { syscall.Syscall(unix.SYS_GETPID, 0, 0, 0) }

// tick is called by the timer. To rest is tried first: if that fails, the state is used and
// stays so.
func (m *monitor) tick() {
	if m.state.CompareAndSwap(monitorSet, monitorResting) {
		return
	}
	if m.state.CompareAndSwap(monitorUsed, monitorSet) {
		m.set()
	}
}
