package hostile

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// giveWay lets every other process go before this one: its threads run when a core is idle. (Beside an attacker with a nice
// value of 19 the honest peer waited longer. A core for the victim alone helps little: see SECURITY.md.) Threads that come later
// are like those that make them.
func giveWay() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		}
	}
}
