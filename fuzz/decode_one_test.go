package fuzz

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// A oneReader gives a wire.Decoder the frames of a stream in pieces, and checks after
// each call what its documentation promises.
type oneReader struct {
	t      *testing.T
	d      wire.Decoder
	fed    int
	again  []byte // the stream, encoded again from what was decoded
	skips  int    // bytes of frames of unknown types, which nobody is shown
	frames []plainFrame
	err    error
	lent   []byte // the memory that pieces are lent in
}

// give gives the decoder a piece. The memory is the decoder's for that time only.
func (r *oneReader) give(piece []byte) {
	r.lent = append(r.lent[:0], piece...)
	b := r.lent
	for first := true; r.err == nil && (first || len(b) > 0); first = false {
		b = b[r.next(b):]
	}
	for i := range r.lent {
		r.lent[i] ^= 0xa5
	}
}

// next calls Next once, and returns how much it has consumed.
func (r *oneReader) next(b []byte) int {
	left, inFrame, skips := r.d.Remaining(), r.d.InFrame(), r.skips
	h, body, n, err := r.d.Next(b)
	r.fed += n
	switch {
	case n < 0 || n > len(b) || n == 0 && len(b) > 0:
		r.t.Fatalf("Next consumed %d of %d bytes", n, len(b))
	case r.d.Offset() != uint64(r.fed):
		r.t.Fatalf("Offset is %d, want %d", r.d.Offset(), r.fed)
	case err != nil:
		r.failed(h, body, err)
	case h != nil:
		if aliases := &h.Bytes()[0] == &b[0]; aliases == inFrame {
			r.t.Fatalf("header %v aliases the piece: %v; part of it came before: %v", h, aliases, inFrame)
		}
		if body != nil && (cap(body) != len(body) || !inFrame && (n != wire.HeaderLen+len(body) || &body[0] != &b[wire.HeaderLen])) {
			r.t.Fatalf("body of %d bytes, capacity %d, with %d consumed", len(body), cap(body), n)
		}
		r.frame(h, body)
	case body != nil:
		if n != min(left, len(b)) || len(body) != n || cap(body) != n || &body[0] != &b[0] || r.d.Remaining() != left-n {
			r.t.Fatalf("payload of %d bytes, capacity %d, with %d consumed; %d of %d remain", len(body), cap(body), n, r.d.Remaining(), left)
		}
		r.payload(body)
	case skips > 0: // the piece may have more behind the payload
		r.skips -= n
		r.again = append(r.again, b[:n]...)
	case n != len(b):
		r.t.Fatalf("no event, with %d of %d bytes consumed", n, len(b))
	}
	if r.d.InFrame() != (r.skips > 0 || r.err == nil && h == nil && body == nil && skips == 0 && (n > 0 || inFrame)) {
		r.t.Fatalf("InFrame is %v, with %d bytes to skip", r.d.InFrame(), r.skips)
	}
	return n
}

func (r *oneReader) failed(h *wire.Header, body []byte, err error) {
	if h != nil || body != nil || r.d.Remaining() != 0 || r.d.End() != err {
		r.t.Fatalf("with %v: header %v, %d bytes, %d remain, End is %v", err, h, len(body), r.d.Remaining(), r.d.End())
	}
	r.err = err
	if h, p, n, again := r.d.Next([]byte("more")); h != nil || p != nil || n != 0 || again != err {
		r.t.Fatalf("after %v: %v, %d bytes, %d consumed, %v", err, h, len(p), n, again)
	}
}

// past lets a piece of a payload go past the decoder.
func (r *oneReader) past(piece []byte) {
	r.payload(piece)
	r.d.Advance(len(piece))
	if r.fed += len(piece); r.d.Offset() != uint64(r.fed) {
		r.t.Fatalf("Offset is %d after Advance, want %d", r.d.Offset(), r.fed)
	}
}

func (r *oneReader) payload(p []byte) {
	last := &r.frames[len(r.frames)-1]
	last.body += string(p)
	r.again = append(r.again, p...)
}

