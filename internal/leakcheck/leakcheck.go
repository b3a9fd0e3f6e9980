// Package leakcheck fails a test binary that leaves something behind: goroutines of this module, open files, or whatever
// else a caller can count. It is for TestMain:
//
//	func TestMain(m *testing.M) { leakcheck.Main(m, leakcheck.OpenFiles()) }
package leakcheck

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// modulePath begins the name of every function whose goroutine is ours. The modules below it have it in their names too.
const modulePath = "github.com/vtmux/vtmux"

// patience is how long goroutines may take to end after the last test. A goroutine that was told to end needs microseconds,
// but a race build on a busy machine may not run it for a second.
const patience = 5 * time.Second

// Main runs the tests, then waits for a while until no goroutine of this module is left and every check returns nil. If
// that does not come about it prints what is left, with stacks, and exits with status 1. If the tests failed it exits with
// their status and looks at nothing: a failed test may well leave something behind.
//
// The checks are called repeatedly, until they return nil. Main does not return.
func Main(m interface{ Run() int }, checks ...func() error) {
	os.Exit(run(m, os.Stderr, patience, checks))
}

func run(m interface{ Run() int }, w io.Writer, patience time.Duration, checks []func() error) int {
	if code := m.Run(); code != 0 {
		return code
	}
	if err := settle(patience, append(checks, func() error { return goroutines(nil) })); err != nil {
		fmt.Fprintf(w, "FAIL: the tests left something behind:\n%v\n", err)
		return 1
	}
	return 0
}

// Goroutines returns a check for Settle: no goroutine of this module is left that was not there when Goroutines was called.
func Goroutines() func() error {
	before := make(map[string]bool)
	for stack := range bytes.SplitSeq(stacks(), []byte("\n\n")) {
		before[goroutineID(stack)] = true
	}
	return func() error { return goroutines(before) }
}

// Settle waits for a while until all checks return nil at once, in the middle of a test and as Main does at the end. It
// returns what they say if they never do.
func Settle(checks ...func() error) error { return settle(patience, checks) }

// settle waits until all checks return nil at once, and returns what they say at the end if they never do. As long as the
// outcome may still be good it mostly yields; only then it sleeps, longer each time.
func settle(patience time.Duration, checks []func() error) error {
	const yields = 1000
	giveUp := time.Now().Add(patience)
	pause := 10 * time.Microsecond
	for i := 0; ; i++ {
		err := all(checks)
		if err == nil || (i >= yields && time.Now().After(giveUp)) {
			return err
		}
		runtime.Gosched()
		if i >= yields {
			time.Sleep(pause)
			pause = min(2*pause, 50*time.Millisecond)
		}
	}
}

func all(checks []func() error) error {
	var errs []error
	for _, check := range checks {
		errs = append(errs, check())
	}
	return errors.Join(errs...)
}

// goroutines reports, as an error, the stacks of all goroutines that run a function of this module or were created by one,
// except the caller, the main goroutine and those named in before.
func goroutines(before map[string]bool) error { return ours(stacks(), before) }

// stacks returns a dump of all stacks, the caller's first.
func stacks() []byte {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			return buf[:n]
		}
		buf = make([]byte, 2*len(buf))
	}
}

// goroutineID returns what names the goroutine: "goroutine 7".
func goroutineID(stack []byte) string {
	id, _, _ := bytes.Cut(stack, []byte(" ["))
	return string(id)
}

// ours picks from a dump of all stacks, where the caller's comes first.
func ours(dump []byte, before map[string]bool) error {
	var left [][]byte
	_, rest, _ := bytes.Cut(dump, []byte("\n\n"))
	for stack := range bytes.SplitSeq(rest, []byte("\n\n")) {
		if id := goroutineID(stack); id != "goroutine 1" && !before[id] && isOurs(stack) {
			left = append(left, stack)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("%d goroutines:\n\n%s", len(left), bytes.Join(left, []byte("\n\n")))
}

// isOurs reports whether a function of this module is on the stack or created the goroutine. The lines that name functions
// are not indented; those that name files are, and a path proves nothing.
func isOurs(stack []byte) bool {
	for line := range bytes.Lines(stack) {
		name := bytes.TrimPrefix(line, []byte("created by "))
		after, found := bytes.CutPrefix(name, []byte(modulePath))
		if found && len(after) > 0 && (after[0] == '/' || after[0] == '.') {
			return true
		}
	}
	return false
}
