package fuzz

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/vtmux/vtmux/addr"
)

// netipOf returns the netip.Addr that stands for 16 bytes: an IPv4 address for a mapped
// one.
func netipOf(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b)).Unmap() }

// plainSocket is what addr.ParseSocketAddr should make of s, by net/netip, and
// differently from it: an IPv4 address can't stand in brackets, a zone must be a number
// below 2^32 and is dropped, and a port may have leading zeros.
func plainSocket(s string) (netip.AddrPort, bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return netip.AddrPort{}, false
	}
	host, port := s[:i], s[i+1:]
	var n uint64
	for _, c := range []byte(port) {
		if n = n*10 + uint64(c-'0'); c < '0' || c > '9' || n > 65535 {
			return netip.AddrPort{}, false
		}
	}
	if port == "" {
		return netip.AddrPort{}, false
	}
	six := strings.HasPrefix(host, "[")
	if six {
		if !strings.HasSuffix(host, "]") || len(host) < 2 {
			return netip.AddrPort{}, false
		}
		host = host[1 : len(host)-1]
		if ip, zone, found := strings.Cut(host, "%"); found {
			for _, c := range []byte(zone) {
				if c < '0' || c > '9' {
					return netip.AddrPort{}, false
				}
			}
			if _, err := strconv.ParseUint(zone, 10, 32); err != nil {
				return netip.AddrPort{}, false
			}
			host = ip
		}
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" || six == a.Is4() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), true
}

func checkIPText(t *testing.T, s string) {
	got, err := addr.ParseIPAddr(s)
	want, werr := netip.ParseAddr(s)
	ok := werr == nil && want.Zone() == ""
	if pe := new(addr.ParseError); (err == nil) != ok || err != nil && (!asParseError(err, &pe) || pe.Input != s || pe.Reason == "") {
		t.Fatalf("ParseIPAddr(%q): %v, %v; net/netip says %v, %v", s, got, err, want, werr)
	}
	if ok && got.Addr() != want.Unmap() || !ok && got != (addr.IPAddr{}) {
		t.Fatalf("ParseIPAddr(%q) is %v, want %v", s, got, want)
	}
	before := addr.IPAddrFrom4([4]byte{1, 2, 3, 4})
	u := before
	if uerr := u.UnmarshalText([]byte(s)); (uerr == nil) != ok || ok && u != got || !ok && u != before {
		t.Fatalf("UnmarshalText(%q) gives %v, %v", s, u, uerr)
	}
}

func asParseError(err error, to **addr.ParseError) (ok bool) {
	*to, ok = err.(*addr.ParseError)
	return ok
}

func checkSocketText(t *testing.T, s string) {
	got, err := addr.ParseSocketAddr(s)
	want, ok := plainSocket(s)
	if pe := new(addr.ParseError); (err == nil) != ok || err != nil && (!asParseError(err, &pe) || pe.Input != s || pe.Reason == "") {
		t.Fatalf("ParseSocketAddr(%q): %v, %v; want %v, %v", s, got, err, want, ok)
	}
	if ok && got.AddrPort() != want || !ok && got != (addr.SocketAddr{}) {
		t.Fatalf("ParseSocketAddr(%q) is %v, want %v", s, got, want)
	}
	before := addr.SocketAddrFrom(addr.IPAddrFrom4([4]byte{1, 2, 3, 4}), 5)
	u := before
	if uerr := u.UnmarshalText([]byte(s)); (uerr == nil) != ok || ok && u != got || !ok && u != before {
		t.Fatalf("UnmarshalText(%q) gives %v, %v", s, u, uerr)
	}
}

