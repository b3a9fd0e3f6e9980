package stress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// A link is one connection, seen from both ends at once.
type link struct {
	s        *session
	n        int // of the session's; its address tells it
	addr     addr.SocketAddr
	x, y     end         // x opened it
	opened   bool        // x has it; its worker's
	accepted atomic.Bool // y has it
	served   atomic.Bool
}

// isServed tells that the acceptor has done all it will. An Open that failed because the session ended may have been
// announced before: then both ends say so.
func (k *link) isServed() {
	if !k.served.Swap(true) {
		k.s.unserved.Done()
	}
}

// A lane is one direction of a link.
type lane struct {
	stream
	offered atomic.Int64 // how far its writer has ever asked to write
	ended   atomic.Bool  // its writer has ended it, or is about to, in a way that loses nothing

	written atomic.Int64 // what its writer's calls have counted; the writer's
	read    atomic.Int64 // the reader's
	eof     bool         // the reader has come to the end; the reader's
}

// What an end has done, or is about to do: each is set before the call.
const (
	didClose uint32 = 1 << iota
	didReset
	didCloseRead
	didCloseWrite
	didReject
	didJolt // set a deadline while the other goroutine was at work
	didQuit // stopped reading, without a word
)

// An end is one end of a link. Its Conn is not here, for a Conn that is dropped must be reachable no more.
type end struct {
	k       *link
	name    string
	side    int // of the session
	peer    *end
	in, out *lane
	does    plan
	did     atomic.Uint32
}

func (e *end) has(what uint32) bool { return e.did.Load()&what != 0 }

func (e *end) String() string {
	s := e.k.s
	return fmt.Sprintf("session %d (%v), connection %d, %s (did %#x, peer did %#x; in %d of %d, out %d)", s.n, s.text(), e.k.n, e.name,
		e.did.Load(), e.peer.did.Load(), e.in.read.Load(), e.in.offered.Load(), e.out.offered.Load())
}

// fails reports what must not be.
func (e *end) fails(format string, args ...any) {
	e.k.s.run.fails("%v: "+format, append([]any{e}, args...)...)
}

// got checks what was read, with the bytes before it.
func (e *end) got(p []byte) {
	l := e.in
	for len(p) > 0 {
		n, off := min(len(p), maxPiece), l.read.Load()
		if want := l.at(off, n); !bytes.Equal(p[:n], want) {
			at := 0
			for p[at] == want[at] {
				at++
			}
			e.fails("wrong byte at %d: %x, want %x", off+int64(at), p[at:min(at+16, n)], want[at:min(at+16, n)])
		}
		if l.read.Add(int64(n)) > l.offered.Load() {
			e.fails("bytes read that were not written")
		}
		e.k.s.run.bytes.Add(int64(n))
		p = p[n:]
	}
}

// A deadline that a call had; the zero value is none.
type deadline struct{ time.Time }

// readOver checks the error of a call that reads, and reports whether there is nothing more to read.
func (e *end) readOver(err error, at deadline) bool {
	s := e.k.s
	e.wantCode("reading", err)
	switch {
	case err == io.EOF:
		e.in.eof = true
		if !e.in.ended.Load() && !(s.mayRefuse() && !e.k.accepted.Load() && e.in.read.Load() == 0) {
			e.fails("io.EOF, but the peer has not ended its half")
		}
		return true
	case errors.Is(err, net.ErrClosed) && e.has(didClose|didCloseRead):
	case errors.Is(err, syscall.ECONNRESET) && (e.has(didReset) || s.one && e.peer.has(didReset)):
	default:
		return e.otherwise("reading", err, at)
	}
	return true
}

// writeOver checks the error of a call that writes, and reports whether nothing more can be written.
func (e *end) writeOver(err error, at deadline) bool {
	e.wantCode("writing", err)
	switch {
	case errors.Is(err, net.ErrClosed) && e.has(didClose):
	case errors.Is(err, syscall.ECONNRESET) && e.has(didReset):
	case errors.Is(err, syscall.EPIPE) && e.has(didCloseWrite):
	case errors.Is(err, syscall.EPIPE) && e.k.s.one && e.peer.has(didClose|didReset|didCloseRead):
	default:
		return e.otherwise("writing", err, at)
	}
	return true
}

