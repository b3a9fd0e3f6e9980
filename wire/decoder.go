package wire

import "fmt"

// Decoder cuts a byte stream of protocol 1, what comes behind the preface, into
// frames and pieces of payload. It holds each frame against the rules that don't
// depend on what was sent before it, and leaves the others to its user: that IDs are
// known, that DATA keeps to the announced length and the granted limit.
//
// The zero value is ready, at the start of a stream. A Decoder is not safe for
// concurrent use. It allocates nothing but its one error, and keeps no reference to
// the bytes it is given. What a peer claims in a length costs no memory.
//
// Its states, and what takes it from one to another:
//
//	between --some bytes of a header, or of any other known type's frame--> in a frame
//	between, in a frame --the rest of a header of DATA, Len > 0--> in DATA
//	between, in a frame --the rest of a header of unknown type, Len > 0--> in unknown
//	between, in a frame --the rest of any other frame--> between
//	in DATA, in unknown --the last byte of the payload--> between
//	between, in a frame --the rest of a malformed header or limit--> failed, for ever
//
// Source: docs/PROTOCOL.md, protocol 1.
type Decoder struct {
	at   place
	left int    // in DATA, in unknown: bytes of payload still to come, 1..MaxPayload; else 0
	have int    // in a frame: bytes of buf that are filled; else 0
	off  uint64 // bytes consumed since the start of the stream
	err  *FrameError

	// buf is where what comes in several pieces is gathered: a header, and the body
	// behind it unless that is payload of DATA or unknown. It is also the memory
	// of both once they are handed out, until the next call.
	buf [HeaderLen + MaxControlLen]byte
}

// A place is a state of a Decoder.
type place uint8

const (
	between   place = iota // frames
	inFrame                // in a header, or in a body that is not payload
	inData                 // in the payload of a DATA
	inUnknown              // in the payload of a frame of unknown type
	failed                 // behind a malformed frame's header or body
)

// Next consumes the first n bytes of b and returns what they are:
//
//   - h and body are not nil: a frame of a known type other than DATA, complete. Both
//     alias b if the frame lay in b whole, and the decoder otherwise. They are valid
//     until the next call and for as long as b is. body has no capacity beyond the
//     frame.
//   - h alone is not nil: the header of a DATA frame, or of a frame of unknown type,
//     is complete. It aliases b if it lay in b whole, and the decoder
//     otherwise, and is valid as above. The payload follows, if it has one.
//   - body alone is not nil: a piece of the current DATA frame's payload, n > 0
//     bytes. It aliases b and has no capacity beyond n.
//   - err is not nil: a *[FrameError]. The malformed frame's header is consumed, and
//     the body too if it takes that to tell. Every later call returns the same
//     error, with n = 0.
//   - all are nil: a part of a frame that says nothing yet, or payload of a
//     frame of unknown type. If n == len(b), the decoder needs more bytes.
//
// So n is 0 only if b is empty or the decoder has failed before. A known frame's
// body is never empty, and is long enough for the layout of its type.
func (d *Decoder) Next(b []byte) (h *Header, body []byte, n int, err error) {
	switch {
	case d.at == inData:
		body = d.cut(b)
		return nil, body, len(body), nil
	case d.at == between && len(b) >= HeaderLen:
		if h = ViewHeader(b); h.isData() {
			d.off += HeaderLen
			d.enter(h, inData)
			return h, nil, HeaderLen, nil
		}
	}
	return d.other(b)
}

// enter makes p the decoder's place unless the frame of h has no payload.
func (d *Decoder) enter(h *Header, p place) {
	if d.left = int(h.Len.Get()); d.left > 0 {
		d.at = p
	}
}

// cut consumes what b has of the current payload. It returns nil if b is empty.
func (d *Decoder) cut(b []byte) []byte {
	n := min(d.left, len(b))
	if n == 0 {
		return nil
	}
	d.skip(n)
	return b[:n:n]
}

// skip consumes n bytes of the current payload.
func (d *Decoder) skip(n int) {
	d.off += uint64(n)
	if d.left -= n; d.left == 0 {
		d.at = between
	}
}

