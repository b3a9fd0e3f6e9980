//go:build linux && (amd64 || arm64) && !race && !msan && !asan

package xport

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// blocking makes a socket a blocking one, as (*os.File).Fd has done for long: the flag is the
// socket's, not the descriptor's.
func blocking(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = syscall.SetNonblock(int(fd), false) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

// TestDirectCallsNeverBlock, not even on a socket that somebody has made a blocking one: the
// scheduler is not told of them, so one that waits would stop the program. To see it fail:
// take MSG_DONTWAIT away.
func TestDirectCallsNeverBlock(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		near, _ := streamPair(t, network)
		x := New(near)
		blocking(t, near)
		buf, big := make([]byte, 8), make([]byte, 1<<20)
		for name, call := range map[string]func() error{
			"Read":     func() error { _, err := x.Read(buf); return err },
			"ReadVec":  func() error { _, err := x.ReadVec(buf, buf, nil); return err },
			"Write":    func() error { return forever(func() (int, error) { return x.Write(big) }) },
			"WriteVec": func() error { return forever(func() (int, error) { return writeVec(x, big, big) }) },
			"Source": func() error {
				_, err := NewSource(near).Read(func() []byte { return buf }, func() {})
				return err
			},
		} {
			soon := time.Now().Add(20 * time.Millisecond)
			x.SetReadDeadline(soon)
			x.SetWriteDeadline(soon)
			if err := call(); !errors.Is(err, os.ErrDeadlineExceeded) { // EAGAIN too says that it is a timeout
				t.Errorf("%s: %s returned %v, want its deadline", network, name, err)
			}
		}
		x.SetWriteDeadline(time.Time{})
		for n := 1; n > 0; { // until it is full, which it is
			var err error
			if n, err = x.TryWrite(big); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// forever calls write until it fails.
func forever(write func() (int, error)) error {
	for {
		if _, err := write(); err != nil {
			return err
		}
	}
}

// TestCallsAreCounted, also those that find the socket not ready.
func TestCallsAreCounted(t *testing.T) {
	near, far := streamPair(t, "tcp")
	x, y := New(far), New(near)
	patiently(func(d time.Duration) bool {
		y.SetReadDeadline(time.Now().Add(d))
		y.Read(make([]byte, 1))
		n, waited := y.ReadCalls()
		if n != 1 {
			t.Errorf("%d calls of a read that found nothing until its deadline, want 1", n)
		}
		return waited || n != 1
	})
	if n, waited := y.ReadCalls(); n != 1 || waited {
		t.Errorf("%d calls when asked again, want 1: not known", n)
	}
	y.SetReadDeadline(time.Time{})
	patiently(func(d time.Duration) bool {
		time.AfterFunc(d, func() { far.Write([]byte("x")) })
		y.Read(make([]byte, 1))
		n, waited := y.ReadCalls()
		if waited && n != 2 {
			t.Errorf("%d calls of a read that had to wait, want 2", n)
		}
		return waited
	})
	x.WriteCalls()
	x.Write([]byte("x"))
	if n := x.WriteCalls(); n != 1 {
		t.Errorf("%d calls of a write, want 1", n)
	}
	writeVec(x, slices.Repeat([][]byte{{'x'}}, 2*maxVec+1)...)
	if n := x.WriteCalls(); n != 3 {
		t.Errorf("%d calls of a write of more than twice what one takes, want 3", n)
	}
	patiently(func(d time.Duration) bool {
		x.SetWriteDeadline(time.Now().Add(d))
		x.Write(make([]byte, 16<<20))
		return x.WriteCalls() >= 2
	})
}

// patiently calls f, which is to bring about what takes a moment, with ever longer ones until
// it says that it has.
func patiently(f func(moment time.Duration) bool) {
	for d := 20 * time.Millisecond; !f(d); d *= 2 {
	}
}
