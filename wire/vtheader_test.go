package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/vtmux/vtmux/addr"
)

// slowFrame builds a frame by encoding/binary and copies.
func slowFrame(a addr.SocketAddr, payload []byte) []byte {
	ip := a.IP().As16()
	b := append([]byte(nil), ip[:]...)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(b, payload...)
}

func TestPutVTHeader(t *testing.T) {
	for _, tt := range []struct {
		addr string
		n    int
		want string
	}{
		{"192.0.2.1:8080", 0, "00000000000000000000ffffc00002011f900000"},
		{"192.0.2.1:8080", 1, "00000000000000000000ffffc00002011f900001"},
		{"[2001:db8::1]:443", 0, "20010db800000000000000000000000101bb0000"},
		{"[::]:0", 65535, "000000000000000000000000000000000000ffff"},
	} {
		a := addr.MustParseSocketAddr(tt.addr)
		b := bytes.Repeat([]byte{0xee}, VTHeaderLen+3)
		PutVTHeader(b, a, tt.n)
		if got := hex.EncodeToString(b); got != tt.want+"eeeeee" {
			t.Errorf("%s, %d: %s, want %s and no more", tt.addr, tt.n, got, tt.want)
		}
		h := ViewVTHeader(b)
		if h.Addr != a || int(h.Len.Get()) != tt.n {
			t.Errorf("%s, %d: read back as %v, %d", tt.addr, tt.n, h.Addr, h.Len.Get())
		}
		if !bytes.Equal(h.Bytes(), b[:VTHeaderLen]) || &h.Bytes()[0] != &b[0] {
			t.Errorf("%s, %d: Bytes gives %x", tt.addr, tt.n, h.Bytes())
		}
	}
}

func TestPutVTHeaderPanicsOnABadLength(t *testing.T) {
	b := make([]byte, VTHeaderLen)
	for _, n := range []int{-1, VTMaxPayload + 1, -1 << 31, 1<<31 - 1} {
		func() {
			defer func() {
				want := fmt.Sprintf("BUG: wire: payload of %d bytes, want 0 to 65535", n)
				if r := recover(); r != want {
					t.Errorf("%d: panic %v, want %s", n, r, want)
				}
			}()
			PutVTHeader(b, addr.SocketAddr{}, n)
		}()
	}
	if !bytes.Equal(b, make([]byte, VTHeaderLen)) {
		t.Errorf("the bytes are %x", b)
	}
	if !panics(func() { PutVTHeader(b[:VTHeaderLen-1], addr.SocketAddr{}, 0) }) {
		t.Error("a short slice: no panic")
	}
}

func TestVTHeaders(t *testing.T) {
	var b []byte
	for i := range 3 {
		b = append(b, slowFrame(addr.SocketAddrFrom(addr.IPAddr{}, uint16(i)), nil)...)
	}
	for _, rest := range []string{"", strings.Repeat("x", VTHeaderLen-1)} {
		hs := VTHeaders(append(b, rest...))
		if len(hs) != 3 {
			t.Fatalf("%d headers, want 3", len(hs))
		}
		for i := range hs {
			if int(hs[i].Addr.Port()) != i {
				t.Errorf("header %d is for port %d", i, hs[i].Addr.Port())
			}
		}
	}
}
