package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// wantWrites fails the test unless f makes the session write to its transport n times.
func (tc *vtTest) wantWrites(sentence string, n uint64, f func()) {
	tc.t.Helper()
	before := tc.p.Stats().Writes
	f()
	synctest.Wait()
	if got := tc.p.Stats().Writes - before; got != n {
		tc.t.Fatalf("%s: the session has written %d times, want %d", sentence, got, n)
	}
}

func TestOpenGoesWithTheFirstWrite(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		var c *Conn
		tc.wantWrites("Open", 0, func() { c = tc.open(vtA) })
		tc.wantWrites("Write", 1, func() { tc.write(c, "hi") })
		tc.wantNow("both", "OPEN 1", `DATA 1 "hi"`)
		tc.pass(time.Second)
		tc.wantNow("each once")
	})
	vtRun(t, false, nil, func(tc *vtTest) {
		var c *Conn
		tc.wantWrites("Open", 0, func() { c = tc.open(vtA) })
		tc.wantWrites("Write", 1, func() { tc.write(c, "hi") })
		tc.want("both", vtFrame{vtA, ""}, vtFrame{vtA, "hi"})
	})
}

func TestReadSendsTheOpen(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) })
		tc.wantNow("at once", "OPEN 1")
		other := tc.open(vtA)
		tc.start("WriteTo", func() (int, error) { n, err := other.WriteTo(io.Discard); return int(n), err })
		tc.wantNow("who writes to a file reads as well", "OPEN 2")
	})
}

// TestOpenGoesOutByItself: a server may speak first, to a client that does nothing yet.
// The first time makes the timer, later ones set it.
func TestOpenGoesOutByItself(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		for _, open := range []string{"OPEN 1", "OPEN 2", "OPEN 3"} {
			tc.open(vtA)
			tc.pass(flushWithin - time.Nanosecond)
			tc.wantNow("a moment before")
			tc.pass(time.Nanosecond)
			tc.wantNow("then", open)
			tc.pass(time.Second)
		}
	})
}

// TestOpensBehindAFlushGoOutInTime: the timer that the first of them has set may fire early
// for the second, but never too late.
func TestOpensBehindAFlushGoOutInTime(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.pass(flushWithin / 2)
		tc.write(c, "x")
		tc.wantNow("the Write", "OPEN 1", `DATA 1 "x"`)
		tc.open(vtA)
		tc.pass(flushWithin)
		tc.wantNow("the second", "OPEN 2")
	})
}

// TestAnswersToStopsGoTogether: what one read brings is answered by one write.
func TestAnswersToStopsGoTogether(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		both := tc.acceptIDs(2)
		tc.wantWrites("two STOPs", 1, func() { tc.sendNow("STOP 1 9", "STOP 2 9") })
		tc.wantNow("both", "RESET YOURS 1 9", "RESET YOURS 2 9")
		wantErr(tc.t, "Write", writeErr(both[0]), errStopped)
	})
}

// TestCloseGoesOutInOneWrite: the OPEN too, where nothing has sent it yet.
func TestCloseGoesOutInOneWrite(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.wantWrites("Close", 1, func() {
			c.Close()
			tc.pass(flushWithin)
		})
		tc.wantNow("all of it", "OPEN 1", "STOP 1 9", "FIN 1")
	})
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.write(c, "x")
		tc.want("the question", "OPEN 1", `DATA 1 "x"`)
		tc.sendNow("FIN YOURS 1")
		tc.wantWrites("Close", 1, func() { c.Close() })
		tc.wantNow("no STOP to who has ended", "FIN 1")
	})
}

// TestCloseWaitsForWhatFollows: the peer is woken once, for the end of a conversation and the
// beginning of the next.
func TestCloseWaitsForWhatFollows(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.answered("DATA YOURS 1 \"!\"")
		tc.wantWrites("Close", 0, func() { c.Close() })
		tc.wantWrites("Open and Write", 1, func() { tc.write(tc.open(vtA), "?") })
		tc.wantNow("in their order, for the OPEN may need the place", "STOP 1 9", "FIN 1", "OPEN 2", `DATA 2 "?"`)
	})
	for _, frames := range [][]string{{"FIN YOURS 1"}, {"FIN YOURS 1", "STOP YOURS 1 9"}, {"STOP YOURS 1 9"}} {
		oneRun(t, onePipe, func(tc *oneTest) {
			tc.answered("DATA YOURS 1 \"!\"").Close()
			tc.wantNow("Close")
			tc.sendNow(frames...)
			tc.wantNow("to who may wait for it", "STOP 1 9", "FIN 1")
		})
	}
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.write(c, "?")
		op := tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) })
		tc.want("the question", "OPEN 1", `DATA 1 "?"`)
		tc.sendNow(`DATA YOURS 1 "!"`)
		op.want("a Read that waited", 1, nil)
		c.Close()
		tc.wantNow("Close")
		tc.wantSoon("a moment later", "STOP 1 9", "FIN 1")
	})
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.answered("DATA YOURS 1 \"!\"").Close()
		tc.pass(flushWithin - time.Nanosecond)
		tc.wantNow("a moment before")
		tc.pass(time.Nanosecond)
		tc.wantNow("nothing has followed", "STOP 1 9", "FIN 1")
	})
}

