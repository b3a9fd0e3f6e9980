package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// onePrefaceWith returns a preface whose body is changed, and then length bytes long;
// 0: as long as it is.
func onePrefaceWith(length int, change func(body []byte)) []byte {
	b := oneEncode("PREFACE")
	if length > len(b)-wire.VTHeaderLen {
		b = append(b, bytes.Repeat([]byte{0xee}, length-(len(b)-wire.VTHeaderLen))...)
	} else if length > 0 {
		b = b[:wire.VTHeaderLen+length]
	}
	binary.BigEndian.PutUint16(b[18:], uint16(len(b)-wire.VTHeaderLen))
	if change != nil {
		change(b[wire.VTHeaderLen:])
	}
	return b
}

// oneSides are the ends that speak protocol 1.
var oneSides = []struct {
	name  string
	setup oneSetup
}{
	{"pipe", oneSetup{preface: "-"}},
	{"pipe on 1", oneSetup{preface: "-", cfg: Config{Protocol: Protocol1}}},
	{"listener", oneSetup{listen: true, preface: "-"}},
	{"listener on 1", oneSetup{listen: true, preface: "-", cfg: Config{Protocol: Protocol1}}},
}

// auto reports whether the session keeps silent until the peer has spoken.
func (o oneSetup) auto() bool { return o.listen && o.cfg.Protocol == ProtocolAuto }

// TestPrefaceAnnouncesTheSettings: what a session announces is what it was told, and
// the least where that is less than an end may announce.
func TestPrefaceAnnouncesTheSettings(t *testing.T) {
	for _, tt := range []struct {
		cfg  *Config
		want string
	}{
		{nil, "PREFACE v=1 window=65536 conns=65536 payload=65535 keepalive=15000"},
		{&Config{KeepAliveInterval: -1}, "PREFACE v=1 window=65536 conns=65536 payload=65535 keepalive=0"},
		{&Config{KeepAliveInterval: time.Second}, "PREFACE v=1 window=65536 conns=65536 payload=65535 keepalive=1000"},
		{&Config{MaxConns: 1}, "PREFACE v=1 window=65536 conns=128 payload=65535 keepalive=15000"},
		{&Config{MaxConns: 129, InitialWindow: 1 << 20}, "PREFACE v=1 window=1048576 conns=129 payload=65535 keepalive=15000"},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			p, err := NewPipe(near, tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			peer := newOnePeer(far)
			synctest.Wait()
			frames, _ := peer.takeFrames()
			if got := oneLines(frames); len(got) != 1 || got[0] != tt.want {
				t.Errorf("%+v:%s\nwant %s", tt.cfg, oneShort(got), tt.want)
			}
			peer.mu.Lock()
			if peer.bytes != wire.PrefaceFrameLen {
				t.Errorf("the preface has %d bytes, want %d", peer.bytes, wire.PrefaceFrameLen)
			}
			peer.mu.Unlock()
			p.Close()
			peer.close()
		})
	}
}

