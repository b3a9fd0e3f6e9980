package addr

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"testing"
)

var (
	_ encoding.TextAppender      = IPAddr{}
	_ encoding.TextMarshaler     = IPAddr{}
	_ encoding.TextUnmarshaler   = (*IPAddr)(nil)
	_ encoding.BinaryAppender    = IPAddr{}
	_ encoding.BinaryMarshaler   = IPAddr{}
	_ encoding.BinaryUnmarshaler = (*IPAddr)(nil)
	_ encoding.TextAppender      = SocketAddr{}
	_ encoding.TextMarshaler     = SocketAddr{}
	_ encoding.TextUnmarshaler   = (*SocketAddr)(nil)
	_ encoding.BinaryAppender    = SocketAddr{}
	_ encoding.BinaryMarshaler   = SocketAddr{}
	_ encoding.BinaryUnmarshaler = (*SocketAddr)(nil)
	_ net.Addr                   = SocketAddr{}
)

func TestLayout(t *testing.T) {
	for _, tt := range []struct {
		typ  reflect.Type
		size uintptr
	}{
		{reflect.TypeFor[IPAddr](), 16},
		{reflect.TypeFor[SocketAddr](), 18},
	} {
		if tt.typ.Size() != tt.size || tt.typ.Align() != 1 {
			t.Errorf("%v has size %d and alignment %d, want %d and 1", tt.typ, tt.typ.Size(), tt.typ.Align(), tt.size)
		}
		if !tt.typ.Comparable() {
			t.Errorf("%v is not comparable", tt.typ)
		}
	}
	port, _ := reflect.TypeFor[SocketAddr]().FieldByName("port")
	if port.Offset != 16 {
		t.Errorf("the port is at offset %d, want 16", port.Offset)
	}
}

func TestZeroValuesAreUnspecified(t *testing.T) {
	if got := (IPAddr{}).String(); got != "::" {
		t.Errorf("the zero IPAddr is %s", got)
	}
	if got := (SocketAddr{}).String(); got != "[::]:0" {
		t.Errorf("the zero SocketAddr is %s", got)
	}
}

func TestClasses(t *testing.T) {
	for _, tt := range []struct {
		s                          string
		is4, unspecified, loopback bool
	}{
		{"::", false, true, false},
		{"0.0.0.0", true, true, false},
		{"::1", false, false, true},
		{"127.0.0.1", true, false, true},
		{"127.255.255.255", true, false, true},
		{"128.0.0.1", true, false, false},
		{"::127.0.0.1", false, false, false},
		{"::ffff:0:127.0.0.1", false, false, false},
		{"1::ffff:1.2.3.4", false, false, false},
	} {
		a := MustParseIPAddr(tt.s)
		if a.Is4() != tt.is4 || a.IsUnspecified() != tt.unspecified || a.IsLoopback() != tt.loopback {
			t.Errorf("%s: Is4 %v, IsUnspecified %v, IsLoopback %v", tt.s, a.Is4(), a.IsUnspecified(), a.IsLoopback())
		}
	}
}

