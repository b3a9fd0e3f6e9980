package pool

import (
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	minSlabBits = 12
	maxSlabBits = 20

	// MinSlab and MaxSlab are the smallest and the largest size of a slab in
	// bytes. The sizes between are the powers of two.
	//
	// The smallest is a page: less is not worth a reference count. The largest
	// holds nearly sixteen frames of the most payload; beyond that one read of a
	// transport brings nothing more.
	MinSlab = 1 << minSlabBits
	MaxSlab = 1 << maxSlabBits
)

// slabs has one pool a size class: slabs[i] holds *Slab of 1<<(minSlabBits+i)
// bytes. A pooled slab has no references.
var slabs [maxSlabBits - minSlabBits + 1]sync.Pool

// Slab is a byte slice of fixed size with a reference count. It comes from
// [GetSlab], with one reference; who releases the last one gives it back.
//
// Retain, Release, Unique and Bytes are safe for concurrent use by holders of a
// reference. The bytes are not guarded: who writes to a part of them must be the
// only one that has been given that part. What a holder did with the bytes before
// its Release happens before the next owner gets the slab, and before Unique
// returns true.
type Slab struct {
	// Constant after construction.
	b     []byte // len and cap are the size of the class
	class int    // index in slabs

	// refs is the number of references, from 1 for who got the slab to 0 for
	// who gives it back, by the atomic decrement to 0. Only a holder may
	// increment it, so it never rises from 0 but in GetSlab.
	refs atomic.Int32
}

// GetSlab returns a slab of at least n bytes, with one reference, which the caller
// owns. Its size is the least power of two that holds n, and MinSlab at least. It
// panics if n is negative or above MaxSlab: memory budgets count on the sizes.
func GetSlab(n int) *Slab {
	if n < 0 || n > MaxSlab {
		panic(fmt.Sprintf("BUG: pool: slab of %d bytes, want 0 to %d", n, MaxSlab))
	}
	class := classUp(n, minSlabBits)
	s, _ := slabs[class].Get().(*Slab)
	if s == nil {
		s = newSlab(class)
	}
	s.refs.Store(1)
	debugGotSlab(s)
	return s
}

func newSlab(class int) *Slab {
	s := &Slab{b: make([]byte, 1<<(minSlabBits+class)), class: class}
	debugPoison(s.b)
	return s
}

// Bytes returns all the bytes of s. They are valid until the caller releases its
// reference.
func (s *Slab) Bytes() []byte {
	debugUseSlab(s)
	return s.b
}

// Retain adds a reference, which its receiver must release. The caller must hold
// one itself.
func (s *Slab) Retain() {
	if s.refs.Add(1) <= 1 {
		s.badRetain()
	}
}

// Release gives up a reference of the caller's. The last one gives the slab back
// to the pool.
func (s *Slab) Release() {
	switch n := s.refs.Add(-1); {
	case n == 0:
		slabs[s.class].Put(debugReleasedSlab(s))
	case n < 0:
		badRefs("released", n)
	}
}

// Unique reports whether the caller's reference is the only one. If it is, it
// stays so until the caller retains the slab again, and the caller may write to
// all of it.
func (s *Slab) Unique() bool {
	debugUseSlab(s)
	return s.refs.Load() == 1
}

// badRetain undoes what Retain has done, or who recovers from the panic would have revived
// a slab that is pooled. It keeps that out of a function that is to be inlined.
//
//go:noinline
func (s *Slab) badRetain() { badRefs("retained", s.refs.Add(-1)) }

// badRefs keeps fmt out of functions that are to be inlined.
//
//go:noinline
func badRefs(verb string, n int32) {
	panic(fmt.Sprintf("BUG: pool: slab %s without a reference, %d now", verb, n))
}
