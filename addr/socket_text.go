package addr

import "net"

// maxSocketText is the length of the longest text of a SocketAddr: an IPv6
// address in brackets, a colon and five digits.
const maxSocketText = maxIPText + len("[]:65535")

// ParseSocketAddr parses s as ipv4:port or [ipv6]:port. The IP part is as in
// [ParseIPAddr], but in brackets a decimal zone below 2^32 is accepted and
// dropped. The port is decimal, 0 to 65535, and may have leading zeros; service
// and host names are refused. The error is a *[ParseError].
func ParseSocketAddr(s string) (SocketAddr, error) {
	a, reason := parseSocket(s)
	if reason != "" {
		return SocketAddr{}, newParseError(kindSocket, s, reason)
	}
	return a, nil
}

// MustParseSocketAddr is [ParseSocketAddr] for tests and constants: it panics
// where that returns an error.
func MustParseSocketAddr(s string) SocketAddr {
	a, err := ParseSocketAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

// String returns the text of s: 1.2.3.4:80 or [2001:db8::1]:80.
func (s SocketAddr) String() string { return string(s.AppendTo(make([]byte, 0, maxSocketText))) }

// AppendTo appends the text that [SocketAddr.String] returns to b.
func (s SocketAddr) AppendTo(b []byte) []byte { return s.AddrPort().AppendTo(b) }

// AppendText implements [encoding.TextAppender] by [SocketAddr.AppendTo]. The
// error is always nil.
func (s SocketAddr) AppendText(b []byte) ([]byte, error) { return s.AppendTo(b), nil }

// MarshalText implements [encoding.TextMarshaler]. The error is always nil.
func (s SocketAddr) MarshalText() ([]byte, error) {
	return s.AppendTo(make([]byte, 0, maxSocketText)), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]: it accepts what
// [ParseSocketAddr] accepts. On an error s is left as it was. It keeps no
// reference to text.
func (s *SocketAddr) UnmarshalText(text []byte) error {
	v, reason := parseSocket(text)
	if reason != "" {
		return newParseError(kindSocket, text, reason)
	}
	*s = v
	return nil
}

// AppendBinary implements [encoding.BinaryAppender]: it appends the 18 bytes
// that the address has on the wire, IP then port, in network order. The error is
// always nil.
func (s SocketAddr) AppendBinary(b []byte) ([]byte, error) {
	return append(append(b, s.ip.b[:]...), s.port[:]...), nil
}

// MarshalBinary implements [encoding.BinaryMarshaler] as
// [SocketAddr.AppendBinary] does.
func (s SocketAddr) MarshalBinary() ([]byte, error) {
	return s.AppendBinary(make([]byte, 0, socketAddrLen))
}

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. It takes exactly 18
// bytes, of any value; otherwise it returns a *[LengthError] and leaves s as it
// was. It keeps no reference to b.
func (s *SocketAddr) UnmarshalBinary(b []byte) error {
	if len(b) != socketAddrLen {
		return &LengthError{Kind: kindSocket, Got: len(b), Want: socketAddrLen}
	}
	s.ip.b = [16]byte(b[:16])
	s.port = [2]byte(b[16:])
	return nil
}

var _ net.Addr = SocketAddr{}
