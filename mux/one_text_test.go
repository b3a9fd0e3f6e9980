package mux

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// The tests of protocol 1 write frames as text, the same way for what a peer sends and
// for what it gets:
//
//	PREFACE v=1 window=65536 conns=65536 payload=65535 keepalive=0
//	OPEN 1 192.0.2.1:8080 "metadata"
//	DATA YOURS 1 "hi" FIN
//	FIN YOURS 1
//	WINDOW YOURS 1 81920
//	RESET YOURS 1 300
//	REFUSED 1 5 "busy"
//	STOP YOURS 1 9
//	PING 0102030405060708
//	ACK 0102030405060708
//	GOAWAY 7 2 "why"
//	UNKNOWN 200 1 "payload"
//	VT 192.0.2.1:8080 "payload"
//
// YOURS is as on the wire: the ID was allotted by the receiver of the frame. REFUSED
// always has it. An OPEN or VT without an address is of vtA; what PREFACE does not say
// is as above. A payload of many bytes that are all the same is 65536*x. What is too
// long for one DATA becomes several.

// A oneFrame is a frame of protocol 1, or of vt-muxer's, as the peer got it.
type oneFrame struct {
	at      time.Time // when its last byte came
	preface *wire.Settings
	vt      *vtFrame
	t       wire.FrameType
	flags   wire.Flags
	id      wire.ID
	body    string
}

// len returns the length of the payload.
func (f *oneFrame) len() int { return len(f.body) }

// whose returns YOURS as it stands in the text, and the ID.
func oneWhose(flags wire.Flags, id wire.ID) string {
	if flags&wire.FlagYours != 0 {
		return fmt.Sprintf("YOURS %d", id)
	}
	return fmt.Sprint(id)
}

// onePayload returns a payload's text.
func onePayload(s string) string {
	if len(s) > 16 && strings.Count(s, s[:1]) == len(s) {
		return fmt.Sprintf("%d*%s", len(s), s[:1])
	}
	return strconv.Quote(s)
}

// text returns the frame's text. A DATA with FIN is without it here.
func (f *oneFrame) text() string {
	switch {
	case f.preface != nil:
		s := f.preface
		return fmt.Sprintf("PREFACE v=%d window=%d conns=%d payload=%d keepalive=%d", s.Version, s.InitialWindow, s.MaxConns, s.MaxPayload, s.KeepAlive)
	case f.vt != nil && f.vt.data == "":
		return fmt.Sprintf("VT %v", f.vt.addr)
	case f.vt != nil:
		return fmt.Sprintf("VT %v %s", f.vt.addr, onePayload(f.vt.data))
	}
	b := []byte(f.body)
	whose := oneWhose(f.flags, f.id)
	quoted := func(rest []byte) string {
		if len(rest) == 0 {
			return ""
		}
		return " " + strconv.Quote(string(rest))
	}
	code := func() uint32 { return wire.View[wire.CodeBody](b).Code.Get() }
	switch f.t {
	case wire.TypeOpen:
		return fmt.Sprintf("OPEN %d %v%s", f.id, wire.View[wire.OpenBody](b).Addr, quoted(b[wire.OpenBodyLen:]))
	case wire.TypeData:
		return fmt.Sprintf("DATA %s %s", whose, onePayload(f.body))
	case wire.TypeWindow:
		return fmt.Sprintf("WINDOW %s %d", whose, wire.View[wire.WindowBody](b).Limit.Get())
	case wire.TypeReset:
		if f.flags&wire.FlagRefused != 0 {
			return fmt.Sprintf("REFUSED %d %d%s", f.id, code(), quoted(b[wire.CodeBodyLen:]))
		}
		return fmt.Sprintf("RESET %s %d", whose, code())
	case wire.TypeStop:
		return fmt.Sprintf("STOP %s %d", whose, code())
	case wire.TypePing:
		name := "PING"
		if f.flags&wire.FlagAck != 0 {
			name = "ACK"
		}
		return fmt.Sprintf("%s %x", name, b)
	case wire.TypeGoAway:
		g := wire.View[wire.GoAwayBody](b)
		return fmt.Sprintf("GOAWAY %d %d%s", g.LastID.Get(), g.Code.Get(), quoted(b[wire.GoAwayBodyLen:]))
	}
	return fmt.Sprintf("UNKNOWN %d %d %s", f.t, f.id, onePayload(f.body))
}