// answered returns connection 1, for which frames have come, of which one byte has been read.
func (tc *oneTest) answered(frames ...string) *Conn {
	c := tc.open(vtA)
	tc.write(c, "?")
	tc.want("the question", "OPEN 1", `DATA 1 "?"`)
	tc.sendNow(frames...)
	tc.readByte(c)
	return c
}

// readByte reads the one byte that has come, or the first.
func (tc *vtTest) readByte(c *Conn) {
	tc.t.Helper()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		tc.t.Fatalf("Read: %v", err)
	}
}

// TestCloseWaitsForNothing where the peer may wait for it.
func TestCloseWaitsForNothing(t *testing.T) {
	const answer = `DATA YOURS 1 "!"`
	for _, x := range []struct {
		name string
		cfg  Config
		say  []string
		do   func(*oneTest, *Conn)
		want []string
	}{
		{"behind a Write", Config{}, []string{answer},
			func(tc *oneTest, c *Conn) { tc.write(c, "?!") }, []string{`DATA 1 "?!"`, "STOP 1 9", "FIN 1"}},
		{"behind a large Write", Config{}, []string{answer},
			func(tc *oneTest, c *Conn) { tc.write(c, strings.Repeat("x", lendFrom)) },
			[]string{`DATA 1 "` + strings.Repeat("x", lendFrom) + `"`, "STOP 1 9", "FIN 1"}},
		{"behind the peer's end", Config{}, []string{answer, "FIN YOURS 1"}, nil, []string{"FIN 1"}},
		{"with more to read", Config{}, []string{answer, `DATA YOURS 1 "?"`}, nil, []string{"STOP 1 9", "FIN 1"}},
		{"where places are few", Config{MaxConns: 1}, []string{answer}, nil, []string{"STOP 1 9", "FIN 1"}},
		{"behind a Write that another flushes", Config{}, []string{answer}, func(tc *oneTest, c *Conn) {
			o := &tc.p.s.out
			if !o.claim() {
				tc.t.Fatal("somebody flushes")
			}
			tc.write(c, "?!")
			tc.p.s.trySend()
		}, []string{`DATA 1 "?!"`, "STOP 1 9", "FIN 1"}},
		{"behind a Write, and a Read that brings nothing", Config{}, []string{answer}, func(tc *oneTest, c *Conn) {
			tc.write(c, "?!")
			c.Read(nil)
			c.SetReadDeadline(time.Now())
			c.Read(make([]byte, 1))
		}, []string{`DATA 1 "?!"`, "STOP 1 9", "FIN 1"}},
		{"while the peer shuts down", Config{}, []string{answer, "GOAWAY 1 0"}, nil, []string{"STOP 1 9", "FIN 1"}},
		{"behind a Write of the helper's", Config{}, []string{answer}, func(tc *oneTest, c *Conn) {
			tc.p.s.inline = false // as over TLS
			tc.write(c, "?!")
			synctest.Wait()
		}, []string{`DATA 1 "?!"`, "STOP 1 9", "FIN 1"}},
		{"behind a CloseRead that is not sent yet", Config{}, []string{answer}, func(tc *oneTest, c *Conn) {
			tc.p.s.out.claim()
			c.CloseRead()
			c.Close()
			tc.p.s.trySend()
		}, []string{"STOP 1 9", "FIN 1"}},
		{"where there is no room", Config{}, []string{answer}, func(tc *oneTest, c *Conn) {
			other := tc.open(vtA)
			tc.want("another", "OPEN 2")
			tc.p.s.out.claim()
			for range stagingSize / (1000 + wire.HeaderLen) { // 16 bytes are left
				tc.write(other, strings.Repeat("x", 1000))
			}
			c.Close()
			tc.p.s.trySend()
		}, []string{"DATA 2 65000*x", "STOP 1 9", "FIN 1"}},
		{"behind CloseWrite", Config{}, []string{answer},
			func(tc *oneTest, c *Conn) { tc.write(c, "?!"); c.CloseWrite(); synctest.Wait() }, []string{`DATA 1 "?!" FIN`, "STOP 1 9"}},
		{"with a code", Config{}, []string{answer},
			func(_ *oneTest, c *Conn) { c.Reset(300) }, []string{"STOP 1 300", "RESET 1 300"}},
		{"and the session's Close", Config{}, []string{answer},
			func(tc *oneTest, c *Conn) {
				c.Close()
				tc.start("Close", func() (int, error) { return 0, tc.p.Close() })
			},
			[]string{"STOP 1 9", "FIN 1", "GOAWAY 0 9 *"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			lends := func(c net.Conn) net.Conn { return &vecPipe{Conn: c} }
			oneRun(t, oneSetup{cfg: x.cfg, wrap: lends}, func(tc *oneTest) {
				c := tc.answered(x.say...)
				if x.do != nil {
					x.do(tc, c)
				}
				c.Close()
				tc.wantNow("at once", x.want...)
			})
		})
	}
	oneRun(t, oneSetup{preface: "PREFACE conns=128"}, func(tc *oneTest) {
		tc.openIDs(1)[0].Close()
		tc.wantNow("who announces so few may have fewer", "STOP 1 9", "FIN 1")
	})
	oneRun(t, oneSetup{preface: "PREFACE conns=130"}, func(tc *oneTest) {
		conns := tc.openIDs(66)
		conns[0].Close()
		tc.wantNow("more than half of the peer's places are taken", "STOP 1 9", "FIN 1")
		tc.send("RESET YOURS 1 9")
		conns[1].Close()
		tc.wantNow("half of them are")
		tc.wantSoon("later", "STOP 2 9", "FIN 2")
	})
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		tc.sendNow(`DATA 1 "?"`)
		tc.readByte(c)
		c.Close()
		tc.wantNow("who was asked", "STOP YOURS 1 9", "FIN YOURS 1")
	})
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.answered(answer)
		op := tc.start("Write", func() (int, error) { return c.Write(bytes.Repeat([]byte("x"), 70_000)) })
		tc.wantNow("up to the limit", "DATA 1 65535*x")
		tc.sendNow(answer)
		tc.readByte(c)
		c.Close()
		tc.wantNow("while a Write waits", "STOP 1 9", "FIN 1")
		op.want("the Write", 65_535, net.ErrClosed)
	})
	oneRun(t, oneSetup{cfg: Config{MaxConns: 4}}, func(tc *oneTest) {
		conns := tc.openIDs(3)
		conns[0].CloseWrite()
		conns[1].CloseWrite()
		tc.send("FIN YOURS 1", "FIN YOURS 2", `DATA YOURS 3 "!"`)
		tc.want("two have ended, and keep their places", "FIN 1", "FIN 2")
		tc.readByte(conns[2])
		conns[2].Close()
		tc.wantNow("more than half of the own places are taken", "STOP 3 9", "FIN 3")
	})
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.answered(answer)
		ctx, cancel := context.WithCancel(context.Background())
		op := tc.shutdown(ctx)
		tc.sendNow(tc.wantPing("Shutdown", "GOAWAY 4294967295 0"))
		tc.wantNow("and then", "GOAWAY 0 0")
		c.Close()
		tc.wantNow("while Shutdown waits", "STOP 1 9", "FIN 1")
		cancel()
		op.want("Shutdown", 0, context.Canceled)
	})
	vtRun(t, false, nil, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.write(c, "?")
		tc.send(vtFrame{vtA, "!"})
		tc.readByte(c)
		tc.wantWrites("Close with the vt-muxer protocol", 1, func() { c.Close() })
	})
}

