package wire

import (
	"fmt"
	"io"
)

// VTDecoder cuts a vt-muxer byte stream into headers and pieces of payload. It is
// total: every byte stream decodes, and only its end can be wrong ([VTDecoder.End]).
//
// The zero value is ready, at the start of a stream. A VTDecoder is not safe for
// concurrent use. It never allocates and keeps no reference to the bytes it is
// given.
//
// Its states, and what takes it from one to another:
//
//	between frames --1..19 bytes of a header--> in a header
//	between frames, in a header --the rest of it, Len = 0--> between frames
//	between frames, in a header --the rest of it, Len > 0--> in a payload
//	in a payload --the last byte of it--> between frames
//
// Source: docs/PROTOCOL.md, the vt-muxer protocol.
type VTDecoder struct {
	// At most one of left and have is not 0: left in a payload, have in a
	// header.

	left int    // bytes of the current payload still to come, 0..VTMaxPayload
	have int    // bytes of head that are filled, 0..VTHeaderLen-1
	off  uint64 // bytes consumed since the start of the stream

	// head is where a header is gathered that comes in several pieces. It is also
	// the memory of that header once it is handed out, until the next call.
	head [VTHeaderLen]byte
}

// Next consumes the first n bytes of b and returns what they are:
//
//   - h is not nil: a header is complete. It aliases b if it lay in b whole, and
//     the decoder otherwise. It is valid until the next call and for as
//     long as b is. payload is nil.
//   - payload is not nil: a piece of the current frame's payload, n > 0 bytes. It
//     aliases b and has no capacity beyond n.
//   - both are nil: n == len(b), and the decoder needs more bytes.
//
// So n is 0 only if b is empty. Any bytes are valid.
func (d *VTDecoder) Next(b []byte) (h *VTHeader, payload []byte, n int) {
	switch {
	case d.left > 0:
		payload = d.cut(b)
		return nil, payload, len(payload)
	case d.have == 0 && len(b) >= VTHeaderLen:
		h = ViewVTHeader(b)
		d.left = int(h.Len.Get())
		d.off += VTHeaderLen
		return h, nil, VTHeaderLen
	}
	return d.gather(b)
}

// cut consumes what b has of the current payload. It returns nil if b is empty.
func (d *VTDecoder) cut(b []byte) []byte {
	n := min(d.left, len(b))
	if n == 0 {
		return nil
	}
	d.left -= n
	d.off += uint64(n)
	return b[:n:n]
}

// gather is Next for a header that does not lie in b whole.
func (d *VTDecoder) gather(b []byte) (h *VTHeader, payload []byte, n int) {
	n = copy(d.head[d.have:], b)
	d.have += n
	d.off += uint64(n)
	if d.have < VTHeaderLen {
		return nil, nil, n
	}
	h = ViewVTHeader(d.head[:])
	d.have = 0
	d.left = int(h.Len.Get())
	return h, nil, n
}

// Remaining returns how many bytes of the current frame's payload are still to
// come. It is 0 between frames and in a header.
func (d *VTDecoder) Remaining() int { return d.left }

// Advance tells the decoder that the next n bytes of the current payload went past
// it, read by the caller straight to where they belong. It panics if n is not in
// 0 to [VTDecoder.Remaining].
func (d *VTDecoder) Advance(n int) {
	if n < 0 || n > d.left {
		panic(fmt.Sprintf("BUG: wire: advance by %d with %d bytes of payload left", n, d.left))
	}
	d.left -= n
	d.off += uint64(n)
}

// Offset returns how many bytes have been consumed since the start of the stream,
// those that [VTDecoder.Advance] told of included.
func (d *VTDecoder) Offset() uint64 { return d.off }

// InHeader reports whether the stream stands inside a header: 1 to 19 bytes of it
// have been consumed.
func (d *VTDecoder) InHeader() bool { return d.have > 0 }

// End says what the end of the stream at this point means: nil between frames, and
// a *[TruncatedError] in a header or a payload. It does not change the decoder.
func (d *VTDecoder) End() error {
	switch {
	case d.have > 0:
		return &TruncatedError{Offset: d.off, InHeader: true, Missing: VTHeaderLen - d.have}
	case d.left > 0:
		return &TruncatedError{Offset: d.off, Missing: d.left}
	}
	return nil
}

// TruncatedError says that a byte stream ended inside a frame. errors.Is finds
// [io.ErrUnexpectedEOF] in it.
type TruncatedError struct {
	Offset   uint64 // length of the stream in bytes
	InHeader bool   // whether it ended in a header, not in a payload
	Missing  int    // bytes that the header or the payload still lacks
}

func (e *TruncatedError) Error() string {
	part := "payload"
	if e.InHeader {
		part = "header"
	}
	return fmt.Sprintf("wire: stream ended at offset %d, %d bytes before the end of a %s",
		e.Offset, e.Missing, part)
}

// Unwrap returns [io.ErrUnexpectedEOF].
func (e *TruncatedError) Unwrap() error { return io.ErrUnexpectedEOF }
