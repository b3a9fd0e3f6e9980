package mux

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A dueTest is a receiver that consumes a fixed window of 131,072 bytes by quarters.
type dueTest struct {
	*oneTest
	c, other *Conn
}

// dueRun runs f when the first quarter has been consumed, and the next is unread.
func dueRun(t *testing.T, listen bool, f func(tc *dueTest)) {
	t.Helper()
	oneRun(t, oneSetup{listen: listen, cfg: fixed}, func(tc *oneTest) {
		d := &dueTest{oneTest: tc}
		var both []*Conn
		data, window := "DATA YOURS 1 65536*x", "WINDOW 1 163840"
		if listen {
			both = tc.acceptIDs(2)
			data, window = "DATA 1 65536*x", "WINDOW YOURS 1 163840"
		} else {
			both = tc.openIDs(2)
		}
		d.c, d.other = both[0], both[1]
		tc.send(data)
		tc.pass(time.Second)
		d.expectOne()
		d.quarter()
		d.wantNow("the first quarter's, whoever is expected, for its rate is not known", window)
		f(d)
	})
}

// expectOne makes the session expect that somebody writes.
func (d *dueTest) expectOne() { d.p.s.expect.add() }

func (d *dueTest) quarter() {
	d.t.Helper()
	if _, err := io.ReadFull(d.c, make([]byte, 32768)); err != nil {
		d.t.Fatal(err)
	}
}

// TestWindowGoesAlong: with what somebody writes who is expected to.
func TestWindowGoesAlong(t *testing.T) {
	dueRun(t, true, func(d *dueTest) {
		d.pass(flushWithin)
		d.expectOne()
		d.wantWrites("the next quarter", 0, d.quarter)
		d.wantWrites("somebody's Write", 1, func() { d.write(d.other, "x") })
		d.wantAnyOrder("both", "WINDOW YOURS 1 196608", `DATA YOURS 2 "x"`)
		d.pass(time.Second)
		d.wantNow("each once")
	})
}

// TestWindowWaitsNoLonger than flushWithin, should nobody write after all.
func TestWindowWaitsNoLonger(t *testing.T) {
	dueRun(t, true, func(d *dueTest) {
		d.pass(flushWithin)
		d.expectOne()
		d.quarter()
		d.pass(flushWithin - time.Nanosecond)
		d.wantNow("a moment before")
		d.pass(time.Nanosecond)
		d.wantNow("then", "WINDOW YOURS 1 196608")
	})
}

// TestReadSendsNoWindow: unlike an OPEN, it is nothing that the reader waits for.
func TestReadSendsNoWindow(t *testing.T) {
	dueRun(t, false, func(d *dueTest) {
		d.pass(time.Second) // the OPENs are past
		d.expectOne()
		d.quarter()
		d.start("Read", func() (int, error) { return d.other.Read(make([]byte, 1)) })
		d.wantNow("the Read of another connection")
		d.wantSoon("later", "WINDOW 1 196608")
	})
}

