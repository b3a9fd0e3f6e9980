//go:build !linux

package xport

import (
	"syscall"
	"time"
)

const (
	canReadVec  = false
	canTryWrite = false
)

type rawReader struct{}

func (*rawReader) init() {}

func (*rawReader) read(syscall.RawConn, []byte, []byte, []byte) (int, error) {
	panic("BUG: ReadVec where canReadVec is false")
}

type rawWriter struct{}

func (*rawWriter) init() {}

func (*rawWriter) try(syscall.RawConn, []byte) (int, error) {
	panic("BUG: TryWrite where canTryWrite is false")
}

func rtt(syscall.RawConn) (time.Duration, bool) { return 0, false }

func acked(syscall.RawConn) (uint64, bool) { return 0, false }

type rawSource struct{}

func (*rawSource) init() {}

func (*rawSource) read(syscall.RawConn, func() []byte, func()) (int, error) {
	panic("BUG: raw read where canReadVec is false")
}
