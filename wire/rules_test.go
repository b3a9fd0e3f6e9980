package wire

import (
	"errors"
	"testing"
)

// allowed are the headers of the known types that PROTOCOL.md allows, by the flags
// that are set. It is what the code is held against, and is written without it.
var allowed = []struct {
	t        FrameType
	flags    Flags
	min, max int
	session  bool // ID 0, and else not 0
}{
	{1, 0x00, 18, 1042, false},
	{2, 0x00, 0, 65535, false},
	{2, 0x01, 0, 65535, false},
	{2, 0x02, 0, 65535, false},
	{2, 0x03, 0, 65535, false},
	{3, 0x00, 8, 8, false},
	{3, 0x01, 8, 8, false},
	{4, 0x00, 4, 4, false},
	{4, 0x01, 4, 4, false},
	{4, 0x05, 4, 260, false},
	{5, 0x00, 4, 4, false},
	{5, 0x01, 4, 4, false},
	{6, 0x00, 8, 8, true},
	{6, 0x08, 8, 8, true},
	{7, 0x00, 8, 264, true},
}

// isAllowed looks h up in allowed. Unknown types are.
func isAllowed(h Header) bool {
	n := int(h.Len.Get())
	for _, a := range allowed {
		if h.Type == a.t && h.Flags == a.flags && a.min <= n && n <= a.max && a.session == (h.ID.Get() == 0) {
			return true
		}
	}
	return h.Type >= 8
}

// TestEveryHeaderIsJudgedByTheTable gives the decoder every type with all flags, with
// IDs, and with all lengths at which the table makes a difference.
func TestEveryHeaderIsJudgedByTheTable(t *testing.T) {
	var b [HeaderLen]byte
	var bad int
	for typ := range 256 {
		lengths := map[int]bool{0: true, 1: true, 4: true, 8: true, 18: true, 65534: true, 65535: true}
		for _, a := range allowed {
			if int(a.t) == typ {
				for _, n := range []int{a.min - 1, a.min, a.min + 1, a.max - 1, a.max, a.max + 1} {
					lengths[min(max(n, 0), 65535)] = true
				}
			}
		}
		for flags := range 256 {
			for n := range lengths {
				for _, id := range []ID{0, 1, 1 << 24, 1<<32 - 1} {
					PutHeader(b[:], FrameType(typ), Flags(flags), n, id)
					if !judge(t, &b) {
						bad++
					}
				}
			}
		}
	}
	if bad == 0 {
		t.Error("no header was malformed")
	}
}

// judge gives a header to a decoder, and reports whether the table allows it.
func judge(t *testing.T, b *[HeaderLen]byte) bool {
	want := slowHeader(b[:])
	var d Decoder
	h, body, n, err := d.Next(b[:])
	if body != nil || n != HeaderLen || d.Offset() != HeaderLen {
		t.Fatalf("%v: body %v, %d bytes consumed, offset %d", want, body, n, d.Offset())
	}
	if isAllowed(want) {
		alone := want.Type == 2 || want.Type >= 8
		if err != nil || (h != nil) != alone || alone && *h != want {
			t.Fatalf("%v: %v, %v", want, h, err)
		}
		return true
	}
	var fe *FrameError
	if h != nil || !errors.As(err, &fe) || fe.Offset != 0 || fe.Header != want || fe.Rule == "" || fe.Flow {
		t.Fatalf("%v: %v, %v", want, h, err)
	}
	return false
}

// The gather buffer has room for every frame that is gathered.
func TestMaxControlLenIsTheLongestControlPayload(t *testing.T) {
	longest := 0
	for _, a := range allowed {
		if a.t != TypeData {
			longest = max(longest, a.max)
		}
	}
	if longest != MaxControlLen {
		t.Errorf("the longest is %d, not %d", longest, MaxControlLen)
	}
}

func TestFrameErrorText(t *testing.T) {
	for _, tt := range []struct {
		frame []byte
		want  string
	}{
		{rawFrame(0, 0, 0, nil), "no frame has type 0; got type 0, flags none, length 0, ID 0"},
		{rawFrame(1, 0, 1, pattern(17)), "length of OPEN is 18 to 1042; got OPEN, flags none, length 17, ID 1"},
		{rawFrame(1, 1, 1, pattern(18)), "OPEN allows no flags; got OPEN, flags YOURS, length 18, ID 1"},
		{rawFrame(1, 0, 0, pattern(18)), "ID of OPEN is not 0; got OPEN, flags none, length 18, ID 0"},
		{rawFrame(2, 4, 1, nil), "DATA allows no flags but YOURS|FIN; got DATA, flags REFUSED, length 0, ID 1"},
		{rawFrame(2, 0, 0, nil), "ID of DATA is not 0; got DATA, flags none, length 0, ID 0"},
		{rawFrame(3, 0, 1, pattern(9)), "length of WINDOW is 8; got WINDOW, flags none, length 9, ID 1"},
		{rawFrame(3, 1, 2, []byte{0x80, 7: 0}), "limit of WINDOW is below 2^63; got WINDOW, flags YOURS, length 8, ID 2"},
		{rawFrame(4, 1, 1, pattern(5)), "length of RESET without REFUSED is 4; got RESET, flags YOURS, length 5, ID 1"},
		{rawFrame(4, 5, 1, pattern(3)), "length of RESET is 4 to 260; got RESET, flags YOURS|REFUSED, length 3, ID 1"},
		{rawFrame(4, 4, 1, pattern(4)), "RESET allows REFUSED only with YOURS; got RESET, flags REFUSED, length 4, ID 1"},
		{rawFrame(6, 0, 9, pattern(8)), "ID of PING is 0; got PING, flags none, length 8, ID 9"},
		{rawFrame(7, 0x80, 0, pattern(8)), "GOAWAY allows no flags; got GOAWAY, flags 0x80, length 8, ID 0"},
	} {
		tr := tracker{t: t}
		tr.feed(rawFrame(TypeData, 0, 1, pattern(3)))
		tr.feed(tt.frame)
		if want := "wire: malformed frame at offset 11: " + tt.want; tr.err == nil || tr.err.Error() != want {
			t.Errorf("%v\nwant %s", tr.err, want)
		}
		// A GOAWAY has room for what the peer is told.
		if fe, ok := tr.err.(*FrameError); ok && len(fe.Rule) > MaxText {
			t.Errorf("%s has %d bytes", fe.Rule, len(fe.Rule))
		}
	}
}
