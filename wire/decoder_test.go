package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// event is a frame of a stream of protocol 1. DATA may be cut off at the stream's end.
type event struct {
	offset int // of the header
	header Header
	body   []byte // what there was of it; nothing where the type is unknown
}

// outcome is what a stream comes to: an error, or an end.
type outcome struct {
	events []event
	bad    *FrameError // without its text
	end    TruncatedError
}

// slowEvents is the reference: it wants the whole stream.
func slowEvents(stream []byte) (o outcome) {
	o.end.Offset = uint64(len(stream))
	for off := 0; off < len(stream); {
		rest := stream[off:]
		if len(rest) < 8 {
			o.end.InHeader, o.end.Missing = true, 8-len(rest)
			return o
		}
		h := slowHeader(rest)
		n := int(binary.BigEndian.Uint16(rest[2:]))
		body := rest[8:min(8+n, len(rest))]
		tooHigh := h.Type == 3 && len(body) >= 8 && binary.BigEndian.Uint64(body)>>63 != 0
		switch {
		case !isAllowed(h):
			o.bad = &FrameError{Offset: uint64(off), Header: h}
			return o
		case tooHigh:
			o.bad = &FrameError{Offset: uint64(off), Header: h, Flow: true}
			return o
		case h.Type == 2 || h.Type < 8 && len(body) == n:
			o.events = append(o.events, event{off, h, body})
		case h.Type >= 8:
			o.events = append(o.events, event{off, h, nil})
		}
		o.end.Missing = n - len(body)
		off += 8 + len(body)
	}
	return o
}

// tracker gives a Decoder a stream in pieces, and checks after each call what the
// documentation promises.
type tracker struct {
	t      testing.TB
	d      Decoder
	fed    int // bytes of the stream so far
	events []event
	err    error
}

// feed gives the decoder b until it has consumed all of it or failed. The memory is
// the decoder's for that time only.
func (tr *tracker) feed(stream []byte) {
	tr.t.Helper()
	lent := bytes.Clone(stream)
	for b, first := lent, true; first || len(b) > 0; first = false {
		n := tr.next(b)
		if tr.err != nil {
			break
		}
		b = b[n:]
	}
	clear(lent)
}

// next calls Next once.
func (tr *tracker) next(b []byte) int {
	tr.t.Helper()
	left, inFrame, skips := tr.d.Remaining(), tr.d.InFrame(), tr.d.at == inUnknown
	h, body, n, err := tr.d.Next(b)
	tr.fed += n
	switch {
	case n < 0 || n > len(b) || n == 0 && len(b) > 0 && tr.err == nil:
		tr.t.Fatalf("consumed %d of %d bytes", n, len(b))
	case tr.d.Offset() != uint64(tr.fed):
		tr.t.Fatalf("offset %d, want %d", tr.d.Offset(), tr.fed)
	case err != nil:
		tr.fail(h, body, n, err)
	case tr.err != nil:
		tr.t.Fatalf("no error after %v", tr.err)
	case h != nil:
		tr.frame(h, body, b, n, inFrame)
	case body != nil:
		tr.payload(body, b, n, left)
	case n != len(b) && !skips:
		tr.t.Fatalf("no event, but only %d of %d bytes consumed", n, len(b))
	}
	return n
}

func (tr *tracker) fail(h *Header, body []byte, n int, err error) {
	tr.t.Helper()
	if h != nil || body != nil {
		tr.t.Fatalf("%v and %d bytes besides %v", h, len(body), err)
	}
	if tr.err != nil && (err != tr.err || n != 0) {
		tr.t.Fatalf("%v after %v, %d bytes consumed", err, tr.err, n)
	}
	if tr.d.Remaining() != 0 || tr.d.InFrame() || tr.d.End() != err {
		tr.t.Fatalf("after %v: %d remain, in a frame: %v, end %v", err, tr.d.Remaining(), tr.d.InFrame(), tr.d.End())
	}
	tr.err = err
}