// isData reports whether f is a DATA.
func (f *oneFrame) isData() bool { return f.preface == nil && f.vt == nil && f.t == wire.TypeData }

// oneLines returns the frames' texts. How a connection's bytes are cut into DATA, and
// whether FIN comes with the last of them, is the sender's business: DATA that follow
// each other become one, and FIN a line of its own.
func oneLines(frames []oneFrame) (lines []string) {
	for i := 0; i < len(frames); i++ {
		f := frames[i]
		if !f.isData() {
			lines = append(lines, f.text())
			continue
		}
		same := func(g *oneFrame) bool {
			return g.isData() && g.id == f.id && (g.flags^f.flags)&wire.FlagYours == 0
		}
		body := f.body
		for f.flags&wire.FlagFin == 0 && i+1 < len(frames) && same(&frames[i+1]) {
			i++
			f = frames[i]
			body += f.body
		}
		f.body = body
		if body != "" || f.flags&wire.FlagFin == 0 {
			lines = append(lines, f.text())
		}
		if f.flags&wire.FlagFin != 0 {
			lines = append(lines, "FIN "+oneWhose(f.flags, f.id))
		}
	}
	return lines
}

// oneCanonical returns what oneLines would say of the frames that lines name. A line
// that ends in " *" stays as it is.
func oneCanonical(lines []string) (all []string) {
	for _, line := range lines {
		if strings.HasSuffix(line, " *") {
			all = append(all, line)
			continue
		}
		var frames []oneFrame
		d := oneDecoder{vt: strings.HasPrefix(line, "VT"), prefaced: !strings.HasPrefix(line, "PREFACE")}
		if err := d.feed(oneEncode(line), func(f oneFrame) { frames = append(frames, f) }); err != nil {
			panic(fmt.Sprintf("%s: %v", line, err))
		}
		all = append(all, oneLines(frames)...)
	}
	return all
}

// oneMatch reports whether got are the frames that want names.
func oneMatch(got, want []string) bool {
	return slices.EqualFunc(got, want, func(g, w string) bool {
		prefix, any := strings.CutSuffix(w, "*")
		return any && strings.HasSuffix(w, " *") && strings.HasPrefix(g+" ", prefix) || g == w
	})
}

// oneShort returns lines for people, one a line.
func oneShort(lines []string) string {
	var b strings.Builder
	for i, l := range lines {
		if len(lines) > 24 && i >= 8 && i < len(lines)-12 {
			if i == 8 {
				fmt.Fprintf(&b, "\n  ... %d more", len(lines)-20)
			}
			continue
		}
		if len(l) > 120 {
			l = fmt.Sprintf("%s... (%d bytes)", l[:100], len(l))
		}
		b.WriteString("\n  " + l)
	}
	if len(lines) == 0 {
		return "\n  nothing"
	}
	return b.String()
}

// A oneWords is the text of a frame, taken apart.
type oneWords struct {
	line   string
	fields []string // before the payload
	body   string   // the quoted payload, unquoted; or the repeated one
	fin    bool
}

func oneSplit(line string) oneWords {
	w := oneWords{line: line}
	head := line
	if i := strings.IndexByte(line, '"'); i >= 0 {
		q, err := strconv.QuotedPrefix(line[i:])
		if err != nil {
			panic(fmt.Sprintf("%s: %v", line, err))
		}
		w.body, _ = strconv.Unquote(q)
		head = line[:i] + line[i+len(q):]
	}
	for _, f := range strings.Fields(head) {
		count, c, repeated := strings.Cut(f, "*")
		n, err := strconv.Atoi(count)
		switch {
		case f == "FIN" && len(w.fields) > 0:
			w.fin = true
		case repeated && err == nil:
			w.body = strings.Repeat(c, n)
		default:
			w.fields = append(w.fields, f)
		}
	}
	return w
}

// next takes the next field.
func (w *oneWords) next() string {
	if len(w.fields) == 0 {
		panic(fmt.Sprintf("%s: a word is missing", w.line))
	}
	f := w.fields[0]
	w.fields = w.fields[1:]
	return f
}

func (w *oneWords) number() uint64 {
	n, err := strconv.ParseUint(w.next(), 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", w.line, err))
	}
	return n
}

func (w *oneWords) code() uint32 { return uint32(w.number()) }

// whose takes YOURS, if it is there, and the ID.
func (w *oneWords) whose() (flags wire.Flags, id wire.ID) {
	if len(w.fields) > 0 && w.fields[0] == "YOURS" {
		w.next()
		flags = wire.FlagYours
	}
	return flags, wire.ID(w.number())
}

