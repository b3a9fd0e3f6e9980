package mux

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// fixed is a receiver whose window does not grow: of 131,072 bytes.
var fixed = Config{InitialWindow: 131072, MaxWindow: 131072}

// TestWriterKeepsToTheLimit is the example of PROTOCOL.md, 2.9.
func TestWriterKeepsToTheLimit(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		tc.write(c, strings.Repeat("x", 60000))
		tc.want("60,000 of 65,536", "DATA 1 60000*x")
		w := tc.startWrite(c, strings.Repeat("y", 5536+16384+1))
		tc.want("up to the limit", "DATA 1 5536*y")
		w.wantBlocked("the limit is reached")
		tc.send("WINDOW YOURS 1 81920")
		tc.want("the limit rises by 16,384", "DATA 1 16384*y")
		w.wantBlocked("one byte is left")
		tc.send("WINDOW YOURS 1 73728", "WINDOW YOURS 1 81920", "WINDOW YOURS 1 0")
		tc.want("a limit that is not higher has no effect")
		w.wantBlocked("one byte is left")
		if err := c.CloseWrite(); err != nil {
			tc.t.Fatal(err)
		}
		tc.want("FIN needs no credit", "FIN 1")
		w.want("CloseWrite ends the Write", 5536+16384, syscall.EPIPE)
	})
}

// TestWindowOfOneByte: credit comes as small as may be, and the Write takes it.
func TestWindowOfOneByte(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		w := tc.startWrite(c, strings.Repeat("x", 65536)+"abc")
		tc.want("the initial window", "DATA 1 65536*x")
		tc.send("WINDOW YOURS 1 65537")
		tc.want("one byte", `DATA 1 "a"`)
		tc.send("WINDOW YOURS 1 65538")
		tc.want("one byte", `DATA 1 "b"`)
		w.wantBlocked("one is left")
		tc.send("WINDOW YOURS 1 9223372036854775807")
		tc.want("the rest", `DATA 1 "c"`)
		w.want("all", 65539, nil)
	})
}

// TestCreditIsEachConnectionsOwn: a connection without credit holds up no other.
func TestCreditIsEachConnectionsOwn(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		cs := tc.openIDs(2)
		w := tc.startWrite(cs[0], strings.Repeat("x", 65537))
		tc.want("one is at its limit", "DATA 1 65536*x")
		tc.write(cs[1], strings.Repeat("y", 65536))
		tc.want("the other has credit of its own", "DATA 2 65536*y")
		tc.send("WINDOW YOURS 2 100000")
		tc.want("and what is granted to it is not the first one's")
		w.wantBlocked("no credit")
	})
}

// TestLimitAtItsEdge: below 2^63 all is legal, and the rest is a violation of its own
// code, whatever the connection's state.
func TestLimitAtItsEdge(t *testing.T) {
	window := func(limit uint64) []byte {
		b := oneEncode("WINDOW YOURS 1 5")
		wire.View[wire.WindowBody](b[wire.HeaderLen:]).Limit.Set(limit)
		return b
	}
	for _, ended := range []bool{false, true} {
		for _, limit := range []uint64{1 << 63, 1<<63 + 1, 1<<64 - 1} {
			oneRun(t, onePipe, func(tc *oneTest) {
				c := tc.openIDs(1)[0]
				tc.sendRaw(window(1<<63 - 1))
				tc.wantAlive("2^63-1")
				if ended {
					c.Close()
					tc.want("closed", "STOP 1 9", "FIN 1")
					tc.send("FIN YOURS 1")
				}
				tc.sendRaw(window(limit))
				tc.wantEnd("2^63 or more", 0, CodeFlowControl)
			})
		}
	}
}