func (r *oneReader) frame(h *wire.Header, body []byte) {
	f := plainFrame{
		offset: r.fed - wire.HeaderLen - len(body), typ: int(h.Type), flags: int(h.Flags),
		length: int(h.Len.Get()), id: h.ID.Get(), body: string(body),
	}
	control := h.Type != wire.TypeData && h.Type <= wire.TypeGoAway
	if control && len(body) != f.length || !control && body != nil || (h.Type == wire.TypeData) != (r.d.Remaining() > 0) && f.length > 0 {
		r.t.Fatalf("%v with a body of %d bytes; %d remain", h, len(body), r.d.Remaining())
	}
	if !strings.Contains(h.String(), h.Type.String()) {
		r.t.Fatalf("%v does not tell its type", h)
	}
	if !control && h.Type != wire.TypeData {
		r.skips = f.length
	}
	r.frames = append(r.frames, f)
	r.again = r.put(r.again, h, body)
}

// put encodes a frame from what its layout shows.
func (r *oneReader) put(to []byte, h *wire.Header, body []byte) []byte {
	b := make([]byte, wire.HeaderLen+wire.MaxControlLen)
	id, n := wire.ID(h.ID.Get()), 0
	switch h.Type {
	case wire.TypeOpen:
		a := wire.View[wire.OpenBody](body).Addr
		n = wire.PutOpen(b, id, addr.SocketAddrFrom(a.IP(), a.Port()), body[wire.OpenBodyLen:])
	case wire.TypeData:
		n = wire.PutDataHeader(b, h.Flags, id, int(h.Len.Get()))
	case wire.TypeWindow:
		n = wire.PutWindow(b, h.Flags, id, wire.View[wire.WindowBody](body).Limit.Get())
	case wire.TypeReset:
		code := wire.View[wire.CodeBody](body).Code.Get()
		if h.Flags&wire.FlagRefused != 0 {
			n = wire.PutRefused(b, id, code, string(body[wire.CodeBodyLen:]))
		} else {
			n = wire.PutReset(b, h.Flags, id, code)
		}
	case wire.TypeStop:
		n = wire.PutStop(b, h.Flags, id, wire.View[wire.CodeBody](body).Code.Get())
	case wire.TypePing:
		n = wire.PutPing(b, h.Flags&wire.FlagAck != 0, wire.View[wire.PingBody](body).Opaque)
	case wire.TypeGoAway:
		g := wire.View[wire.GoAwayBody](body)
		n = wire.PutGoAway(b, wire.ID(g.LastID.Get()), g.Code.Get(), string(body[wire.GoAwayBodyLen:]))
	default:
		n = wire.PutHeader(b, h.Type, h.Flags, int(h.Len.Get()), id)
	}
	return append(to, b[:n]...)
}

func (r *oneReader) remaining() int { return r.d.Remaining() }
func (r *oneReader) over() bool     { return r.err != nil }

// check compares what was decoded with what a plain decoder makes of the stream.
func (r *oneReader) check(stream []byte) {
	want, bad, end := plainOne(stream)
	sameFrames(r.t, r.frames, want)
	if !bytes.Equal(r.again, stream[:end.shown]) {
		r.t.Fatalf("encoded again it is %x", r.again)
	}
	if bad != nil {
		r.checkBad(*bad)
		return
	}
	if r.err != nil {
		r.t.Fatalf("the error is %v, want none", r.err)
	}
	sameEnd(r.t, r.d.End(), len(stream), end)
}

func (r *oneReader) checkBad(want plainBad) {
	var fe *wire.FrameError
	if !errors.As(r.err, &fe) {
		r.t.Fatalf("the error is %v, want %v", r.err, want.frame)
	}
	f := want.frame
	h := fe.Header
	if fe.Offset != uint64(f.offset) || int(h.Type) != f.typ || int(h.Flags) != f.flags || int(h.Len.Get()) != f.length || h.ID.Get() != f.id || fe.Flow != want.flow {
		r.t.Fatalf("the error is %+v, want %v, of flow control: %v", fe, f, want.flow)
	}
	if fe.Rule == "" || !strings.Contains(fe.Error(), fe.Rule) {
		r.t.Fatalf("the error %q does not tell the rule %q", fe, fe.Rule)
	}
	// How much is consumed does not depend on how it came.
	consumed := fe.Offset + wire.HeaderLen
	if want.flow {
		consumed += wire.WindowBodyLen
	}
	if r.d.Offset() != consumed {
		r.t.Fatalf("%d bytes are consumed at %v, want %d", r.d.Offset(), fe, consumed)
	}
}

