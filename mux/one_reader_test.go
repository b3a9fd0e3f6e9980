package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// What follows, down to the end of oneFollower, was written from docs/PROTOCOL.md, 2,
// without package wire. It is what somebody else would write.

// Types and flags of frames (2.3).
const (
	oneOpen, docData, oneWindow, oneReset, oneStop, onePing, oneGoAway byte = 1, 2, 3, 4, 5, 6, 7

	oneYours, oneFin, oneRefused, oneAck byte = 1, 2, 4, 8
)

// A docFrame is a frame with its fields apart (2.4). Those that its type lacks are 0.
type docFrame struct {
	typ, flags byte
	id         uint32

	addr   [18]byte // OPEN: IP and port
	limit  uint64   // WINDOW
	code   uint32   // RESET, STOP, GOAWAY
	opaque [8]byte  // PING
	lastID uint32   // GOAWAY
	rest   string   // DATA: payload; OPEN: metadata; RESET: reason; GOAWAY: text; unknown: all
}

func (f docFrame) String() string {
	names := []string{"0", "OPEN", "DATA", "WINDOW", "RESET", "STOP", "PING", "GOAWAY"}
	name := fmt.Sprint(f.typ)
	if int(f.typ) < len(names) {
		name = names[f.typ]
	}
	for i, flag := range []string{"YOURS", "FIN", "REFUSED", "ACK"} {
		if f.flags&(1<<i) != 0 {
			name += " " + flag
		}
	}
	return fmt.Sprintf("%s id %d limit %d code %d last %d opaque %x, %d bytes", name, f.id, f.limit, f.code, f.lastID, f.opaque, len(f.rest))
}

// A onePreface is the body of a preface (2.2).
type onePreface struct {
	version              uint16
	window, conns        uint32
	maxPayload, reserved uint16
	keepAlive            uint32
}

var (
	errOneShort     = errors.New("the bytes end in a frame")
	errOneMalformed = errors.New("malformed")
)

// readOnePreface takes a preface off the front of b.
func readOnePreface(b []byte) (p onePreface, rest []byte, err error) {
	if len(b) < 20 {
		return p, b, errOneShort
	}
	length := int(b[18])<<8 | int(b[19])
	if !bytes.Equal(b[:18], make([]byte, 18)) || length < 24 || length > 1024 {
		return p, b, errOneMalformed
	}
	if len(b) < 20+length {
		return p, b, errOneShort
	}
	body := b[20 : 20+length]
	be := binary.BigEndian
	p = onePreface{be.Uint16(body[6:]), be.Uint32(body[8:]), be.Uint32(body[12:]), be.Uint16(body[16:]), be.Uint16(body[18:]), be.Uint32(body[20:])}
	if string(body[:6]) != "vtmux\n" || p.version < 1 || p.window < 65536 || p.conns < 128 || p.maxPayload < 16384 {
		return p, b, errOneMalformed
	}
	return p, b[20+length:], nil
}

// readOneFrame takes a frame off the front of b, or says errOneShort.
func readOneFrame(b []byte) (f docFrame, rest []byte, err error) {
	if len(b) < 8 {
		return f, b, errOneShort
	}
	be := binary.BigEndian
	n := int(be.Uint16(b[2:]))
	f = docFrame{typ: b[0], flags: b[1], id: be.Uint32(b[4:])}
	if err := f.checkHeader(n); err != nil {
		return f, b, err
	}
	if len(b) < 8+n {
		return f, b, errOneShort
	}
	body, rest := b[8:8+n], b[8+n:]
	fixed := 0
	switch f.typ {
	case oneOpen:
		fixed = copy(f.addr[:], body)
	case oneWindow:
		if f.limit, fixed = be.Uint64(body), 8; f.limit >= 1<<63 {
			return f, b, errOneMalformed
		}
	case oneReset, oneStop:
		f.code, fixed = be.Uint32(body), 4
	case onePing:
		fixed = copy(f.opaque[:], body)
	case oneGoAway:
		f.lastID, f.code, fixed = be.Uint32(body), be.Uint32(body[4:]), 8
	}
	f.rest = string(body[fixed:])
	return f, rest, nil
}

