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