// TestDataAboveTheLimit: DATA may reach the limit, one byte more is a violation, and
// nothing of it is stored. So it is after STOP.
func TestDataAboveTheLimit(t *testing.T) {
	for _, stop := range []bool{false, true} {
		for _, tt := range []struct {
			name string
			send []string
			ok   int
		}{
			{"by one payload more", []string{"DATA 1 131072*x", `DATA 1 "y"`}, 131072},
			{"by one payload that crosses it", []string{"DATA 1 131000*x", "DATA 1 73*y"}, 131000},
			{"by FIN's payload", []string{"DATA 1 131072*x", `DATA 1 "y" FIN`}, 131072},
		} {
			oneRun(t, oneSetup{listen: true, cfg: fixed}, func(tc *oneTest) {
				c := tc.acceptIDs(1)[0]
				if stop {
					c.CloseRead()
					tc.want("STOP", "STOP YOURS 1 9")
				}
				tc.send(tt.send...)
				tc.wantEnd(tt.name, 1, CodeFlowControl)
				if !stop {
					tc.wantRead("what was within the limit", c, strings.Repeat("x", tt.ok), ErrProtocol)
				}
			})
		}
		for _, send := range [][]string{
			{"DATA 1 131072*x", "FIN 1"},
			{"DATA 1 131072*x", `DATA 1 ""`, "FIN 1"},
			{"DATA 1 131071*x", `DATA 1 "x" FIN`},
		} {
			oneRun(t, oneSetup{listen: true, cfg: fixed}, func(tc *oneTest) {
				c := tc.acceptIDs(1)[0]
				if stop {
					c.CloseRead()
					tc.want("STOP", "STOP YOURS 1 9")
				}
				tc.send(send...)
				tc.wantAlive("up to the limit, and FIN needs no credit")
				if !stop {
					tc.wantRead("all of it", c, strings.Repeat("x", 131072), io.EOF)
				}
				tc.want("no WINDOW for a half that has ended, or that STOP has")
			})
		}
	}
}

// TestWindowAfterAQuarter: a WINDOW is sent when a quarter of the window has been
// consumed, and not before, and makes the limit what was consumed plus the window.
func TestWindowAfterAQuarter(t *testing.T) {
	oneRun(t, oneSetup{listen: true, cfg: fixed}, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		read := func(n int) {
			tc.t.Helper()
			if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
				tc.t.Fatal(err)
			}
		}
		tc.send("DATA 1 131072*x")
		tc.want("nothing has been consumed")
		read(32767)
		tc.want("a byte less than a quarter has been")
		read(1)
		tc.want("a quarter has been", "WINDOW YOURS 1 163840")
		read(32767)
		tc.want("a byte less than the next quarter")
		read(1)
		tc.want("the next quarter", "WINDOW YOURS 1 196608")
		for range 1000 {
			read(40)
		}
		tc.want("the 820th of many small Reads makes it due", "WINDOW YOURS 1 229408")
	})
}

// TestWindowIsConsumedPlusWindow: the limit is exactly what was consumed plus the
// window at the Read that made it due.
func TestWindowIsConsumedPlusWindow(t *testing.T) {
	oneRun(t, oneSetup{listen: true, cfg: fixed}, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		tc.send("DATA 1 131072*x")
		if _, err := io.ReadFull(c, make([]byte, 50001)); err != nil {
			tc.t.Fatal(err)
		}
		tc.want("one Read of 50,001 bytes", "WINDOW YOURS 1 181073")
		n := 0
		for range 3 {
			if _, err := io.ReadFull(c, make([]byte, 20000)); err != nil {
				tc.t.Fatal(err)
			}
			n += 20000
		}
		tc.want("the second of three Reads of 20,000", "WINDOW YOURS 1 221073")
	})
}

// TestFirstWindowOfTheDefault: with the default window of 65,536 the first WINDOW is due
// after 16,384 bytes; it may double the window then.
func TestFirstWindowOfTheDefault(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		tc.send("DATA 1 65536*x")
		io.ReadFull(c, make([]byte, 16383))
		tc.want("a byte less than a quarter has been consumed")
		io.ReadFull(c, make([]byte, 1))
		tc.settle()
		got := oneLines(tc.sent())
		if !oneMatch(got, []string{"WINDOW YOURS 1 81920"}) && !oneMatch(got, []string{"WINDOW YOURS 1 147456"}) {
			tc.t.Fatalf("after a quarter:%s", oneShort(got))
		}
	})
}

