package addr

import (
	"bytes"
	"net"
	"net/netip"
)

// IPAddr is an IPv4 or IPv6 address without a zone, in 16 bytes.
//
// The zero value is the IPv6 unspecified address, ::. Values are comparable
// and immutable but for the Unmarshal methods.
type IPAddr struct {
	// b is the address in network order, IPv4 mapped into ::ffff:0:0/96.
	// Bytes, not two uint64: the type is overlaid on received bytes, which have
	// any alignment.
	b [16]byte
}

// mapped is the prefix ::ffff:0:0/96, which holds the IPv4 addresses
// (RFC 4291, section 2.5.5.2).
var mapped = [12]byte{10: 0xff, 11: 0xff}

// IPAddrFrom16 returns the address with the bytes b, in network order.
func IPAddrFrom16(b [16]byte) IPAddr { return IPAddr{b} }

// IPAddrFrom4 returns the IPv4 address with the bytes b, in network order.
func IPAddrFrom4(b [4]byte) IPAddr {
	return IPAddr{[16]byte{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}}
}

// IPAddrFromAddr returns a as an IPAddr. The zone is dropped, and the invalid
// zero netip.Addr becomes ::.
func IPAddrFromAddr(a netip.Addr) IPAddr { return IPAddr{a.As16()} }

// IPAddrFromNetIP returns ip as an IPAddr, and reports whether ip is an address:
// 4 or 16 bytes long. It keeps no reference to ip.
func IPAddrFromNetIP(ip net.IP) (IPAddr, bool) {
	switch len(ip) {
	case net.IPv4len:
		return IPAddrFrom4([4]byte(ip)), true
	case net.IPv6len:
		return IPAddrFrom16([16]byte(ip)), true
	}
	return IPAddr{}, false
}

// As16 returns the bytes of a in network order, an IPv4 address in its mapped
// form.
func (a IPAddr) As16() [16]byte { return a.b }

// Addr returns a as a netip.Addr, which is a 4-byte address if [IPAddr.Is4].
func (a IPAddr) Addr() netip.Addr { return netip.AddrFrom16(a.b).Unmap() }

// NetIP returns a as a net.IP, 4 bytes long if [IPAddr.Is4] and 16 otherwise.
// The caller owns the result.
func (a IPAddr) NetIP() net.IP { return a.AppendNetIP(make(net.IP, 0, net.IPv6len)) }

// AppendNetIP appends the 4 or 16 bytes of [IPAddr.NetIP] to ip.
func (a IPAddr) AppendNetIP(ip net.IP) net.IP {
	if a.Is4() {
		return append(ip, a.b[12:]...)
	}
	return append(ip, a.b[:]...)
}

// Is4 reports whether a is an IPv4 address, which is the same as an
// IPv4-mapped IPv6 address.
func (a IPAddr) Is4() bool { return [12]byte(a.b[:12]) == mapped }

// IsUnspecified reports whether a is :: or 0.0.0.0.
func (a IPAddr) IsUnspecified() bool { return a == IPAddr{} || a == IPAddrFrom4([4]byte{}) }

// IsLoopback reports whether a is ::1 or in 127.0.0.0/8.
func (a IPAddr) IsLoopback() bool { return a.Addr().IsLoopback() }

// Compare returns -1, 0 or 1 as a sorts before, with or after o: the order of
// the 16 bytes. It is not the order of netip.Addr, which puts all IPv4
// addresses first; here they stand between ::fffe:ffff:ffff and ::1:0:0:0.
func (a IPAddr) Compare(o IPAddr) int { return bytes.Compare(a.b[:], o.b[:]) }