// address takes an address, or returns vtA where there is none.
func (w *oneWords) address() addr.SocketAddr {
	if len(w.fields) == 0 {
		return vtA
	}
	return addr.MustParseSocketAddr(w.next())
}

func (w *oneWords) opaque() (o [8]byte) {
	if n, err := hex.Decode(o[:], []byte(w.next())); n != 8 || err != nil {
		panic(fmt.Sprintf("%s: %v", w.line, err))
	}
	return o
}

// oneEncode returns the frame that line names as it goes over the wire.
func oneEncode(line string) []byte {
	w := oneSplit(line)
	b := make([]byte, 66000)
	switch kind := w.next(); kind {
	case "PREFACE":
		return b[:wire.PutPreface(b, w.settings())]
	case "VT":
		return vtFrame{w.address(), w.body}.append(nil)
	case "OPEN":
		id := wire.ID(w.number())
		return b[:wire.PutOpen(b, id, w.address(), []byte(w.body))]
	case "DATA", "FIN":
		flags, id := w.whose()
		return oneData(flags, id, w.body, w.fin || kind == "FIN")
	case "WINDOW":
		flags, id := w.whose()
		return b[:wire.PutWindow(b, flags, id, w.number())]
	case "RESET":
		flags, id := w.whose()
		return b[:wire.PutReset(b, flags, id, w.code())]
	case "REFUSED":
		id := wire.ID(w.number())
		return b[:wire.PutRefused(b, id, w.code(), w.body)]
	case "STOP":
		flags, id := w.whose()
		return b[:wire.PutStop(b, flags, id, w.code())]
	case "PING", "ACK":
		return b[:wire.PutPing(b, kind == "ACK", w.opaque())]
	case "GOAWAY":
		last := wire.ID(w.number())
		return b[:wire.PutGoAway(b, last, w.code(), w.body)]
	case "UNKNOWN":
		t := wire.FrameType(w.number())
		n := wire.PutHeader(b, t, 0, len(w.body), wire.ID(w.number()))
		return b[:n+copy(b[n:], w.body)]
	}
	panic(fmt.Sprintf("%s: what kind of frame is that?", line))
}

// oneData returns DATA with body, as few as can be, with FIN on the last.
func oneData(flags wire.Flags, id wire.ID, body string, fin bool) (b []byte) {
	for {
		n := min(len(body), wire.MaxPayload)
		last := n == len(body)
		if last && fin {
			flags |= wire.FlagFin
		}
		var h [wire.HeaderLen]byte
		wire.PutDataHeader(h[:], flags, id, n)
		b = append(append(b, h[:]...), body[:n]...)
		if last {
			return b
		}
		body = body[n:]
	}
}

// settings takes the words of a PREFACE.
func (w *oneWords) settings() wire.Settings {
	s := wire.Settings{Version: 1, InitialWindow: 65536, MaxConns: 65536, MaxPayload: 65535}
	for len(w.fields) > 0 {
		key, value, _ := strings.Cut(w.next(), "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			panic(fmt.Sprintf("%s: %v", w.line, err))
		}
		switch key {
		case "v":
			s.Version = uint16(n)
		case "window":
			s.InitialWindow = uint32(n)
		case "conns":
			s.MaxConns = uint32(n)
		case "payload":
			s.MaxPayload = uint16(n)
		case "keepalive":
			s.KeepAlive = uint32(n)
		default:
			panic(fmt.Sprintf("%s: what is %q?", w.line, key))
		}
	}
	return s
}

// oneBytes returns the frames that lines name as they go over the wire.
func oneBytes(lines ...string) (b []byte) {
	for _, line := range lines {
		b = append(b, oneEncode(line)...)
	}
	return b
}

// A oneDecoder turns what a session writes into frames.
type oneDecoder struct {
	vt       bool // behind the preface, if there is one, the stream is vt-muxer's
	prefaced bool
	buf      []byte // of a preface or a frame of vt-muxer's
	dec      wire.Decoder
	cur      oneFrame // a DATA, or a frame of unknown type, whose payload is coming
	left     int      // how much of it
}

