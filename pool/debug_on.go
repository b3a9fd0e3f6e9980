//go:build vtmuxdebug

package pool

import (
	"bytes"
	"fmt"
)

// Debug reports whether this is a debug build: one with the tag vtmuxdebug.
const Debug = true

// Outstanding returns how many slabs and buffers are not released. A slab
// counts once, however many references it has. Only a debug build counts; in any
// other both are 0.
func Outstanding() (slabs, buffers int) {
	return liveSlabs.len(), liveBuffers.len()
}

// Leaks returns a text that tells where each slab and buffer was got that is not
// released, or "" if there are none. Only a debug build knows; in any other it is
// "".
func Leaks() string { return liveSlabs.report("slab") + liveBuffers.report("buffer") }

// poison is what fills memory that nobody owns. It is neither zero nor ASCII, so
// that it is noticed where it turns up.
const poison = 0xDB

// debugPoison fills p with poison.
func debugPoison(p []byte) {
	if len(p) == 0 {
		return
	}
	// By doubling, which a race build does far faster than byte by byte.
	p[0] = poison
	for n := 1; n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
}

// checkFill panics if memory that nobody owns is not all fill.
func checkFill(p []byte, fill byte) {
	if bytes.Count(p, []byte{fill}) == len(p) {
		return // far faster than the loop
	}
	for i, c := range p {
		if c != fill {
			panic(fmt.Sprintf("BUG: pool: write after release, %#02x at offset %d of %d", c, i, len(p)))
		}
	}
}

// An object that was released is not used again, or its next owner's life would
// hide the misuse of an earlier one. Only the array goes back to the pool, with a
// new object. So a released object stays what the functions below make it.

func debugGotSlab(s *Slab) {
	checkFill(s.b, poison)
	liveSlabs.add(s)
}

func debugUseSlab(s *Slab) {
	if n := s.refs.Load(); n <= 0 {
		panic(fmt.Sprintf("BUG: pool: slab used without a reference, %d now", n))
	}
}

func debugReleasedSlab(s *Slab) *Slab {
	liveSlabs.remove(s)
	debugPoison(s.b)
	return &Slab{b: s.b, class: s.class}
}

func debugGotBuffer(b *Buffer) { liveBuffers.add(b) }

// debugTookBuffer accepts zeros for poison, if all are: a bytebufferpool.Pool makes
// arrays itself once it has learned a size.
func debugTookBuffer(b *Buffer) {
	all := b.B[:cap(b.B)]
	if all[0] == 0 {
		checkFill(all, 0)
		debugPoison(all)
		return
	}
	checkFill(all, poison)
}

func debugUseBuffer(b *Buffer) {
	if !liveBuffers.has(b) {
		panic("BUG: pool: buffer used after its release")
	}
}

func debugGaveBuffer(b *Buffer) { liveBuffers.remove(b) }

func debugReleasedBuffer(b *Buffer) *Buffer {
	debugPoison(b.B[:cap(b.B)])
	fresh := &Buffer{B: b.B}
	b.B = nil // a use of B past the methods finds nothing
	return fresh
}
