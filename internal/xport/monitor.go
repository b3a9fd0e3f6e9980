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
// compute for a minute, and nobody else would run, nor any PING be answered.
//
//	resting ──awake──▶ used ──tick──▶ set ──tick──▶ resting
//	                        ◀─awake──
//
// The timer is set in all states but resting: whoever leaves that sets it, and then wakes the
// monitor, which may have gone to sleep when there was none.
type monitor struct {
	state atomic.Uint32
	timer *time.Timer
}

const (
	monitorResting uint32 = iota
	monitorSet            // the timer is set; no call since it was
	monitorUsed           // it is set, and there have been calls since
)

var theMonitor = newMonitor()

func newMonitor() *monitor {
	m := new(monitor)
	m.timer = time.AfterFunc(time.Hour, m.tick)
	m.timer.Stop()
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
	if m.state.CompareAndSwap(monitorSet, monitorUsed) || !m.state.CompareAndSwap(monitorResting, monitorUsed) {
		return // another has done it, or a tick: that follows a call of which this is one
	}
	m.timer.Reset(monitorEvery)
	syscall.Syscall(unix.SYS_GETPID, 0, 0, 0) // any will do
}

// tick is called by the timer.
func (m *monitor) tick() {
	if m.state.CompareAndSwap(monitorUsed, monitorSet) {
		m.timer.Reset(monitorEvery)
		return
	}
	m.state.CompareAndSwap(monitorSet, monitorResting)
}
