package mux

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/internal/xport"
	"github.com/vtmux/vtmux/wire"
)

// isWriteTimeout reports whether err tells that the transport took nothing for too long.
func isWriteTimeout(err error) bool {
	var te *TransportError
	return errors.As(err, &te) && te.Op == "write" && errors.Is(err, ErrWriteTimeout) && !errors.Is(err, io.EOF)
}

// keepsAsking makes the peer of a session with connection 1 send something each second,
// whatever it reads. It must say nothing else meanwhile.
func (tc *oneTest) keepsAsking() (stop func()) {
	quit := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-time.After(time.Second):
				tc.peer.say(fmt.Sprintf("PING %016x", i), `DATA 1 "more"`)
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit) }
}

// TestTransportThatTakesNothingEndsTheSession (R9): at WriteTimeout, or up to a
// thirtieth of it and a second later, though the peer goes on sending.
func TestTransportThatTakesNothingEndsTheSession(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit time.Duration // Config.WriteTimeout
		dead  time.Duration
	}{{"default", 0, 30 * time.Second}, {"own", time.Second, time.Second}, {"long", 10 * time.Minute, 10 * time.Minute}} {
		t.Run("one/"+tt.name, func(t *testing.T) {
			o := oneSetup{listen: true, cfg: fixed}
			o.cfg.WriteTimeout = tt.limit
			oneRun(t, o, func(tc *oneTest) {
				cs := tc.acceptIDs(2)
				tc.reading(cs[0])
				tc.deaf(true)
				defer tc.keepsAsking()()
				w := tc.startWrite(cs[1], "x")
				start := time.Now()
				tc.pass(tt.dead - 1)
				tc.wantAlive("a moment before WriteTimeout")
				w.wantBlocked("the transport takes nothing")
				<-tc.l.Done()
				if d := time.Since(start); d < tt.dead || d > tt.dead+looksAfter(tt.dead) {
					tc.t.Errorf("the session ended after %v, want %v", d, tt.dead)
				}
				tc.wantFails("nothing was taken", isWriteTimeout)
				<-w.done
				wantErrAs(tc.t, "Write", w.err, isWriteTimeout)
				wantErrAs(tc.t, "Read", second(cs[1].Read(make([]byte, 1))), isWriteTimeout)
			})
		})
	}
	for _, tt := range []struct {
		name  string
		limit time.Duration
		dead  time.Duration
	}{{"default", 0, 5 * time.Minute}, {"own", 30 * time.Second, 30 * time.Second}} {
		t.Run("vt/"+tt.name, func(t *testing.T) {
			vtRun(t, false, &Config{WriteTimeout: tt.limit}, func(tc *vtTest) {
				c := tc.open(vtA)
				tc.want("our open", vtOpen(vtA))
				r := tc.reading(c)
				tc.peer.setDeaf(true)
				start := time.Now()
				w := tc.startWrite(c, "x")
				n := 0
				for ; time.Since(start)+time.Second < tt.dead; n++ {
					<-time.After(time.Second)
					tc.peer.queue(vtBytes(vtData(vtA, "y")))
				}
				<-time.After(tt.dead - time.Since(start) - 1)
				w.wantBlocked("a moment before WriteTimeout")
				<-tc.p.Done()
				if d := time.Since(start); d < tt.dead || d > tt.dead+looksAfter(tt.dead) {
					tc.t.Errorf("the session ended after %v, want %v", d, tt.dead)
				}
				wantErrAs(tc.t, "Err", tc.p.Err(), isWriteTimeout)
				r.want("all that came", strings.Repeat("y", n), ErrWriteTimeout)
			})
		})
	}
}

// TestWhoTakesBytesIsNotCutOff: a byte within each WriteTimeout is enough, in the middle
// of one long write too.
func TestWhoTakesBytesIsNotCutOff(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		tc.pace(1, 29*time.Second)
		w := tc.startWrite(c, strings.Repeat("x", 65536))
		tc.pass(time.Hour)
		tc.wantAlive("a byte each 29 s")
		w.wantBlocked("the rest")
		c.SetWriteDeadline(time.Now().Add(time.Second))
		tc.pass(time.Second)
		tc.wantAlive("an interrupt that comes when nothing was just taken is no end")
		c.SetWriteDeadline(time.Time{})
		<-w.done
		wantErrAs(tc.t, "Write", w.err, is(os.ErrDeadlineExceeded))
		tc.pace(0, 0)
		tc.pass(time.Minute)
		tc.pass(time.Hour)
		tc.wantAlive("nothing waits")
		if tc.p.s.writes.on.Load() {
			tc.t.Error("the watch runs, and nobody writes")
		}
	})
}

