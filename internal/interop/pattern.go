package interop

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"net/netip"
)

// A Pattern is the stream of one direction of one connection: bytes that both ends can compute, different for each address,
// side and round, so that bytes that stray from one to another are noticed. peer/src/pattern.rs computes the same.
type Pattern struct {
	seed uint64
}

// NewPattern returns the pattern of what one side sends, the opener or the acceptor, on the connection of address addr that has
// round predecessors.
func NewPattern(addr netip.AddrPort, byOpener bool, round int) Pattern {
	ip := addr.Addr().As16()
	b := binary.BigEndian.AppendUint16(ip[:], addr.Port())
	if byOpener {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(round))
	h := fnv.New64a()
	h.Write(b)
	return Pattern{h.Sum64()}
}

// Fill fills b with the stream's bytes from offset on.
func (p Pattern) Fill(offset int, b []byte) {
	var word [8]byte
	for len(b) > 0 {
		binary.LittleEndian.PutUint64(word[:], p.word(uint64(offset/8)))
		n := copy(b, word[offset%8:])
		b, offset = b[n:], offset+n
	}
}

// word is the splitmix64 generator, entered at any place.
func (p Pattern) word(index uint64) uint64 {
	z := p.seed + (index+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Bytes returns the stream's first n bytes.
func (p Pattern) Bytes(n int) []byte {
	b := make([]byte, n)
	p.Fill(0, b)
	return b
}

// Sum returns the FNV-1a sum of the stream's first n bytes.
func (p Pattern) Sum(n int) uint64 {
	h := fnv.New64a()
	h.Write(p.Bytes(n))
	return h.Sum64()
}

// Diff returns the index in got of the first byte that is not the stream's, from offset on, or -1.
func (p Pattern) Diff(offset int, got []byte) int {
	want := make([]byte, len(got))
	p.Fill(offset, want)
	if bytes.Equal(got, want) {
		return -1
	}
	for i := range got {
		if got[i] != want[i] {
			return i
		}
	}
	panic("BUG: unequal, but no byte differs")
}
