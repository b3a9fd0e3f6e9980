package addr

// maxIPText is the length of the longest text of an IPAddr: eight groups of
// four digits and seven colons.
const maxIPText = 8*4 + 7

// ParseIPAddr parses s as an IPv4 address in dotted decimal or as an IPv6
// address (RFC 4291, section 2.2). Brackets, a zone, space and leading zeros in
// a decimal number are refused. The error is a *[ParseError].
func ParseIPAddr(s string) (IPAddr, error) {
	a, reason := parseIP(s)
	if reason != "" {
		return IPAddr{}, newParseError(kindIP, s, reason)
	}
	return a, nil
}

// MustParseIPAddr is [ParseIPAddr] for tests and constants: it panics where
// that returns an error.
func MustParseIPAddr(s string) IPAddr {
	a, err := ParseIPAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

// String returns the text of a: dotted decimal for IPv4, otherwise the canonical
// form of RFC 5952.
func (a IPAddr) String() string { return string(a.AppendTo(make([]byte, 0, maxIPText))) }

// AppendTo appends the text that [IPAddr.String] returns to b.
func (a IPAddr) AppendTo(b []byte) []byte { return a.Addr().AppendTo(b) }

// AppendText implements [encoding.TextAppender] by [IPAddr.AppendTo]. The error
// is always nil.
func (a IPAddr) AppendText(b []byte) ([]byte, error) { return a.AppendTo(b), nil }

// MarshalText implements [encoding.TextMarshaler]. The error is always nil.
func (a IPAddr) MarshalText() ([]byte, error) {
	return a.AppendTo(make([]byte, 0, maxIPText)), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]: it accepts what
// [ParseIPAddr] accepts. On an error a is left as it was. It keeps no reference
// to text.
func (a *IPAddr) UnmarshalText(text []byte) error {
	v, reason := parseIP(text)
	if reason != "" {
		return newParseError(kindIP, text, reason)
	}
	*a = v
	return nil
}

// AppendBinary implements [encoding.BinaryAppender]: it appends the 16 bytes of
// [IPAddr.As16]. The error is always nil.
func (a IPAddr) AppendBinary(b []byte) ([]byte, error) { return append(b, a.b[:]...), nil }

// MarshalBinary implements [encoding.BinaryMarshaler] as
// [IPAddr.AppendBinary] does.
func (a IPAddr) MarshalBinary() ([]byte, error) {
	return a.AppendBinary(make([]byte, 0, len(a.b)))
}

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. It takes exactly 16
// bytes, of any value; otherwise it returns a *[LengthError] and leaves a as it
// was. It keeps no reference to b.
func (a *IPAddr) UnmarshalBinary(b []byte) error {
	if len(b) != len(a.b) {
		return &LengthError{Kind: kindIP, Got: len(b), Want: len(a.b)}
	}
	a.b = [16]byte(b)
	return nil
}
