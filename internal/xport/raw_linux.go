package xport

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	canReadVec  = true
	canTryWrite = true
)

// rawReader reads vectors. Its callback is made once, so that a call allocates
// nothing; vec and its backing array live here for the same reason.
type rawReader struct {
	fn  func(fd uintptr) bool
	vec [3][]byte
	n   int
	err error
}

func (r *rawReader) init() { r.fn = r.step }

func (r *rawReader) step(fd uintptr) bool {
	for {
		r.n, r.err = unix.Readv(int(fd), r.vec[:])
		switch r.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		return true
	}
}

func (r *rawReader) read(raw syscall.RawConn, a, b, c []byte) (int, error) {
	r.vec = [3][]byte{a, b, c}
	err := raw.Read(r.fn)
	r.vec = [3][]byte{} // the slices are the caller's
	if err != nil {
		return 0, err
	}
	if r.err != nil {
		return 0, os.NewSyscallError("readv", r.err)
	}
	return eof(r.n, nil)
}

// rawWriter writes without waiting.
type rawWriter struct {
	fn  func(fd uintptr) bool
	p   []byte
	n   int
	err error
}

func (w *rawWriter) init() { w.fn = w.step }

func (w *rawWriter) step(fd uintptr) bool {
	for {
		// Of package syscall, whose Write happens before net's Read, to the race detector.
		w.n, w.err = syscall.Write(int(fd), w.p)
		if w.err != syscall.EINTR {
			return true
		}
	}
}

func (w *rawWriter) try(raw syscall.RawConn, p []byte) (int, error) {
	w.p = p
	err := raw.Write(w.fn)
	w.p = nil
	switch {
	case err != nil:
		return 0, err
	case w.err == syscall.EAGAIN:
		return 0, nil
	case w.err != nil:
		return 0, os.NewSyscallError("write", w.err)
	}
	return w.n, nil
}

func rtt(raw syscall.RawConn) (d time.Duration, ok bool) {
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			d, ok = time.Duration(info.Rtt)*time.Microsecond, true
		}
	})
	return d, ok
}

// acked returns how many bytes the peer's kernel has acknowledged.
func acked(raw syscall.RawConn) (n uint64, ok bool) {
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n, ok = info.Bytes_acked, true
		}
	})
	return n, ok
}

// rawSource reads into a buffer that it takes when there is something to read.
type rawSource struct {
	fn  func(fd uintptr) bool
	get func() []byte
	put func()
	n   int
	err error
}

func (s *rawSource) init() { s.fn = s.step }

func (s *rawSource) step(fd uintptr) bool {
	p := s.get()
	for {
		s.n, s.err = unix.Read(int(fd), p)
		switch s.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			s.put()
			return false
		}
		return true
	}
}

func (s *rawSource) read(raw syscall.RawConn, get func() []byte, put func()) (int, error) {
	s.get, s.put = get, put
	if err := raw.Read(s.fn); err != nil {
		return 0, err
	}
	if s.err != nil {
		return 0, os.NewSyscallError("read", s.err)
	}
	return eof(s.n, nil)
}