// TestMalformedPrefaceEndsTheSession: with a GOAWAY if the peer's magic has come, and
// else without a word.
func TestMalformedPrefaceEndsTheSession(t *testing.T) {
	put16 := func(at int, v uint16) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint16(b[at:], v) }
	}
	put32 := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint32(b[at:], v) }
	}
	for _, tt := range []struct {
		name   string
		b      []byte
		goAway bool
	}{
		{"length 1", onePrefaceWith(1, nil), false},
		{"length 23", onePrefaceWith(23, nil), false},
		{"length 1025", onePrefaceWith(1025, nil), false},
		{"length 65535", onePrefaceWith(65535, nil), false},
		{"magic", onePrefaceWith(0, func(b []byte) { b[5] = '\r' }), false},
		{"magic's first byte", onePrefaceWith(0, func(b []byte) { b[0] = 'V' }), false},
		{"magic, trailing bytes", onePrefaceWith(1024, func(b []byte) { b[5] = '\r' }), false},
		{"version 0", onePrefaceWith(0, put16(6, 0)), true},
		{"window 0", onePrefaceWith(0, put32(8, 0)), true},
		{"window 65535", onePrefaceWith(0, put32(8, 65535)), true},
		{"connections 127", onePrefaceWith(0, put32(12, 127)), true},
		{"connections 0", onePrefaceWith(1024, put32(12, 0)), true},
		{"payload 16383", onePrefaceWith(0, put16(16, 16383)), true},
		{"payload 0", onePrefaceWith(0, put16(16, 0)), true},
		{"all fields, version 9", onePrefaceWith(100, func(b []byte) { clear(b[8:20]); put16(6, 9)(b) }), true},
	} {
		for _, side := range oneSides {
			t.Run(tt.name+"/"+side.name, func(t *testing.T) {
				oneRun(t, side.setup, func(tc *oneTest) {
					synctest.Wait() // the own preface goes at once, or waits for the peer's
					tc.sendRaw(tt.b)
					tc.settle()
					got := oneLines(tc.sent())
					if len(got) > 0 && strings.HasPrefix(got[0], "PREFACE") {
						got = got[1:]
					} else if tt.goAway || !side.setup.auto() {
						tc.t.Errorf("no preface was sent, but%s", oneShort(got))
					}
					var want []string
					if tt.goAway {
						want = []string{"GOAWAY 0 2 *"}
					}
					if !oneMatch(got, want) {
						tc.t.Errorf("behind its preface the session has sent:%s\nwant:%s", oneShort(got), oneShort(want))
					}
					tc.wantGone("the transport is closed")
					tc.wantFails("the session is over", func(err error) bool {
						return errors.Is(err, ErrProtocol) || errors.Is(err, ErrNoPreface)
					})
				})
			})
		}
	}
}

// TestPrefaceThatIsLegal: there is no greatest value, what is reserved or unknown is
// ignored, and of two versions the lower is spoken.
func TestPrefaceThatIsLegal(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"the least", oneEncode("PREFACE window=65536 conns=128 payload=16384")},
		{"the greatest", onePrefaceWith(0, func(b []byte) {
			for i := 6; i < 24; i++ {
				b[i] = 0xff
			}
		})},
		{"reserved", onePrefaceWith(0, func(b []byte) { b[18], b[19] = 1, 2 })},
		{"one byte more", onePrefaceWith(25, nil)},
		{"1,000 bytes more", onePrefaceWith(1024, nil)},
		{"version 2", oneEncode("PREFACE v=2")},
		{"version 65535", oneEncode("PREFACE v=65535")},
	} {
		for _, side := range oneSides {
			t.Run(tt.name+"/"+side.name, func(t *testing.T) {
				oneRun(t, side.setup, func(tc *oneTest) {
					tc.peer.law.acks = 1
					tc.sendRaw(append(bytes.Clone(tt.b), oneBytes("PING 0102030405060708")...))
					tc.wantLive(side.setup)
				})
			})
		}
	}
}

// wantLive fails the test unless the session has sent its preface and one ACK, and
// opens.
func (tc *oneTest) wantLive(o oneSetup) {
	tc.t.Helper()
	tc.settle()
	got := oneLines(tc.sent())
	if len(got) != 2 || !strings.HasPrefix(got[0], "PREFACE v=1 ") || got[1] != "ACK 0102030405060708" {
		tc.t.Fatalf("the session has sent:%s\nwant its preface and an ACK%s", oneShort(got), tc.why())
	}
	c := tc.open(vtB)
	tc.write(c, "hello")
	tc.want("frames of version 1", "OPEN 1 [2001:db8::1]:443", `DATA 1 "hello"`)
	tc.send(`DATA YOURS 1 "hi" FIN`)
	tc.wantRead("an answer", c, "hi", io.EOF)
	tc.wantAlive("nothing is wrong")
}

