package fuzz

// A knife cuts a stream into pieces, as the bytes of an input say. The bytes are used
// over and over.
//
//	0         no bytes at all
//	1 to 127  so many bytes
//	128       4,096 bytes
//	129 to    a piece that goes past the decoder, where it stands in a payload:
//	255       so many bytes above 128, or as many as the payload has left
//
// Without any byte the stream comes in one piece.
type knife struct {
	cuts []byte
	i    int
	idle int // pieces of no bytes in a row
}

// next returns the length of the next piece of n bytes, at least 1, and whether it goes
// past the decoder.
func (k *knife) next(n int) (size int, past bool) {
	if len(k.cuts) == 0 {
		return n, false
	}
	c := int(k.cuts[k.i%len(k.cuts)])
	k.i++
	switch {
	case c == 0:
		if k.idle++; k.idle > len(k.cuts) {
			return n, false // there are only such
		}
		return 0, false
	case c == 128:
		size = 4096
	case c > 128:
		size, past = c-128, true
	default:
		size = c
	}
	k.idle = 0
	return min(size, n), past
}

// A decoding is a decoder that is given a stream by pieces, and says how much of its payload
// is to come.
type decoding interface {
	give(p []byte)
	past(p []byte) // p is payload, and the decoder does not see it
	remaining() int
	over() bool // what still comes does not count
}

// cut gives the stream to d, cut by k, until d is over.
func (k *knife) cut(stream []byte, d decoding) {
	for rest := stream; len(rest) > 0 && !d.over(); {
		n, past := k.next(len(rest))
		if left := d.remaining(); past && left > 0 {
			n = min(n, left)
			d.past(rest[:n])
		} else {
			d.give(rest[:n])
		}
		rest = rest[n:]
	}
	if !d.over() {
		d.give(nil)
	}
}
