package harness

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func ownUsage() (u Usage) {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
		u.Switches = uint64(r.Nvcsw)
	}
	u.Calls, u.IO = ioCalls()
	return u
}

// foreignUsage gives that of another process, as far as it has but one thread that works: the main one. Its calls are not
// known: Rust's standard library reads and writes sockets by recv and send.
func foreignUsage(pid int) (u Usage, err error) {
	dir := strconv.Itoa(pid)
	p, err := os.ReadFile("/proc/" + dir + "/schedstat")
	if err != nil {
		return u, err
	}
	if _, err := fmt.Sscan(string(p), (*int64)(&u.CPU)); err != nil {
		return u, err
	}
	u.Switches, _ = field("/proc/"+dir+"/status", "voluntary_ctxt_switches:")
	return u, nil
}

func ioCalls() (n uint64, ok bool) {
	const file = "/proc/self/io"
	reads, ok1 := field(file, "syscr:")
	writes, ok2 := field(file, "syscw:")
	return reads + writes, ok1 && ok2
}

// field reads a number from a file of /proc that has one a line, each with its name.
func field(file, name string) (n uint64, ok bool) {
	p, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for lines := bufio.NewScanner(bytes.NewReader(p)); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), name); found {
			n, err := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
