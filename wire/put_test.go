package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/vtmux/vtmux/addr"
)

// checkPut wants f to write want to a slice of that size and no more, to panic on one
// a byte shorter, and not to touch what is behind it.
func checkPut(t *testing.T, want []byte, f func(b []byte) int) {
	t.Helper()
	b := bytes.Repeat([]byte{0xee}, len(want)+3)
	if n := f(b); n != len(want) {
		t.Errorf("returned %d, want %d", n, len(want))
	}
	if !bytes.Equal(b[:len(want)], want) || !bytes.Equal(b[len(want):], []byte{0xee, 0xee, 0xee}) {
		t.Errorf("wrote %x, want %x and no more", b, want)
	}
	clear(b)
	if !panics(func() { f(b[:len(want)-1]) }) {
		t.Error("a slice one byte short: no panic")
	}
	if !bytes.Equal(b, make([]byte, len(b))) {
		t.Errorf("a slice one byte short: wrote %x", b)
	}
}

func TestPutWritesWhatTheReferenceBuilds(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	text := strings.Repeat("zu spät ", 40)
	for range 200 {
		id := ID(rng.Uint32() | 1<<rng.IntN(32))
		code := rng.Uint32()
		limit := rng.Uint64() >> (1 + rng.IntN(63))
		opaque := [8]byte(binary.BigEndian.AppendUint64(nil, rng.Uint64()))
		metadata := pattern(rng.IntN(MaxMetadata + 1))
		reason := CutText(text[:rng.IntN(len(text))])
		a := addr.SocketAddrFrom(addr.IPAddrFrom4([4]byte(opaque[:])), uint16(code))
		address, _ := a.MarshalBinary()
		yours := Flags(rng.IntN(2))
		u32 := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

		n := rng.IntN(MaxPayload + 1)
		flags := Flags(rng.IntN(4))
		checkPut(t, rawFrame(TypeData, flags, id, make([]byte, n))[:HeaderLen],
			func(b []byte) int { return PutDataHeader(b, flags, id, n) })
		checkPut(t, rawFrame(TypeOpen, 0, id, append(address, metadata...)),
			func(b []byte) int { return PutOpen(b, id, a, metadata) })
		checkPut(t, rawFrame(TypeWindow, yours, id, binary.BigEndian.AppendUint64(nil, limit)),
			func(b []byte) int { return PutWindow(b, yours, id, limit) })
		checkPut(t, rawFrame(TypeReset, yours, id, u32(code)),
			func(b []byte) int { return PutReset(b, yours, id, code) })
		checkPut(t, rawFrame(TypeReset, FlagYours|FlagRefused, id, append(u32(code), reason...)),
			func(b []byte) int { return PutRefused(b, id, code, reason) })
		checkPut(t, rawFrame(TypeStop, yours, id, u32(code)),
			func(b []byte) int { return PutStop(b, yours, id, code) })
		checkPut(t, rawFrame(TypePing, 0, 0, opaque[:]),
			func(b []byte) int { return PutPing(b, false, opaque) })
		checkPut(t, rawFrame(TypePing, FlagAck, 0, opaque[:]),
			func(b []byte) int { return PutPing(b, true, opaque) })
		checkPut(t, rawFrame(TypeGoAway, 0, 0, append(append(u32(uint32(id)), u32(code)...), reason...)),
			func(b []byte) int { return PutGoAway(b, id, code, reason) })
	}
}

// What is written at the ends of what may be written is decoded as it was meant.
func TestPutAtTheLimits(t *testing.T) {
	long := strings.Repeat("a", MaxText-1)
	for _, tt := range []struct {
		name string
		f    func(b []byte) int
		want []byte // the payload
	}{
		{"no metadata", func(b []byte) int { return PutOpen(b, 1, addr.SocketAddr{}, nil) }, make([]byte, 18)},
		{"most metadata", func(b []byte) int { return PutOpen(b, 1<<32-1, addr.SocketAddr{}, make([]byte, MaxMetadata)) }, make([]byte, 1042)},
		{"limit 0", func(b []byte) int { return PutWindow(b, 0, 1, 0) }, make([]byte, 8)},
		{"highest limit", func(b []byte) int { return PutWindow(b, 0, 1, MaxLimit) }, []byte{0x7f, 255, 255, 255, 255, 255, 255, 255}},
		{"no reason", func(b []byte) int { return PutRefused(b, 1, 1<<32-1, "") }, []byte{255, 255, 255, 255}},
		{"refused by PutReset", func(b []byte) int { return PutReset(b, FlagYours|FlagRefused, 1, 5) }, []byte{0, 0, 0, 5}},
		{"longest reason", func(b []byte) int { return PutRefused(b, 1, 0, long+"bc") }, []byte("\x00\x00\x00\x00" + long + "b")},
		{"reason cut before a rune", func(b []byte) int { return PutRefused(b, 1, 0, long+"ä") }, []byte("\x00\x00\x00\x00" + long)},
		{"no text", func(b []byte) int { return PutGoAway(b, 0, 0, "") }, make([]byte, 8)},
		{"longest text", func(b []byte) int { return PutGoAway(b, 0, 0, long+"bc") }, append(make([]byte, 8), long+"b"...)},
		{"text cut before a rune", func(b []byte) int { return PutGoAway(b, 0, 0, long+"ä") }, append(make([]byte, 8), long...)},
	} {
		b := make([]byte, HeaderLen+MaxControlLen)
		n := tt.f(b)
		tr := tracker{t: t}
		tr.feed(b[:n])
		tr.check(slowEvents(b[:n]))
		if len(tr.events) != 1 || !bytes.Equal(tr.events[0].body, tt.want) {
			t.Errorf("%s: %v, want a body of %d bytes", tt.name, tr.events, len(tt.want))
		}
	}
}