func (tr *tracker) frame(h *Header, body, b []byte, n int, inFrame bool) {
	tr.t.Helper()
	if aliases := &h.Bytes()[0] == &b[0]; aliases == inFrame {
		tr.t.Fatalf("header aliases the bytes given: %v; part of it came before: %v", aliases, inFrame)
	}
	control := h.Type != TypeData && h.Type < 8
	switch {
	case !control && (body != nil || !inFrame && n != HeaderLen):
		tr.t.Fatalf("%v with a body of %d bytes, %d consumed", h, len(body), n)
	case control && (len(body) != int(h.Len.Get()) || cap(body) != len(body)):
		tr.t.Fatalf("%v with a body of length %d and capacity %d", h, len(body), cap(body))
	case control && !inFrame && (n != HeaderLen+len(body) || &body[0] != &b[HeaderLen]):
		tr.t.Fatalf("%v lay in the bytes given whole, %d were consumed", h, n)
	case h.Type == TypeData && tr.d.Remaining() != int(h.Len.Get()) || h.Type != TypeData && tr.d.Remaining() != 0:
		tr.t.Fatalf("after %v: %d remain", h, tr.d.Remaining())
	case tr.d.InFrame() != (h.Type >= 8 && h.Len.Get() > 0):
		tr.t.Fatalf("after %v in a frame: %v", h, tr.d.InFrame())
	}
	tr.events = append(tr.events, event{tr.fed - HeaderLen - len(body), *h, bytes.Clone(body)})
}

func (tr *tracker) payload(p, b []byte, n, left int) {
	tr.t.Helper()
	if len(p) != n || cap(p) != n || n == 0 || &p[0] != &b[0] {
		tr.t.Fatalf("payload has length %d and capacity %d with %d bytes consumed", len(p), cap(p), n)
	}
	if n != min(left, len(b)) || tr.d.Remaining() != left-n {
		tr.t.Fatalf("payload of %d bytes where %d of %d were there; %d remain", n, len(b), left, tr.d.Remaining())
	}
	last := &tr.events[len(tr.events)-1]
	last.body = append(last.body, p...)
}

// advance gives the frame the first n bytes of b past the decoder.
func (tr *tracker) advance(b []byte, n int) {
	tr.t.Helper()
	last := &tr.events[len(tr.events)-1]
	last.body = append(last.body, b[:n]...)
	tr.d.Advance(n)
	tr.fed += n
	if tr.d.Offset() != uint64(tr.fed) {
		tr.t.Fatalf("offset %d after Advance, want %d", tr.d.Offset(), tr.fed)
	}
}

// check compares what was decoded with what the stream should come to.
func (tr *tracker) check(want outcome) {
	tr.t.Helper()
	if len(tr.events) != len(want.events) {
		tr.t.Fatalf("%d events, want %d; %v", len(tr.events), len(want.events), tr.err)
	}
	for i, g := range tr.events {
		w := want.events[i]
		if g.offset != w.offset || g.header != w.header || !bytes.Equal(g.body, w.body) {
			tr.t.Fatalf("event %d: @%d %v %d bytes, want @%d %v %d bytes", i,
				g.offset, g.header, len(g.body), w.offset, w.header, len(w.body))
		}
	}
	if want.bad != nil {
		tr.checkBad(*want.bad)
		return
	}
	err := tr.d.End()
	if tr.err != nil || (tr.d.InFrame() || tr.d.Remaining() > 0) != (want.end.Missing > 0) {
		tr.t.Fatalf("%v, in a frame: %v, %d remain, want %+v", tr.err, tr.d.InFrame(), tr.d.Remaining(), want.end)
	}
	if want.end.Missing == 0 {
		if err != nil {
			tr.t.Fatalf("End between frames: %v", err)
		}
		return
	}
	var te *TruncatedError
	if !errors.As(err, &te) || *te != want.end {
		tr.t.Fatalf("End: %+v, want %+v", err, want.end)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		tr.t.Fatalf("End: %v is not io.ErrUnexpectedEOF alone", err)
	}
}

