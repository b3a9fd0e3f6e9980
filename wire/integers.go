package wire

import "encoding/binary"

// U16 is a 16-bit unsigned integer in network order, of alignment 1. The zero
// value is 0.
type U16 [2]byte

// Get returns the value of u.
func (u U16) Get() uint16 { return binary.BigEndian.Uint16(u[:]) }

// Set makes v the value of u.
func (u *U16) Set(v uint16) { binary.BigEndian.PutUint16(u[:], v) }

// U32 is a 32-bit unsigned integer in network order, of alignment 1. The zero
// value is 0.
type U32 [4]byte

// Get returns the value of u.
func (u U32) Get() uint32 { return binary.BigEndian.Uint32(u[:]) }

// Set makes v the value of u.
func (u *U32) Set(v uint32) { binary.BigEndian.PutUint32(u[:], v) }

// U64 is a 64-bit unsigned integer in network order, of alignment 1. The zero
// value is 0.
type U64 [8]byte

// Get returns the value of u.
func (u U64) Get() uint64 { return binary.BigEndian.Uint64(u[:]) }

// Set makes v the value of u.
func (u *U64) Set(v uint64) { binary.BigEndian.PutUint64(u[:], v) }
