package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/vtmux/vtmux/addr"
)

// frame is a frame of a stream, whole or cut off at the end of the stream.
type frame struct {
	offset  int // of the header
	header  VTHeader
	payload []byte // what there was of it
}

// slowDecode is the reference: it wants the whole stream. It returns the frames with a
// complete header, and how the stream ends.
func slowDecode(stream []byte) (frames []frame, end TruncatedError) {
	end.Offset = uint64(len(stream))
	for off := 0; off < len(stream); {
		rest := stream[off:]
		if len(rest) < 20 {
			end.InHeader, end.Missing = true, 20-len(rest)
			return frames, end
		}
		n := int(binary.BigEndian.Uint16(rest[18:]))
		have := min(n, len(rest)-20)
		frames = append(frames, frame{off, slowVTHeader(rest), rest[20 : 20+have]})
		end.Missing = n - have
		off += 20 + have
	}
	return frames, end
}

// feeder gives a VTDecoder a stream in pieces, and checks after each call what the
// documentation promises.
type feeder struct {
	t      testing.TB
	d      VTDecoder
	fed    int // bytes of the stream so far
	frames []frame
}

// feed gives the decoder b until it has consumed all of it.
func (f *feeder) feed(b []byte) {
	f.t.Helper()
	for first := true; first || len(b) > 0; first = false {
		left, inHeader := f.d.Remaining(), f.d.InHeader()
		h, payload, n := f.d.Next(b)
		f.fed += n
		switch {
		case n < 0 || n > len(b) || n == 0 && len(b) > 0:
			f.t.Fatalf("consumed %d of %d bytes", n, len(b))
		case h != nil && payload != nil:
			f.t.Fatal("a header and a payload at once")
		case h != nil:
			f.header(h, b, n, inHeader)
		case payload != nil:
			f.payload(payload, b, n, left)
		case n != len(b):
			f.t.Fatalf("no event, but only %d of %d bytes consumed", n, len(b))
		}
		if f.d.Offset() != uint64(f.fed) {
			f.t.Fatalf("offset %d, want %d", f.d.Offset(), f.fed)
		}
		b = b[n:]
	}
}

func (f *feeder) header(h *VTHeader, b []byte, n int, inHeader bool) {
	f.t.Helper()
	if aliases := &h.Bytes()[0] == &b[0]; aliases == inHeader {
		f.t.Fatalf("header aliases the bytes given: %v; part of it came before: %v", aliases, inHeader)
	}
	if int(h.Len.Get()) != f.d.Remaining() || f.d.InHeader() {
		f.t.Fatalf("after a header with length %d: %d remain, in header: %v", h.Len.Get(), f.d.Remaining(), f.d.InHeader())
	}
	f.frames = append(f.frames, frame{offset: f.fed - VTHeaderLen, header: *h})
}

func (f *feeder) payload(p, b []byte, n, left int) {
	f.t.Helper()
	if len(p) != n || cap(p) != n || n == 0 || &p[0] != &b[0] {
		f.t.Fatalf("payload has length %d and capacity %d with %d bytes consumed", len(p), cap(p), n)
	}
	if n != min(left, len(b)) || f.d.Remaining() != left-n {
		f.t.Fatalf("payload of %d bytes where %d of %d were there; %d remain", n, len(b), left, f.d.Remaining())
	}
	last := &f.frames[len(f.frames)-1]
	last.payload = append(last.payload, p...)
}

// advance gives the frame the first n bytes of b past the decoder.
func (f *feeder) advance(b []byte, n int) {
	f.t.Helper()
	last := &f.frames[len(f.frames)-1]
	last.payload = append(last.payload, b[:n]...)
	f.d.Advance(n)
	f.fed += n
	if f.d.Offset() != uint64(f.fed) {
		f.t.Fatalf("offset %d after Advance, want %d", f.d.Offset(), f.fed)
	}
}

// check compares what was decoded with what the reference makes of the stream.
func (f *feeder) check(stream []byte) {
	f.t.Helper()
	want, end := slowDecode(stream)
	if err := diffFrames(f.frames, want); err != nil {
		f.t.Fatal(err)
	}
	checkEnd(f.t, &f.d, end)
}

func diffFrames(got, want []frame) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d frames, want %d", len(got), len(want))
	}
	for i, g := range got {
		w := want[i]
		if g.offset != w.offset || g.header != w.header || !bytes.Equal(g.payload, w.payload) {
			return fmt.Errorf("frame %d: @%d %v %d bytes, want @%d %v %d bytes", i,
				g.offset, g.header, len(g.payload), w.offset, w.header, len(w.payload))
		}
	}
	return nil
}