// TestWindowThatIsNeededNow waits for nobody.
func TestWindowThatIsNeededNow(t *testing.T) {
	t.Run("nobody is expected", func(t *testing.T) {
		dueRun(t, true, func(d *dueTest) {
			d.pass(flushWithin)
			d.quarter()
			d.wantNow("at once", "WINDOW YOURS 1 196608")
		})
	})
	t.Run("a quarter lasts less than the wait", func(t *testing.T) {
		dueRun(t, true, func(d *dueTest) {
			d.pass(flushWithin - time.Nanosecond)
			d.expectOne()
			d.quarter()
			d.wantNow("at once", "WINDOW YOURS 1 196608")
		})
	})
	t.Run("a fast quarter follows a slow one", func(t *testing.T) {
		dueRun(t, true, func(d *dueTest) {
			d.send("DATA 1 32768*x")
			d.pass(time.Second)
			d.expectOne()
			d.quarter()
			d.wantNow("the slow one's waits")
			d.quarter()
			d.wantNow("both", "WINDOW YOURS 1 229376")
		})
	})
	t.Run("all is consumed at once", func(t *testing.T) {
		for _, read := range []func(c *Conn) (int64, error){
			func(c *Conn) (int64, error) { n, err := c.Read(make([]byte, 131072)); return int64(n), err },
			func(c *Conn) (int64, error) { return c.WriteTo(io.Discard) },
		} {
			dueRun(t, true, func(d *dueTest) {
				d.send("DATA 1 98304*x") // up to the limit
				d.pass(time.Second)
				d.expectOne()
				d.start("the reader", func() (int, error) { n, err := read(d.c); return int(n), err })
				d.wantNow("at once", "WINDOW YOURS 1 294912")
			})
		}
	})
	t.Run("nobody else is expected", func(t *testing.T) {
		dueRun(t, true, func(d *dueTest) {
			d.pass(time.Second)
			d.c.c.expected.Store(d.p.s.expect.add())
			d.quarter()
			d.wantNow("at once", "WINDOW YOURS 1 196608")
		})
	})
	t.Run("half of the window is unread", func(t *testing.T) {
		dueRun(t, true, func(d *dueTest) {
			d.send("DATA 1 65536*x")
			d.pass(flushWithin)
			d.expectOne()
			d.quarter()
			d.wantNow("at once", "WINDOW YOURS 1 196608")
		})
	})
}

// TestLeaderKeepsAWindowForOthers: so it is where the leader hands the bytes out itself, to
// its own Read and to that of another.
func TestLeaderKeepsAWindowForOthers(t *testing.T) {
	for _, tt := range []struct {
		own   bool
		piece int
	}{{true, 64}, {true, 4096}, {false, 64}} { // most of 4,096 goes straight to the Read's slice
		dueRun(t, true, func(d *dueTest) {
			d.quarter()
			d.want("all is read", "WINDOW YOURS 1 196608")
			read := func(c *Conn) {
				d.start("Reads", func() (total int, err error) {
					for err == nil {
						var n int
						n, err = c.Read(make([]byte, tt.piece))
						total += n
					}
					return total, err
				})
			}
			if !tt.own { // it leads from its second Read on
				read(d.other)
				d.sendNow("DATA 2 64*y")
			}
			read(d.c)
			send := func() {
				b := oneEncode(fmt.Sprintf("DATA 1 %d*y", tt.piece))
				head := min(len(b), 100)
				d.sendRaw(b[:head])
				d.sendRaw(b[head:])
			}
			for range 32768/tt.piece - 1 {
				send()
			}
			d.wantNow("no quarter yet")
			if led := d.p.s.in.self == d.c.c; led != tt.own {
				d.t.Fatalf("the connection leads itself: %v, want %v", led, tt.own)
			}
			d.pass(flushWithin)
			d.expectOne()
			d.wantWrites("a quarter", 0, send)
			d.wantSoon("later", "WINDOW YOURS 1 229376")
		})
	}
}

// TestLeaderFlushesForACrowd: whoever was woken has had the chance to write by then, and is
// not expected any more. Fewer are left to themselves.
func TestLeaderFlushesForACrowd(t *testing.T) {
	for _, n := range []int{crowdSize, crowdSize - 1} {
		oneRun(t, oneListener, func(tc *oneTest) {
			var frames [][]byte
			held := make(chan struct{})
			for i, c := range tc.acceptIDs(n) { // standby leads
				tc.start("Read", func() (int, error) {
					n, err := c.Read(make([]byte, 1))
					<-held // so that none comes forward
					return n, err
				})
				frames = append(frames, oneEncode(fmt.Sprintf(`DATA %d "x"`, i+1)))
			}
			synctest.Wait()
			tc.sendRaw(slices.Concat(frames...)) // one read brings all
			got, want := tc.p.s.expect.left(), 0
			if n < crowdSize {
				want = n
			}
			close(held)
			if got != want {
				tc.t.Errorf("%d readers have been woken: %d are expected to write, want %d", n, got, want)
			}
		})
	}
}
