//go:build !vtmuxdebug

package pool

// Debug reports whether this is a debug build: one with the tag vtmuxdebug.
const Debug = false

// Outstanding returns how many slabs and buffers are not released. Only a debug
// build counts; in any other both are 0.
func Outstanding() (slabs, buffers int) { return 0, 0 }

// Leaks returns a text that tells where each slab and buffer was got that is not
// released. Only a debug build knows; in any other it is "".
func Leaks() string { return "" }

func debugPoison([]byte) {}

func debugGotSlab(*Slab)              {}
func debugUseSlab(*Slab)              {}
func debugReleasedSlab(s *Slab) *Slab { return s }

func debugGotBuffer(*Buffer)  {}
func debugTookBuffer(*Buffer) {}
func debugUseBuffer(*Buffer)  {}
func debugGaveBuffer(*Buffer) {}

func debugReleasedBuffer(b *Buffer) *Buffer { return b }
