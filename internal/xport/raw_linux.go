package xport

import (
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	canReadVec  = true
	canTryWrite = true
)

// rawReader reads. Its callbacks are made once, so that a call allocates nothing; what
// they work with lives here for the same reason.
type rawReader struct {
	one, several func(fd uintptr) bool

	p   []byte
	vec [3][]byte
	vr  vecReader
	n   int
	err error

	calls  uint64 // since ReadCalls was called last
	waited bool   // likewise
}

func (r *rawReader) init() { r.one, r.several = r.stepOne, r.stepSeveral }

func (r *rawReader) stepOne(fd uintptr) bool {
	for {
		r.calls++
		r.n, r.err = recvNow(fd, r.p)
		if r.err != unix.EINTR {
			return r.ready()
		}
	}
}

func (r *rawReader) stepSeveral(fd uintptr) bool {
	for {
		r.calls++
		r.n, r.err = recvVecNow(fd, &r.vec, &r.vr)
		if r.err != unix.EINTR {
			return r.ready()
		}
	}
}

func (r *rawReader) ready() bool {
	if r.err == unix.EAGAIN {
		r.waited = true
		return false
	}
	wokeUp()
	return true
}

// read reads into p, which is not empty.
func (r *rawReader) read(raw syscall.RawConn, p []byte) (int, error) {
	r.p = p
	err := raw.Read(r.one)
	r.p = nil // it is the caller's
	return eof(rawResult(err, "read", &r.n, &r.err))
}

// readVec reads into a, b and c, not all of which are empty.
func (r *rawReader) readVec(raw syscall.RawConn, a, b, c []byte) (int, error) {
	r.vec = [3][]byte{a, b, c}
	err := raw.Read(r.several)
	r.vec = [3][]byte{} // the slices are the caller's
	return eof(rawResult(err, "readv", &r.n, &r.err))
}

// rawResult returns what a raw call has brought. waited is what the call itself returned,
// before which the callback may have left the error that it waited for.
func rawResult(waited error, call string, n *int, err *error) (int, error) {
	switch {
	case waited != nil:
		return 0, waited
	case *err != nil:
		return 0, os.NewSyscallError(call, *err)
	}
	return *n, nil
}

// sent refuses a write that neither did anything nor failed. The kernel's sockets don't do
// that.
func sent(n int, err error) error {
	if n == 0 && err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rawWriter writes.
type rawWriter struct {
	now, wait func(fd uintptr) bool

	p   []byte
	n   int
	err error

	calls uint64 // since WriteCalls was called last
}

func (w *rawWriter) init() { w.now, w.wait = w.stepNow, w.stepWait }

func (w *rawWriter) stepNow(fd uintptr) bool {
	for {
		w.calls++
		w.n, w.err = sendNow(fd, w.p)
		if w.err != unix.EINTR {
			return true
		}
	}
}

func (w *rawWriter) stepWait(fd uintptr) bool {
	w.stepNow(fd)
	if w.err == unix.EAGAIN {
		return false
	}
	wokeUp()
	return true
}

// try writes of p what there is room for.
func (w *rawWriter) try(raw syscall.RawConn, p []byte) (int, error) {
	w.p = p
	err := raw.Write(w.now)
	w.p = nil
	if err == nil && w.err == unix.EAGAIN {
		return 0, nil
	}
	return rawResult(err, "write", &w.n, &w.err)
}

// all writes all of p.
func (w *rawWriter) all(raw syscall.RawConn, p []byte) (n int, err error) {
	for n < len(p) {
		w.p = p[n:]
		err := raw.Write(w.wait)
		w.p = nil
		m, err := rawResult(err, "write", &w.n, &w.err)
		n += m
		if err = sent(m, err); err != nil {
			return n, err
		}
	}
	return n, nil
}

// A nowWriter sends what a socket has room for, whatever its write deadline, and beside a write
// that waits. Its callback is made once, so that a call allocates nothing.
type nowWriter struct {
	fn  func(fd uintptr)
	p   []byte
	n   int
	err error

	calls atomic.Uint64 // since they were asked for last
}

func (w *nowWriter) init() { w.fn = func(fd uintptr) { w.n, w.err = w.sendOn(fd, w.p) } }

func (w *nowWriter) send(raw syscall.RawConn, p []byte) (int, error) {
	w.p, w.n, w.err = p, 0, nil
	err := raw.Control(w.fn)
	w.p = nil
	if err == nil {
		err = w.err
	}
	return w.n, err
}

func (w *nowWriter) sendOn(fd uintptr, p []byte) (n int, err error) {
	for n < len(p) {
		w.calls.Add(1)
		m, err := sendNow(fd, p[n:])
		n += max(m, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return n, nil
		case err != nil:
			return n, os.NewSyscallError("write", err)
		case m == 0:
			return n, sent(m, nil)
		}
	}
	return n, nil
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
		s.n, s.err = recvNow(fd, p)
		switch s.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			s.put()
			return false
		}
		wokeUp()
		return true
	}
}

func (s *rawSource) read(raw syscall.RawConn, get func() []byte, put func()) (int, error) {
	s.get, s.put = get, put
	return eof(rawResult(raw.Read(s.fn), "read", &s.n, &s.err))
}
