package wire

import "unsafe"

// Layout is the set of the types that may be laid over bytes. It is closed: no
// other package can add to it.
//
// A member is a byte array or a struct of members. [addr.SocketAddr], which has
// the same properties, counts as one.
//
// # Safety
//
// The functions below are safe for a type T that has these properties, and each
// member has them:
//
//  1. Every bit pattern is a T. T holds bytes only: no bool, pointer, string,
//     slice, interface. Checked by TestLayoutsHoldOnlyBytes.
//  2. Every byte of memory of a T belongs to a field, so that BytesOf shows the
//     wire and nothing else. Checked by TestLayoutsHaveNoPadding and by the size
//     constants below.
//  3. T has alignment 1, so any address is an address for a T. Checked by
//     TestLayoutsHaveAlignment1, by the alignment constants below, and by
//     TestViewAtEveryOffset, which runs under -asan too.
//  4. T has no pointers, so the garbage collector reads nothing in it, and a *T
//     keeps the memory under it alive as a *byte does. Follows from 1.
type Layout interface {
	U16 | U32 | U64 | VTHeader |
		Header | OpenBody | WindowBody | CodeBody | PingBody | GoAwayBody | Preface
}

// A member's size is the wire's, not the compiler's choice: these don't compile
// if a size or an alignment is another one.
var (
	_ [VTHeaderLen]byte = [unsafe.Sizeof(VTHeader{})]byte{}
	_ [1]byte           = [unsafe.Alignof(VTHeader{})]byte{}

	_ [HeaderLen]byte = [unsafe.Sizeof(Header{})]byte{}
	_ [1]byte         = [unsafe.Alignof(Header{})]byte{}

	_ [OpenBodyLen]byte = [unsafe.Sizeof(OpenBody{})]byte{}
	_ [1]byte           = [unsafe.Alignof(OpenBody{})]byte{}

	_ [WindowBodyLen]byte = [unsafe.Sizeof(WindowBody{})]byte{}
	_ [1]byte             = [unsafe.Alignof(WindowBody{})]byte{}

	_ [CodeBodyLen]byte = [unsafe.Sizeof(CodeBody{})]byte{}
	_ [1]byte           = [unsafe.Alignof(CodeBody{})]byte{}

	_ [PingBodyLen]byte = [unsafe.Sizeof(PingBody{})]byte{}
	_ [1]byte           = [unsafe.Alignof(PingBody{})]byte{}

	_ [GoAwayBodyLen]byte = [unsafe.Sizeof(GoAwayBody{})]byte{}
	_ [1]byte             = [unsafe.Alignof(GoAwayBody{})]byte{}

	_ [PrefaceLen]byte = [unsafe.Sizeof(Preface{})]byte{}
	_ [1]byte          = [unsafe.Alignof(Preface{})]byte{}
)

// SizeOf returns the size of a T in bytes, in memory and on the wire.
func SizeOf[T Layout]() int { return int(unsafe.Sizeof(*new(T))) }

// View returns the first SizeOf[T]() bytes of b as a T. It panics if b is
// shorter. The result aliases b.
//
// Safety: the pointer is to SizeOf[T]() bytes within len(b), because the inner
// slice expression makes the length of b its capacity, and the outer one panics
// beyond the capacity, in every build. Checked by TestViewOneByteShortPanics.
// Type and alignment by Layout.
func View[T Layout](b []byte) *T {
	return (*T)(unsafe.Pointer(unsafe.SliceData(b[:len(b):len(b)][:SizeOf[T]()])))
}

// BytesOf returns the bytes of v, SizeOf[T]() of them with no capacity beyond.
// It panics if v is nil. The result aliases v.
//
// Safety: v is not nil, by the first statement. It points to a T, which is
// SizeOf[T]() bytes, all of them initialized and of fields. Checked by
// TestBytesOfIsTheMemoryOfTheValue. Type by Layout.
func BytesOf[T Layout](v *T) []byte {
	_ = *v // unsafe.Slice too refuses nil, but under checkptr it ends the process
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), SizeOf[T]())
}

// extend returns the n values that begin at the front of b. Its one caller is
// SliceOf.
//
// Safety: the caller has checked that b holds n values and that n is not 0. The first
// lies within b by View; in an array of T each begins where the one before it
// ends, because the size is a multiple of the alignment, 1. Checked by
// TestSliceOfAtEveryLengthAndOffset.
func extend[T Layout](b []byte, n int) []T { return unsafe.Slice(View[T](b), n) }
