package addr

import "math"

// The parsers below are not netip's, for two reasons. netip.ParseAddr keeps its
// argument, so UnmarshalText would have to allocate a string for it. And its
// treatment of zones is another one, and changed between Go releases for mapped
// addresses. In all else they agree with netip, which the tests use as the
// oracle.
//
// Each returns a reason, "" for success, in place of an error: only the
// exported functions know the whole input that the error is to hold. The address
// means nothing beside a reason.

// text is what the parsers read. They keep no reference to it.
type text interface{ string | []byte }

// unexpected is the reason for which c cannot stand where it stands.
func unexpected(c byte) string {
	if c == '%' {
		return "zone not allowed"
	}
	return "unexpected character"
}

// parseIP parses all of s as an IPv4 or IPv6 address.
func parseIP[T text](s T) (a IPAddr, reason string) {
	// The first separator tells the family: an IPv6 address that ends in
	// dotted decimal has a colon before the dots.
	for i := range len(s) {
		switch s[i] {
		case '.':
			return parse4(s)
		case ':':
			return parse6(s)
		}
	}
	return IPAddr{}, "neither IPv4 nor IPv6"
}

// parse4 parses all of s as dotted decimal: four numbers from 0 to 255 without
// leading zeros.
func parse4[T text](s T) (a IPAddr, reason string) {
	var (
		b      [4]byte
		field  int // index in b of the number being read
		value  int // of that number so far
		digits int // of that number so far
	)
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			if digits > 0 && value == 0 {
				return IPAddr{}, "IPv4 number has a leading zero"
			}
			value = value*10 + int(c-'0')
			digits++
			if value > math.MaxUint8 {
				return IPAddr{}, "IPv4 number above 255"
			}
		case c == '.' && digits == 0:
			return IPAddr{}, "empty IPv4 number"
		case c == '.' && field == 3:
			return IPAddr{}, "more than four IPv4 numbers"
		case c == '.':
			b[field] = byte(value)
			field++
			value, digits = 0, 0
		default:
			return IPAddr{}, unexpected(c)
		}
	}
	if field < 3 || digits == 0 {
		return IPAddr{}, "fewer than four IPv4 numbers"
	}
	b[3] = byte(value)
	return IPAddrFrom4(b), ""
}

// parse6 parses all of s as an IPv6 address without a zone: eight groups, of which
// one "::" may stand for one or more that are zero.
func parse6[T text](s T) (a IPAddr, reason string) {
	gap := indexGap(s)
	if gap < 0 {
		n, reason := parseGroups(&a.b, s)
		if reason == "" && n < len(a.b) {
			reason = "fewer than eight IPv6 groups"
		}
		return a, reason
	}
	if index(s[:gap], '.') >= 0 {
		return IPAddr{}, `IPv4 address before "::"`
	}
	head, reason := parseGroups(&a.b, s[:gap])
	if reason != "" {
		return IPAddr{}, reason
	}
	var tail [16]byte
	n, reason := parseGroups(&tail, s[gap+2:])
	if reason != "" {
		return IPAddr{}, reason
	}
	if head+n > len(a.b)-2 {
		return IPAddr{}, `nothing left for "::" to stand for`
	}
	copy(a.b[len(a.b)-n:], tail[:n])
	return a, ""
}

// parseGroups parses all of s as groups with a colon between two, the last two groups
// perhaps in dotted decimal. It returns how many bytes of dst it has set. No group
// at all is right for what stands beside a "::".
func parseGroups[T text](dst *[16]byte, s T) (n int, reason string) {
	for i := 0; i < len(s); {
		if n == len(dst) {
			return n, "more than eight IPv6 groups"
		}
		group, digits := parseGroup(s[i:])
		end := i + digits
		switch {
		case digits > 4:
			return n, "IPv6 group longer than four digits"
		case digits == 0:
			return n, unexpected(s[i])
		case end < len(s) && s[end] == '.':
			if n > len(dst)-4 {
				return n, "no room for an IPv4 address"
			}
			v4, reason := parse4(s[i:])
			return n + copy(dst[n:], v4.b[12:]), reason
		case end < len(s) && s[end] != ':':
			return n, unexpected(s[end])
		case end == len(s)-1:
			return n, "IPv6 address ends in one colon"
		}
		dst[n], dst[n+1] = byte(group>>8), byte(group)
		n += 2
		i = end + 1
	}
	return n, ""
}

// parseGroup reads the hexadecimal digits that s begins with, five at most, which is
// one more than a group may have. It returns their value and number.
func parseGroup[T text](s T) (value, digits int) {
	for digits < len(s) && digits < 5 {
		var d byte
		switch c := s[digits]; {
		case '0' <= c && c <= '9':
			d = c - '0'
		case 'a' <= c && c <= 'f':
			d = c - 'a' + 10
		case 'A' <= c && c <= 'F':
			d = c - 'A' + 10
		default:
			return value, digits
		}
		value = value<<4 | int(d)
		digits++
	}
	return value, digits
}

// parseSocket parses all of s as ipv4:port or [ipv6]:port.
func parseSocket[T text](s T) (a SocketAddr, reason string) {
	var ip IPAddr
	var rest T // from the colon before the port on
	if len(s) > 0 && s[0] == '[' {
		end := index(s, ']')
		if end < 0 {
			return SocketAddr{}, `missing "]"`
		}
		ip, reason = parseZoned6(s[1:end])
		rest = s[end+1:]
	} else {
		colon := index(s, ':')
		if colon < 0 {
			return SocketAddr{}, "missing port"
		}
		if index(s[colon+1:], ':') >= 0 {
			return SocketAddr{}, "IPv6 address without brackets"
		}
		ip, reason = parse4(s[:colon])
		rest = s[colon:]
	}
	if reason != "" {
		return SocketAddr{}, reason
	}
	if len(rest) == 0 || rest[0] != ':' {
		return SocketAddr{}, "missing port"
	}
	port, ok := parseDecimal(rest[1:], math.MaxUint16)
	if !ok {
		return SocketAddr{}, "port not a decimal number from 0 to 65535"
	}
	return SocketAddrFrom(ip, uint16(port)), ""
}

// parseZoned6 parses all of s as an IPv6 address with an optional decimal zone,
// which it drops.
func parseZoned6[T text](s T) (a IPAddr, reason string) {
	if z := index(s, '%'); z >= 0 {
		if _, ok := parseDecimal(s[z+1:], math.MaxUint32); !ok {
			return IPAddr{}, "zone not a decimal number below 2^32"
		}
		s = s[:z]
	}
	return parse6(s)
}

// parseDecimal parses all of s as a decimal number of at most limit, with any
// number of leading zeros and no sign.
func parseDecimal[T text](s T, limit uint64) (v uint64, ok bool) {
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if v = v*10 + uint64(c-'0'); v > limit {
			return 0, false
		}
	}
	return v, len(s) > 0
}

// index returns the index of the first c in s, or -1.
func index[T text](s T, c byte) int {
	for i := range len(s) {
		if s[i] == c {
			return i
		}
	}
	return -1
}

// indexGap returns the index of the first "::" in s, or -1.
func indexGap[T text](s T) int {
	for i := 1; i < len(s); i++ {
		if s[i-1] == ':' && s[i] == ':' {
			return i - 1
		}
	}
	return -1
}
