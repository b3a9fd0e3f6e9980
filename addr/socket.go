package addr

import (
	"cmp"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
)

// SocketAddr is an IP address and a port, in 18 bytes. A connection bears one; with the vt-muxer
// protocol it names the connection, with protocol 1 several may bear the same.
//
// The zero value is [::]:0, as valid as any other. Values are
// comparable and immutable but for the Unmarshal methods. A SocketAddr is a
// net.Addr; boxing one into the interface allocates, as with any value.
type SocketAddr struct {
	ip   IPAddr
	port [2]byte // in network order
}

// socketAddrLen is the size of a SocketAddr in memory and on the wire.
const socketAddrLen = 18

// SocketAddrFrom returns the address ip:port.
func SocketAddrFrom(ip IPAddr, port uint16) SocketAddr {
	return SocketAddr{ip, [2]byte{byte(port >> 8), byte(port)}}
}

// SocketAddrFromAddrPort returns ap as a SocketAddr. The zone is dropped, and
// the invalid zero netip.Addr becomes ::.
func SocketAddrFromAddrPort(ap netip.AddrPort) SocketAddr {
	return SocketAddrFrom(IPAddrFromAddr(ap.Addr()), ap.Port())
}

// SocketAddrFromTCPAddr returns t as a SocketAddr, and reports whether t is one:
// not nil, with an IP of 4 or 16 bytes and a port from 0 to 65535. A TCPAddr
// without an IP, such as net.ResolveTCPAddr makes of ":80", is none. The zone
// is dropped.
func SocketAddrFromTCPAddr(t *net.TCPAddr) (SocketAddr, bool) {
	if t == nil {
		return SocketAddr{}, false
	}
	return fromNetIP(t.IP, t.Port)
}

// SocketAddrFromNetAddr returns a as a SocketAddr, and reports whether a is one.
// It knows SocketAddr, *net.TCPAddr and *net.UDPAddr, with the conditions of
// [SocketAddrFromTCPAddr], and any type with a method AddrPort() netip.AddrPort
// that returns a valid one. It does not parse a.String().
func SocketAddrFromNetAddr(a net.Addr) (SocketAddr, bool) {
	switch a := a.(type) {
	case SocketAddr:
		return a, true
	case *SocketAddr:
		if a == nil {
			return SocketAddr{}, false
		}
		return *a, true
	case *net.TCPAddr:
		return SocketAddrFromTCPAddr(a)
	case *net.UDPAddr:
		if a == nil {
			return SocketAddr{}, false
		}
		return fromNetIP(a.IP, a.Port)
	case interface{ AddrPort() netip.AddrPort }:
		ap := a.AddrPort()
		return SocketAddrFromAddrPort(ap), ap.IsValid()
	}
	return SocketAddr{}, false
}

func fromNetIP(ip net.IP, port int) (SocketAddr, bool) {
	a, ok := IPAddrFromNetIP(ip)
	if !ok || port < 0 || port > math.MaxUint16 {
		return SocketAddr{}, false
	}
	return SocketAddrFrom(a, uint16(port)), true
}

// IP returns the IP address of s.
func (s SocketAddr) IP() IPAddr { return s.ip }

// Port returns the port of s.
func (s SocketAddr) Port() uint16 { return binary.BigEndian.Uint16(s.port[:]) }

// AddrPort returns s as a netip.AddrPort, with a 4-byte address if the address
// is IPv4.
func (s SocketAddr) AddrPort() netip.AddrPort {
	return netip.AddrPortFrom(s.ip.Addr(), s.Port())
}

// TCPAddr returns s as a *net.TCPAddr, equal to what net.TCPAddrFromAddrPort
// makes of [SocketAddr.AddrPort]. The caller owns the result. A result that
// escapes costs two allocations, which [SocketAddr.CopyTCPAddr] can save.
func (s SocketAddr) TCPAddr() *net.TCPAddr {
	return &net.TCPAddr{IP: s.ip.NetIP(), Port: int(s.Port())}
}

// CopyTCPAddr sets t to s. It writes to the array under t.IP if that has room
// for the address, and else allocates a new one.
func (s SocketAddr) CopyTCPAddr(t *net.TCPAddr) {
	t.IP = s.ip.AppendNetIP(t.IP[:0])
	t.Port = int(s.Port())
	t.Zone = ""
}

// Network returns "tcp", the network that net/http, gRPC and loggers expect of
// the address of a stream connection.
func (SocketAddr) Network() string { return "tcp" }

// Compare returns -1, 0 or 1 as s sorts before, with or after o: by
// [IPAddr.Compare], then by port.
func (s SocketAddr) Compare(o SocketAddr) int {
	if c := s.ip.Compare(o.ip); c != 0 {
		return c
	}
	return cmp.Compare(s.Port(), o.Port())
}