// TestConversionsAgreeWithNet takes random addresses through every conversion and
// compares with what net and net/netip make of the same bytes.
func TestConversionsAgreeWithNet(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	prev := SocketAddr{}
	for range 20_000 {
		ip := randomIP(rng)
		port := uint16(rng.Uint32())
		b16 := ip.As16()
		std := netip.AddrFrom16(b16).Unmap()
		stdPort := netip.AddrPortFrom(std, port)
		stdTCP := net.TCPAddrFromAddrPort(stdPort)
		s := SocketAddrFrom(ip, port)

		if ip.Addr() != std || IPAddrFromAddr(std) != ip || IPAddrFromAddr(netip.AddrFrom16(b16).WithZone("z")) != ip {
			t.Fatalf("%v: netip.Addr %v, want %v", ip, ip.Addr(), std)
		}
		if ip.Is4() != std.Is4() || ip.IsUnspecified() != std.IsUnspecified() || ip.IsLoopback() != std.IsLoopback() {
			t.Fatalf("%v: class differs from netip's", ip)
		}
		if std.Is4() && IPAddrFrom4(std.As4()) != ip {
			t.Fatalf("%v: IPAddrFrom4 gives %v", ip, IPAddrFrom4(std.As4()))
		}
		if nip := ip.NetIP(); !bytes.Equal(nip, std.AsSlice()) {
			t.Fatalf("%v: net.IP %v, want %v", ip, nip, std.AsSlice())
		}
		for _, nip := range []net.IP{std.AsSlice(), b16[:]} {
			if got, ok := IPAddrFromNetIP(nip); !ok || got != ip {
				t.Fatalf("%v: from net.IP %v, %v", ip, got, ok)
			}
		}
		if ip.String() != std.String() || ip.String() != net.IP(b16[:]).String() {
			t.Fatalf("%v: text %s, netip's %s, net's %s", ip, ip, std, net.IP(b16[:]))
		}

		if s.IP() != ip || s.Port() != port || s.AddrPort() != stdPort || SocketAddrFromAddrPort(stdPort) != s {
			t.Fatalf("%v: IP %v, port %d, AddrPort %v", s, s.IP(), s.Port(), s.AddrPort())
		}
		if tcp := s.TCPAddr(); !reflect.DeepEqual(tcp, stdTCP) || tcp.String() != s.String() || tcp.Network() != s.Network() {
			t.Fatalf("%v: TCPAddr %#v, want %#v", s, tcp, stdTCP)
		}
		for _, a := range []net.Addr{s, &s, stdTCP, net.UDPAddrFromAddrPort(stdPort), addrPorter{stdPort}} {
			if got, ok := SocketAddrFromNetAddr(a); !ok || got != s {
				t.Fatalf("%v: from %T %v, %v", s, a, got, ok)
			}
		}

		// Bytes, then port, which are the bytes on the wire.
		wire, _ := s.MarshalBinary()
		prevWire, _ := prev.MarshalBinary()
		if want := bytes.Compare(wire, prevWire); s.Compare(prev) != want || prev.Compare(s) != -want {
			t.Fatalf("%v, %v: compare as %d, want %d", s, prev, s.Compare(prev), want)
		}
		if want := bytes.Compare(wire[:16], prevWire[:16]); s.IP().Compare(prev.IP()) != want {
			t.Fatalf("%v, %v: IPs compare as %d, want %d", s, prev, s.IP().Compare(prev.IP()), want)
		}
		if binary.BigEndian.Uint16(wire[16:]) != port || [16]byte(wire) != b16 {
			t.Fatalf("%v: bytes %x", s, wire)
		}
		if s.Compare(s) != 0 {
			t.Fatalf("%v does not compare equal to itself", s)
		}
		prev = s
	}
}

// addrPorter is a net.Addr of no known type, with the method that helps.
type addrPorter struct{ ap netip.AddrPort }

func (a addrPorter) AddrPort() netip.AddrPort { return a.ap }
func (addrPorter) Network() string            { return "porter" }
func (addrPorter) String() string             { return "1.2.3.4:80" }

type otherAddr struct{}

func (otherAddr) Network() string { return "other" }
func (otherAddr) String() string  { return "1.2.3.4:80" }

func TestConversionsRefuseWhatIsNoAddress(t *testing.T) {
	four := net.IP{1, 2, 3, 4}
	for _, ip := range []net.IP{nil, {}, {1}, make(net.IP, 5), make(net.IP, 15), make(net.IP, 17)} {
		if a, ok := IPAddrFromNetIP(ip); ok || a != (IPAddr{}) {
			t.Errorf("net.IP of %d bytes becomes %v, %v", len(ip), a, ok)
		}
	}
	for _, tcp := range []*net.TCPAddr{nil, {Port: 80}, {IP: four, Port: -1}, {IP: four, Port: 65536}, {IP: four[:3]}} {
		if a, ok := SocketAddrFromTCPAddr(tcp); ok || a != (SocketAddr{}) {
			t.Errorf("%#v becomes %v, %v", tcp, a, ok)
		}
	}
	for _, na := range []net.Addr{nil, (*SocketAddr)(nil), (*net.TCPAddr)(nil), (*net.UDPAddr)(nil), &net.TCPAddr{Port: 1},
		&net.UDPAddr{IP: four, Port: 1 << 16}, &net.UnixAddr{Name: "1.2.3.4:80"}, addrPorter{}, otherAddr{}} {
		if a, ok := SocketAddrFromNetAddr(na); ok || a != (SocketAddr{}) {
			t.Errorf("%#v becomes %v, %v", na, a, ok)
		}
	}
}

