package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vtmux/vtmux/addr"
)

// rawPreface builds a preface by encoding/binary and copies.
func rawPreface(s Settings, trailing ...byte) []byte {
	body := []byte{0x76, 0x74, 0x6d, 0x75, 0x78, 0x0a}
	body = binary.BigEndian.AppendUint16(body, s.Version)
	body = binary.BigEndian.AppendUint32(body, s.InitialWindow)
	body = binary.BigEndian.AppendUint32(body, s.MaxConns)
	body = binary.BigEndian.AppendUint16(body, s.MaxPayload)
	body = append(body, 0, 0)
	body = binary.BigEndian.AppendUint32(body, s.KeepAlive)
	return slowFrame(addr.SocketAddr{}, append(body, trailing...))
}

// someSettings are settings that may be announced, at the ends of each field too.
var someSettings = []Settings{
	{1, 65536, 128, 16384, 0},
	{1, 65536, 65536, 65535, 15000},
	{65535, 1<<32 - 1, 1<<32 - 1, 65535, 1<<32 - 1},
	{0x0102, 0x03040506, 0x0708090a, 0x4b4c, 0x0d0e0f10},
	MinSettings(),
}

func TestPutPrefaceAndParseItAgain(t *testing.T) {
	for _, s := range someSettings {
		want := rawPreface(s)
		checkPut(t, want, func(b []byte) int { return PutPreface(b, s) })

		h := ViewVTHeader(want)
		if !IsPreface(h) {
			t.Errorf("%+v: no preface", s)
		}
		n, err := PrefaceBodyLen(h)
		if err != nil || n != PrefaceLen {
			t.Errorf("%+v: a body of %d bytes, %v", s, n, err)
		}
		if got, err := ParsePreface(want[VTHeaderLen:]); err != nil || got != s {
			t.Errorf("%+v is parsed as %+v, %v", s, got, err)
		}
	}
}

func TestParsePrefaceIgnoresWhatIsReservedAndWhatFollows(t *testing.T) {
	for _, n := range []int{1, 100, MaxPreface - PrefaceLen} {
		b := rawPreface(someSettings[1], pattern(n)...)
		b[VTHeaderLen+18], b[VTHeaderLen+19] = 0xff, 0xff
		if got, err := ParsePreface(b[VTHeaderLen:]); err != nil || got != someSettings[1] {
			t.Errorf("%d bytes more: %+v, %v", n, got, err)
		}
		if got, err := PrefaceBodyLen(ViewVTHeader(b)); err != nil || got != PrefaceLen+n {
			t.Errorf("%d bytes more: a body of %d bytes, %v", n, got, err)
		}
	}
}

func TestIsPreface(t *testing.T) {
	for _, tt := range []struct {
		addr string
		n    int
		want bool
	}{
		{"[::]:0", 24, true},
		{"[::]:0", 1, true}, // a malformed one
		{"[::]:0", 65535, true},
		{"[::]:0", 0, false}, // vt-muxer's open of [::]:0
		{"[::]:1", 24, false},
		{"[::]:256", 24, false},
		{"[::1]:0", 24, false},
		{"[8000::]:0", 24, false},
		{"0.0.0.0:0", 24, false},
	} {
		h := ViewVTHeader(slowFrame(addr.MustParseSocketAddr(tt.addr), make([]byte, tt.n)))
		if got := IsPreface(h); got != tt.want {
			t.Errorf("%s, length %d: %v", tt.addr, tt.n, got)
		}
	}
}

func TestMalformedPrefaces(t *testing.T) {
	with := func(change func(s *Settings)) []byte {
		s := MinSettings()
		change(&s)
		return rawPreface(s)[VTHeaderLen:]
	}
	const (
		raised = "; the other end announces less than it may: raise it there"
		other  = "; the other end does not speak vtmux's protocol: check where the transport leads to"
	)
	good := with(func(*Settings) {})
	for _, tt := range []struct {
		field string
		body  []byte
		want  string
	}{
		{"length", nil, "length 0, want 24 to 1024" + other},
		{"length", good[:23], "length 23, want 24 to 1024" + other},
		{"length", append(good[:24:24], make([]byte, 1001)...), "length 1025, want 24 to 1024" + other},
		{"magic", slices.Replace(bytes.Clone(good), 0, 6, []byte("GET / ")...), `magic "GET / ", want "vtmux\n"` + other},
		{"magic", slices.Replace(bytes.Clone(good), 5, 6, 0x0d), `magic "vtmux\r", want "vtmux\n"` + other},
		{"version", with(func(s *Settings) { s.Version = 0 }),
			"version 0, want at least 1; the other end's implementation is wrong: update it"},
		{"initial window", with(func(s *Settings) { s.InitialWindow = 65535 }),
			"initial window 65535, want at least 65536" + raised},
		{"most connections", with(func(s *Settings) { s.MaxConns = 127 }),
			"most connections 127, want at least 128" + raised},
		{"most payload", with(func(s *Settings) { s.MaxPayload = 16383 }),
			"most payload 16383, want at least 16384" + raised},
	} {
		s, err := ParsePreface(tt.body)
		var pe *PrefaceError
		if s != (Settings{}) || !errors.As(err, &pe) || pe.Field != tt.field {
			t.Errorf("%x: %+v, %v", tt.body, s, err)
		} else if want := "wire: preface with " + tt.want; err.Error() != want {
			t.Errorf("%x: %v\nwant %s", tt.body, err, want)
		}
	}
	for _, n := range []int{1, 23, 1025, 65535} {
		got, err := PrefaceBodyLen(ViewVTHeader(slowFrame(addr.SocketAddr{}, make([]byte, n))))
		var pe *PrefaceError
		if got != 0 || !errors.As(err, &pe) || pe.Field != "length" || pe.Got != fmt.Sprint(n) {
			t.Errorf("length %d: %d, %v", n, got, err)
		}
	}
}

func TestPutPrefacePanicsOnWhatParsePrefaceRejects(t *testing.T) {
	for want, change := range map[string]func(s *Settings){
		"version 0, want at least 1":                func(s *Settings) { s.Version = 0 },
		"initial window 65535, want at least 65536": func(s *Settings) { s.InitialWindow = 65535 },
		"most connections 0, want at least 128":     func(s *Settings) { s.MaxConns = 0 },
		"most payload 16383, want at least 16384":   func(s *Settings) { s.MaxPayload = 16383 },
	} {
		s := MinSettings()
		change(&s)
		b := make([]byte, PrefaceFrameLen)
		func() {
			defer func() {
				if r := recover(); r != "BUG: wire: preface with "+want {
					t.Errorf("panic %v, want %s", r, want)
				}
			}()
			PutPreface(b, s)
		}()
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("%s: wrote %x", want, b)
		}
	}
}
