package hostile

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// giveWay lets every other process go before this one: its threads run when a core is idle. (Beside an attacker with a nice
// value of 19 the honest peer waited longer.)
func giveWay() { _ = setPolicy(unix.SCHED_IDLE, 0) }

// goFirst lets this process, and those that it starts, go before all that are not as urgent.
func goFirst() error { return setPolicy(unix.SCHED_RR, 1) }

// setPolicy sets the policy of all threads. Threads that come later are like those that make them.
func setPolicy(policy, priority uint32) error {
	for before := -1; ; {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		if len(tasks) == before { // none was made by one that was not set yet
			return nil
		}
		before = len(tasks)
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
			if err := unix.SchedSetAttr(tid, attr, 0); err != nil && err != unix.ESRCH {
				return os.NewSyscallError("sched_setattr", err)
			}
		}
	}
}