func (d *oneDecoder) feed(b []byte, emit func(oneFrame)) error {
	if d.vt || !d.prefaced {
		d.buf = append(d.buf, b...)
		b = nil
	}
	if !d.prefaced && len(d.buf) >= wire.VTHeaderLen {
		if h := wire.ViewVTHeader(d.buf); wire.IsPreface(h) {
			n, err := wire.PrefaceBodyLen(h)
			if err != nil || len(d.buf) < wire.VTHeaderLen+n {
				return err
			}
			s, err := wire.ParsePreface(d.buf[wire.VTHeaderLen : wire.VTHeaderLen+n])
			if err != nil {
				return err
			}
			emit(oneFrame{preface: &s})
			d.buf = d.buf[wire.VTHeaderLen+n:]
		} else {
			d.vt = true
		}
		d.prefaced = true
	}
	switch {
	case !d.prefaced:
		return nil
	case d.vt:
		frames, rest := vtDecode(d.buf)
		for _, f := range frames {
			emit(oneFrame{vt: &f})
		}
		d.buf = slices.Clone(rest)
		return nil
	case len(d.buf) > 0:
		b, d.buf = d.buf, nil
	}
	return d.frames(b, emit)
}

// frames is feed behind the preface.
func (d *oneDecoder) frames(b []byte, emit func(oneFrame)) error {
	for len(b) > 0 {
		h, body, n, err := d.dec.Next(b)
		if err != nil {
			return err
		}
		whole := false
		switch {
		case h == nil && d.left == 0: // a part of a header
		case h == nil:
			if body == nil {
				body = b[:n] // of a frame of unknown type
			}
			d.cur.body += string(body)
			d.left -= n
			whole = d.left == 0
		default:
			d.cur = oneFrame{t: h.Type, flags: h.Flags, id: wire.ID(h.ID.Get()), body: string(body)}
			d.left = int(h.Len.Get()) - len(body)
			whole = d.left == 0
		}
		b = b[n:]
		if whole {
			emit(d.cur)
		}
	}
	return nil
}

// TestOneText: each kind of frame is what its text says, cut anywhere.
func TestOneText(t *testing.T) {
	lines := []string{
		"PREFACE v=7 window=65537 conns=200 payload=20000 keepalive=15000",
		"OPEN 1 192.0.2.1:8080", `OPEN 3 [2001:db8::1]:443 "user = \"7\""`,
		`DATA 1 "hi there"`, `DATA YOURS 3 "x"`, "FIN YOURS 3", "DATA 2 70*x", "FIN 2", `DATA 1 ""`,
		"WINDOW YOURS 1 81920", "RESET 1 300", "RESET YOURS 1 300", `REFUSED 1 5 "busy"`, "REFUSED 1 5",
		"STOP 1 9", "STOP YOURS 1 9", "PING 0102030405060708", "ACK 0102030405060708",
		"GOAWAY 4294967295 0", `GOAWAY 7 2 "no, no"`, `UNKNOWN 200 5 "what"`,
	}
	stream := oneBytes(lines...)
	for cut := range stream {
		var d oneDecoder
		var frames []oneFrame
		for _, b := range [][]byte{stream[:cut], stream[cut:]} {
			if err := d.feed(b, func(f oneFrame) { frames = append(frames, f) }); err != nil {
				t.Fatal(err)
			}
		}
		if got := oneLines(frames); !slices.Equal(got, lines) {
			t.Fatalf("cut at %d:%s\nwant%s", cut, oneShort(got), oneShort(lines))
		}
	}
	got := oneCanonical([]string{"OPEN 1", `DATA 1 "hi" FIN`, "GOAWAY 1 2 *"})
	want := []string{"OPEN 1 192.0.2.1:8080", `DATA 1 "hi"`, "FIN 1", "GOAWAY 1 2 *"}
	if !slices.Equal(got, want) {
		t.Errorf("got%s\nwant%s", oneShort(got), oneShort(want))
	}
	for _, m := range []struct {
		got, want string
		match     bool
	}{
		{`GOAWAY 1 2 "text"`, "GOAWAY 1 2 *", true},
		{"GOAWAY 1 2", "GOAWAY 1 2 *", true},
		{"GOAWAY 1 22", "GOAWAY 1 2 *", false},
		{"DATA 1 20*x", "DATA 1 20*x", true},
		{"DATA 1 20*y", "DATA 1 20*x", false},
	} {
		if oneMatch([]string{m.got}, []string{m.want}) != m.match {
			t.Errorf("%q is %q: %v, want %v", m.got, m.want, !m.match, m.match)
		}
	}
}
