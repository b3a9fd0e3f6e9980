package wire

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// rawFrame builds a frame of protocol 1 by encoding/binary and copies, whether it
// keeps the rules or not.
func rawFrame(t FrameType, flags Flags, id ID, payload []byte) []byte {
	b := []byte{byte(t), byte(flags)}
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = binary.BigEndian.AppendUint32(b, uint32(id))
	return append(b, payload...)
}

func TestPutHeaderWritesAnyHeader(t *testing.T) {
	for _, h := range []struct {
		t     FrameType
		flags Flags
		n     int
		id    ID
	}{
		{0, 0, 0, 0},
		{TypeData, FlagYours | FlagFin, 0x1234, 0x89abcdef},
		{0xff, 0xff, 0xffff, 0xffffffff},
	} {
		b := bytes.Repeat([]byte{0xee}, HeaderLen+3)
		if n := PutHeader(b, h.t, h.flags, h.n, h.id); n != HeaderLen {
			t.Errorf("%v: wrote %d bytes", h, n)
		}
		want := append(rawFrame(h.t, h.flags, h.id, make([]byte, h.n))[:HeaderLen], 0xee, 0xee, 0xee)
		if !bytes.Equal(b, want) {
			t.Errorf("%v: %x, want %x and no more", h, b, want)
		}
		v := ViewHeader(b)
		if v.Type != h.t || v.Flags != h.flags || int(v.Len.Get()) != h.n || ID(v.ID.Get()) != h.id {
			t.Errorf("%v: read back as %v", h, v)
		}
		if !bytes.Equal(v.Bytes(), b[:HeaderLen]) || &v.Bytes()[0] != &b[0] {
			t.Errorf("%v: Bytes gives %x", h, v.Bytes())
		}
	}
}

func TestHeaderText(t *testing.T) {
	for _, tt := range []struct {
		frame []byte
		want  string
	}{
		{rawFrame(TypeOpen, 0, 1, pattern(18)), "OPEN, flags none, length 18, ID 1"},
		{rawFrame(TypeData, FlagYours|FlagFin, 2, nil), "DATA, flags YOURS|FIN, length 0, ID 2"},
		{rawFrame(TypeWindow, FlagYours, 3, nil), "WINDOW, flags YOURS, length 0, ID 3"},
		{rawFrame(TypeReset, FlagYours|FlagRefused, 4, nil), "RESET, flags YOURS|REFUSED, length 0, ID 4"},
		{rawFrame(TypeStop, 0, 1<<32-1, nil), "STOP, flags none, length 0, ID 4294967295"},
		{rawFrame(TypePing, FlagAck, 0, nil), "PING, flags ACK, length 0, ID 0"},
		{rawFrame(TypeGoAway, 0x10, 0, nil), "GOAWAY, flags 0x10, length 0, ID 0"},
		{rawFrame(0, 0xff, 0, nil), "type 0, flags YOURS|FIN|REFUSED|ACK|0xf0, length 0, ID 0"},
		{rawFrame(8, 0x21, 0, nil), "type 8, flags YOURS|0x20, length 0, ID 0"},
		{rawFrame(255, 0, 0, nil), "type 255, flags none, length 0, ID 0"},
	} {
		if got := ViewHeader(tt.frame).String(); got != tt.want {
			t.Errorf("%x is %q, want %q", tt.frame[:HeaderLen], got, tt.want)
		}
	}
}
