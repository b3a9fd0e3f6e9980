package addr

import (
	"math/big"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// slowParseIP is what ParseIPAddr is to do, by netip.
func slowParseIP(s string) (IPAddr, bool) {
	if strings.Contains(s, "%") {
		return IPAddr{}, false
	}
	a, err := netip.ParseAddr(s)
	return IPAddrFromAddr(a), err == nil
}

var (
	socket4 = regexp.MustCompile(`^([0-9.]*):([0-9]+)$`)
	socket6 = regexp.MustCompile(`^\[([0-9a-fA-F:.]*:[0-9a-fA-F:.]*)(?:%([0-9]+))?\]:([0-9]+)$`)
)

// slowParseSocket is what ParseSocketAddr is to do, by netip, regexp and math/big.
func slowParseSocket(s string) (SocketAddr, bool) {
	host, zone, port := "", "0", ""
	if m := socket4.FindStringSubmatch(s); m != nil {
		host, port = m[1], m[2]
	} else if m := socket6.FindStringSubmatch(s); m != nil {
		host, port = m[1], m[3]
		if m[2] != "" {
			zone = m[2]
		}
	} else {
		return SocketAddr{}, false
	}
	a, err := netip.ParseAddr(host)
	z, _ := new(big.Int).SetString(zone, 10)
	p, _ := new(big.Int).SetString(port, 10)
	if err != nil || z.BitLen() > 32 || p.BitLen() > 16 {
		return SocketAddr{}, false
	}
	return SocketAddrFrom(IPAddrFromAddr(a), uint16(p.Uint64())), true
}

// checkParse compares all four ways to read s with the slow ones, and the text of
// what was read with s.
func checkParse(t *testing.T, s string) (ipOK, socketOK bool) {
	t.Helper()
	wantIP, ipOK := slowParseIP(s)
	ip, err := ParseIPAddr(s)
	checkParsed(t, "ParseIPAddr", s, ip, err, wantIP, ipOK)
	ip = IPAddr{}
	err = ip.UnmarshalText([]byte(s))
	checkParsed(t, "IPAddr.UnmarshalText", s, ip, err, wantIP, ipOK)
	if again, err := ParseIPAddr(ip.String()); err != nil || again != ip {
		t.Errorf("%q: text %q parses as %v, %v", s, ip.String(), again, err)
	}

	wantSocket, socketOK := slowParseSocket(s)
	sock, err := ParseSocketAddr(s)
	checkParsed(t, "ParseSocketAddr", s, sock, err, wantSocket, socketOK)
	sock = SocketAddr{}
	err = sock.UnmarshalText([]byte(s))
	checkParsed(t, "SocketAddr.UnmarshalText", s, sock, err, wantSocket, socketOK)
	if again, err := ParseSocketAddr(sock.String()); err != nil || again != sock {
		t.Errorf("%q: text %q parses as %v, %v", s, sock.String(), again, err)
	}
	return ipOK, socketOK
}

func checkParsed[T comparable](t *testing.T, name, s string, got T, err error, want T, ok bool) {
	t.Helper()
	switch pe, isParseError := err.(*ParseError); {
	case ok && (err != nil || got != want):
		t.Errorf("%s(%q) = %v, %v, want %v", name, s, got, err, want)
	case !ok && !isParseError:
		t.Errorf("%s(%q) = %v, %v, want a *ParseError", name, s, got, err)
	case !ok && (pe.Input != s || pe.Reason == ""):
		t.Errorf("%s(%q): error holds input %q and reason %q", name, s, pe.Input, pe.Reason)
	}
}

// TestParseAgreesWithNetip feeds random concatenations of what addresses are made
// of, and valid addresses with one byte changed.
func TestParseAgreesWithNetip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	parts := []string{":", "::", ".", "0", "1", "ff", "abcd", "12345", "255", "256", "01", "1.2.3.4", "ffff",
		"1:2:3", "0:0:0:0", "%", "%1", "[", "]", "]:", ":80", ":65535", ":65536", "fe80", " ", "+1", "G"}
	const alphabet = "0123456789abcdefABCDEFg:.%[]-+ \x00\xff"
	var ips, sockets, refused int
	for range 100_000 {
		var s string
		if rng.IntN(2) == 0 {
			for range 1 + rng.IntN(8) {
				s += parts[rng.IntN(len(parts))]
			}
		} else {
			b := []byte(randomIP(rng).String())
			if rng.IntN(2) == 0 {
				b = []byte(SocketAddrFrom(randomIP(rng), uint16(rng.Uint32())).String())
			}
			c := alphabet[rng.IntN(len(alphabet))]
			switch i := rng.IntN(len(b)); rng.IntN(4) {
			case 0:
				b[i] = c
			case 1:
				b = slices.Insert(b, i, c)
			case 2:
				b = slices.Delete(b, i, i+1)
			}
			s = string(b)
		}
		ip, sock := checkParse(t, s)
		switch {
		case ip:
			ips++
		case sock:
			sockets++
		default:
			refused++
		}
	}
	t.Logf("%d IP addresses, %d socket addresses, %d neither", ips, sockets, refused)
	if ips < 10_000 || sockets < 10_000 || refused < 10_000 {
		t.Error("the random inputs are not worth much")
	}
}

