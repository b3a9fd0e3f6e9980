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