// TestTransportThatStopsTaking: what was taken before counts from then on. Over a
// transport that does not tell what it has taken, that shows after WriteTimeout.
func TestTransportThatStopsTaking(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		for range 50 {
			tc.write(c, "x")
			tc.pass(700 * time.Millisecond)
		}
		tc.pace(1000, time.Second)
		tc.write(c, "x") // for the peer's read that is under way
		tc.pass(time.Second)
		start := time.Now()
		tc.write(c, strings.Repeat("x", 32000))
		tc.pass(3500 * time.Millisecond) // 3,000 bytes
		tc.pace(0, 0)
		tc.deaf(true)
		<-tc.p.Done()
		if d := time.Since(start); d < 33*time.Second || d > 64*time.Second {
			tc.t.Errorf("the session ended after %v, want 30 s after the last byte, and 64 at most", d)
		}
		tc.wantFails("nothing was taken", isWriteTimeout)
	})
}

// TestNoWriteTimeout: below zero there is no bound.
func TestNoWriteTimeout(t *testing.T) {
	o := oneSetup{cfg: Config{WriteTimeout: -1}}
	oneRun(t, o, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		tc.deaf(true)
		w := tc.startWrite(c, "x")
		tc.pass(1000 * time.Hour)
		w.wantBlocked("no bound")
		tc.deaf(false)
		tc.want("in the end", `DATA 1 "x"`)
		w.want("Write", 1, nil)
	})
}

// TestWriteTimeoutOverTransportsThatCantBeInterrupted: TLS, and what has no deadlines.
// There whole writes count.
func TestWriteTimeoutOverTransportsThatCantBeInterrupted(t *testing.T) {
	cert := testCert() // made once, by the real clock
	for _, name := range []string{"tls", "no deadlines"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				near, far := net.Conn(noDeadlinesConn{a}), net.Conn(noDeadlinesConn{b})
				if name == "tls" {
					near = tls.Client(a, &tls.Config{InsecureSkipVerify: true})
					far = tls.Server(b, &tls.Config{Certificates: []tls.Certificate{cert}})
				}
				p, err := NewPipe(near, &Config{KeepAliveInterval: -1})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(far, make([]byte, 44)); err != nil { // the preface
					t.Fatal(err)
				}
				if _, err := far.Write(oneBytes("PREFACE")); err != nil {
					t.Fatal(err)
				}
				c, err := p.Open(t.Context(), vtA)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				go func() {
					for i := 0; ; i++ {
						select {
						case <-time.After(time.Second):
						case <-p.Done():
							return
						}
						if _, err := far.Write(oneBytes(fmt.Sprintf("PING %016x", i))); err != nil {
							return
						}
					}
				}()
				c.Write([]byte("x"))
				<-p.Done()
				if d := time.Since(start); d < 30*time.Second || d > 31*time.Second {
					t.Errorf("the session ended after %v, want 30 s", d)
				}
				wantErrAs(t, "Err", p.Err(), isWriteTimeout)
				wantErrAs(t, "Write", second(c.Write([]byte("x"))), isWriteTimeout)
				p.Close()
				b.Close()
				synctest.Wait()
			})
		})
	}
}