// TestPrefaceCutAnywhere: the transport may split the preface and what follows it
// anywhere.
func TestPrefaceCutAnywhere(t *testing.T) {
	b := append(onePrefaceWith(40, nil), oneBytes("PING 0102030405060708")...)
	for _, side := range oneSides {
		t.Run(side.name, func(t *testing.T) {
			for cut := 0; cut <= len(b); cut++ {
				oneRun(t, side.setup, func(tc *oneTest) {
					tc.peer.law.acks = 1
					if cut == len(b) {
						for i := range b {
							tc.sendRaw(b[i : i+1])
						}
					} else {
						tc.sendRaw(b[:cut])
						if cut < wire.VTHeaderLen && side.setup.auto() {
							tc.wantNow("a Listener on Auto is silent until 20 bytes have told")
						}
						tc.sendRaw(b[cut:])
					}
					tc.wantLive(side.setup)
				})
			}
		})
	}
}

// TestPrefaceTimeout: where a preface is required the time for all of it runs from the
// start, and on Auto from its first byte.
func TestPrefaceTimeout(t *testing.T) {
	whole := oneEncode("PREFACE")
	for _, side := range oneSides {
		for _, have := range []int{0, 1, 19, 20, 25, 26, 43} {
			for _, limit := range []time.Duration{0, 3 * time.Second} {
				if have == 0 && side.setup.auto() {
					continue
				}
				o := side.setup
				o.cfg.PrefaceTimeout = limit
				t.Run(fmt.Sprintf("%s/%d bytes/%v", side.name, have, limit), func(t *testing.T) {
					oneRun(t, o, func(tc *oneTest) { tc.latePreface(o, whole[:have]) })
				})
			}
		}
	}
}

func (tc *oneTest) latePreface(o oneSetup, b []byte) {
	tc.t.Helper()
	ends := 10 * time.Second
	if o.cfg.PrefaceTimeout > 0 {
		ends = o.cfg.PrefaceTimeout
	}
	tc.pass(2 * time.Second)
	if len(b) > 0 {
		tc.sendRaw(b[:1])
		tc.pass(time.Second / 2)
		tc.sendRaw(b[1:])
	}
	if o.auto() {
		ends += 2 * time.Second
	}
	tc.passUntil(ends - 1)
	tc.wantAlive("a moment before PrefaceTimeout")
	tc.pass(1)
	select {
	case <-tc.p.Done():
	default:
		tc.t.Fatalf("alive after %v", ends)
	}
	tc.wantFails("a preface that is late", func(err error) bool {
		return errors.Is(err, ErrNoPreface) && strings.Contains(err.Error(), "ProtocolVT")
	})
	tc.settle()
	got := oneLines(tc.sent())
	want := []string{"PREFACE *"}
	if o.auto() && len(b) < wire.VTHeaderLen {
		want = nil
	}
	if len(b) >= wire.VTHeaderLen+6 { // the magic has come
		if !oneMatch(got, append(want, "GOAWAY 0 8 *")) { // 8: the peer did not answer in time
			want = append(want, "GOAWAY 0 2 *")
		} else {
			want = got
		}
	}
	if !oneMatch(got, want) {
		tc.t.Fatalf("the session has sent:%s\nwant:%s", oneShort(got), oneShort(want))
	}
	tc.wantGone("the transport is closed")
}

// TestPrefaceWithoutBound: a negative PrefaceTimeout and SilenceTimeout wait for ever.
func TestPrefaceWithoutBound(t *testing.T) {
	for _, side := range oneSides {
		o := side.setup
		o.cfg.PrefaceTimeout, o.cfg.SilenceTimeout = -1, -1
		oneRun(t, o, func(tc *oneTest) {
			tc.pass(1000 * time.Hour)
			tc.sendRaw(oneEncode("PREFACE")[:5])
			tc.pass(1000 * time.Hour)
			tc.sendRaw(oneEncode("PREFACE")[5:])
			tc.want("in the end", "PREFACE *")
			tc.wantAlive("no bound")
		})
	}
}

