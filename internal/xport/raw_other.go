//go:build !linux

package xport

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	canReadVec  = false
	canTryWrite = false
	direct      = false
)

type rawReader struct {
	calls  uint64
	waited bool
}

func (*rawReader) init() {}

func (*rawReader) read(syscall.RawConn, []byte) (int, error) {
	panic("BUG: a direct read where direct is false")
}

func (*rawReader) readVec(syscall.RawConn, []byte, []byte, []byte) (int, error) {
	panic("BUG: ReadVec where canReadVec is false")
}

type rawWriter struct{ calls uint64 }

func (*rawWriter) init() {}

func (*rawWriter) try(syscall.RawConn, []byte) (int, error) {
	panic("BUG: TryWrite where canTryWrite is false")
}

func (*rawWriter) all(syscall.RawConn, []byte) (int, error) {
	panic("BUG: a direct write where direct is false")
}

func wokeUp() {}

type vecWriter struct{ calls uint64 }

func (*vecWriter) init() {}

func (*vecWriter) write(syscall.RawConn, *net.Buffers) (int64, error) {
	panic("BUG: a direct write where direct is false")
}

type nowWriter struct{ calls atomic.Uint64 }

func (*nowWriter) init() {}

func (*nowWriter) send(syscall.RawConn, []byte) (int, error) {
	panic("BUG: a write that does not wait where canTryWrite is false")
}

func (*nowWriter) sendOn(uintptr, []byte) (int, error) {
	panic("BUG: a write that does not wait where canTryWrite is false")
}

func rtt(syscall.RawConn) (time.Duration, bool) { return 0, false }

func acked(syscall.RawConn) (uint64, bool) { return 0, false }

type rawSource struct{}

func (*rawSource) init() {}

func (*rawSource) read(syscall.RawConn, func() []byte, func()) (int, error) {
	panic("BUG: raw read where canReadVec is false")
}
