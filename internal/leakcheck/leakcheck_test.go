package leakcheck

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m, OpenFiles()) }

// tests is a test run that ends with a status.
type tests func() int

func (t tests) Run() int { return t() }

func pass() int { return 0 }

// short is the patience where the outcome must be bad; it is waited out.
const short = time.Millisecond

func want(t *testing.T, code, wantCode int, text string, wants ...string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("status %d, want %d; text:\n%s", code, wantCode, text)
	}
	for _, w := range wants {
		if !strings.Contains(text, w) {
			t.Errorf("text lacks %q:\n%s", w, text)
		}
	}
	if len(wants) == 0 && text != "" {
		t.Errorf("unexpected text:\n%s", text)
	}
}

func TestCleanRunPasses(t *testing.T) {
	var out bytes.Buffer
	code := run(tests(pass), &out, short, []func() error{func() error { return nil }})
	want(t, code, 0, out.String())
}

func TestFailedRunKeepsItsStatus(t *testing.T) {
	var out bytes.Buffer
	code := run(tests(func() int { return 3 }), &out, short, []func() error{func() error { return io.EOF }})
	want(t, code, 3, out.String())
}

// blockUntil is named in the stack of a goroutine that leaks.
func blockUntil(release chan struct{}) { <-release }

func TestLeakedGoroutineFails(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	leak := func() int {
		go blockUntil(release)
		return 0
	}
	var out bytes.Buffer
	code := run(tests(leak), &out, short, nil)
	want(t, code, 1, out.String(), "1 goroutines", modulePath+"/internal/leakcheck.blockUntil", "chan receive")
}

func TestGoroutineThatWasThereBeforeIsNoLeak(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	go blockUntil(release)
	check := Goroutines()
	if err := Settle(check); err != nil {
		t.Error(err)
	}
	go blockUntil(release)
	if err := settle(short, []func() error{check}); err == nil || !strings.HasPrefix(err.Error(), "1 goroutines") {
		t.Errorf("with one more: %v", err)
	}
}

// A goroutine that runs nothing but the standard library is ours if we created it.
func TestLeakedForeignFunctionFails(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	leak := func() int {
		go r.Read(nil)
		return 0
	}
	var out bytes.Buffer
	code := run(tests(leak), &out, short, nil)
	want(t, code, 1, out.String(), "io.(*pipe).read", "created by "+modulePath)
}

func TestSlowGoroutineIsAwaited(t *testing.T) {
	slow := func() int {
		go func() { <-time.After(20 * time.Millisecond) }()
		return 0
	}
	var out bytes.Buffer
	code := run(tests(slow), &out, patience, nil)
	want(t, code, 0, out.String())
}

func TestCheckFails(t *testing.T) {
	var out bytes.Buffer
	code := run(tests(pass), &out, short, []func() error{
		func() error { return errors.New("3 buffers are out") },
		func() error { return errors.New("1 slab is out") },
	})
	want(t, code, 1, out.String(), "3 buffers are out", "1 slab is out")
}

func TestCheckIsRepeated(t *testing.T) {
	calls := 0
	var out bytes.Buffer
	code := run(tests(pass), &out, patience, []func() error{func() error {
		if calls++; calls < 1005 { // a few more than are made before the first sleep
			return errors.New("not yet")
		}
		return nil
	}})
	want(t, code, 0, out.String())
}

func TestStackOfAnotherModuleIsNotOurs(t *testing.T) {
	for stack, want := range map[string]bool{
		"goroutine 7 [running]:\ngithub.com/vtmux/vtmux/mux.(*Conn).Read(...)\n\t/x.go:1":                 true,
		"goroutine 7 [running]:\ngithub.com/vtmux/vtmux.f(...)\n\t/x.go:1":                                true,
		"goroutine 7 [running]:\nio.Copy(...)\n\t/x.go:1\ncreated by github.com/vtmux/vtmux/mux.f in ...": true,
		"goroutine 7 [running]:\ngithub.com/vtmux/vtmuxer.f(...)\n\t/x.go:1":                              false,
		"goroutine 7 [running]:\nos.Read(...)\n\t/src/github.com/vtmux/vtmux/x.go:1":                      false,
	} {
		if isOurs([]byte(stack)) != want {
			t.Errorf("isOurs is %v for\n%s", !want, stack)
		}
	}
}

func TestOpenFileFails(t *testing.T) {
	if runtime.GOOS != "linux" || openFiles() == nil {
		t.Skip("needs /proc")
	}
	check := OpenFiles()
	if err := check(); err != nil {
		t.Fatalf("before: %v", err)
	}
	f, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := check(); err == nil || !strings.Contains(err.Error(), os.Args[0]) {
		t.Errorf("with %s open: %v", os.Args[0], err)
	}
	f.Close()
	if err := check(); err != nil {
		t.Errorf("after: %v", err)
	}
}