// checkHeader holds a header with n bytes of payload against the table of 2.3.
func (f *docFrame) checkHeader(n int) error {
	type row struct {
		least, most int
		flags       byte
		session     bool // the ID is 0, and else it is not
	}
	rows := map[byte]row{
		oneOpen:   {18, 1042, 0, false},
		docData:   {0, 65535, oneYours | oneFin, false},
		oneWindow: {8, 8, oneYours, false},
		oneReset:  {4, 4, oneYours, false},
		oneStop:   {4, 4, oneYours, false},
		onePing:   {8, 8, oneAck, true},
		oneGoAway: {8, 264, 0, true},
	}
	r, known := rows[f.typ]
	switch {
	case f.typ == 0:
		return errOneMalformed
	case !known:
		return nil
	case f.typ == oneReset && f.flags == oneYours|oneRefused:
		r = row{4, 260, f.flags, false}
	}
	if n < r.least || n > r.most || f.flags&^r.flags != 0 || r.session != (f.id == 0) {
		return errOneMalformed
	}
	return nil
}

// A oneFollower holds what two ends send, in the order in which they send it, against
// what a sender makes sure of (2.4 to 2.9). What it can't know is what a sender has
// received, but only what has been sent to it.
type oneFollower struct {
	ends  [2]oneEnd
	conns map[docKey]*oneConn
}

type docKey struct {
	opener int
	id     uint32
}

type oneEnd struct {
	preface onePreface // zero: none yet
	highest uint32     // ID of its own
	goAway  *docFrame  // its last
	pings   []docFrame // of it, not answered yet
	leaving bool       // a PING of it came behind its GOAWAY
	shut    bool       // it has answered such a PING
}

type oneConn struct{ halves [2]docHalf } // that of each end's sending

type docHalf struct {
	sent, limit    int64 // bytes; limit is what WINDOW granted
	began          bool  // a frame of this end came
	ended, stopped bool  // stopped: the other end has sent STOP
	refused        bool  // the connection, by this end
	code           uint32
}

// follow takes the next frame, which end e has sent.
func (w *oneFollower) follow(e int, f docFrame) error {
	if f.typ > oneGoAway {
		return nil
	}
	me, peer := &w.ends[e], &w.ends[1-e]
	switch f.typ {
	case onePing:
		return w.ping(me, peer, f)
	case oneGoAway:
		if me.goAway != nil && f.lastID > me.goAway.lastID {
			return errors.New("the last ID rises")
		}
		me.goAway = &f
		return nil
	case oneOpen:
		if f.id <= me.highest || me.shut || me.goAway != nil {
			return errors.New("an OPEN whose ID does not rise, or after the end of opening")
		}
		me.highest = f.id
		w.conns[docKey{e, f.id}] = new(oneConn)
		return nil
	}
	key := docKey{e, f.id}
	if f.flags&oneYours != 0 {
		key.opener = 1 - e
	}
	c := w.conns[key]
	if c == nil {
		return errors.New("a frame for an ID that was not opened")
	}
	own, other := &c.halves[e], &c.halves[1-e]
	defer func() { own.began = true }()
	switch f.typ {
	case oneWindow:
		if int64(f.limit) <= max(other.limit, int64(me.preface.window)) || other.stopped {
			return errors.New("a WINDOW that does not rise, or after STOP")
		}
		other.limit = int64(f.limit)
	case oneStop:
		if other.stopped || own.refused {
			return errors.New("a second STOP")
		}
		other.stopped, other.code = true, f.code
	case docData, oneReset:
		return own.send(f, peer.preface, key.opener == e)
	}
	return nil
}