// TestWindowsCoalesce: while the transport takes nothing, many WINDOWs become one.
func TestWindowsCoalesce(t *testing.T) {
	oneRun(t, oneSetup{listen: true, cfg: fixed}, func(tc *oneTest) {
		c, d := tc.acceptIDs(2)[0], tc.conns[1]
		tc.send("DATA 1 131072*x")
		tc.deaf(true)
		w := tc.startWrite(d, strings.Repeat("y", 60000)) // fills what the transport takes
		for range 4 {
			if _, err := io.ReadFull(c, make([]byte, 32768)); err != nil {
				tc.t.Fatal(err)
			}
			tc.settle()
		}
		tc.deaf(false)
		tc.wantAnyOrder("one WINDOW, for all that was consumed, beside what was being sent",
			"WINDOW YOURS 1 262144", "DATA YOURS 2 60000*y")
		w.want("the Write", 60000, nil)
	})
}

// TestNoWindowBehindTheEnd: nothing is granted after CloseRead, Close, or the peer's FIN.
func TestNoWindowBehindTheEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*oneTest, *Conn)
		want []string
	}{
		{"CloseRead", func(tc *oneTest, c *Conn) { c.CloseRead() }, []string{"STOP YOURS 1 9"}},
		{"Close", func(tc *oneTest, c *Conn) { c.Close() }, []string{"STOP YOURS 1 9", "FIN YOURS 1"}},
		{"the peer's FIN", func(tc *oneTest, c *Conn) { tc.send("FIN 1") }, nil},
		{"the peer's RESET", func(tc *oneTest, c *Conn) { tc.send("RESET 1 300") }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			oneRun(t, oneSetup{listen: true, cfg: fixed}, func(tc *oneTest) {
				c := tc.acceptIDs(1)[0]
				tc.send("DATA 1 60000*x")
				io.ReadFull(c, make([]byte, 32767))
				tt.do(tc, c)
				tc.want(tt.name, tt.want...)
				c.SetReadDeadline(time.Now().Add(time.Second))
				io.Copy(io.Discard, c)
				if tt.want != nil {
					tc.send("DATA 1 71000*x")
				}
				tc.want("no WINDOW")
				tc.wantAlive("all was within the limit")
			})
		})
	}
}

// TestWriterWithoutCreditEnds: a Write that waits for credit ends with whatever ends
// its half, and its n is what has been sent.
func TestWriterWithoutCreditEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*oneTest, *Conn)
		want []string
		ok   func(error) bool
	}{
		{"Close", func(tc *oneTest, c *Conn) { c.Close() }, []string{"STOP 1 9", "FIN 1"}, is(net.ErrClosed)},
		{"CloseWrite", func(tc *oneTest, c *Conn) { c.CloseWrite() }, []string{"FIN 1"}, is(syscall.EPIPE)},
		{"Reset", func(tc *oneTest, c *Conn) { c.Reset(300) }, []string{"STOP 1 300", "RESET 1 300"}, isReset(300, false)},
		{"STOP", func(tc *oneTest, c *Conn) { tc.sendNow("STOP YOURS 1 301") }, []string{"RESET 1 301"},
			all(isStopped(301), is(syscall.EPIPE))},
		{"REFUSED", func(tc *oneTest, c *Conn) { tc.sendNow(`REFUSED 1 302 "busy"`) }, nil, isRefused(302, "busy")},
		{"GOAWAY below it", func(tc *oneTest, c *Conn) { tc.sendNow("GOAWAY 0 0") }, nil, isRefusedWith(CodeDraining)},
		{"GOAWAY with a code", func(tc *oneTest, c *Conn) { tc.sendNow(`GOAWAY 1 10 "out of memory"`) }, nil,
			all(isGoAway(CodeInternal, "out of memory"), is(io.ErrUnexpectedEOF))},
		{"a violation", func(tc *oneTest, c *Conn) { tc.sendNow("FIN YOURS 9") }, []string{"GOAWAY 0 2 *"}, is(ErrProtocol)},
		{"the transport's end", func(tc *oneTest, c *Conn) { tc.peer.conn.Close() }, nil, is(io.ErrUnexpectedEOF)},
		{"Close of the session", func(tc *oneTest, c *Conn) { tc.p.Close() }, []string{"GOAWAY 0 9 *"}, is(net.ErrClosed)},
		{"its deadline", func(tc *oneTest, c *Conn) { c.SetWriteDeadline(time.Now().Add(time.Second)); tc.pass(time.Second) }, nil,
			is(os.ErrDeadlineExceeded)},
		{"a deadline that is over", func(tc *oneTest, c *Conn) { c.SetWriteDeadline(time.Now().Add(-time.Second)) }, nil,
			is(os.ErrDeadlineExceeded)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			oneRun(t, onePipe, func(tc *oneTest) {
				c := tc.openIDs(1)[0]
				w := tc.startWrite(c, strings.Repeat("x", 100_000))
				tc.want("the initial window", "DATA 1 65536*x")
				w.wantBlocked("no credit")
				tt.do(tc, c)
				synctest.Wait()
				select {
				case <-w.done:
				default:
					tc.t.Fatalf("%s leaves Write waiting", tt.name)
				}
				if w.n != 65536 || !tt.ok(w.err) || errors.Is(w.err, io.EOF) {
					tc.t.Fatalf("Write returned %d, %T %v, want 65536", w.n, w.err, w.err)
				}
				tc.want("what ends the half", tt.want...)
			})
		})
	}
}