func TestPutPanicsOnWhatTheDecoderRejects(t *testing.T) {
	var a addr.SocketAddr
	for want, f := range map[string]func(b []byte) int{
		"payload of -1 bytes, want 0 to 65535":    func(b []byte) int { return PutHeader(b, TypeData, 0, -1, 1) },
		"payload of 65536 bytes, want 0 to 65535": func(b []byte) int { return PutHeader(b, TypeData, 0, 65536, 1) },
		"payload of 70018 bytes, want 0 to 65535": func(b []byte) int { return PutOpen(b, 1, a, make([]byte, 70000)) },

		"DATA with flags YOURS, length -1, ID 1":    func(b []byte) int { return PutDataHeader(b, FlagYours, 1, -1) },
		"DATA with flags FIN, length 65536, ID 1":   func(b []byte) int { return PutDataHeader(b, FlagFin, 1, 65536) },
		"DATA with flags none, length 1, ID 0":      func(b []byte) int { return PutDataHeader(b, 0, 0, 1) },
		"DATA with flags REFUSED, length 1, ID 1":   func(b []byte) int { return PutDataHeader(b, FlagRefused, 1, 1) },
		"DATA with flags FIN|0x80, length 1, ID 99": func(b []byte) int { return PutDataHeader(b, FlagFin|0x80, 99, 1) },

		"length of OPEN is 18 to 1042; asked to write OPEN, flags none, length 1043, ID 1": func(b []byte) int { return PutOpen(b, 1, a, make([]byte, MaxMetadata+1)) },
		"ID of OPEN is not 0; asked to write OPEN, flags none, length 18, ID 0":            func(b []byte) int { return PutOpen(b, 0, a, nil) },

		"WINDOW with limit 9223372036854775808, want at most 9223372036854775807":                    func(b []byte) int { return PutWindow(b, 0, 1, MaxLimit+1) },
		"ID of WINDOW is not 0; asked to write WINDOW, flags none, length 8, ID 0":                   func(b []byte) int { return PutWindow(b, 0, 0, 1) },
		"WINDOW allows no flags but YOURS; asked to write WINDOW, flags FIN, length 8, ID 1":         func(b []byte) int { return PutWindow(b, FlagFin, 1, 1) },
		"RESET allows REFUSED only with YOURS; asked to write RESET, flags REFUSED, length 4, ID 1":  func(b []byte) int { return PutReset(b, FlagRefused, 1, 1) },
		"RESET allows no flags but YOURS|REFUSED; asked to write RESET, flags ACK, length 4, ID 1":   func(b []byte) int { return PutReset(b, FlagAck, 1, 1) },
		"ID of RESET is not 0; asked to write RESET, flags YOURS|REFUSED, length 8, ID 0":            func(b []byte) int { return PutRefused(b, 0, 1, "busy") },
		"ID of STOP is not 0; asked to write STOP, flags none, length 4, ID 0":                       func(b []byte) int { return PutStop(b, 0, 0, 1) },
		"STOP allows no flags but YOURS; asked to write STOP, flags YOURS|REFUSED, length 4, ID 517": func(b []byte) int { return PutStop(b, FlagYours|FlagRefused, 517, 1) },
	} {
		b := make([]byte, 80000)
		func() {
			defer func() {
				if r := recover(); r != "BUG: wire: "+want {
					t.Errorf("panic %v, want BUG: wire: %s", r, want)
				}
			}()
			f(b)
		}()
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("%s: wrote %x", want, b[:32])
		}
	}
}

// The lengths are those of the layouts, whose sizes are checked by the compiler.
func TestLengthsOfWholeFrames(t *testing.T) {
	got := fmt.Sprint(OpenLen, WindowLen, ResetLen, StopLen, PingLen, GoAwayLen, PrefaceFrameLen)
	if want := "26 16 12 12 16 16 44"; got != want {
		t.Errorf("lengths %s, want %s", got, want)
	}
}