// send follows a DATA or RESET, which goes on with its half or ends it.
func (h *docHalf) send(f docFrame, peer onePreface, opener bool) error {
	if f.typ == docData {
		h.sent += int64(len(f.rest))
	}
	refuses := f.flags&oneRefused != 0
	switch {
	case h.ended:
		return errors.New("a frame of a half that has ended")
	case f.typ == docData && h.sent > max(65536, int64(peer.window), h.limit):
		return errors.New("above the limit")
	case f.typ == docData && len(f.rest) > max(16384, int(peer.maxPayload)):
		return errors.New("more payload than announced")
	case refuses && (opener || h.began):
		return errors.New("a refusal by the opener, or too late")
	}
	h.ended = f.typ == oneReset || f.flags&oneFin != 0
	h.refused = refuses
	return nil
}

func (w *oneFollower) ping(me, peer *oneEnd, f docFrame) error {
	if f.flags&oneAck == 0 {
		if len(me.pings) > 0 {
			return errors.New("a PING while one is unanswered")
		}
		me.pings, me.leaving = append(me.pings, f), me.goAway != nil
		return nil
	}
	if len(peer.pings) == 0 || peer.pings[0].opaque != f.opaque {
		return errors.New("an answer to no PING")
	}
	me.shut, peer.pings = me.shut || peer.leaving, nil
	return nil
}

// end reports what is open though the session has ended well.
func (w *oneFollower) end() error {
	for k, c := range w.conns {
		for e, h := range c.halves {
			if !h.ended && !c.halves[1-e].refused {
				return fmt.Errorf("connection %d of end %d: the half of end %d has not ended", k.id, k.opener, e)
			}
		}
	}
	return nil
}

// ---- Recording.

// A tape is what two ends have written, in order.
type tape struct {
	mu     sync.Mutex
	pieces []tapePiece
}

type tapePiece struct {
	end int
	b   []byte
}

// A tapedConn records what is written to it.
type tapedConn struct {
	net.Conn
	tape *tape
	end  int
}

// tapedPair is a net.Pipe whose both directions are recorded.
func tapedPair() (a, b net.Conn, tp *tape) {
	tp = new(tape)
	a, b = net.Pipe()
	return &tapedConn{a, tp, 0}, &tapedConn{b, tp, 1}, tp
}

func (c *tapedConn) Write(p []byte) (int, error) {
	c.tape.mu.Lock() // before the peer can have it and answer
	i := len(c.tape.pieces)
	c.tape.pieces = append(c.tape.pieces, tapePiece{c.end, bytes.Clone(p)})
	c.tape.mu.Unlock()
	n, err := c.Conn.Write(p)
	c.tape.mu.Lock()
	c.tape.pieces[i].b = c.tape.pieces[i].b[:n]
	c.tape.mu.Unlock()
	return n, err
}

// stream returns all that one end has written.
func (tp *tape) stream(end int) (b []byte) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for _, p := range tp.pieces {
		if p.end == end {
			b = append(b, p.b...)
		}
	}
	return b
}

// sentFrame is a frame and who has sent it.
type sentFrame struct {
	end int
	docFrame
}

// frames reads the tape with the reader of this file: each frame counts as sent with
// its last byte. It fails the test if the tape does not end between frames.
func (tp *tape) frames(t *testing.T) (prefaces [2]onePreface, all []sentFrame) {
	t.Helper()
	var rest [2][]byte
	var begun [2]bool
	for _, p := range tp.pieces {
		b := append(rest[p.end], p.b...)
		var err error
		if !begun[p.end] {
			if prefaces[p.end], b, err = readOnePreface(b); err == nil {
				begun[p.end] = true
			}
		}
		for err == nil {
			var f docFrame
			if f, b, err = readOneFrame(b); err == nil {
				all = append(all, sentFrame{p.end, f})
			}
		}
		if err != errOneShort {
			t.Fatalf("end %d: %v at %x", p.end, err, b[:min(len(b), 40)])
		}
		rest[p.end] = b
	}
	for end, b := range rest {
		if len(b) > 0 || !begun[end] {
			t.Fatalf("the stream of end %d ends in a frame: %x", end, b[:min(len(b), 40)])
		}
	}
	return prefaces, all
}

// ---- The tests.

