package mux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// oneRaw returns a frame with any header.
func oneRaw(t, flags byte, n int, id uint32) []byte {
	b := make([]byte, wire.HeaderLen+n)
	b[0], b[1] = t, flags
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	binary.BigEndian.PutUint32(b[4:], id)
	return b
}

// TestMalformedFrames: a frame that differs from its row of the table of PROTOCOL.md,
// 2.3, is a violation, whatever the state of what it is for. The header is enough.
func TestMalformedFrames(t *testing.T) {
	const yours, fin, refused, ack = 1, 2, 4, 8
	type frame struct {
		name string
		b    []byte
	}
	frames := []frame{
		{"zeros", make([]byte, 8)},
		{"type 0", oneRaw(0, 0, 4, 1)},
		{"OPEN of 17", oneRaw(1, 0, 17, 9)}, {"OPEN of 1043", oneRaw(1, 0, 1043, 9)}, {"OPEN of ID 0", oneRaw(1, 0, 18, 0)},
		{"DATA of ID 0", oneRaw(2, 0, 4, 0)},
		{"WINDOW of 7", oneRaw(3, 0, 7, 1)}, {"WINDOW of 9", oneRaw(3, 0, 9, 1)}, {"WINDOW of ID 0", oneRaw(3, 0, 8, 0)},
		{"RESET of 3", oneRaw(4, 0, 3, 1)}, {"RESET of 5", oneRaw(4, 0, 5, 1)}, {"RESET of ID 0", oneRaw(4, 0, 4, 0)},
		{"REFUSED of 3", oneRaw(4, yours|refused, 3, 1)}, {"REFUSED of 261", oneRaw(4, yours|refused, 261, 1)},
		{"STOP of 5", oneRaw(5, 0, 5, 1)}, {"STOP of 0", oneRaw(5, 0, 0, 1)}, {"STOP of ID 0", oneRaw(5, 0, 4, 0)},
		{"PING of 7", oneRaw(6, 0, 7, 0)}, {"PING of 9", oneRaw(6, 0, 9, 0)}, {"PING of ID 1", oneRaw(6, 0, 8, 1)},
		{"GOAWAY of 7", oneRaw(7, 0, 7, 0)}, {"GOAWAY of 265", oneRaw(7, 0, 265, 0)}, {"GOAWAY of ID 1", oneRaw(7, 0, 8, 1)},
	}
	rows := []struct {
		t     byte
		name  string
		n     int
		id    uint32
		flags byte // that are allowed, in any combination but REFUSED without YOURS
	}{
		{1, "OPEN", 18, 9, 0}, {2, "DATA", 1, 1, yours | fin}, {3, "WINDOW", 8, 1, yours}, {4, "RESET", 4, 1, yours | refused},
		{5, "STOP", 4, 1, yours}, {6, "PING", 8, 0, ack}, {7, "GOAWAY", 8, 0, 0},
	}
	for _, r := range rows {
		for flags := range 256 {
			f := byte(flags)
			if f&^r.flags == 0 && f&(yours|refused) != refused {
				continue
			}
			frames = append(frames, frame{fmt.Sprintf("%s with flags %#02x", r.name, f), oneRaw(r.t, f, r.n, r.id)})
		}
	}
	for _, f := range frames {
		for _, closed := range []bool{false, true} {
			for _, whole := range []bool{false, true} {
				oneRun(t, oneListener, func(tc *oneTest) {
					c := tc.acceptIDs(1)[0]
					if closed {
						tc.send("FIN 1")
						c.CloseWrite()
						tc.want("closed", "FIN YOURS 1")
					}
					b := f.b
					if !whole {
						b = b[:wire.HeaderLen]
					}
					tc.sendRaw(b)
					tc.wantEnd(f.name, 1, CodeProtocol)
				})
				if t.Failed() {
					t.Fatalf("%s, closed %v, whole %v", f.name, closed, whole)
				}
			}
		}
	}
}

// TestUnknownTypesAreSkipped with their payload, whatever their flags, ID and length.
func TestUnknownTypesAreSkipped(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		for typ := 8; typ < 256; typ++ {
			for _, n := range []int{0, 1, 8, 300} {
				tc.sendRaw(oneRaw(byte(typ), byte(typ), n, uint32(n)*1_000_000))
			}
			tc.pass(time.Second)
		}
		tc.sendRaw(oneRaw(255, 255, 65535, 1<<32-1))
		tc.send(`DATA 1 "hi"`)
		tc.wantRead("what is known goes on", c, "hi", nil)
		tc.want("and nothing is answered")
	})
}

// oneStream is what a peer says in the test that cuts it. With unknown frames, and all
// that is allowed in between.
var oneStream = []string{
	"OPEN 1", `OPEN 3 [2001:db8::1]:443 "meta"`, `UNKNOWN 99 7 "unknown"`, `DATA 1 "hello"`, "DATA 3 300*b",
	`DATA YOURS 1 "answer"`, "PING 0102030405060708", "WINDOW YOURS 1 70000", "FIN 3", "STOP YOURS 1 300", `DATA 1 "bye" FIN`,
	"RESET YOURS 1 301",
}