// otherwise checks an error that reading and writing may both meet.
func (e *end) otherwise(call string, err error, at deadline) (over bool) {
	s := e.k.s
	switch {
	case err == nil:
		return false
	case errors.Is(err, mux.ErrProtocol):
		e.fails("%s: %v, between two honest ends", call, err)
	case errors.Is(err, io.EOF):
		e.fails("%s: %v, which reads like a clean end", call, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		switch {
		case e.has(didJolt):
		case at.IsZero():
			e.fails("%s: %v, without a deadline", call, err)
		case time.Now().Before(at.Time):
			e.fails("%s: %v, %v too early", call, err, time.Until(at.Time))
		}
		return false
	case s.broken.Load():
	case errors.Is(err, mux.ErrRefused) && s.one && (e.peer.has(didReject) || s.mayRefuse() && !e.k.accepted.Load()):
	default:
		e.fails("%s: %v", call, err)
	}
	return true
}

// resetCode is what both ends of a link reset it with.
func (k *link) resetCode() mux.Code { return mux.Code(256 + k.n) }

// What all are rejected with.
const (
	rejectCode   = mux.Code(1 << 31)
	rejectReason = "no"
)

// wantCode checks what an error says beyond its kind: the code is that of whoever caused it.
func (e *end) wantCode(call string, err error) {
	var (
		reset   *mux.ResetError
		stopped *mux.StoppedError
		refused *mux.RefusedError
		away    *mux.GoAwayError
	)
	s, ok := e.k.s, true
	leaves := s.draining.Load() || s.broken.Load() // a session may refuse for itself
	switch {
	case errors.As(err, &reset):
		who := e
		if reset.Remote {
			who = e.peer
		}
		ok = who.has(didReset) && reset.Code == e.k.resetCode()
	case errors.As(err, &stopped):
		switch stopped.Code {
		case mux.CodeClosed:
			ok = e.peer.has(didClose | didCloseRead)
		case rejectCode:
			ok = e.peer.has(didReject)
		case mux.CodeDraining: // the refusal of what has read no more from the beginning
			ok = leaves
		default:
			ok = e.peer.has(didReset) && stopped.Code == e.k.resetCode()
		}
	case errors.As(err, &refused) && e.peer.has(didReject):
		ok = refused.Code == rejectCode && refused.Reason == rejectReason
	case errors.As(err, &refused):
		ok = refused.Code == mux.CodeBacklog && s.tight || refused.Code == mux.CodeDraining && leaves
	case errors.As(err, &away):
		ok = away.Code == mux.CodeClosed
	}
	if !ok {
		e.fails("%s: %v", call, err)
	}
}

// check looks at a link when all is over.
func (k *link) check() {
	if !k.opened {
		// An Open that fails because the session ends may have been announced before.
		if k.accepted.Load() && k.s.whole {
			k.y.fails("accepted, though it was not opened")
		}
		return
	}
	s, whole := k.s, k.s.whole
	if whole && !k.accepted.Load() && !s.tight && s.fault != shutsDown && !(s.one && k.x.has(didReset)) {
		k.x.fails("never accepted")
	}
	for _, e := range []*end{&k.x, &k.y} {
		l := e.in
		read, written := l.read.Load(), l.written.Load()
		switch {
		case whole && read > written:
			e.fails("%d bytes read, %d written", read, written)
		case l.eof && (whole && read != written || read < written):
			e.fails("%d bytes read and io.EOF, %d written", read, written)
		case whole && k.accepted.Load() && !l.eof && l.ended.Load() && !e.has(didClose|didReset|didCloseRead|didQuit|didReject) && !e.peer.has(didReset|didReject):
			e.fails("the peer has ended its half, and io.EOF has not come")
		}
	}
}