// TestIndependentReaderFollowsEveryFrame records sessions in which each end sends
// every kind of frame, reads them by the reader above and by package wire, and holds
// them against the rules for senders.
func TestIndependentReaderFollowsEveryFrame(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  *Config
		play func(t *testing.T, a, b *Listener)
	}{
		{"all", nil, playEveryFrame},
		{"large windows", &Config{InitialWindow: 1 << 20, MaxWindow: 4 << 20}, playEveryFrame},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var tp *tape
			synctest.Test(t, func(t *testing.T) {
				var near, far net.Conn
				near, far, tp = tapedPair()
				cfg := Config{}
				if tt.cfg != nil {
					cfg = *tt.cfg
				}
				b, err := NewListener(far, &cfg) // follows
				if err != nil {
					t.Fatal(err)
				}
				cfg.Protocol = Protocol1
				a, err := NewListener(near, &cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer closeBoth(a, b)
				tt.play(t, a, b)
				// While a connection is open, neither can go before the other has said GOAWAY.
				x, y := listenerPair(t, a, b)
				var both sync.WaitGroup
				for _, l := range []*Listener{a, b} {
					both.Go(func() { wantErr(t, "Shutdown", l.Shutdown(bounded(t)), nil) })
				}
				<-time.After(2 * time.Second)
				x.Close()
				y.Close()
				both.Wait()
			})
			if !t.Failed() {
				wantEveryFrame(t, tp, tt.cfg)
			}
		})
	}
}