// A prefaceReader takes the preface of a stream as a session does.
type prefaceReader struct {
	t        *testing.T
	d        wire.VTDecoder
	begun    bool // the header has come
	none     bool // it is vt-muxer's
	settings wire.Settings
	body     []byte
	done     bool // all of it has come
	err      error
}

// give takes what it needs of a piece, and returns the rest.
func (p *prefaceReader) give(b []byte) (rest []byte) {
	for len(b) > 0 && !p.none && !p.done && p.err == nil {
		h, payload, n := p.d.Next(b)
		b = b[n:]
		switch {
		case h != nil && !wire.IsPreface(h):
			p.none = true
		case h != nil:
			n, err := wire.PrefaceBodyLen(h)
			if p.begun, p.err = true, err; err == nil && n != int(h.Len.Get()) {
				p.t.Fatalf("the body of %v has %d bytes", h, n)
			}
		case payload != nil:
			p.body = append(p.body, payload...)
			if got, want := wire.HasMagic(p.body), bytes.HasPrefix(p.body, []byte("vtmux\n")); got != want {
				p.t.Fatalf("HasMagic of %q is %v", p.body, got)
			}
			if p.d.Remaining() == 0 {
				p.settings, p.err = wire.ParsePreface(p.body)
				p.done = p.err == nil
			}
		}
	}
	return b
}

// check compares what was taken with what a plain decoder makes of the stream.
func (p *prefaceReader) check(stream []byte, want plainPreface) {
	var pe *wire.PrefaceError
	switch {
	case want.none != p.none || (len(want.wrong) > 0) != (p.err != nil) || !want.none && p.err == nil && (want.missing == 0) != p.done:
		p.t.Fatalf("no preface: %v, whole: %v, %v; want %+v", p.none, p.done, p.err, want)
	case p.err != nil && (!errors.As(p.err, &pe) || !want.wrong[pe.Field] || want.wrong["magic"] && pe.Field != "magic"):
		p.t.Fatalf("the error is %v, want one of %v", p.err, want.wrong)
	case p.err != nil && !strings.Contains(p.err.Error(), pe.Field):
		p.t.Fatalf("the error %q does not tell the field %q", p.err, pe.Field)
	case p.done:
		s := wire.Settings{Version: uint16(want.version), InitialWindow: want.window, MaxConns: want.conns, MaxPayload: uint16(want.payload), KeepAlive: want.keepAlive}
		if p.settings != s {
			p.t.Fatalf("it announces %+v, want %+v", p.settings, s)
		}
		b := make([]byte, wire.PrefaceFrameLen)
		wire.PutPreface(b, p.settings)
		// What is unknown is not sent on: other lengths, the reserved field.
		same := bytes.Clone(stream[:wire.PrefaceFrameLen])
		same[18], same[19], same[38], same[39] = 0, wire.PrefaceLen, 0, 0
		if !bytes.Equal(b, same) {
			p.t.Fatalf("encoded again it is %x", b)
		}
	}
}

// decodeOne decodes a stream of protocol 1, or its frames alone.
func decodeOne(t *testing.T, prefaced bool, stream, cuts []byte) {
	k := knife{cuts: cuts}
	r := oneReader{t: t}
	if prefaced {
		want := plainParsePreface(stream)
		p := prefaceReader{t: t}
		rest := stream
		for len(rest) > 0 && !p.none && !p.done && p.err == nil {
			n, _ := k.next(len(rest))
			left := p.give(bytes.Clone(rest[:n]))
			rest = rest[n-len(left):]
		}
		p.check(stream, want)
		if !p.done {
			return
		}
		if len(stream)-len(rest) != want.size {
			t.Fatalf("the preface has %d bytes, %d were taken", want.size, len(stream)-len(rest))
		}
		stream = rest
	}
	k.cut(stream, &r)
	r.check(stream)
}

// FuzzDecode1 decodes any bytes in any pieces, behind a preface or without. How they
// are cut must change nothing.
func FuzzDecode1(f *testing.F) {
	f.Fuzz(func(t *testing.T, prefaced bool, stream, cuts []byte) {
		decodeOne(t, prefaced, stream, cuts)
		decodeOne(t, prefaced, stream, nil)
	})
}