// TestFramesCutAnywhere: the transport may split the stream anywhere, twice.
func TestFramesCutAnywhere(t *testing.T) {
	b := oneBytes(oneStream...)
	run := func(cuts ...int) {
		oneRun(t, oneListener, func(tc *oneTest) {
			ours := tc.openIDs(1)[0]
			tc.peer.mu.Lock()
			for _, l := range oneStream {
				tc.peer.hears(l)
			}
			tc.peer.mu.Unlock()
			at := 0
			for _, cut := range cuts {
				tc.sendRaw(b[at:cut])
				at = cut
			}
			tc.sendRaw(b[at:])
			tc.wantAnyOrder("the answers", "ACK 0102030405060708", "RESET 1 300")
			one, p := tc.accept(vtA), tc.pending()
			if string(p.Metadata()) != "meta" {
				tc.t.Errorf("Metadata is %q", p.Metadata())
			}
			three, _ := p.Accept()
			tc.wantRead("1", one, "hellobye", io.EOF)
			tc.wantRead("3", three, strings.Repeat("b", 300), io.EOF)
			tc.readAnswer(ours)
		})
	}
	every := make([]int, len(b))
	for cut := range b {
		every[cut] = cut
		run(cut)
		run(cut, min(cut+9, len(b)))
		if t.Failed() {
			t.Fatalf("cut at %d of %d", cut, len(b))
		}
	}
	run(every...)
}

// TestTransportCutAnywhereOne: wherever the transport ends, what came before is read, and
// a clean end only where the FIN had come.
func TestTransportCutAnywhereOne(t *testing.T) {
	b := oneBytes(oneStream...)
	fin3 := len(oneBytes(oneStream[:9]...)) // behind "FIN 3"
	fin1 := len(oneBytes(oneStream[:11]...))
	for cut := range b {
		oneRun(t, oneListener, func(tc *oneTest) {
			ours := tc.openIDs(1)[0]
			tc.peer.law.acks = 1
			tc.sendRaw(b[:cut])
			tc.peer.conn.Close()
			tc.settle()
			<-tc.l.Done()
			if err := tc.l.Err(); errors.Is(err, io.EOF) || !errors.Is(err, io.ErrUnexpectedEOF) {
				tc.t.Errorf("Err is %v, and a connection was open", err)
			}
			tc.wantCutRead(ours, "answer", false)
			for {
				c, err := tc.l.AcceptConn(context.Background())
				if err != nil {
					break
				}
				tc.conns = append(tc.conns, c)
				if c.Addr() == vtA {
					tc.wantCutRead(c, "hellobye", cut >= fin1)
				} else {
					tc.wantCutRead(c, strings.Repeat("b", 300), cut >= fin3)
				}
			}
		})
		if t.Failed() {
			t.Fatalf("cut at %d of %d", cut, len(b))
		}
	}
}

// wantCutRead fails the test unless c reads all of text and a clean end, or a part of it
// and an error that says that it was cut.
func (tc *oneTest) wantCutRead(c *Conn, text string, clean bool) {
	tc.t.Helper()
	b, err := io.ReadAll(eofKeeper{c})
	switch {
	case clean && (string(b) != text || err != errCleanEnd):
		tc.t.Errorf("read %q and %v, want %q and its end", b, err, text)
	case !clean && (!strings.HasPrefix(text, string(b)) || errors.Is(err, io.EOF) || err == errCleanEnd || err == nil):
		tc.t.Errorf("read %q and %v, want a part of %q", b, err, text)
	}
}

// readAnswer reads a connection that the peer has reset behind "answer", which may be
// dropped then.
func (tc *oneTest) readAnswer(c *Conn) {
	tc.t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	b, err := io.ReadAll(eofKeeper{c})
	if s := string(b); s != "" && s != "answer" {
		tc.t.Errorf("read %q", b)
	}
	wantErrAs(tc.t, "Read", err, isReset(301, true))
}

// TestSmallDataIsHeldTogether: many small DATA cost no more memory than few large ones.
func TestSmallDataIsHeldTogether(t *testing.T) {
	oneRun(t, oneSetup{listen: true, cfg: fixed}, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		b := []byte(strings.Repeat(string(oneEncode(`DATA 1 "x"`)), 1024))
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range 128 {
			tc.sendRaw(b)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4*131072 {
			tc.t.Errorf("131,072 DATA of a byte each cost %d bytes", grown)
		}
		tc.wantRead("all of them", c, strings.Repeat("x", 131072), nil)
	})
}

// TestPeerSeesTheGoAway though it goes on sending: over TCP, where to close a socket
// with bytes unread would reset it.
func TestPeerSeesTheGoAway(t *testing.T) {
	for range 20 {
		a, b := tcpPair(t)
		l, err := NewListener(a, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.SetDeadline(time.Now().Add(patience))
		sent := async(func() error {
			b.Write(oneBytes("PREFACE", "OPEN 1", "FIN 7")) // the last is a violation
			for range 50 {
				if _, err := b.Write(oneBytes("DATA 1 65536*x")); err != nil {
					return err
				}
			}
			return b.(*net.TCPConn).CloseWrite()
		})
		var frames []oneFrame
		var d oneDecoder
		buf := make([]byte, 64<<10)
		for {
			n, err := b.Read(buf)
			if derr := d.feed(buf[:n], func(f oneFrame) { frames = append(frames, f) }); derr != nil {
				t.Fatal(derr)
			}
			if err != nil {
				if err != io.EOF {
					t.Errorf("the transport's end is %v", err)
				}
				break
			}
		}
		if got := oneLines(frames); !oneMatch(got, []string{"PREFACE *", "GOAWAY 1 2 *"}) {
			t.Errorf("the peer sees:%s", oneShort(got))
		}
		b.Close()
		<-sent
		<-l.Done()
		if !errors.Is(l.Err(), ErrProtocol) {
			t.Errorf("Err: %v", l.Err())
		}
		l.Close()
		if t.Failed() {
			return
		}
	}
}