// listenerPair opens a connection from a to b.
func listenerPair(t *testing.T, a, b *Listener) (x, y *Conn) {
	t.Helper()
	x, err := a.Open(bounded(t), testAddr(9))
	if err != nil {
		t.Fatal(err)
	}
	if y, err = b.AcceptConn(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return x, y
}

// playEveryFrame has each end do what makes it send every kind of frame.
func playEveryFrame(t *testing.T, a, b *Listener) {
	for i, ends := range [][2]*Listener{{a, b}, {b, a}} {
		l, m := ends[0], ends[1]
		open := func(metadata string) (x, y *Conn) {
			t.Helper()
			x, err := l.Pipe().OpenWith(bounded(t), OpenOptions{Addr: testAddr(i), Metadata: []byte(metadata)})
			if err != nil {
				t.Fatal(err)
			}
			pending, err := m.AcceptPending(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			if string(pending.Metadata()) != metadata || pending.Addr() != testAddr(i) {
				t.Errorf("pending %v with %q, want %v with %q", pending.Addr(), pending.Metadata(), testAddr(i), metadata)
			}
			if metadata == "refuse" {
				wantErr(t, "Reject", pending.Reject(700, "not today"), nil)
				return x, nil
			}
			if y, err = pending.Accept(); err != nil {
				t.Fatal(err)
			}
			return x, y
		}
		// Bulk both ways, far beyond the window, and the ends of both halves.
		x, y := open("")
		var wg sync.WaitGroup
		for _, c := range []*Conn{x, y} {
			wg.Go(func() { c.Write(testBytes(400_000, 1)) })
			wg.Go(func() {
				g := make([]byte, 400_000)
				_, err := io.ReadFull(c, g)
				wantErr(t, "Read", err, nil)
				wantBytes(t, "bulk", g, testBytes(400_000, 1))
			})
		}
		wg.Wait()
		<-time.After(2 * time.Second) // the last WINDOWs have gone, and a standby has read them
		for _, c := range []*Conn{x, y} {
			wantErr(t, "CloseWrite", c.CloseWrite(), nil)
		}
		<-time.After(2 * time.Second) // and the FINs
		x.Close()
		y.Close()
		// STOP, and the RESET that answers it, by either end; RESET by either.
		for n, give := range []func(*Conn) error{(*Conn).CloseRead, func(c *Conn) error { return c.Reset(300) }} {
			for back := range 2 {
				c := [2]*Conn{}
				c[0], c[1] = open(fmt.Sprintf("%d %d", n, back))
				exchange(t, c[0], c[1])
				wantErr(t, "CloseRead or Reset", give(c[back]), nil)
				<-time.After(2 * time.Second)
				c[0].Close()
				c[1].Close()
			}
		}
		// A refusal with a reason.
		x, _ = open("refuse")
		wantRefused(t, overPipe, x, 700)
		x.Close()
		if _, err := l.Ping(bounded(t)); err != nil {
			t.Errorf("Ping: %v", err)
		}
	}
	synctest.Wait()
}

// wantEveryFrame reads the tape twice and follows it.
func wantEveryFrame(t *testing.T, tp *tape, cfg *Config) {
	prefaces, all := tp.frames(t)
	want := onePreface{version: 1, window: 65536, conns: 65536, maxPayload: 65535, keepAlive: 15000}
	if cfg != nil {
		want.window = uint32(cfg.InitialWindow)
	}
	follower := oneFollower{conns: make(map[docKey]*oneConn)}
	seen := [2]map[string]int{{}, {}}
	var streams [2][]docFrame
	for end, p := range prefaces {
		if p != want {
			t.Errorf("the preface of end %d is %+v, want %+v", end, p, want)
		}
		follower.ends[end].preface = p
	}
	for i, f := range all {
		if err := follower.follow(f.end, f.docFrame); err != nil {
			t.Errorf("frame %d of %d, sent by end %d: %v: %v", i, len(all), f.end, f, err)
		}
		seen[f.end][fmt.Sprint(f.typ, f.flags)]++
		streams[f.end] = append(streams[f.end], f.docFrame)
	}
	if err := follower.end(); err != nil {
		t.Error(err)
	}
	for end := range seen {
		for _, kind := range [][2]byte{
			{oneOpen, 0}, {docData, 0}, {docData, oneYours}, {oneWindow, 0}, {oneWindow, oneYours},
			{oneReset, 0}, {oneReset, oneYours}, {oneReset, oneYours | oneRefused}, {oneStop, 0}, {oneStop, oneYours},
			{docData, oneFin}, {docData, oneFin | oneYours}, {onePing, 0}, {onePing, oneAck}, {oneGoAway, 0},
		} {
			if seen[end][fmt.Sprint(kind[0], kind[1])] == 0 {
				t.Errorf("end %d has sent no frame of type %d with flags %#x", end, kind[0], kind[1])
			}
		}
		wantAgreement(t, fmt.Sprintf("end %d", end), tp.stream(end)[20+24:], streams[end])
	}
}

// wantAgreement fails the test unless wire.Decoder reads the same frames, however the
// stream is cut.
func wantAgreement(t *testing.T, what string, stream []byte, want []docFrame) {
	t.Helper()
	for _, most := range []int{1 << 30, 1, 9, 1000} {
		if most < 1000 && len(stream) > 1<<16 {
			continue // it takes long
		}
		rnd := rand.New(rand.NewPCG(uint64(most), 1))
		got, err := readByWire(stream, func() int { return 1 + rnd.IntN(most) })
		if err != nil {
			t.Fatalf("%s, cut at %d: wire: %v", what, most, err)
		}
		if i := diffFrames(got, want); i >= 0 {
			t.Fatalf("%s, cut at %d: of %d and %d frames, number %d is read as\n%v by wire, and\n%v from the document",
				what, most, len(got), len(want), i, got[min(i, len(got)-1)], want[min(i, len(want)-1)])
		}
	}
}

func diffFrames(a, b []docFrame) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// readByWire reads a stream by wire.Decoder, in pieces of the given sizes.
func readByWire(stream []byte, size func() int) (all []docFrame, err error) {
	var dec wire.Decoder
	for len(stream) > 0 {
		piece := stream[:min(len(stream), size())]
		stream = stream[len(piece):]
		for len(piece) > 0 {
			h, body, n, err := dec.Next(piece)
			if err != nil {
				return all, err
			}
			piece = piece[n:]
			switch {
			case h != nil:
				all = append(all, frameOfWire(h, body))
			case body != nil:
				all[len(all)-1].rest += string(body)
			}
		}
	}
	// What wire skips, the reader above returns.
	return all, dec.End()
}

// frameOfWire takes the fields from wire's overlays.
func frameOfWire(h *wire.Header, body []byte) docFrame {
	f := docFrame{typ: byte(h.Type), flags: byte(h.Flags), id: h.ID.Get()}
	switch h.Type {
	case wire.TypeOpen:
		o := wire.View[wire.OpenBody](body)
		copy(f.addr[:], wire.BytesOf(o)[:18])
		f.rest = string(body[wire.OpenBodyLen:])
	case wire.TypeWindow:
		f.limit = wire.View[wire.WindowBody](body).Limit.Get()
	case wire.TypeReset, wire.TypeStop:
		f.code = wire.View[wire.CodeBody](body).Code.Get()
		f.rest = string(body[wire.CodeBodyLen:])
	case wire.TypePing:
		f.opaque = wire.View[wire.PingBody](body).Opaque
	case wire.TypeGoAway:
		g := wire.View[wire.GoAwayBody](body)
		f.lastID, f.code = g.LastID.Get(), g.Code.Get()
		f.rest = string(body[wire.GoAwayBodyLen:])
	}
	return f
}

// TestIndependentReaderAndWireAgreeOnForms goes over every type, many flags, lengths
// and IDs: both readers must call the same frames malformed.
func TestIndependentReaderAndWireAgreeOnForms(t *testing.T) {
	buf := make([]byte, 8+65535)
	for typ := range 12 {
		for flags := range 64 {
			for _, id := range []uint32{0, 1, 1 << 31} {
				for _, n := range []int{0, 1, 3, 4, 5, 7, 8, 9, 17, 18, 19, 259, 260, 261, 263, 264, 265, 1041, 1042, 1043, 16384, 65535} {
					for _, fill := range []byte{0, 0xff} {
						b := buf[:8+n]
						for i := range b[8:] {
							b[8+i] = fill
						}
						b[0], b[1] = byte(typ), byte(flags)
						binary.BigEndian.PutUint16(b[2:], uint16(n))
						binary.BigEndian.PutUint32(b[4:], id)
						f, rest, err := readOneFrame(b)
						got, werr := readByWire(b, func() int { return 1 << 20 })
						if (err == nil) != (werr == nil) {
							t.Fatalf("%x: %v from the document, and %v by wire", b[:min(len(b), 16)], err, werr)
						}
						if err != nil {
							continue
						}
						if f.typ > oneGoAway {
							f.rest = "" // wire skips it
						}
						if len(rest) > 0 || len(got) != 1 || got[0] != f {
							t.Fatalf("%x: %v from the document, and %v by wire", b[:min(len(b), 16)], f, got)
						}
					}
				}
			}
		}
	}
}

// TestExamplesOfTheDocument reads each hex block of PROTOCOL.md, and wants what the
// text beside it says.
func TestExamplesOfTheDocument(t *testing.T) {
	examples := documentExamples(t)
	if p, rest, err := readOnePreface(examples["preface"]); err != nil || len(rest) > 0 ||
		p != (onePreface{version: 1, window: 65536, conns: 65536, maxPayload: 65535, keepAlive: 15000}) {
		t.Errorf("preface: %+v, %d bytes more, %v", p, len(rest), err)
	}
	delete(examples, "preface")
	server := [18]byte{10: 0xff, 11: 0xff, 12: 192, 13: 0, 14: 2, 15: 1, 16: 8080 >> 8, 17: 8080 & 0xff}
	want := map[string]docFrame{
		"open":          {typ: oneOpen, id: 1, addr: server},
		"open-metadata": {typ: oneOpen, id: 1, addr: server, rest: "user=7"},
		"data":          {typ: docData, id: 1, rest: "hello"},
		"data-fin":      {typ: docData, flags: oneFin, id: 1, rest: "hello"},
		"data-yours":    {typ: docData, flags: oneYours, id: 3, rest: "hi"},
		"fin":           {typ: docData, flags: oneFin, id: 1},
		"window":        {typ: oneWindow, flags: oneYours, id: 1, limit: 131072},
		"reset":         {typ: oneReset, id: 1, code: 256},
		"refused":       {typ: oneReset, flags: oneYours | oneRefused, id: 1, code: 5, rest: "busy"},
		"stop":          {typ: oneStop, id: 1, code: 9},
		"stop-yours":    {typ: oneStop, flags: oneYours, id: 1, code: 9},
		"ping":          {typ: onePing, opaque: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}},
		"ping-ack":      {typ: onePing, flags: oneAck, opaque: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}},
		"goaway":        {typ: oneGoAway, lastID: 4294967295},
		"goaway-last":   {typ: oneGoAway, lastID: 7, code: 7, rest: "calm"},
	}
	for name, b := range examples {
		f, rest, err := readOneFrame(b)
		if err != nil || len(rest) > 0 || f != want[name] {
			t.Errorf("%s: %v, %d bytes more, %v; want %v", name, f, len(rest), err, want[name])
		}
		wantAgreement(t, name, b, []docFrame{f})
		for cut := range b {
			if _, _, err := readOneFrame(b[:cut]); err != errOneShort {
				t.Errorf("%s, the first %d bytes: %v, want errOneShort", name, cut, err)
			}
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("the document has no example %s", name)
	}
}

func documentExamples(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string][]byte)
	for _, m := range regexp.MustCompile("(?s)```hex (\\S+)\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		b, err := hex.DecodeString(strings.Join(strings.Fields(m[2]), ""))
		if err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		found[m[1]] = b
	}
	return found
}