func TestCopyTCPAddrReusesTheIP(t *testing.T) {
	var array [16]byte
	tcp := net.TCPAddr{IP: array[:], Zone: "eth0"}
	for _, text := range []string{"[2001:db8::1]:443", "1.2.3.4:80", "[::]:0"} {
		s := MustParseSocketAddr(text)
		s.CopyTCPAddr(&tcp)
		if &tcp.IP[0] != &array[0] {
			t.Errorf("%s: the array is another one", text)
		}
		if want := net.TCPAddrFromAddrPort(s.AddrPort()); !reflect.DeepEqual(&tcp, want) {
			t.Errorf("%s: %#v, want %#v", text, tcp, want)
		}
	}
}

func TestTCPAddrsShareNothing(t *testing.T) {
	s := MustParseSocketAddr("1.2.3.4:80")
	a, b := s.TCPAddr(), s.TCPAddr()
	a.IP[0] = 9
	a.IP = append(a.IP, 1, 2, 3)
	if b.String() != "1.2.3.4:80" || s.String() != "1.2.3.4:80" {
		t.Errorf("writing to one result changed %v or %v", b, s)
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	for _, text := range []string{"[::]:0", "0.0.0.0:0", "1.2.3.4:80", "[2001:db8::1]:65535",
		"[1111:2222:3333:4444:5555:6666:7777:8888]:12345"} {
		s := MustParseSocketAddr(text)

		j, err := json.Marshal(map[SocketAddr]IPAddr{s: s.IP()})
		if want := `{"` + text + `":"` + s.IP().String() + `"}`; err != nil || string(j) != want {
			t.Errorf("JSON %s, %v, want %s", j, err, want)
		}
		var m map[SocketAddr]IPAddr
		if err := json.Unmarshal(j, &m); err != nil || m[s] != s.IP() || len(m) != 1 {
			t.Errorf("%s is read back as %v, %v", j, m, err)
		}

		bs, err := s.MarshalBinary()
		var s2 SocketAddr
		if err2 := s2.UnmarshalBinary(bs); err != nil || err2 != nil || s2 != s || len(bs) != 18 {
			t.Errorf("%s: bytes %x, %v, read back as %v, %v", text, bs, err, s2, err2)
		}
		bi, err := s.IP().MarshalBinary()
		var ip2 IPAddr
		if err2 := ip2.UnmarshalBinary(bi); err != nil || err2 != nil || ip2 != s.IP() || len(bi) != 16 {
			t.Errorf("%s: bytes %x, %v, read back as %v, %v", text, bi, err, ip2, err2)
		}

		for _, appended := range [][]byte{
			s.AppendTo([]byte("x")), s.IP().AppendTo([]byte("x")),
			must(s.AppendText([]byte("x"))), must(s.IP().AppendText([]byte("x"))),
			must(s.AppendBinary([]byte("x"))), must(s.IP().AppendBinary([]byte("x"))),
			s.IP().AppendNetIP(net.IP("x")),
		} {
			if appended[0] != 'x' || len(appended) < 2 {
				t.Errorf("%s: appending to x gives %q", text, appended)
			}
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestFailedUnmarshalLeavesTheValue(t *testing.T) {
	s := MustParseSocketAddr("1.2.3.4:80")
	ip := s.IP()
	for n := range 40 {
		if n != 18 {
			err := s.UnmarshalBinary(make([]byte, n))
			var le *LengthError
			if !errors.As(err, &le) || le.Got != n || le.Want != 18 || le.Error() == "" {
				t.Errorf("socket address of %d bytes: %v", n, err)
			}
		}
		if n != 16 {
			err := ip.UnmarshalBinary(make([]byte, n))
			var le *LengthError
			if !errors.As(err, &le) || le.Got != n || le.Want != 16 {
				t.Errorf("IP address of %d bytes: %v", n, err)
			}
		}
	}
	if s.UnmarshalText([]byte("[::1]:x")) == nil || ip.UnmarshalText([]byte("::x")) == nil {
		t.Error("bad text is accepted")
	}
	if s.String() != "1.2.3.4:80" || ip.String() != "1.2.3.4" {
		t.Errorf("the values are now %v and %v", s, ip)
	}
}

func TestMappedAddressIsOneMapKey(t *testing.T) {
	m := map[SocketAddr]int{MustParseSocketAddr("1.2.3.4:80"): 1}
	m[MustParseSocketAddr("[::ffff:1.2.3.4]:80")]++
	m[MustParseSocketAddr("[::ffff:102:304%7]:80")]++
	if len(m) != 1 || m[MustParseSocketAddr("1.2.3.4:80")] != 3 {
		t.Errorf("the map is %v", m)
	}
}
