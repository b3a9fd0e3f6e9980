package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// A vtReader gives a wire.VTDecoder a stream in pieces, and checks after each call what
// its documentation promises.
type vtReader struct {
	t      *testing.T
	d      wire.VTDecoder
	fed    int
	again  []byte // the stream, encoded again from what was decoded
	frames []plainFrame
	lent   []byte // the memory that pieces are lent in
}

// give gives the decoder a piece. The memory is the decoder's for that time only.
func (r *vtReader) give(piece []byte) {
	r.lent = append(r.lent[:0], piece...)
	b := r.lent
	for first := true; first || len(b) > 0; first = false {
		left, inHeader := r.d.Remaining(), r.d.InHeader()
		h, p, n := r.d.Next(b)
		r.fed += n
		switch {
		case n < 0 || n > len(b) || n == 0 && len(b) > 0 || h != nil && p != nil:
			r.t.Fatalf("Next consumed %d of %d bytes; header %v, %d bytes of payload", n, len(b), h, len(p))
		case r.d.Offset() != uint64(r.fed):
			r.t.Fatalf("Offset is %d, want %d", r.d.Offset(), r.fed)
		case h != nil:
			if (&h.Bytes()[0] == &b[0]) == inHeader || int(h.Len.Get()) != r.d.Remaining() || r.d.InHeader() {
				r.t.Fatalf("header %v: part of it came before: %v, %d remain", h, inHeader, r.d.Remaining())
			}
			r.header(h)
		case p != nil:
			if n != min(left, len(b)) || len(p) != n || cap(p) != n || &p[0] != &b[0] || r.d.Remaining() != left-n {
				r.t.Fatalf("payload of %d bytes, capacity %d, with %d consumed; %d of %d remain", len(p), cap(p), n, r.d.Remaining(), left)
			}
			r.payload(p)
		case n != len(b):
			r.t.Fatalf("no event, with %d of %d bytes consumed", n, len(b))
		}
		b = b[n:]
	}
	for i := range r.lent {
		r.lent[i] ^= 0xa5
	}
}

// past lets a piece of a payload go past the decoder.
func (r *vtReader) past(piece []byte) {
	r.payload(piece)
	r.d.Advance(len(piece))
	if r.fed += len(piece); r.d.Offset() != uint64(r.fed) {
		r.t.Fatalf("Offset is %d after Advance, want %d", r.d.Offset(), r.fed)
	}
}

func (r *vtReader) header(h *wire.VTHeader) {
	ip := h.Addr.IP().As16()
	r.frames = append(r.frames, plainFrame{
		offset: r.fed - wire.VTHeaderLen, ip: string(ip[:]), port: int(h.Addr.Port()), length: int(h.Len.Get()),
	})
	var b [wire.VTHeaderLen]byte
	wire.PutVTHeader(b[:], addr.SocketAddrFrom(addr.IPAddrFrom16(ip), h.Addr.Port()), int(h.Len.Get()))
	r.again = append(r.again, b[:]...)
}

func (r *vtReader) payload(p []byte) {
	last := &r.frames[len(r.frames)-1]
	last.body += string(p)
	r.again = append(r.again, p...)
}

func (r *vtReader) remaining() int { return r.d.Remaining() }
func (r *vtReader) over() bool     { return false }

// check compares what was decoded with what a plain decoder makes of the stream.
func (r *vtReader) check(stream []byte, want []plainFrame, end plainEnd) {
	sameFrames(r.t, r.frames, want)
	if !bytes.Equal(r.again, stream[:end.shown]) {
		r.t.Fatalf("encoded again it is %x", r.again)
	}
	if r.d.InHeader() != end.inHeader || !end.inHeader && r.d.Remaining() != end.missing {
		r.t.Fatalf("in a header: %v, %d remain; want %+v", r.d.InHeader(), r.d.Remaining(), end)
	}
	sameEnd(r.t, r.d.End(), len(stream), end)
}

func sameFrames(t *testing.T, got, want []plainFrame) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("frame %d is %v, want %v, or their payloads differ", i, got[i], want[i])
		}
	}
}

// sameEnd compares what End says with how a stream of so many bytes should end.
func sameEnd(t *testing.T, err error, size int, want plainEnd) {
	t.Helper()
	if want.missing == 0 {
		if err != nil {
			t.Fatalf("End between two frames is %v", err)
		}
		return
	}
	var te *wire.TruncatedError
	if !errors.As(err, &te) || *te != (wire.TruncatedError{Offset: uint64(size), InHeader: want.inHeader, Missing: want.missing}) {
		t.Fatalf("End is %+v, want %+v after %d bytes", err, want, size)
	}
	if text := err.Error(); !strings.Contains(text, "header") && want.inHeader || !strings.Contains(text, fmt.Sprint(want.missing)) {
		t.Fatalf("End says %q of %+v", text, want)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Fatalf("End is %v, which is not io.ErrUnexpectedEOF alone", err)
	}
}

// FuzzDecodeVT decodes any bytes in any pieces. How they are cut must change nothing.
func FuzzDecodeVT(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		want, end := plainVT(stream)
		for _, c := range [][]byte{cuts, nil} {
			r := vtReader{t: t}
			k := knife{cuts: c}
			k.cut(stream, &r)
			r.check(stream, want, end)
		}
	})
}