// TestPipeNamesProtocolVT: a peer that speaks vt-muxer's protocol, where a preface is
// required, ends the session with an error that says what to do, and gets no word.
func TestPipeNamesProtocolVT(t *testing.T) {
	for _, first := range []string{"VT 192.0.2.1:8080", `VT [2001:db8::1]:443 "hello"`, "VT [::]:0"} {
		for _, side := range oneSides {
			if side.setup.auto() {
				continue
			}
			t.Run(first+"/"+side.name, func(t *testing.T) {
				oneRun(t, side.setup, func(tc *oneTest) {
					c := tc.open(vtA)
					tc.wantSoon("no need to wait for the peer", "PREFACE *", "OPEN 1")
					tc.sendRaw(oneEncode(first)[:20])
					tc.want("no word to who does not speak protocol 1")
					tc.wantGone("the transport is closed")
					names := func(err error) bool {
						return errors.Is(err, ErrNoPreface) && strings.Contains(err.Error(), "ProtocolVT") && !errors.Is(err, io.EOF)
					}
					tc.wantFails("no preface", names)
					wantErrAs(tc.t, "Read", tc.readErr(c), names)
					wantErrAs(tc.t, "Write", writeErr(c), names)
				})
			})
		}
	}
}

// TestBeforeThePreface: until the peer's preface has come a session may open 128
// connections, and send 65,536 bytes on each by payloads of 16,384. What the preface
// allows beyond that holds for what is open already.
func TestBeforeThePreface(t *testing.T) {
	oneRun(t, oneSetup{preface: "-", cfg: Config{PrefaceTimeout: -1}}, func(tc *oneTest) {
		c := tc.open(vtA)
		w := tc.startWrite(c, strings.Repeat("x", 200_000))
		tc.want("a Write without the peer's preface", "PREFACE *", "OPEN 1", "DATA 1 65536*x")
		w.wantBlocked("65,536 are allowed")
		for range 127 {
			tc.open(vtB)
		}
		tc.settle()
		if n := len(tc.sent()); n != 127 {
			tc.t.Fatalf("%d OPENs were sent, want 127 more", n)
		}
		ctx, cancel := context.WithCancel(context.Background())
		op := tc.startErr("Open", func() error { _, err := tc.p.Open(ctx, vtB); return err })
		tc.want("and none too many is sent, whether Open fails or waits for the preface")
		cancel()
		<-op.done
		if !errors.Is(op.err, ErrTooManyConns) && !errors.Is(op.err, context.Canceled) {
			tc.t.Fatalf("Open with 128 open: %v", op.err)
		}

		tc.send("PREFACE window=150000 conns=129 payload=20000")
		tc.want("the preface lets the Write go on, up to its window", "DATA 1 84464*x")
		w.wantBlocked("150,000 are allowed")
		tc.open(vtB)
		tc.want("the preface lets one more open", "OPEN 129 [2001:db8::1]:443")
		tc.wantOpenErr("129 are open", ErrTooManyConns)
		tc.send("WINDOW YOURS 1 200000")
		tc.want("the rest", "DATA 1 50000*x")
		w.want("all is written", 200_000, nil)
	})
}

// TestPayloadIsAtMostWhatThePeerTakes looks at the frames themselves; oneLaw does so in
// every test.
func TestPayloadIsAtMostWhatThePeerTakes(t *testing.T) {
	for _, tt := range []struct {
		preface string
		most    int
	}{{"-", 16384}, {"PREFACE payload=16384", 16384}, {"PREFACE payload=30000", 30000}, {"PREFACE", 65535}} {
		oneRun(t, oneSetup{preface: tt.preface}, func(tc *oneTest) {
			c := tc.open(vtA)
			w := tc.startWrite(c, strings.Repeat("x", 65536))
			tc.settle()
			total, longest := 0, 0
			for _, f := range tc.sent() {
				if f.isData() {
					total += f.len()
					longest = max(longest, f.len())
				}
			}
			w.want("a Write of the initial window", 65536, nil)
			if total != 65536 || longest > tt.most {
				tc.t.Errorf("%s: %d bytes by payloads of at most %d, want 65536 by at most %d", tt.preface, total, longest, tt.most)
			}
		})
	}
}