func (tr *tracker) checkBad(want FrameError) {
	tr.t.Helper()
	var fe *FrameError
	if !errors.As(tr.err, &fe) {
		tr.t.Fatalf("error %v, want %+v", tr.err, want)
	}
	got := *fe
	if got.Rule == "" {
		tr.t.Fatalf("error %+v without a rule", got)
	}
	if got.Rule = ""; got != want {
		tr.t.Fatalf("error %+v, want %+v", got, want)
	}
	// How much is consumed does not depend on how it came.
	consumed := got.Offset + HeaderLen
	if got.Flow {
		consumed += WindowBodyLen
	}
	if tr.d.Offset() != consumed {
		tr.t.Fatalf("%v: %d bytes consumed, want %d", fe, tr.d.Offset(), consumed)
	}
	tr.next([]byte("more"))
	tr.next(nil)
}

// everyFrame is a stream with all vectors, beside each other and beside what is
// between them by its length or its type.
func everyFrame(t testing.TB) (s []byte) {
	for _, v := range vectors(t) {
		if v.name != "preface" {
			s = append(s, v.bytes...)
		}
	}
	for _, n := range []int{0, 1, 0, 7, 8, 9} {
		s = append(s, rawFrame(TypeData, FlagYours, 1<<32-1, pattern(n))...)
		s = append(s, rawFrame(FrameType(8+n*27), Flags(n*50), ID(n*99), pattern(n))...)
	}
	s = append(s, rawFrame(TypeWindow, 0, 1, []byte{0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})...)
	return append(s, rawFrame(TypePing, 0, 0, pattern(8))...)
}

func TestNextAtEverySplit(t *testing.T) {
	s := everyFrame(t)
	want := slowEvents(s)
	for i := range len(s) + 1 {
		for j := i; j <= len(s); j++ {
			tr := tracker{t: t}
			tr.feed(s[:i])
			tr.feed(s[i:j])
			tr.feed(s[j:])
			tr.check(want)
		}
	}
}

func TestNextOneByteAtATime(t *testing.T) {
	s := everyFrame(t)
	s = append(s, rawFrame(TypeOpen, 0, 5, pattern(MaxControlLen))...)
	s = append(s, rawFrame(TypeReset, FlagYours|FlagRefused, 5, pattern(CodeBodyLen+MaxText))...)
	s = append(s, rawFrame(TypeGoAway, 0, 0, pattern(GoAwayBodyLen+MaxText))...)
	tr := tracker{t: t}
	for i := range s {
		tr.check(slowEvents(s[:i]))
		tr.feed(s[i : i+1])
	}
	tr.check(slowEvents(s))
}

func TestDecoderEndOfEveryPrefix(t *testing.T) {
	s := everyFrame(t)
	for i := range len(s) + 1 {
		tr := tracker{t: t}
		tr.feed(s[:i])
		tr.check(slowEvents(s[:i]))
	}
}

func TestTheDecoderStaysAtAMalformedFrame(t *testing.T) {
	front := everyFrame(t)
	for _, bad := range [][]byte{
		make([]byte, 100), // zeros
		rawFrame(TypeOpen, 0, 1, pattern(MaxControlLen+1)),
		rawFrame(TypeData, FlagAck, 1, pattern(100)),
		rawFrame(TypeWindow, 0, 0, pattern(8)),
		rawFrame(TypeWindow, FlagYours, 1, bytes.Repeat([]byte{0xff}, 8)),
		rawFrame(TypePing, FlagYours, 0, pattern(8)),
	} {
		// In a few bytes before, in, and behind the frame.
		s := append(append(bytes.Clone(front), bad...), front...)
		want := slowEvents(s)
		if want.bad == nil {
			t.Fatalf("%x is not malformed", bad)
		}
		for i := len(front) - 2; i < len(front)+20; i++ {
			for j := i; j < len(front)+20; j++ {
				tr := tracker{t: t}
				tr.feed(s[:i])
				tr.feed(s[i:j])
				tr.feed(s[j:])
				tr.check(want)
			}
		}
	}
}

