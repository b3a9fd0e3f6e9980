package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
)

// TestListenerTellsTheProtocolsApart: address ::, port 0 and a length is a preface, all
// else is the vt-muxer protocol.
func TestListenerTellsTheProtocolsApart(t *testing.T) {
	zero := addr.MustParseSocketAddr("[::]:0")
	for _, a := range []addr.SocketAddr{
		vtA, vtB, zero,
		addr.MustParseSocketAddr("[::]:1"), addr.MustParseSocketAddr("[::1]:0"), addr.MustParseSocketAddr("0.0.0.0:0"),
	} {
		for _, cut := range []int{0, 1, 18, 19} {
			oneRun(t, oneSetup{listen: true, preface: "-"}, func(tc *oneTest) {
				tc.peer.dec.vt, tc.peer.dec.prefaced = true, true
				b := oneBytes("VT " + a.String())
				tc.sendRaw(b[:cut])
				tc.want("the first bytes have no answer")
				tc.sendRaw(b[cut:])
				c := tc.accept(a)
				if a == zero {
					tc.send(`VT [::]:0 "from the rust side"`) // looks like a preface, and is late
				} else {
					tc.send("VT " + a.String() + ` "from the rust side"`)
				}
				tc.wantRead("the peer's data", c, "from the rust side", nil)
				tc.write(c, "hello")
				c.CloseWrite()
				tc.wantVT("the answer, and its end, as vt-muxer has it", vtData(a, "hello"), vtEnd(a))
				tc.send("VT " + a.String())
				tc.wantRead("the peer's end", c, "", io.EOF)
			})
		}
	}
}

// TestDataFirstIsVT: a vt-muxer peer's data for an address that is not open is no
// preface either, and is discarded.
func TestDataFirstIsVT(t *testing.T) {
	oneRun(t, oneSetup{listen: true, preface: "-"}, func(tc *oneTest) {
		tc.peer.dec.vt, tc.peer.dec.prefaced = true, true
		tc.send(`VT 192.0.2.1:8080 "to nobody"`, "VT 192.0.2.1:8080")
		tc.accept(vtA)
		tc.want("nothing but what is accepted")
	})
}

// TestOnVTNothingIsAPreface: a session on ProtocolVT never sends one, and takes the
// peer's for data.
func TestOnVTNothingIsAPreface(t *testing.T) {
	for _, listen := range []bool{true, false} {
		oneRun(t, oneSetup{listen: listen, preface: "-", cfg: Config{Protocol: ProtocolVT}}, func(tc *oneTest) {
			tc.sendRaw(oneBytes("PREFACE", "VT 198.51.100.7:1"))
			if listen {
				tc.accept(vtC)
				tc.want("no preface")
			} else {
				tc.wantVT("a Pipe ends what it refuses", vtEnd(vtC))
			}
			tc.open(vtA)
			tc.wantVT("an OPEN of vt-muxer's", vtOpen(vtA))
		})
	}
}

// TestListenerIsSilentUntilSilenceTimeout: on Auto nothing is sent before the peer's
// first byte, and the wait for that byte has a bound.
func TestListenerIsSilentUntilSilenceTimeout(t *testing.T) {
	for _, tt := range []struct {
		limit, ends time.Duration
	}{{0, 5 * time.Minute}, {time.Minute, time.Minute}} {
		oneRun(t, oneSetup{listen: true, preface: "-", cfg: Config{SilenceTimeout: tt.limit}}, func(tc *oneTest) {
			accept := tc.startErr("Accept", func() error { _, err := tc.l.Accept(); return err })
			tc.passUntil(tt.ends - 1)
			tc.wantAlive("a moment before SilenceTimeout")
			tc.wantNow("silent")
			tc.pass(1)
			select {
			case <-tc.l.Done():
			default:
				tc.t.Fatalf("alive after %v", tt.ends)
			}
			<-accept.done
			if accept.err == nil || errors.Is(accept.err, io.EOF) || errors.Is(accept.err, net.ErrClosed) {
				tc.t.Errorf("Accept: %v", accept.err)
			}
			tc.want("without a word")
			tc.wantGone("the transport is closed")
		})
	}
}

