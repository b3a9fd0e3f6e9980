// Package pool holds the memory that bytes wait in: [Slab], a fixed size and a
// reference count, and [Buffer], which grows. In the steady state neither
// allocates.
//
// A slab is for bytes that are read once and handed on by reference: a transport
// read fills it, and everyone who is given a part of it holds a reference. A
// buffer has one owner, who appends to it.
//
// Contents are not cleared. What GetSlab and GetBuffer return holds the bytes of
// whoever had it before, so no one may read what he did not write.
//
// The pools are made of sync.Pool, so what they keep idle is given up within two
// cycles of the garbage collector. They hold no channel and no timer, and may be
// shared between testing/synctest bubbles.
//
// # Debug mode
//
// With the build tag vtmuxdebug, [Debug] is true, and
//
//   - what is released is filled with 0xDB, and so is new memory, and a write
//     after the release is found when the memory is next handed out;
//   - a Slab or Buffer object is never used twice, so that each use after the last
//     release panics: a second Release, Retain, Bytes, Write and so on;
//   - [Outstanding] counts what is not released, and [Leaks] tells where it was
//     got.
//
// Without the tag none of this costs anything, and of these errors only a
// reference count that falls below zero or rises from it panics, if the slab has
// not been handed out again meanwhile.
package pool