// What a header claims is not waited for if the header is malformed.
func TestAMalformedHeaderFailsBeforeItsBody(t *testing.T) {
	for _, whole := range []bool{true, false} {
		tr := tracker{t: t}
		h := rawFrame(TypePing, 0, 0, pattern(9))[:HeaderLen]
		if !whole {
			tr.feed(h[:3])
			h = h[3:]
		}
		tr.feed(h)
		if tr.err == nil {
			t.Errorf("no error at the end of the header, which came whole: %v", whole)
		}
	}
}

func TestNextOfRandomStreamsInRandomPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		var s []byte
		for range rng.IntN(60) {
			s = append(s, randomFrame(rng)...)
		}
		s = s[:len(s)-rng.IntN(len(s)+1)/8]
		tr := tracker{t: t}
		for rest := s; len(rest) > 0 && tr.err == nil; {
			n := min(len(rest), 1+rng.IntN(1<<rng.IntN(18)))
			if rng.IntN(4) == 0 && tr.d.Remaining() > 0 {
				n = min(n, tr.d.Remaining())
				tr.advance(rest, n)
			} else {
				tr.feed(rest[:n])
			}
			rest = rest[n:]
		}
		tr.check(slowEvents(s))
	}
}

// randomFrame returns a frame that is allowed, but for one in some hundred.
func randomFrame(rng *rand.Rand) []byte {
	if rng.IntN(4) == 0 {
		return rawFrame(FrameType(8+rng.IntN(248)), Flags(rng.Uint32()), ID(rng.Uint32()), pattern(rng.IntN(300)))
	}
	a := allowed[rng.IntN(len(allowed))]
	body := pattern(a.min + rng.IntN(1+min(a.max-a.min, 1<<rng.IntN(17))))
	if a.t == TypeWindow {
		body[0] = byte(rng.IntN(140))
	}
	id := ID(rng.Uint32() | 1)
	if a.session {
		id = 0
	}
	return rawFrame(a.t, a.flags, id, body)
}

func TestNextOfNoBytesIsNoEvent(t *testing.T) {
	var d Decoder
	s := everyFrame(t)
	for i := range s {
		for _, b := range [][]byte{nil, {}, s[i:i]} {
			if h, p, n, err := d.Next(b); h != nil || p != nil || n != 0 || err != nil {
				t.Fatalf("at offset %d: %v, %v, %d, %v", i, h, p, n, err)
			}
		}
		d.Next(s[i : i+1])
	}
}

func TestDecoderAdvanceTakesTheRestOfAPayload(t *testing.T) {
	tr := tracker{t: t}
	s := append(rawFrame(TypeData, 0, 1, pattern(100)), rawFrame(TypeData, FlagFin, 1, pattern(3))...)
	tr.feed(s[:18])
	tr.advance(s[18:], 0)
	tr.advance(s[18:], 50)
	tr.feed(s[68:78])
	tr.advance(s[78:], 30)
	tr.feed(s[108:])
	tr.check(slowEvents(s))
}

func TestDecoderAdvanceBeyondThePayloadPanics(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    []byte
		left int
	}{
		{"between frames", nil, 0},
		{"in DATA", rawFrame(TypeData, 0, 1, pattern(9))[:12], 5},
		{"in a header", rawFrame(TypeData, 0, 1, pattern(9))[:4], 0},
		{"in a body", rawFrame(TypePing, 0, 0, pattern(8))[:12], 0},
		{"in an unknown frame", rawFrame(8, 0, 1, pattern(8))[:12], 0},
		{"after an error", make([]byte, 8), 0},
	} {
		tr := tracker{t: t}
		tr.feed(tt.s)
		for _, n := range []int{-1, tt.left + 1} {
			func() {
				defer func() {
					want := fmt.Sprintf("BUG: wire: advance by %d with %d bytes of payload left", n, tt.left)
					if r := recover(); r != want {
						t.Errorf("%s: panic %v, want %s", tt.name, r, want)
					}
				}()
				tr.d.Advance(n)
			}()
		}
		tr.d.Advance(0)
		if tr.d.Remaining() != tt.left || tr.d.Offset() != uint64(len(tt.s)) {
			t.Errorf("%s: after the panics %d remain at offset %d", tt.name, tr.d.Remaining(), tr.d.Offset())
		}
	}
}
