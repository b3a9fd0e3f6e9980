package addr

import (
	"encoding/hex"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// The files in testdata are what the Rust crate vt-muxer 0.1 printed. A row is an
// input in quotes, "ok" or "err", and for ok the bytes, Display, Debug, the family,
// and for a socket address IP and port. The lines without quotes are single facts.

func oracleLines(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) < 40 {
		t.Fatalf("%s has %d lines, too few to be the oracle", name, len(lines))
	}
	return lines
}

// oracleRow is a row of a file. The fields after ok are empty if ok is false.
type oracleRow struct {
	input, bytes, display, family, rest string
	ok                                  bool
	message                             string // if !ok
}

// parseOracleRow reports whether the line is a row.
func parseOracleRow(t *testing.T, line string) (r oracleRow, isRow bool) {
	t.Helper()
	if !strings.HasPrefix(line, `"`) {
		return oracleRow{}, false
	}
	f := strings.Split(line, "\t")
	input, err := strconv.Unquote(f[0])
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	r.input = input
	switch {
	case len(f) == 3 && f[1] == "err":
		r.message = f[2]
	case len(f) >= 6 && f[1] == "ok" && f[3] == f[4]:
		r.ok = true
		r.bytes, r.display, r.family = f[2], f[3], f[5]
		r.rest = strings.Join(f[6:], "\t")
	default:
		t.Fatalf("%q is not a row", line)
	}
	return r, true
}

// checkOracleError checks the error for an input that the crate refused.
func checkOracleError(t *testing.T, r oracleRow, err error) {
	t.Helper()
	pe, ok := err.(*ParseError)
	if !ok {
		t.Errorf("%q: error %v (%T), want a *ParseError", r.input, err, err)
		return
	}
	if "invalid "+pe.Kind+" syntax" != r.message || !strings.Contains(pe.Error(), r.message) {
		t.Errorf("%q: error %q, want it to contain %q", r.input, pe, r.message)
	}
	if pe.Input != r.input || pe.Reason == "" {
		t.Errorf("%q: error holds input %q and reason %q", r.input, pe.Input, pe.Reason)
	}
}

func TestIPAddrAgreesWithCrate(t *testing.T) {
	for _, line := range oracleLines(t, "addr-ip.tsv") {
		r, isRow := parseOracleRow(t, line)
		if !isRow {
			checkIPFact(t, line)
			continue
		}
		a, err := ParseIPAddr(r.input)
		var u IPAddr
		if uerr := u.UnmarshalText([]byte(r.input)); (uerr == nil) != (err == nil) || u != a {
			t.Errorf("%q: UnmarshalText gives %v, %v; ParseIPAddr %v, %v", r.input, u, uerr, a, err)
		}
		if !r.ok {
			checkOracleError(t, r, err)
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", r.input, err)
			continue
		}
		b := a.As16()
		if got := hex.EncodeToString(b[:]); got != r.bytes {
			t.Errorf("%q: bytes %s, want %s", r.input, got, r.bytes)
		}
		if got := a.String(); got != r.display {
			t.Errorf("%q: text %s, want %s", r.input, got, r.display)
		}
		if got := family(a); got != r.family {
			t.Errorf("%q: family %s, want %s", r.input, got, r.family)
		}
	}
}

func checkIPFact(t *testing.T, line string) {
	t.Helper()
	name, value, _ := strings.Cut(line, ": ")
	switch {
	case name == "sizes":
		checkSizes(t, value)
	case name == "eq mapped literal", name == "hash eq":
		a, b := MustParseIPAddr("1.2.3.4"), MustParseIPAddr("::ffff:1.2.3.4")
		if a != b || value != "true" {
			t.Errorf("%s: %v and %v are not one value", line, a, b)
		}
	case name == "Ord sort":
		list := strings.Split(value, " < ")
		for i, s := range list[1:] {
			a, b := MustParseIPAddr(list[i]), MustParseIPAddr(s)
			if a.Compare(b) != -1 || b.Compare(a) != 1 {
				t.Errorf("%v and %v compare as %d, and the other way as %d", a, b, a.Compare(b), b.Compare(a))
			}
		}
	case strings.HasPrefix(line, "ip lt "):
		for fact := range strings.SplitSeq(strings.TrimPrefix(line, "ip lt "), " ; ") {
			pair, want, _ := strings.Cut(fact, " ")
			l, r, _ := strings.Cut(pair, "<")
			if got := MustParseIPAddr(l).Compare(MustParseIPAddr(r)) < 0; strconv.FormatBool(got) != want {
				t.Errorf("%s is %v, want %s", pair, got, want)
			}
		}
	case strings.HasPrefix(line, "padded display"): // Rust's formatting, not the address's
	default:
		t.Errorf("no test for %q", line)
	}
}

