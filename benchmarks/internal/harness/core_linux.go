package harness

import (
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// useOneCore puts the process, all its threads and those to come, on the first core that it may use. restore undoes
// that.
func useOneCore() (restore func(), err error) {
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, err
	}
	for cpu := 0; ; cpu++ {
		if before.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := setAffinity(&one); err != nil {
		return nil, err
	}
	procs := runtime.GOMAXPROCS(1)
	return func() {
		runtime.GOMAXPROCS(procs)
		setAffinity(&before)
	}, nil
}

// setAffinity sets it for each thread. A thread inherits it from that which starts it, so it goes on until it finds none
// that is new.
func setAffinity(set *unix.CPUSet) error {
	for done := map[int]bool{}; ; {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		fresh := false
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || done[tid] {
				continue
			}
			if err := unix.SchedSetaffinity(tid, set); err != nil && err != unix.ESRCH {
				return err
			}
			done[tid], fresh = true, true
		}
		if !fresh {
			return nil
		}
	}
}