// TestListenerOpensFirst: a Listener on Auto that is asked to open sends its preface,
// holds all frames until the peer's first 20 bytes have told, and goes on in the peer's
// protocol.
func TestListenerOpensFirst(t *testing.T) {
	first := oneSetup{listen: true, preface: "-"}
	t.Run("towards protocol 1", func(t *testing.T) {
		oneRun(t, first, func(tc *oneTest) {
			op, got := tc.openFirst()
			b := oneEncode("PREFACE")
			tc.sendRaw(b[:19])
			tc.wantNow("19 bytes don't tell")
			tc.sendRaw(b[19:])
			tc.want("what was held", "OPEN 1", `DATA 1 "hello"`)
			op.want("Open and Write", 5, nil)
			tc.send(`DATA YOURS 1 "hi" FIN`)
			tc.wantRead("the answer", *got, "hi", io.EOF)
		})
	})
	t.Run("towards vt-muxer", func(t *testing.T) {
		oneRun(t, first, func(tc *oneTest) {
			op, got := tc.openFirst()
			tc.peer.mu.Lock()
			tc.peer.dec.vt = true
			tc.peer.mu.Unlock()
			tc.send("VT [2001:db8::1]:443")
			tc.wantVT("what was held, as vt-muxer has it", vtOpen(vtA), vtData(vtA, "hello"))
			op.want("Open and Write", 5, nil)
			c, d := *got, tc.accept(vtB)
			tc.send(`VT [2001:db8::1]:443 "from b"`, `VT 192.0.2.1:8080 "from a"`, "VT 192.0.2.1:8080")
			tc.wantRead("what the peer has opened", d, "from b", nil)
			tc.wantRead("what was opened first", c, "from a", io.EOF)
			c.Close()
			tc.wantVT("the end", vtEnd(vtA))
		})
	})
	t.Run("towards silence", func(t *testing.T) {
		oneRun(t, first, func(tc *oneTest) {
			tc.openFirst()
			tc.passUntil(5*time.Minute - 1)
			tc.wantAlive("a moment before SilenceTimeout")
			tc.pass(1)
			tc.wantFails("SilenceTimeout", func(err error) bool {
				return !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed)
			})
			tc.want("no word: the peer may speak something else")
			tc.wantGone("the transport is closed")
		})
	})
}

// openFirst opens a connection and writes to it, while nobody knows what the peer speaks.
// Whether Open, Write or neither waits for that is left open here.
func (tc *oneTest) openFirst() (*vtOp, **Conn) {
	tc.t.Helper()
	var c *Conn
	op := tc.start("Open and Write", func() (int, error) {
		var err error
		if c, err = tc.l.Open(context.Background(), vtA); err != nil {
			return 0, err
		}
		tc.conns = append(tc.conns, c)
		return c.Write([]byte("hello"))
	})
	tc.want("its preface alone", "PREFACE *")
	tc.pass(time.Minute)
	tc.wantNow("no frame while the peer is silent")
	return op, &c
}

// TestTwoListenersBackToBack: both on Auto, both silent until one of them opens.
func TestTwoListenersBackToBack(t *testing.T) {
	for _, who := range [][]int{{0}, {1}, {0, 1}} {
		t.Run(fmt.Sprint(who, " opens"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				var ls [2]*Listener
				for i, end := range []net.Conn{a, b} {
					l, err := NewListener(end, nil)
					if err != nil {
						t.Fatal(err)
					}
					ls[i] = l
				}
				defer closeBoth(ls[0], ls[1])
				<-time.After(time.Minute)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				var opened []*Conn
				for _, i := range who {
					c, err := ls[i].Open(ctx, vtA)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					opened = append(opened, c)
				}
				for k, i := range who {
					echoOnce(t, ctx, opened[k], ls[1-i])
				}
				if _, err := ls[0].Ping(ctx); err != nil {
					t.Errorf("Ping, which protocol 1 alone has over this transport: %v", err)
				}
			})
		})
	}
}

// echoOnce accepts what c is at the other end, and sends something there and back.
func echoOnce(t *testing.T, ctx context.Context, c *Conn, l *Listener) {
	t.Helper()
	done := async(func() error {
		_, err := c.Write([]byte("there"))
		c.CloseWrite()
		return err
	})
	d, err := l.AcceptConn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.SetDeadline(time.Now().Add(10 * time.Second))
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(d); string(b) != "there" || err != nil {
		t.Fatalf("there: %q, %v", b, err)
	}
	if _, err := d.Write([]byte("back")); err != nil {
		t.Fatal(err)
	}
	d.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "back" || err != nil {
		t.Fatalf("back: %q, %v", b, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// wantVT is want for frames of vt-muxer's.
func (tc *oneTest) wantVT(sentence string, frames ...vtFrame) {
	tc.t.Helper()
	var lines []string
	for _, f := range frames {
		lines = append(lines, (&oneFrame{vt: &f}).text())
	}
	tc.want(sentence, lines...)
}