// TestClosedHasEnded though the RESET that answers the peer's Close waits: its place is free, and
// to end the session cuts nothing.
func TestClosedHasEnded(t *testing.T) {
	setup := oneSetup{listen: true, cfg: Config{MaxConns: 2}, preface: "PREFACE conns=1000"}
	ended := func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		tc.wantWrites("STOP and FIN", 0, func() { tc.sendNow("STOP 1 9", "FIN 1") })
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read: %v", err)
		}
		tc.wantWrites("Close", 0, func() { c.Close() })
	}
	oneRun(t, setup, func(tc *oneTest) {
		ended(tc)
		tc.sendNow("OPEN 2", "OPEN 3")
		tc.wantNow("there are two places", "RESET YOURS 1 9")
	})
	oneRun(t, setup, func(tc *oneTest) {
		ended(tc)
		tc.start("Close", func() (int, error) { return 0, tc.p.Close() })
		tc.wantNow("without GOAWAY", "RESET YOURS 1 9")
	})
}

// TestClosedIsNotExpected: a flusher that follows waits for no Write of what was closed.
func TestClosedIsNotExpected(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		conns := tc.openIDs(2)
		for _, c := range conns { // the first leads
			tc.start("Read", func() (int, error) {
				n, err := c.Read(make([]byte, 1))
				if n == 1 {
					c.Close()
				}
				return n, err
			})
			synctest.Wait()
		}
		tc.sendNow(`DATA YOURS 2 "!"`)
		tc.wantNow("Close waits")
		if n := tc.p.s.expect.left(); n != 0 {
			t.Errorf("%d are expected to write", n)
		}
	})
}

