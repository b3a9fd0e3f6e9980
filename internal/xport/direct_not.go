//go:build linux && (!(amd64 || arm64) || race || msan || asan)

package xport

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// direct: see direct_unsafe.go.
const direct = false

// recvNow reads into p what has been received, without waiting.
func recvNow(fd uintptr, p []byte) (int, error) { return atLeast0(syscall.Read(int(fd), p)) }

// sendNow writes of p what there is room for, without waiting. It is package syscall's
// Write, which happens before net's Read, to the race detector.
func sendNow(fd uintptr, p []byte) (int, error) { return atLeast0(syscall.Write(int(fd), p)) }

// vecReader is the scratch of recvVecNow.
type vecReader struct{}

// recvVecNow reads into the slices of p in turn, without waiting.
func recvVecNow(fd uintptr, p *[3][]byte, _ *vecReader) (int, error) {
	return atLeast0(unix.Readv(int(fd), p[:]))
}

// wokeUp: the scheduler is told of these calls.
func wokeUp() {}

func atLeast0(n int, err error) (int, error) { return max(n, 0), err }

type vecWriter struct{ calls uint64 }

func (*vecWriter) init() {}

func (*vecWriter) write(syscall.RawConn, *net.Buffers) (int64, error) {
	panic("BUG: a direct write where direct is false")
}