func TestSocketAddrAgreesWithCrate(t *testing.T) {
	for _, line := range oracleLines(t, "addr-sock.tsv") {
		r, isRow := parseOracleRow(t, line)
		if !isRow {
			checkSocketFact(t, line)
			continue
		}
		a, err := ParseSocketAddr(r.input)
		var u SocketAddr
		if uerr := u.UnmarshalText([]byte(r.input)); (uerr == nil) != (err == nil) || u != a {
			t.Errorf("%q: UnmarshalText gives %v, %v; ParseSocketAddr %v, %v", r.input, u, uerr, a, err)
		}
		if !r.ok {
			checkOracleError(t, r, err)
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", r.input, err)
			continue
		}
		b, _ := a.MarshalBinary()
		if got := hex.EncodeToString(b); got != r.bytes {
			t.Errorf("%q: bytes %s, want %s", r.input, got, r.bytes)
		}
		if got := a.String(); got != r.display {
			t.Errorf("%q: text %s, want %s", r.input, got, r.display)
		}
		if got := family(a.IP()); got != r.family {
			t.Errorf("%q: family %s, want %s", r.input, got, r.family)
		}
		if got := "ip=" + a.IP().String() + " port=" + strconv.Itoa(int(a.Port())); got != r.rest {
			t.Errorf("%q: parts %s, want %s", r.input, got, r.rest)
		}
	}
}

func checkSocketFact(t *testing.T, line string) {
	t.Helper()
	name, value, _ := strings.Cut(line, ": ")
	switch {
	case name == "sizes":
		checkSizes(t, value)
	case strings.HasPrefix(line, "a=1.2.3.4:80 b=1.2.3.4:443"), name == "different ip":
		// The crate's <, > and partial_cmp leave the port out by mistake. Its cmp is
		// right, and it is what Compare follows.
		if !strings.HasSuffix(line, "cmp Less") {
			t.Fatalf("%q: no cmp", line)
		}
		a, b := MustParseSocketAddr("1.2.3.4:80"), MustParseSocketAddr("1.2.3.4:443")
		if a == b || a.Compare(b) != -1 || b.Compare(a) != 1 {
			t.Errorf("%v and %v compare as %d, and the other way as %d", a, b, a.Compare(b), b.Compare(a))
		}
	case name == "Ord sort":
		// The same mistake: ports are in the order of the input.
		list := strings.Split(value, " < ")
		for i, s := range list[1:] {
			a, b := MustParseSocketAddr(list[i]), MustParseSocketAddr(s)
			if a.IP() != b.IP() && (a.Compare(b) != -1 || b.Compare(a) != 1) {
				t.Errorf("%v and %v compare as %d, and the other way as %d", a, b, a.Compare(b), b.Compare(a))
			}
		}
	case strings.HasPrefix(line, "from_std [fe80::1%7]:9 -> [fe80::1]:9"):
		a := SocketAddrFromAddrPort(netip.MustParseAddrPort("[fe80::1%7]:9"))
		if a != MustParseSocketAddr("[fe80::1]:9") {
			t.Errorf("the zone is not dropped: %v", a)
		}
	case strings.HasPrefix(line, "from_std V6(::ffff:1.2.3.4)"):
		a := SocketAddrFromAddrPort(netip.MustParseAddrPort("[::ffff:1.2.3.4]:80"))
		if a.String() != "1.2.3.4:80" || a.AddrPort() != netip.MustParseAddrPort("1.2.3.4:80") {
			t.Errorf("a mapped address does not become IPv4: %v, %v", a, a.AddrPort())
		}
	case strings.HasPrefix(line, "padded"): // Rust's formatting, not the address's
	default:
		t.Errorf("no test for %q", line)
	}
}

func family(a IPAddr) string {
	if a.Is4() {
		return "v4"
	}
	return "v6"
}

// checkSizes checks the types against "IpAddr 16 align 1, SocketAddr 18 align 1".
func checkSizes(t *testing.T, want string) {
	t.Helper()
	ip, sock := reflect.TypeFor[IPAddr](), reflect.TypeFor[SocketAddr]()
	got := "IpAddr " + strconv.Itoa(int(ip.Size())) + " align " + strconv.Itoa(ip.Align()) +
		", SocketAddr " + strconv.Itoa(int(sock.Size())) + " align " + strconv.Itoa(sock.Align())
	if got != want {
		t.Errorf("sizes: %s, want %s", got, want)
	}
}
