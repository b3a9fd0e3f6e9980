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
	// maxOwnSegment is how far a segment of copied bytes grows before the next
	// one is begun, so that a reader that catches up gives memory back early.
	maxOwnSegment = 32 << 10
)

// A segment is a run of received bytes: a view of a slab that it holds a
// reference to, or a buffer of its own.
type segment struct {
	next *segment
	slab *pool.Slab   // or nil
	own  *pool.Buffer // or nil
	b    []byte       // the bytes; own.B where own is set
	r    int          // how many of b have been read
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
	head, tail *segment
	n          int // bytes unread
}

// add appends p, by copy. slab is where p lies, or nil; a large p is not copied,
// but kept with a reference to slab.
func (q *recvQueue) add(p []byte, slab *pool.Slab) {
	q.n += len(p)
	if slab != nil && len(p) >= lendSlabFrom {
		slab.Retain()
		g := segments.Get().(*segment)
		g.slab, g.b = slab, p
		q.push(g)
		return
	}
	g := q.tail
	if g == nil || g.own == nil || len(g.b)+len(p) > maxOwnSegment {
		g = segments.Get().(*segment)
		g.own = pool.GetBuffer()
		q.push(g)
	}
	g.own.Append(p)
	g.b = g.own.B
}

func (q *recvQueue) push(g *segment) {
	if q.tail == nil {
		q.head = g
	} else {
		q.tail.next = g
	}
	q.tail = g
}

// read copies into p and gives back what it emptied.
func (q *recvQueue) read(p []byte) (n int) {
	for n < len(p) && q.head != nil {
		g := q.head
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
	g := q.head
	q.head = g.next
	if q.head == nil {
		q.tail = nil
	}
	g.next = nil
	return g
}

// takeAll takes every segment, as a list that the caller releases.
func (q *recvQueue) takeAll() *segment {
	g := q.head
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