func checkEnd(t testing.TB, d *VTDecoder, want TruncatedError) {
	t.Helper()
	err := d.End()
	if want.Missing == 0 {
		if err != nil || d.Remaining() != 0 || d.InHeader() {
			t.Fatalf("End between frames: %v, %d remain, in header: %v", err, d.Remaining(), d.InHeader())
		}
		return
	}
	var te *TruncatedError
	if !errors.As(err, &te) || *te != want {
		t.Fatalf("End: %+v, want %+v", err, want)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Fatalf("End: %v is not io.ErrUnexpectedEOF alone", err)
	}
}

// sampleStream has frames with every kind of length beside every other.
func sampleStream() []byte {
	a := addr.MustParseSocketAddr("192.0.2.1:8080")
	b := addr.MustParseSocketAddr("[2001:db8::1]:443")
	var s []byte
	for _, n := range []int{0, 0, 1, 0, 19, 20, 21, 1, 1, 0, 45} {
		s = append(s, slowFrame(a, pattern(n))...)
		a, b = b, a
	}
	return s
}

func TestDecodeAtEverySplit(t *testing.T) {
	s := sampleStream()
	for i := range len(s) + 1 {
		for j := i; j <= len(s); j++ {
			f := feeder{t: t}
			f.feed(s[:i])
			f.feed(s[i:j])
			f.feed(s[j:])
			f.check(s)
		}
	}
}

func TestDecodeOneByteAtATime(t *testing.T) {
	s := sampleStream()
	f := feeder{t: t}
	for i := range s {
		f.check(s[:i])
		f.feed(s[i : i+1])
	}
	f.check(s)
}

func TestEndOfEveryPrefix(t *testing.T) {
	s := sampleStream()
	for i := range len(s) + 1 {
		f := feeder{t: t}
		f.feed(s[:i])
		f.check(s[:i])
	}
}

func TestDecodeRandomStreamsInRandomPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		var s []byte
		for range rng.IntN(40) {
			n := 0
			switch rng.IntN(4) {
			case 0:
				n = rng.IntN(50)
			case 1:
				n = rng.IntN(3000)
			case 2:
				n = VTMaxPayload - rng.IntN(2)
			}
			a := addr.SocketAddrFrom(addr.IPAddrFrom4([4]byte{byte(rng.Uint32())}), uint16(rng.Uint32()))
			s = append(s, slowFrame(a, pattern(n))...)
		}
		s = s[:len(s)-rng.IntN(len(s)+1)/8]
		f := feeder{t: t}
		for rest := s; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(1<<rng.IntN(18)))
			if rng.IntN(4) == 0 && f.d.Remaining() > 0 {
				n = min(n, f.d.Remaining())
				f.advance(rest, n)
			} else {
				f.feed(rest[:n])
			}
			rest = rest[n:]
		}
		f.check(s)
	}
}

func TestNextOfNothingIsNoEvent(t *testing.T) {
	var d VTDecoder
	s := slowFrame(addr.SocketAddr{}, []byte("ab"))
	for i := range s {
		for _, b := range [][]byte{nil, {}, s[i:i]} {
			if h, p, n := d.Next(b); h != nil || p != nil || n != 0 {
				t.Fatalf("at offset %d: %v, %v, %d", i, h, p, n)
			}
		}
		d.Next(s[i : i+1])
	}
}

func TestAdvanceTakesTheRestOfAPayload(t *testing.T) {
	f := feeder{t: t}
	s := append(slowFrame(addr.SocketAddr{}, pattern(100)), slowFrame(addr.SocketAddr{}, pattern(3))...)
	f.feed(s[:30])
	f.advance(s[30:], 0)
	f.advance(s[30:], 50)
	f.feed(s[80:90])
	f.advance(s[90:], 30)
	f.feed(s[120:])
	f.check(s)
}

func TestAdvanceBeyondThePayloadPanics(t *testing.T) {
	var d VTDecoder
	d.Next(slowFrame(addr.SocketAddr{}, pattern(5)))
	for _, n := range []int{-1, 6} {
		func() {
			defer func() {
				want := fmt.Sprintf("BUG: wire: advance by %d with 5 bytes of payload left", n)
				if r := recover(); r != want {
					t.Errorf("panic %v, want %s", r, want)
				}
			}()
			d.Advance(n)
		}()
	}
	if d.Remaining() != 5 || d.Offset() != VTHeaderLen {
		t.Errorf("after the panics %d remain at offset %d", d.Remaining(), d.Offset())
	}
}

func TestTruncatedErrorText(t *testing.T) {
	for _, tt := range []struct {
		n    int
		want string
	}{
		{7, "wire: stream ended at offset 7, 13 bytes before the end of a header"},
		{22, "wire: stream ended at offset 22, 3 bytes before the end of a payload"},
	} {
		f := feeder{t: t}
		f.feed(slowFrame(addr.SocketAddr{}, pattern(5))[:tt.n])
		if err := f.d.End(); err == nil || err.Error() != tt.want {
			t.Errorf("error %v, want %s", err, tt.want)
		}
	}
}
