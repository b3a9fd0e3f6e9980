package wire

import (
	"testing"

	"github.com/vtmux/vtmux/addr"
)

func TestAllocs(t *testing.T) {
	s := sampleStream()
	a := addr.MustParseSocketAddr("192.0.2.1:8080")
	b := make([]byte, 4*VTHeaderLen)
	var d VTDecoder
	var sum int
	p1 := append(everyFrame(t), rawFrame(TypeOpen, 0, 1, pattern(MaxControlLen))...)
	var d1 Decoder
	out := make([]byte, HeaderLen+MaxControlLen)
	metadata := pattern(MaxMetadata)
	preface := rawPreface(MinSettings())
	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"decode whole", func() { sum += decodeAll(&d, s) }},
		{"decode in pieces", func() {
			for i := 0; i < len(s); i += 7 {
				sum += decodeAll(&d, s[i:min(i+7, len(s))])
			}
		}},
		{"Advance, End", func() { d.Advance(0); _ = d.End() }},
		{"PutVTHeader", func() { PutVTHeader(b, a, 1) }},
		{"ViewVTHeader, Bytes", func() { sum += len(ViewVTHeader(b).Bytes()) }},
		{"VTHeaders", func() { sum += len(VTHeaders(b)) }},
		{"protocol 1: decode whole", func() { sum += nextAll(&d1, p1) }},
		{"protocol 1: decode in pieces", func() {
			for i := 0; i < len(p1); i += 7 {
				sum += nextAll(&d1, p1[i:min(i+7, len(p1))])
			}
		}},
		{"protocol 1: Advance, End", func() { d1.Advance(0); _ = d1.End() }},
		{"PutHeader", func() { sum += PutHeader(out, 9, 0, 1, 1) }},
		{"PutDataHeader", func() { sum += PutDataHeader(out, FlagFin, 1, 1) }},
		{"PutOpen", func() { sum += PutOpen(out, 1, a, metadata) }},
		{"PutWindow", func() { sum += PutWindow(out, FlagYours, 1, 1<<20) }},
		{"PutReset", func() { sum += PutReset(out, 0, 1, 256) }},
		{"PutRefused", func() { sum += PutRefused(out, 1, 5, "busy") }},
		{"PutStop", func() { sum += PutStop(out, 0, 1, 9) }},
		{"PutPing", func() { sum += PutPing(out, true, [8]byte{1}) }},
		{"PutGoAway", func() { sum += PutGoAway(out, 7, 7, "calm") }},
		{"PutPreface", func() { sum += PutPreface(out, MinSettings()) }},
		{"IsPreface, PrefaceBodyLen, ParsePreface", func() {
			if h := ViewVTHeader(preface); IsPreface(h) {
				n, _ := PrefaceBodyLen(h)
				s, _ := ParsePreface(preface[VTHeaderLen:][:n])
				sum += int(s.Version)
			}
		}},
	} {
		if got := testing.AllocsPerRun(100, tt.f); got != 0 {
			t.Errorf("%s: %v allocations", tt.name, got)
		}
	}
}

// decodeAll gives b to d and returns the number of headers and pieces of payload.
func decodeAll(d *VTDecoder, b []byte) (events int) {
	for len(b) > 0 {
		h, p, n := d.Next(b)
		if n == 0 {
			panic("no progress")
		}
		if h != nil || p != nil {
			events++
		}
		b = b[n:]
	}
	return events
}

// nextAll gives b to d and returns the number of headers and pieces of payload.
func nextAll(d *Decoder, b []byte) (events int) {
	for len(b) > 0 {
		h, p, n, err := d.Next(b)
		if n == 0 || err != nil {
			panic(err)
		}
		if h != nil || p != nil {
			events++
		}
		b = b[n:]
	}
	return events
}