// other is Next for all but DATA, and for what does not lie in b whole.
func (d *Decoder) other(b []byte) (h *Header, body []byte, n int, err error) {
	switch d.at {
	case failed:
		return nil, nil, 0, d.err
	case inUnknown:
		n = len(d.cut(b))
		return nil, nil, n, nil
	case between:
		if len(b) < HeaderLen {
			break
		}
		h = ViewHeader(b)
		end, rule := h.extent()
		if len(b) < end {
			break
		}
		d.off += uint64(end)
		return d.deliver(h, b[HeaderLen:end:end], end, rule)
	}
	return d.gather(b)
}

// gather is Next for what does not lie in b whole.
func (d *Decoder) gather(b []byte) (h *Header, body []byte, n int, err error) {
	n = d.fill(b, HeaderLen)
	if d.have >= HeaderLen {
		h = ViewHeader(d.buf[:])
		end, rule := h.extent()
		n += d.fill(b[n:], end)
		if d.have == end {
			d.have, d.at = 0, between
			return d.deliver(h, d.buf[HeaderLen:end:end], n, rule)
		}
	}
	return nil, nil, n, nil
}

// fill consumes what b has of the first end bytes of buf, and returns how much.
func (d *Decoder) fill(b []byte, end int) int {
	n := copy(d.buf[min(d.have, end):end], b)
	if d.have += n; d.have > 0 {
		d.at = inFrame
	}
	d.off += uint64(n)
	return n
}

// extent returns how much of a frame Next hands out at once, in bytes from the
// frame's first, and the rule that h breaks. A malformed frame has an extent of its
// header alone, so that nobody waits for what the rest of it claims to be.
func (h *Header) extent() (end int, rule string) {
	if rule = h.breaks(); rule != "" || h.Type == TypeData || h.Type > TypeGoAway {
		return HeaderLen, rule
	}
	return HeaderLen + int(h.Len.Get()), ""
}

// deliver returns what Next returns for a frame that is there to its extent, the n
// last bytes of which were just consumed. The decoder is between frames.
func (d *Decoder) deliver(h *Header, body []byte, n int, rule string) (*Header, []byte, int, error) {
	flow := false
	if len(body) > 0 && h.Type == TypeWindow && View[WindowBody](body).Limit.Get() > MaxLimit {
		rule, flow = limitRule, true
	}
	switch {
	case rule != "":
		d.at = failed
		d.err = &FrameError{d.off - uint64(HeaderLen+len(body)), *h, rule, flow}
		return nil, nil, n, d.err
	case len(body) > 0:
		return h, body, n, nil
	case h.Type == TypeData:
		d.enter(h, inData)
	default:
		d.enter(h, inUnknown)
	}
	return h, nil, n, nil
}

// Remaining returns how many bytes of the current DATA frame's payload are still to
// come. It is 0 elsewhere.
func (d *Decoder) Remaining() int {
	if d.at != inData {
		return 0
	}
	return d.left
}

// Advance tells the decoder that the next n bytes of the current DATA frame's payload
// went past it, read by the caller straight to where they belong. It panics if n is
// not in 0 to [Decoder.Remaining].
func (d *Decoder) Advance(n int) {
	if left := d.Remaining(); n < 0 || n > left {
		panic(fmt.Sprintf("BUG: wire: advance by %d with %d bytes of payload left", n, left))
	}
	if n > 0 {
		d.skip(n)
	}
}

// Offset returns how many bytes have been consumed since the start of the stream,
// those that [Decoder.Advance] told of included.
func (d *Decoder) Offset() uint64 { return d.off }

// InFrame reports whether the stream stands inside a frame, but not inside the payload
// of a DATA: that is where [Decoder.Remaining] is not 0.
func (d *Decoder) InFrame() bool { return d.at == inFrame || d.at == inUnknown }

// End says what the end of the stream at this point means: nil between frames, a
// *[TruncatedError] in a header, a body or a payload, and the *[FrameError] after
// one. It does not change the decoder.
func (d *Decoder) End() error {
	switch {
	case d.at == failed:
		return d.err
	case d.left > 0:
		return &TruncatedError{Offset: d.off, Missing: d.left}
	case d.have >= HeaderLen:
		end, _ := ViewHeader(d.buf[:]).extent()
		return &TruncatedError{Offset: d.off, Missing: end - d.have}
	case d.have > 0:
		return &TruncatedError{Offset: d.off, InHeader: true, Missing: HeaderLen - d.have}
	}
	return nil
}
