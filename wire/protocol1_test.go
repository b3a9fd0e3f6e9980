package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vtmux/vtmux/addr"
)

// vector is a line of testdata/protocol1.tsv: a frame and what is in it.
type vector struct {
	name   string
	bytes  []byte
	fields string // key=value, with a space in between
}

// vectors reads testdata/protocol1.tsv.
func vectors(t testing.TB) (all []vector) {
	t.Helper()
	text, err := os.ReadFile("testdata/protocol1.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		columns := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		if len(columns) != 3 {
			t.Fatalf("%q has %d columns, want 3", line, len(columns))
		}
		b, err := hex.DecodeString(columns[1])
		if err != nil {
			t.Fatalf("%s: %v", columns[0], err)
		}
		all = append(all, vector{columns[0], b, columns[2]})
	}
	return all
}

// fieldMap takes fields apart. Each key must be one that the test asks for.
type fieldMap struct {
	t      testing.TB
	fields map[string]string
}

func (v vector) parse(t testing.TB) fieldMap {
	m := fieldMap{t, map[string]string{}}
	for f := range strings.SplitSeq(v.fields, " ") {
		key, value, ok := strings.Cut(f, "=")
		if _, twice := m.fields[key]; !ok || twice {
			t.Fatalf("%s: field %q", v.name, f)
		}
		m.fields[key] = value
	}
	return m
}

func (m fieldMap) text(key string) string {
	m.t.Helper()
	value, ok := m.fields[key]
	if !ok {
		m.t.Fatalf("no field %s in %v", key, m.fields)
	}
	delete(m.fields, key)
	return value
}

func (m fieldMap) uint(key string, bits int) uint64 {
	m.t.Helper()
	v, err := strconv.ParseUint(m.text(key), 10, bits)
	if err != nil {
		m.t.Fatal(err)
	}
	return v
}

// encode writes the frame with these fields to b.
func (m fieldMap) encode(b []byte) int {
	m.t.Helper()
	u32 := func(key string) uint32 { return uint32(m.uint(key, 32)) }
	if _, ok := m.fields["type"]; !ok {
		return PutPreface(b, Settings{
			uint16(m.uint("version", 16)), u32("window"), u32("conns"), uint16(m.uint("payload", 16)), u32("keepalive"),
		})
	}
	typ, flags, id := m.text("type"), m.text("flags"), ID(u32("id"))
	yours := Flags(0)
	if strings.HasPrefix(flags, "YOURS") {
		yours = FlagYours
	}
	switch typ + " " + strings.TrimPrefix(flags, "YOURS") {
	case "OPEN none":
		return PutOpen(b, id, addr.MustParseSocketAddr(m.text("addr")), []byte(m.text("metadata")))
	case "DATA none", "DATA ", "DATA FIN", "DATA |FIN":
		if strings.HasSuffix(flags, "FIN") {
			yours |= FlagFin
		}
		payload := m.text("payload")
		n := PutDataHeader(b, yours, id, len(payload))
		return n + copy(b[n:], payload)
	case "WINDOW none", "WINDOW ":
		return PutWindow(b, yours, id, m.uint("limit", 64))
	case "RESET none", "RESET ":
		return PutReset(b, yours, id, u32("code"))
	case "RESET |REFUSED":
		return PutRefused(b, id, u32("code"), m.text("reason"))
	case "STOP none", "STOP ":
		return PutStop(b, yours, id, u32("code"))
	case "PING none", "PING ACK":
		opaque, err := hex.DecodeString(m.text("opaque"))
		if err != nil {
			m.t.Fatal(err)
		}
		return PutPing(b, flags == "ACK", [8]byte(opaque))
	case "GOAWAY none":
		return PutGoAway(b, ID(u32("last")), u32("code"), m.text("text"))
	}
	m.t.Fatalf("no function writes a %s with flags %s", typ, flags)
	return 0
}