// checkValue holds one address against net/netip, both ways, in text and in binary.
func checkValue(t *testing.T, b []byte) addr.SocketAddr {
	var s addr.SocketAddr
	if err := s.UnmarshalBinary(b); err != nil {
		t.Fatalf("UnmarshalBinary(%x): %v", b, err)
	}
	ip, want := s.IP(), netipOf(b[:16])
	ap := netip.AddrPortFrom(want, binary.BigEndian.Uint16(b[16:]))
	if ip.Addr() != want || s.AddrPort() != ap || s.Port() != ap.Port() || ip.As16() != [16]byte(b[:16]) {
		t.Fatalf("%x is %v and %v, want %v", b, ip.Addr(), s.AddrPort(), ap)
	}
	if ip.Is4() != want.Is4() || ip.IsLoopback() != want.IsLoopback() || ip.IsUnspecified() != want.IsUnspecified() {
		t.Fatalf("%v is IPv4: %v, loopback: %v, unspecified: %v", ip, ip.Is4(), ip.IsLoopback(), ip.IsUnspecified())
	}
	// There: text, bytes, the types of net.
	text, terr := s.MarshalText()
	bin, berr := s.MarshalBinary()
	if s.String() != ap.String() || string(text) != ap.String() || ip.String() != want.String() || !bytes.Equal(bin, b) || terr != nil || berr != nil {
		t.Fatalf("%x is %q, %q, %x; want %q", b, s, text, bin, ap)
	}
	if ipbin, err := ip.MarshalBinary(); !bytes.Equal(ipbin, b[:16]) || err != nil {
		t.Fatalf("%v in binary is %x, %v", ip, ipbin, err)
	}
	tcp := net.TCPAddrFromAddrPort(ap)
	mine := s.TCPAddr()
	if !mine.IP.Equal(tcp.IP) || len(mine.IP) != len(tcp.IP) || mine.Port != tcp.Port || mine.Zone != tcp.Zone || !ip.NetIP().Equal(tcp.IP) || len(ip.NetIP()) != len(tcp.IP) {
		t.Fatalf("%v is %v, want %v", s, mine, tcp)
	}
	// And back.
	back, err := addr.ParseSocketAddr(ap.String())
	ipBack, iperr := addr.ParseIPAddr(want.String())
	fromTCP, ok := addr.SocketAddrFromTCPAddr(tcp)
	fromNet, ok2 := addr.SocketAddrFromNetAddr(tcp)
	if err != nil || iperr != nil || !ok || !ok2 || back != s || ipBack != ip || fromTCP != s || fromNet != s {
		t.Fatalf("%v comes back as %v, %v, %v, %v; %v, %v", s, back, ipBack, fromTCP, fromNet, err, iperr)
	}
	if f := addr.SocketAddrFromAddrPort(ap); f != s || addr.IPAddrFromAddr(want) != ip || addr.SocketAddrFrom(ip, ap.Port()) != s {
		t.Fatalf("%v comes back from net/netip as %v", s, f)
	}
	if f := addr.IPAddrFromAddr(netip.AddrFrom16([16]byte(b[:16]))); f != ip {
		t.Fatalf("%v in its mapped form becomes %v", ip, f)
	}
	return s
}

// checkPair compares two addresses: as bytes, as keys, and within a family as net/netip
// does.
func checkPair(t *testing.T, b, c []byte, x, y addr.SocketAddr) {
	order := bytes.Compare(b, c)
	if x.Compare(y) != order || y.Compare(x) != -order || (x == y) != (order == 0) {
		t.Fatalf("%v compared with %v is %d, and %d the other way", x, y, x.Compare(y), y.Compare(x))
	}
	if got, want := x.IP().Compare(y.IP()), bytes.Compare(b[:16], c[:16]); got != want {
		t.Fatalf("%v compared with %v is %d, want %d", x.IP(), y.IP(), got, want)
	}
	if x.IP().Is4() == y.IP().Is4() {
		want := cmp.Or(x.AddrPort().Addr().Compare(y.AddrPort().Addr()), cmp.Compare(x.Port(), y.Port()))
		if order != want {
			t.Fatalf("%v compared with %v is %d, and %d by net/netip", x, y, order, want)
		}
	}
	keys := map[addr.SocketAddr]netip.AddrPort{x: x.AddrPort(), y: y.AddrPort()}
	other := map[netip.AddrPort]bool{x.AddrPort(): true, y.AddrPort(): true}
	if len(keys) != len(other) || keys[x] != x.AddrPort() || keys[y] != y.AddrPort() {
		t.Fatalf("%v and %v are %d keys, and %d of net/netip", x, y, len(keys), len(other))
	}
}

// FuzzAddr takes a text for an address, and two addresses from bytes.
func FuzzAddr(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string, b []byte) {
		checkIPText(t, text)
		checkSocketText(t, text)
		var s addr.SocketAddr
		if err := s.UnmarshalBinary(b); (err == nil) != (len(b) == 18) {
			t.Fatalf("UnmarshalBinary of %d bytes: %v", len(b), err)
		}
		var ip addr.IPAddr
		if err := ip.UnmarshalBinary(b); (err == nil) != (len(b) == 16) {
			t.Fatalf("UnmarshalBinary of %d bytes: %v", len(b), err)
		}
		both := make([]byte, 36)
		copy(both, b)
		x, y := checkValue(t, both[:18]), checkValue(t, both[18:])
		checkPair(t, both[:18], both[18:], x, y)
	})
}
