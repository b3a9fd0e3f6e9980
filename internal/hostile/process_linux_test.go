package hostile

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// giveWay lets every other process go before this one: its threads run when a core is idle. (Beside an attacker with a nice
// value of 19 the honest peer waited longer.)
func giveWay() error { return setPolicy(unix.SCHED_IDLE, 0) }

// goFirst lets this process, and those that it starts, go before all that are not as urgent. The kernel keeps a twentieth of a
// core's time for those, at most 50 ms at once.
func goFirst() error { return setPolicy(unix.SCHED_RR, 1) }

// setPolicy sets the policy of all threads. Threads that come later are like those that make them, so it looks again until there
// are none but those that it has set.
func setPolicy(policy, priority uint32) error {
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
	done := make(map[int]bool)
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			if done[tid] {
				continue
			}
			if err := unix.SchedSetAttr(tid, attr, 0); err != nil && err != unix.ESRCH {
				return os.NewSyscallError("sched_setattr", err)
			}
			done[tid], again = true, true
		}
	}
	return nil
}
