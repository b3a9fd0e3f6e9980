package mux

import (
	"sync"

	"github.com/vtmux/vtmux/pool"
)

const (
	// lendSlabFrom is the least payload piece that is kept as a reference into the
	// slab it was read into. Smaller ones are copied, for a 10-byte message must
	// not pin a slab of 64 KiB.
	lendSlabFrom = 16 << 10
	// maxOwnSegment is the most that a segment of copied bytes holds, so that a reader
	// that catches up gives memory back early.
	maxOwnSegment = 32 << 10
	// maxSlack is how much of a segment may be empty, where that is not a quarter of
	// the run of copied bytes that it belongs to.
	maxSlack = 4 << 10
)

// A segment is a run of received bytes: a view of a slab that it holds a
// reference to, or a buffer of its own.
type segment struct {
	next *segment
	slab *pool.Slab   // or nil
	own  *pool.Buffer // or nil
	b    []byte       // the bytes; own.B where own is set
	r    int          // how many of b have been read
	run  int          // how many bytes were copied before it, back to a view of a slab
}

var segments = sync.Pool{New: func() any { return new(segment) }}

func (g *segment) release() {
	if g.slab != nil {
		g.slab.Release()
	}
	if g.own != nil {
		g.own.Release()
	}
	*g = segment{} // a stale use must not reach another connection's bytes
	segments.Put(g)
}

// A recvQueue holds what was received and not read yet, in order. The zero value
// is empty and holds no memory. It is guarded by its connection's lock.
type recvQueue struct {
	last *segment // a ring: its next is the first
	n    int      // bytes unread
}

// first returns the segment that was received first, or nil.
func (q *recvQueue) first() *segment {
	if q.last == nil {
		return nil
	}
	return q.last.next
}

// add appends p, by copy. slab is where p lies, or nil; a large p is not copied,
// but kept with a reference to slab.
//
// Copies are put together, whatever pieces they come in: with DATA of a byte each, what
// is held stays below 1.3 times the bytes and 4 KiB (hostile peers, R8). So a segment is
// never grown, for that would leave up to half of it empty. It is filled, and the next
// one begun.
func (q *recvQueue) add(p []byte, slab *pool.Slab) {
	if slab != nil && len(p) >= lendSlabFrom {
		q.n += len(p)
		slab.Retain()
		g := segments.Get().(*segment)
		g.slab, g.b = slab, p
		q.push(g)
		return
	}
	for len(p) > 0 {
		g := q.last
		room, run := 0, 0
		if g != nil && g.own != nil {
			room, run = cap(g.own.B)-len(g.own.B), g.run+len(g.own.B)
		}
		if room == 0 {
			g = segments.Get().(*segment)
			g.run = run
			g.own = pool.GetBuffer()
			g.own.Grow(segmentFor(len(p), min(run, q.n)))
			q.push(g)
			room = cap(g.own.B)
		}
		n := min(room, len(p))
		g.own.Append(p[:n])
		g.b = g.own.B
		q.n += n
		p = p[n:]
	}
}

// segmentFor returns how large the segment should be that begins with some of n more
// bytes: a size of the pool's. It may be more than n where that leaves little empty, beside
// the run of copied bytes that it goes on with. (What is kept by reference gives no such
// leave: a byte behind each would cost a segment as large.)
func segmentFor(n, run int) int {
	slack := max(min(run, maxSlack), run/4)
	size := pool.MinBuffer
	for size < n && size < maxOwnSegment || 2*size <= slack && size < maxOwnSegment {
		size *= 2
	}
	if size > n && size-n > max(slack, maxSlack) {
		size /= 2
	}
	return size
}

func (q *recvQueue) push(g *segment) {
	if q.last == nil {
		g.next = g
	} else {
		g.next, q.last.next = q.last.next, g
	}
	q.last = g
}

// read copies into p and gives back what it emptied.
func (q *recvQueue) read(p []byte) (n int) {
	for n < len(p) && q.last != nil {
		g := q.first()
		m := copy(p[n:], g.b[g.r:])
		n += m
		g.r += m
		if g.r == len(g.b) {
			q.pop().release()
		}
	}
	q.n -= n
	return n
}

// pop takes the first segment. The caller accounts for its bytes and releases it.
func (q *recvQueue) pop() *segment {
	g := q.first()
	if g == q.last {
		q.last = nil
	} else {
		q.last.next = g.next
	}
	g.next = nil
	return g
}

// takeAll takes every segment, as a list that the caller releases.
func (q *recvQueue) takeAll() *segment {
	g := q.first()
	if g != nil {
		q.last.next = nil
	}
	*q = recvQueue{}
	return g
}

// releaseAll releases a list that takeAll returned.
func releaseAll(g *segment) {
	for g != nil {
		next := g.next
		g.release()
		g = next
	}
}