// TestFollowerNoticesWhatIsNotAllowed: what follows the sessions above would tell if
// a rule was broken.
func TestFollowerNoticesWhatIsNotAllowed(t *testing.T) {
	open := docFrame{typ: oneOpen, id: 1}
	fin := docFrame{typ: docData, flags: oneFin, id: 1}
	refusal := docFrame{typ: oneReset, flags: oneYours | oneRefused, id: 1}
	ping := docFrame{typ: onePing}
	ack := docFrame{typ: onePing, flags: oneAck}
	goAway := docFrame{typ: oneGoAway, lastID: 5}
	full := docFrame{typ: docData, id: 1, rest: strings.Repeat("x", 16384)}
	for _, tt := range []struct {
		name string
		sent []sentFrame
	}{
		{"no OPEN", []sentFrame{{0, fin}}},
		{"the same ID twice", []sentFrame{{0, open}, {0, open}}},
		{"the other space", []sentFrame{{0, open}, {1, fin}}},
		{"DATA after FIN", []sentFrame{{0, open}, {0, fin}, {0, fin}}},
		{"a refusal after DATA", []sentFrame{{0, open}, {1, docFrame{typ: docData, flags: oneYours, id: 1}}, {1, refusal}}},
		{"a second STOP", []sentFrame{{0, open}, {0, docFrame{typ: oneStop, id: 1}}, {0, docFrame{typ: oneStop, id: 1}}}},
		{"a WINDOW of the initial window", []sentFrame{{0, open}, {0, docFrame{typ: oneWindow, id: 1, limit: 65536}}}},
		{"above the limit", []sentFrame{{0, open}, {0, full}, {0, full}, {0, full}, {0, full}, {0, docFrame{typ: docData, id: 1, rest: "x"}}}},
		{"two PINGs", []sentFrame{{0, ping}, {0, ping}}},
		{"an answer to nothing", []sentFrame{{0, ack}}},
		{"a last ID that rises", []sentFrame{{0, goAway}, {0, docFrame{typ: oneGoAway, lastID: 6}}}},
		{"an OPEN behind the answer", []sentFrame{{1, goAway}, {1, ping}, {0, ack}, {0, open}}},
	} {
		w := oneFollower{conns: make(map[docKey]*oneConn)}
		for end := range w.ends {
			w.ends[end].preface = onePreface{version: 1, window: 65536, maxPayload: 16384}
		}
		for i, f := range tt.sent {
			if err := w.follow(f.end, f.docFrame); (err != nil) != (i == len(tt.sent)-1) {
				t.Errorf("%s: frame %d: %v", tt.name, i, err)
			}
		}
	}
	w := oneFollower{conns: make(map[docKey]*oneConn)}
	w.follow(0, open)
	w.follow(0, fin)
	if w.end() == nil {
		t.Error("a half that is open goes unnoticed")
	}
	w.follow(1, docFrame{typ: oneReset, flags: oneYours, id: 1})
	if err := w.end(); err != nil {
		t.Error(err)
	}
}