// TestAnswerToACloseWaits: who has closed a connection waits for no answer, but who only has
// stopped reading may.
func TestAnswerToACloseWaits(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(2)[1]
		tc.wantWrites("STOP and FIN", 0, func() { tc.sendNow("STOP 1 9", "FIN 1") })
		tc.wantWrites("Write", 1, func() { tc.write(c, "!") })
		tc.wantAnyOrder("both", "RESET YOURS 1 9", `DATA YOURS 2 "!"`)
	})
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.acceptIDs(2)
		tc.wantWrites("STOP", 1, func() { tc.sendNow("STOP 1 9") })
		tc.wantWrites("both of another", 0, func() { tc.sendNow("STOP 2 9", "FIN 2") })
	})
	for _, frames := range [][]string{
		{"STOP 1 9"},
		{"STOP 1 9", `DATA 1 "x"`},
		{"STOP 2 9", "STOP 1 9", "FIN 1"},
		{"STOP 1 9", "FIN 1", "STOP 2 9"},
		{"STOP 1 9", "FIN 2"},
	} {
		oneRun(t, oneListener, func(tc *oneTest) {
			tc.acceptIDs(2)
			tc.wantWrites(strings.Join(frames, ", "), 1, func() { tc.sendNow(frames...) })
		})
	}
	oneRun(t, oneSetup{listen: true, cfg: Config{MaxConns: 4}}, func(tc *oneTest) {
		conns := tc.acceptIDs(3)
		conns[0].CloseWrite()
		conns[1].CloseWrite()
		tc.send("FIN 1", "FIN 2")
		tc.want("two have ended, and keep their places", "FIN YOURS 1", "FIN YOURS 2")
		tc.wantWrites("more than half of the places are taken", 1, func() { tc.sendNow("STOP 3 9", "FIN 3") })
	})
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.acceptIDs(1)[0].Close()
		tc.wantNow("at once", "STOP YOURS 1 9", "FIN YOURS 1")
		tc.wantWrites("what is closed here has no answer", 0, func() {
			tc.sendNow("STOP 1 9", "FIN 1")
			tc.pass(time.Second)
		})
	})
}

// TestPlaceIsFreeWhenBothHalvesHaveEnded: who has read io.EOF, or the peer's code, and has
// closed the connection, may open another, whatever else the leader has to hand out and to flush.
func TestPlaceIsFreeWhenBothHalvesHaveEnded(t *testing.T) {
	for _, end := range []string{"FIN YOURS 1", "RESET YOURS 1 9"} {
		for range 50 {
			oneRun(t, oneSetup{cfg: Config{MaxConns: 3}}, func(tc *oneTest) {
				c, leads, reads := tc.open(vtA), tc.open(vtA), tc.open(vtA)
				tc.wantSoon("all", "OPEN 1", "OPEN 2", "OPEN 3")
				for _, other := range []*Conn{leads, reads} {
					tc.start("Read", func() (int, error) { return other.Read(make([]byte, 100)) })
					synctest.Wait()
				}
				opened := async(func() error {
					if _, err := c.Read(make([]byte, 1)); err == nil {
						return errors.New("Read returned no error")
					}
					c.Close()
					c, err := tc.p.Open(context.Background(), vtA)
					if err == nil {
						c.Close()
					}
					return err
				})
				synctest.Wait()
				tc.peer.say("STOP YOURS 1 9", end, `DATA YOURS 3 "x"`) // the flusher lets the third's reader run first
				wantErr(tc.t, "Open", <-opened, nil)
			})
		}
	}
}

// TestStreak: it is of small Writes, and of no other.
func TestStreak(t *testing.T) {
	c := new(conn)
	for range 2 {
		c.wrote()
		for i, want := range []bool{false, false, true, true} {
			if got := c.inStreak(); got != want {
				t.Errorf("small Write %d of a streak: %t", i+1, got)
			}
			c.wrote()
		}
		c.hasRead()
	}
}
