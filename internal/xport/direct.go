//go:build linux && (amd64 || arm64) && !race && !msan && !asan

package xport

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// result makes of what a system call returned what a Go function returns. No errno that a
// socket gives allocates.
func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// A vector is what the kernel is told of several slices. It is zero between two calls, for
// the slices are the callers'.
type vector struct {
	hdr unix.Msghdr
	n   int // how many of the iovecs are in use
}

// set makes v, with room in iov, the slices that are not empty: as many as there is room for.
func (v *vector) set(iov []unix.Iovec, slices [][]byte) {
	for _, p := range slices {
		if len(p) == 0 {
			continue
		}
		if v.n == len(iov) {
			break
		}
		iov[v.n].Base = &p[0]
		iov[v.n].SetLen(len(p))
		v.n++
	}
	v.hdr.Iov = &iov[0]
	v.hdr.SetIovlen(v.n)
}

// clear forgets the slices.
func (v *vector) clear(iov []unix.Iovec) {
	clear(iov[:v.n])
	*v = vector{}
}

// vecReader is the scratch of recvVecNow.
type vecReader struct {
	vector
	iov [3]unix.Iovec
}

// recvVecNow reads into the slices of p in turn, without waiting.
func recvVecNow(fd uintptr, p *[3][]byte, r *vecReader) (int, error) {
	r.set(r.iov[:], p[:])
	n, err := recvmsgNow(fd, &r.hdr)
	r.clear(r.iov[:])
	return n, err
}

// maxVec is how many slices one call writes: what a quantum of the flusher holds, mostly.
const maxVec = 64

// vecWriter writes vectors, and waits. Its callback is made once, so that a call allocates
// nothing.
type vecWriter struct {
	vector
	iov [maxVec]unix.Iovec
	fn  func(fd uintptr) bool
	did int
	err error

	calls uint64 // since WriteCalls was called last
}

func (w *vecWriter) init() { w.fn = w.step }

func (w *vecWriter) step(fd uintptr) bool {
	for {
		w.calls++
		w.did, w.err = sendmsgNow(fd, &w.hdr)
		switch w.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		wokeUp()
		return true
	}
}

// write writes all of v, which it consumes.
func (w *vecWriter) write(raw syscall.RawConn, v *net.Buffers) (total int64, err error) {
	for dropEmpty(v); len(*v) > 0; dropEmpty(v) {
		w.set(w.iov[:], *v)
		n, err := rawResult(raw.Write(w.fn), "write", &w.did, &w.err)
		w.clear(w.iov[:])
		total += int64(n)
		consume(v, n)
		if err = sent(n, err); err != nil {
			return total, err
		}
	}
	return total, nil
}