// TestIndependentReaderFollowsACrowd records a session in which both ends open, write,
// read, end, stop, reset and refuse at random.
func TestIndependentReaderFollowsACrowd(t *testing.T) {
	for seed := range uint64(3) {
		var tp *tape
		synctest.Test(t, func(t *testing.T) {
			var near, far net.Conn
			near, far, tp = tapedPair()
			var ends [2]*Listener
			for i, c := range []net.Conn{near, far} {
				l, err := NewListener(c, &Config{Protocol: Protocol1, KeepAliveInterval: -1})
				if err != nil {
					t.Fatal(err)
				}
				ends[i] = l
			}
			defer closeBoth(ends[0], ends[1])
			manyConns(t, seed, ends)
		})
		prefaces, all := tp.frames(t)
		follower := oneFollower{conns: make(map[docKey]*oneConn)}
		var streams [2][]docFrame
		for end, p := range prefaces {
			follower.ends[end].preface = p
		}
		for i, f := range all {
			if err := follower.follow(f.end, f.docFrame); err != nil {
				t.Errorf("seed %d: frame %d of %d, sent by end %d: %v: %v", seed, i, len(all), f.end, f, err)
			}
			streams[f.end] = append(streams[f.end], f.docFrame)
		}
		if err := follower.end(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		for end := range streams {
			wantAgreement(t, fmt.Sprintf("seed %d, end %d", seed, end), tp.stream(end)[20+24:], streams[end])
		}
		if t.Failed() {
			return
		}
	}
}

// manyConns has both ends do at random what they may, and then shuts the session down.
func manyConns(t *testing.T, seed uint64, ends [2]*Listener) {
	var wg, served sync.WaitGroup
	use := func(rnd *rand.Rand, c *Conn) {
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		buf := make([]byte, 80_000)
		for range rnd.IntN(6) {
			switch rnd.IntN(8) {
			case 0, 1, 2:
				c.Write(buf[:rnd.IntN(len(buf))])
			case 3, 4, 5:
				c.Read(buf[:rnd.IntN(len(buf))])
			case 6:
				[]func() error{c.CloseRead, c.CloseWrite}[rnd.IntN(2)]()
			case 7:
				c.Reset(Code(256 + rnd.IntN(100)))
			}
		}
	}
	for i, l := range ends {
		for j := range 8 {
			rnd := rand.New(rand.NewPCG(seed, uint64(10*i+j)))
			wg.Go(func() {
				for range 6 {
					c, err := l.Pipe().OpenWith(bounded(t), OpenOptions{Addr: testAddr(j % 3), Metadata: make([]byte, rnd.IntN(3))})
					if err != nil {
						t.Errorf("Open: %v", err)
						return
					}
					use(rnd, c)
				}
			})
		}
		rnd := rand.New(rand.NewPCG(seed, uint64(100+i)))
		go func() {
			for {
				pending, err := l.AcceptPending(context.Background())
				if err != nil {
					return
				}
				if rnd.IntN(5) == 0 {
					pending.Reject(256, "by chance")
					continue
				}
				c, err := pending.Accept()
				if err != nil {
					t.Errorf("Accept: %v", err)
					continue
				}
				theirs := rand.New(rand.NewPCG(seed, rnd.Uint64()))
				served.Go(func() { use(theirs, c) })
			}
		}()
	}
	wg.Wait()
	synctest.Wait() // all that was opened is accepted
	served.Wait()
	for _, l := range slices.Backward(ends[:]) {
		wg.Go(func() { wantErr(t, "Shutdown", l.Shutdown(bounded(t)), nil) })
	}
	wg.Wait()
}