// describe is encode's inverse.
func describe(e event) string {
	s := fmt.Sprintf("type=%v flags=%v id=%d", e.header.Type, e.header.Flags, e.header.ID.Get())
	switch e.header.Type {
	case TypeOpen:
		s += fmt.Sprintf(" addr=%v metadata=%s", View[OpenBody](e.body).Addr, e.body[OpenBodyLen:])
	case TypeData:
		s += fmt.Sprintf(" payload=%s", e.body)
	case TypeWindow:
		s += fmt.Sprintf(" limit=%d", View[WindowBody](e.body).Limit.Get())
	case TypeReset, TypeStop:
		s += fmt.Sprintf(" code=%d", View[CodeBody](e.body).Code.Get())
		if e.header.Flags&FlagRefused != 0 {
			s += fmt.Sprintf(" reason=%s", Text(e.body[CodeBodyLen:]))
		}
	case TypePing:
		s += fmt.Sprintf(" opaque=%x", View[PingBody](e.body).Opaque)
	case TypeGoAway:
		g := View[GoAwayBody](e.body)
		s += fmt.Sprintf(" last=%d code=%d text=%s", g.LastID.Get(), g.Code.Get(), Text(e.body[GoAwayBodyLen:]))
	}
	return s
}

func TestEncodeVectors(t *testing.T) {
	for _, v := range vectors(t) {
		b := make([]byte, 100)
		m := v.parse(t)
		n := m.encode(b)
		if !bytes.Equal(b[:n], v.bytes) {
			t.Errorf("%s: %s is %x, want %x", v.name, v.fields, b[:n], v.bytes)
		}
		if len(m.fields) > 0 {
			t.Errorf("%s: fields %v say nothing", v.name, m.fields)
		}
	}
}

func TestDecodeVectors(t *testing.T) {
	for _, v := range vectors(t) {
		if v.name == "preface" {
			h := ViewVTHeader(v.bytes)
			s, err := ParsePreface(v.bytes[VTHeaderLen:])
			got := fmt.Sprintf("version=%d window=%d conns=%d payload=%d keepalive=%d",
				s.Version, s.InitialWindow, s.MaxConns, s.MaxPayload, s.KeepAlive)
			if !IsPreface(h) || int(h.Len.Get()) != len(v.bytes)-VTHeaderLen || err != nil || got != v.fields {
				t.Errorf("%s is %s, %v, want %s", v.name, got, err, v.fields)
			}
			continue
		}
		tr := tracker{t: t}
		tr.feed(v.bytes)
		tr.check(slowEvents(v.bytes))
		if len(tr.events) != 1 || describe(tr.events[0]) != v.fields {
			t.Errorf("%s: %d frames, %s, want %s", v.name, len(tr.events), describe(tr.events[0]), v.fields)
		}
	}
}

var hexBlock = regexp.MustCompile("(?m)^```hex ([^\n]*)\n((?s:.*?))^```$")

// TestVectorsAreThoseOfTheDocument compares the vectors with the examples in
// PROTOCOL.md: blocks with the info string "hex NAME".
func TestVectorsAreThoseOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	document := map[string]string{}
	for _, m := range hexBlock.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\r\n", "\n"), -1) {
		name, digits := strings.TrimSpace(m[1]), strings.ToLower(strings.Join(strings.Fields(m[2]), ""))
		if _, twice := document[name]; twice {
			t.Errorf("PROTOCOL.md has two examples %s", name)
		}
		document[name] = digits
	}
	var names []string
	for _, v := range vectors(t) {
		names = append(names, v.name)
		switch digits, ok := document[v.name]; {
		case !ok:
			t.Errorf("PROTOCOL.md has no example %s", v.name)
		case digits != hex.EncodeToString(v.bytes):
			t.Errorf("%s is %s in PROTOCOL.md, and %x here", v.name, digits, v.bytes)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(document)) {
		if !slices.Contains(names, name) {
			t.Errorf("PROTOCOL.md's example %s is not in testdata/protocol1.tsv", name)
		}
	}
	if unique := slices.Compact(slices.Sorted(slices.Values(names))); len(unique) != len(names) {
		t.Errorf("a name stands for two vectors: %v", names)
	}
}
