package pool

import (
	"fmt"
	"sync/atomic"

	"github.com/valyala/bytebufferpool"
)

const (
	minBufferBits = 9
	maxBufferBits = 17

	// MinBuffer is the capacity of a new buffer in bytes.
	MinBuffer = 1 << minBufferBits

	// MaxBuffer is the largest capacity that is pooled, in bytes. It is room for one
	// vt-muxer frame of the most payload, 65,555 bytes. A buffer may grow beyond,
	// but what it has then is left to the garbage collector.
	MaxBuffer = 1 << maxBufferBits
)

// buffers has one pool a size class: buffers[i] holds buffers of exactly
// 1<<(minBufferBits+i) bytes capacity.
//
// One pool for all sizes would not do. A bytebufferpool.Pool counts the lengths that
// come back to it, and drops what is larger than 95 in 100 of them; then the
// connections that need more than most would allocate for ever. Here
// a pool sees one length, so it keeps everything. They are our own, since the
// package's default pool learns from the whole process.
var buffers [maxBufferBits - minBufferBits + 1]bufferPool

// bufferPool is a bytebufferpool.Pool that may stand in an array. A Pool begins with
// 64-bit counters that it updates atomically, which on 386 and arm panics unless they are
// 64-bit aligned; and there the language aligns a Pool to 32 bits only.
type bufferPool struct {
	_ [0]atomic.Uint64 // has alignment 8 everywhere, and so has the struct
	bytebufferpool.Pool
}

// Buffer is a byte slice that grows through pooled size classes. It comes from
// [GetBuffer] and has one owner; it is not safe for concurrent use.
//
// The owner may do with B what he likes, set it to another slice too, whose array
// then belongs to the buffer. A plain append to B allocates when B is full, where
// the methods take a larger array from the pool. A B that is resliced from the front
// loses capacity, and what Release pools is what is left of it.
type Buffer bytebufferpool.ByteBuffer

// GetBuffer returns an empty buffer of MinBuffer bytes capacity, which the caller
// owns until he calls Release.
func GetBuffer() *Buffer {
	b := getBuffer(0)
	debugGotBuffer(b)
	return b
}

// getBuffer returns an empty buffer of the given class, whose object or array is not
// yet anyone's.
func getBuffer(class int) *Buffer {
	b := (*Buffer)(buffers[class].Get())
	size := 1 << (minBufferBits + class)
	if cap(b.B) < size {
		b.B = make([]byte, 0, size)
		debugPoison(b.B[:size])
	}
	debugTookBuffer(b)
	return b
}

// putBuffer gives b back to the pool of its capacity, or drops it if there is none. What
// is above MaxBuffer would fit the last class, but hold up to twice what that counts.
func putBuffer(b *Buffer) {
	class := classDown(cap(b.B), minBufferBits)
	if class < 0 || cap(b.B) > MaxBuffer {
		return
	}
	// Length and capacity are the class's: the pool decides by the length, and
	// drops a capacity above what it saw.
	size := 1 << (minBufferBits + class)
	b.B = b.B[:size:size]
	buffers[class].Put((*bytebufferpool.ByteBuffer)(b))
}

// Len returns the number of bytes in b.
func (b *Buffer) Len() int {
	debugUseBuffer(b)
	return len(b.B)
}

// Append appends p to b. It keeps no reference to p, which may be a part of B.
func (b *Buffer) Append(p []byte) {
	if b.hasRoom(len(p)) {
		b.B = append(b.B, p...)
		return
	}
	next := b.larger(len(p))
	next.B = append(next.B, p...) // before swap, which gives the array away that p may be in
	b.swap(next)
}

// Write implements [io.Writer] by [Buffer.Append]. It returns len(p) and nil.
func (b *Buffer) Write(p []byte) (int, error) {
	b.Append(p)
	return len(p), nil
}

// Grow makes room for n bytes more than b has, so that an append of them to B does
// not allocate. It panics if n is negative, or more than there can be. Earlier slices of
// B are then no part of the buffer, and must not be used any more.
func (b *Buffer) Grow(n int) {
	if !b.hasRoom(n) {
		b.swap(b.larger(n))
	}
}

// hasRoom reports whether n bytes more fit into the array that b has.
func (b *Buffer) hasRoom(n int) bool {
	debugUseBuffer(b)
	if n < 0 || len(b.B)+n < 0 {
		panic(fmt.Sprintf("BUG: pool: buffer grown by %d bytes", n))
	}
	return n <= cap(b.B)-len(b.B)
}

// larger returns a buffer with the contents of b and room for n bytes more, to swap with.
func (b *Buffer) larger(n int) *Buffer {
	n += len(b.B)
	if n > MaxBuffer {
		// Twice what it was, so that appending stays linear in what is appended.
		big := make([]byte, max(n, 2*cap(b.B)))
		debugPoison(big)
		return &Buffer{B: append(big[:0], b.B...)}
	}
	next := getBuffer(classUp(n, minBufferBits))
	next.B = append(next.B, b.B...)
	return next
}

// swap makes the contents of next those of b, and gives back next with the array
// that b had. The object that the owner knows stays his.
func (b *Buffer) swap(next *Buffer) {
	b.B, next.B = next.B, b.B
	putBuffer(debugReleasedBuffer(next))
}

// Reset empties b and keeps its capacity.
func (b *Buffer) Reset() {
	debugUseBuffer(b)
	b.B = b.B[:0]
}

// Release gives b back. The caller must not use b or a slice of B any more.
func (b *Buffer) Release() {
	debugUseBuffer(b)
	debugGaveBuffer(b)
	putBuffer(debugReleasedBuffer(b))
}