// randomIP returns an address with runs of zeros, and often IPv4.
func randomIP(rng *rand.Rand) IPAddr {
	var b [16]byte
	for i := range b {
		if rng.IntN(3) != 0 {
			b[i] = byte(rng.Uint32())
		}
	}
	if rng.IntN(3) == 0 {
		copy(b[:], mapped[:])
	}
	for range rng.IntN(3) {
		i := 2 * rng.IntN(8)
		clear(b[i:min(i+2*rng.IntN(6), 16)])
	}
	return IPAddrFrom16(b)
}

func TestParseErrorTellsTheReason(t *testing.T) {
	for _, tt := range []struct{ input, reason string }{
		{"", "neither IPv4 nor IPv6"},
		{"localhost", "neither IPv4 nor IPv6"},
		{"1.2.3", "fewer than four IPv4 numbers"},
		{"1.2.3.", "fewer than four IPv4 numbers"},
		{"1.2.3.4.5", "more than four IPv4 numbers"},
		{"1.2.3.256", "IPv4 number above 255"},
		{"1.2.3.04", "IPv4 number has a leading zero"},
		{"1..3.4", "empty IPv4 number"},
		{"1.2.3.4%1", "zone not allowed"},
		{"fe80::1%eth0", "zone not allowed"},
		{"fe80::%1", "zone not allowed"},
		{"[::1]", "unexpected character"},
		{"1:2:3:4:5:6:7", "fewer than eight IPv6 groups"},
		{"1:2:3:4:5:6:7:8:9", "more than eight IPv6 groups"},
		{"1:2:3:4:5:6:7:", "IPv6 address ends in one colon"},
		{"::1::", "unexpected character"},
		{"1:2:3:4::5:6:7:8", `nothing left for "::" to stand for`},
		{"::12345", "IPv6 group longer than four digits"},
		{"1:2:3:4:5:6:7:1.2.3.4", "no room for an IPv4 address"},
		{"1.2.3.4::", "unexpected character"},
		{"1:1.2.3.4::", `IPv4 address before "::"`},
	} {
		_, err := ParseIPAddr(tt.input)
		pe, ok := err.(*ParseError)
		if !ok || pe.Reason != tt.reason || pe.Kind != "IP address" {
			t.Errorf("ParseIPAddr(%q): %v, want reason %q", tt.input, err, tt.reason)
		}
	}
	for _, tt := range []struct{ input, reason string }{
		{"", "missing port"},
		{"1.2.3.4", "missing port"},
		{"[::1]", "missing port"},
		{"[::1]80", "missing port"},
		{"[::1:80", `missing "]"`},
		{"::1:80", "IPv6 address without brackets"},
		{"[fe80::1%eth0]:80", "zone not a decimal number below 2^32"},
		{"[fe80::1%4294967296]:80", "zone not a decimal number below 2^32"},
		{"1.2.3.4:", "port not a decimal number from 0 to 65535"},
		{"1.2.3.4:65536", "port not a decimal number from 0 to 65535"},
		{"1.2.3.4:18446744073709551617", "port not a decimal number from 0 to 65535"},
		{"localhost:80", "unexpected character"},
		{"[1.2.3.4]:80", "fewer than eight IPv6 groups"},
	} {
		_, err := ParseSocketAddr(tt.input)
		pe, ok := err.(*ParseError)
		if !ok || pe.Reason != tt.reason || pe.Kind != "socket address" {
			t.Errorf("ParseSocketAddr(%q): %v, want reason %q", tt.input, err, tt.reason)
		}
	}
}

func TestParseErrorText(t *testing.T) {
	_, err := ParseSocketAddr("1.2.3.4:http")
	const want = `addr: invalid socket address syntax: "1.2.3.4:http": port not a decimal number from 0 to 65535`
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func TestMustParsePanics(t *testing.T) {
	for name, f := range map[string]func(){
		"MustParseIPAddr":     func() { MustParseIPAddr("x") },
		"MustParseSocketAddr": func() { MustParseSocketAddr("x") },
	} {
		func() {
			defer func() {
				if _, ok := recover().(*ParseError); !ok {
					t.Errorf("%s does not panic with a *ParseError", name)
				}
			}()
			f()
		}()
	}
}