// TestRecordsThatTheSocketTakesAreLife: keep-alive sees into a write over BelowTLS, too.
func TestRecordsThatTheSocketTakesAreLife(t *testing.T) {
	a, b := overBelow.narrow().dial(t)
	if _, ok := a.(*tls.Conn).NetConn().(*xport.Below); !ok {
		if canMove {
			t.Fatal("BelowTLS has returned the socket itself")
		}
		return // another system than Linux
	}
	p, err := NewPipe(a, &Config{Protocol: ProtocolVT, WriteTimeout: time.Hour, MaxWindow: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b.SetDeadline(time.Now().Add(patience))
	if err := b.(*tls.Conn).Handshake(); err != nil {
		t.Fatal(err)
	}
	c, err := p.Open(bounded(t), vtA)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	written := async(func() error { _, err := c.Write(make([]byte, 16<<20)); return err })
	waitUntil(t, "the socket takes nothing", p.s.t.Pending)
	first, _, blocked, ping := p.s.out.progress()
	first -= p.s.count.bytesOut.Load()
	if !blocked || ping <= 2*wire.PingLen {
		t.Errorf("the flusher waits: %t; a PING adds %d at most", blocked, ping)
	}
	buf := make([]byte, 4<<10)
	waitUntil(t, "it takes more, which whole writes don't show", func() bool {
		if _, err := b.Read(buf); err != nil {
			t.Fatal(err)
		}
		whole := p.s.count.bytesOut.Load()
		taken, _, _, _ := p.s.out.progress()
		return taken-whole > first+ping
	})
	p.Close()
	if err := wait(t, "Write", written); err == nil {
		t.Error("Write succeeded")
	}
}

// TestBytesThatTheKernelPassesOnAreProgress: over TCP, and TLS over it, what the peer's
// kernel acknowledges counts, though the session's write takes nothing meanwhile. The
// test looks in the watch's place, with the time over each time.
func TestBytesThatTheKernelPassesOnAreProgress(t *testing.T) {
	for _, tr := range []transport{overTCP.narrow(), overTLS.narrow(), overBelow.narrow()} {
		t.Run(tr.name, func(t *testing.T) {
			a, b := tr.dial(t)
			far := b
			// Only the test's own looks count.
			p, err := NewPipe(a, &Config{Protocol: ProtocolVT, WriteTimeout: time.Hour, MaxWindow: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			far.SetDeadline(time.Now().Add(patience))
			if h, ok := far.(*tls.Conn); ok {
				if err := h.Handshake(); err != nil {
					t.Fatal(err)
				}
			}
			s := p.s
			if _, known := s.t.Moved(); !known {
				if tr.name == "tcp" && canMove {
					t.Fatal("Moved is not known over TCP")
				}
				return // another system than Linux
			}
			c, err := p.Open(bounded(t), vtA)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			written := async(func() error { _, err := c.Write(make([]byte, 16<<20)); return err })
			// look reports whether the session would be over if since were long ago, and whether the
			// kernel has passed something on since the look before.
			look := func() (over, passed bool) {
				w := &s.writes
				w.mu.Lock()
				defer w.mu.Unlock()
				w.since = s.now() - int64(2*time.Hour)
				moved, _ := s.t.Moved()
				passed = moved != w.moved
				return s.lookAtWritesLocked(w), passed
			}
			waitUntil(t, "the transport takes nothing", func() bool {
				if !s.writes.on.Load() {
					return false // there is no timer yet
				}
				over, _ := look()
				return over
			})
			buf := make([]byte, 4<<10)
			for range 3 {
				waitUntil(t, "the kernel passes something on", func() bool {
					if _, err := far.Read(buf); err != nil {
						t.Fatal(err)
					}
					over, passed := look()
					if over && passed {
						t.Error("the peer's kernel has taken bytes, and the session would be cut off")
					}
					return passed
				})
			}
			p.Close()
			if err := wait(t, "Write", written); err == nil {
				t.Error("Write succeeded")
			}
			far.Close()
		})
	}
}

// canMove: this system tells what the peer's kernel has acknowledged.
const canMove = runtime.GOOS == "linux"

// TestWriteTimeoutEndsADrainingSessionToo: that the peer drains excuses a write that failed
// because it has gone, not one that it would not take.
func TestWriteTimeoutEndsADrainingSessionToo(t *testing.T) {
	o := oneSetup{listen: true, cfg: fixed}
	o.cfg.WriteTimeout = time.Second
	oneRun(t, o, func(tc *oneTest) {
		tc.acceptIDs(1)
		tc.sendNow("GOAWAY 4294967295 0")
		tc.deaf(true)
		tc.sendNow("PING 0102030405060708")
		tc.pass(o.cfg.WriteTimeout + 2*looksAfter(o.cfg.WriteTimeout))
		select {
		case <-tc.l.Done():
		default:
			tc.t.Fatal("the session goes on")
		}
		if err := tc.l.Err(); !isWriteTimeout(err) {
			tc.t.Errorf("Err is %v", err)
		}
	})
}
