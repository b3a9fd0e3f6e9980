package addr

import (
	"net"
	"net/netip"
	"testing"
)

// TestAllocs is the budget of every operation. A result here is not kept, as is
// usual with a MarshalText whose bytes are written at once.
func TestAllocs(t *testing.T) {
	const long = "[1111:2222:3333:4444:5555:6666:7777:8888]:12345"
	var (
		s     = MustParseSocketAddr(long)
		s4    = MustParseSocketAddr("1.2.3.4:80")
		std   = s.AddrPort()
		tcp   = s.TCPAddr()
		udp   = net.UDPAddrFromAddrPort(std)
		boxed = net.Addr(s)
		ip    = s.IP()
		std16 = net.IP(std.Addr().AsSlice())
		text  = []byte(long)
		short = []byte("2001:db8::ffff:ffff:1.2.3.4")
		bin   = must(s.MarshalBinary())
		buf   = make([]byte, 0, 64)
		set   = map[SocketAddr]bool{s: true}

		gotS   SocketAddr
		gotIP  IPAddr
		gotN   int
		gotOK  bool
		gotStd netip.AddrPort
	)
	for _, tt := range []struct {
		name string
		want float64
		f    func()
	}{
		{"IPAddrFrom16, As16", 0, func() { gotIP = IPAddrFrom16(ip.As16()) }},
		{"IPAddrFrom4", 0, func() { gotIP = IPAddrFrom4([4]byte{1, 2, 3, 4}) }},
		{"IPAddrFromAddr, Addr", 0, func() { gotIP = IPAddrFromAddr(ip.Addr()) }},
		{"IPAddrFromNetIP", 0, func() { gotIP, gotOK = IPAddrFromNetIP(std16) }},
		{"IPAddr.NetIP", 0, func() { gotN += int(ip.NetIP()[0]) }},
		{"IPAddr.AppendNetIP", 0, func() { gotN += len(ip.AppendNetIP(buf)) }},
		{"IPAddr.Is...", 0, func() { gotOK = ip.Is4() || ip.IsUnspecified() || ip.IsLoopback() }},
		{"IPAddr.Compare", 0, func() { gotN += ip.Compare(gotIP) }},
		{"ParseIPAddr", 0, func() { gotIP, _ = ParseIPAddr("1111:2222:3333:4444:5555:6666:7777:8888") }},
		{"ParseIPAddr of bytes", 0, func() { gotIP, _ = ParseIPAddr(string(short)) }},
		{"MustParseIPAddr", 0, func() { gotIP = MustParseIPAddr("::ffff:1.2.3.4") }},
		{"IPAddr.AppendTo", 0, func() { gotN += len(ip.AppendTo(buf)) }},
		{"IPAddr.AppendText", 0, func() { gotN += len(must(ip.AppendText(buf))) }},
		{"IPAddr.MarshalText", 0, func() { gotN += len(must(ip.MarshalText())) }},
		{"IPAddr.UnmarshalText", 0, func() { _ = gotIP.UnmarshalText(text[1:40]) }},
		{"IPAddr.AppendBinary", 0, func() { gotN += len(must(ip.AppendBinary(buf))) }},
		{"IPAddr.MarshalBinary", 0, func() { gotN += len(must(ip.MarshalBinary())) }},
		{"IPAddr.UnmarshalBinary", 0, func() { _ = gotIP.UnmarshalBinary(bin[:16]) }},
		{"IPAddr.String", 1, func() { sinkString = ip.String() }},

		{"SocketAddrFrom, IP, Port", 0, func() { gotS = SocketAddrFrom(s.IP(), s.Port()) }},
		{"SocketAddrFromAddrPort", 0, func() { gotS = SocketAddrFromAddrPort(std) }},
		{"SocketAddr.AddrPort", 0, func() { gotStd = s.AddrPort() }},
		{"SocketAddrFromTCPAddr", 0, func() { gotS, gotOK = SocketAddrFromTCPAddr(tcp) }},
		{"SocketAddrFromNetAddr", 0, func() { gotS, gotOK = SocketAddrFromNetAddr(boxed) }},
		{"SocketAddrFromNetAddr of TCP", 0, func() { gotS, gotOK = SocketAddrFromNetAddr(tcp) }},
		{"SocketAddrFromNetAddr of UDP", 0, func() { gotS, gotOK = SocketAddrFromNetAddr(udp) }},
		{"SocketAddr.TCPAddr", 0, func() { gotN += s.TCPAddr().Port }},
		{"SocketAddr.TCPAddr that escapes", 2, func() { sinkTCP = s.TCPAddr() }},
		{"SocketAddr.CopyTCPAddr", 0, func() { s.CopyTCPAddr(tcp); s4.CopyTCPAddr(tcp) }},
		{"SocketAddr.Network", 0, func() { gotN += len(s.Network()) }},
		{"SocketAddr.Compare", 0, func() { gotN += s.Compare(gotS) }},
		{"SocketAddr as a key", 0, func() { gotOK = set[s] }},
		{"ParseSocketAddr", 0, func() { gotS, _ = ParseSocketAddr(long) }},
		{"ParseSocketAddr with a zone", 0, func() { gotS, _ = ParseSocketAddr("[fe80::1%7]:80") }},
		{"MustParseSocketAddr", 0, func() { gotS = MustParseSocketAddr("1.2.3.4:80") }},
		{"SocketAddr.AppendTo", 0, func() { gotN += len(s.AppendTo(buf)) }},
		{"SocketAddr.AppendText", 0, func() { gotN += len(must(s.AppendText(buf))) }},
		{"SocketAddr.MarshalText", 0, func() { gotN += len(must(s.MarshalText())) }},
		{"SocketAddr.UnmarshalText", 0, func() { _ = gotS.UnmarshalText(text) }},
		{"SocketAddr.AppendBinary", 0, func() { gotN += len(must(s.AppendBinary(buf))) }},
		{"SocketAddr.MarshalBinary", 0, func() { gotN += len(must(s.MarshalBinary())) }},
		{"SocketAddr.UnmarshalBinary", 0, func() { _ = gotS.UnmarshalBinary(bin) }},
		{"SocketAddr.String", 1, func() { sinkString = s.String() }},
	} {
		if got := testing.AllocsPerRun(100, tt.f); got != tt.want {
			t.Errorf("%s: %v allocations, want %v", tt.name, got, tt.want)
		}
	}
	_, _, _ = gotStd, gotOK, gotN
}

// Results that escape go here.
var (
	sinkString string
	sinkTCP    *net.TCPAddr
)

func BenchmarkParseSocketAddr(b *testing.B) {
	for _, s := range []string{"1.2.3.4:80", "[2001:db8::1]:443"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseSocketAddr(s); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(s+"/netip", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := netip.ParseAddrPort(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSocketAddrAppendTo(b *testing.B) {
	buf := make([]byte, 0, 64)
	s := MustParseSocketAddr("[2001:db8::1]:443")
	b.ReportAllocs()
	for b.Loop() {
		buf = s.AppendTo(buf[:0])
	}
}