// TestWriterWithoutCreditWaits: what ends the peer's half alone does not end the Write.
func TestWriterWithoutCreditWaits(t *testing.T) {
	for _, send := range []string{"FIN YOURS 1", "RESET YOURS 1 300"} {
		oneRun(t, onePipe, func(tc *oneTest) {
			c := tc.openIDs(1)[0]
			w := tc.startWrite(c, strings.Repeat("x", 65537))
			tc.want("the initial window", "DATA 1 65536*x")
			tc.send(send, "WINDOW YOURS 1 65536", "GOAWAY 4294967295 0")
			w.wantBlocked(send)
			tc.send("WINDOW YOURS 1 65537")
			tc.want("the rest", `DATA 1 "x"`)
			w.want(send, 65537, nil)
		})
	}
}

// TestWriteGoesOnAfterItsDeadline: what a deadline has left over can be written later,
// and no byte is lost or sent twice.
func TestWriteGoesOnAfterItsDeadline(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		p := strings.Repeat("x", 65536) + strings.Repeat("y", 1000)
		start := time.Now()
		c.SetWriteDeadline(start.Add(time.Minute))
		w := tc.startWrite(c, p)
		<-w.done
		if d := time.Since(start); d != time.Minute || w.n != 65536 || !errors.Is(w.err, os.ErrDeadlineExceeded) {
			tc.t.Fatalf("after %v Write returned %d, %v", d, w.n, w.err)
		}
		c.SetWriteDeadline(time.Time{})
		w = tc.startWrite(c, p[w.n:])
		tc.want("the first 65,536", "DATA 1 65536*x")
		tc.send("WINDOW YOURS 1 100000")
		tc.want("the rest, once", "DATA 1 1000*y")
		w.want("the rest", 1000, nil)
	})
}

// TestReadFromAndWriteBuffersKeepToTheLimit: the other ways to write do as well.
func TestReadFromAndWriteBuffersKeepToTheLimit(t *testing.T) {
	for name, f := range map[string]func(*Conn) (int64, error){
		"ReadFrom": func(c *Conn) (int64, error) { return c.ReadFrom(strings.NewReader(strings.Repeat("x", 70000))) },
		"WriteBuffers": func(c *Conn) (int64, error) {
			b := []byte(strings.Repeat("x", 35000))
			return c.WriteBuffers(&net.Buffers{b, b})
		},
		"io.Copy": func(c *Conn) (int64, error) {
			return io.Copy(c, struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 70000))})
		},
	} {
		t.Run(name, func(t *testing.T) {
			oneRun(t, onePipe, func(tc *oneTest) {
				c := tc.openIDs(1)[0]
				w := tc.start(name, func() (int, error) { n, err := f(c); return int(n), err })
				tc.want("the initial window", "DATA 1 65536*x")
				w.wantBlocked("no credit")
				tc.send("WINDOW YOURS 1 70000")
				tc.want("the rest", "DATA 1 4464*x")
				w.want("all", 70000, nil)
			})
		})
	}
}
