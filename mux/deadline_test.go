package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// The tests of this file run in bubbles, so the times are exact.

// after returns what done brings, which must be at start+d to the nanosecond.
func after(t *testing.T, what string, done <-chan result, start time.Time, d time.Duration) result {
	t.Helper()
	select {
	case r := <-done:
		if got := r.at.Sub(start); got != d {
			t.Errorf("%s returned after %v, want %v", what, got, d)
		}
		return r
	case <-time.After(time.Hour):
		t.Fatalf("%s: not within an hour, want after %v", what, d)
		return result{}
	}
}

// inBubbles runs f as a subtest for each protocol, in a bubble.
func inBubbles(t *testing.T, f func(*testing.T, Protocol)) {
	for _, pr := range protocols {
		t.Run(pr.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, pr) })
		})
	}
}

// seconds are the deadlines of several connections, in no order.
var seconds = []time.Duration{5 * time.Second, 2 * time.Second, 7 * time.Second, time.Second, 3 * time.Second, 3 * time.Second, 6 * time.Second}

// Whoever leads, each Read ends at its own deadline, and one without a deadline not
// at all.
func TestEachReadEndsAtItsOwnDeadline(t *testing.T) {
	for first := range seconds {
		inBubbles(t, func(t *testing.T, pr Protocol) {
			b := newBareOf(t, pr, false)
			patient := b.open(100)
			var cs []*Conn
			for i := range seconds {
				cs = append(cs, b.open(i))
			}
			b.leads(first, cs[first]) // so that this one leads
			start := time.Now()
			var reads []<-chan result
			read := func(c *Conn) <-chan result {
				return background(func() (int, error) { return c.Read(make([]byte, 10)) })
			}
			cs[first].SetReadDeadline(start.Add(seconds[first]))
			led := read(cs[first])
			b.wantLeader(cs[first])
			last := read(patient)
			for i, c := range cs {
				c.SetReadDeadline(start.Add(seconds[i]))
				if i == first {
					reads = append(reads, led)
				} else {
					reads = append(reads, read(c))
				}
			}
			for i, done := range reads {
				r := after(t, fmt.Sprintf("Read %d", i), done, start, seconds[i])
				wantErr(t, "Read", r.err, os.ErrDeadlineExceeded)
			}
			<-time.After(time.Minute)
			b.pending("Read without a deadline", last)
			b.send(100, []byte("hello"))
			if r := b.now("Read without a deadline", last); r.n != 5 || r.err != nil {
				t.Errorf("Read: %d, %v", r.n, r.err)
			}
			runtime.KeepAlive(cs)
		})
	}
}

// Whoever flushes, each Write of a large payload ends at its own deadline. What the
// stalled transport has been given is counted, and nothing else arrives.
func TestEachWriteEndsAtItsOwnDeadline(t *testing.T) {
	for first := range seconds {
		inBubbles(t, func(t *testing.T, pr Protocol) {
			b := newBareOf(t, pr, true)
			patient := b.open(100)
			var cs []*Conn
			for i := range seconds {
				cs = append(cs, b.open(i))
			}
			start := time.Now()
			p := testBytes(2*lendFrom, 1)
			write := func(c *Conn) <-chan result {
				done := background(func() (int, error) { return c.Write(p) })
				synctest.Wait()
				return done
			}
			for i, c := range cs {
				c.SetWriteDeadline(start.Add(seconds[i]))
			}
			flushes := write(cs[first])
			last := write(patient)
			var writes []<-chan result
			for i, c := range cs {
				if i == first {
					writes = append(writes, flushes)
				} else {
					writes = append(writes, write(c))
				}
			}
			for i, done := range writes {
				r := after(t, fmt.Sprintf("Write %d", i), done, start, seconds[i])
				if i == first { // claimed, and copied
					if r.n != len(p) || r.err != nil {
						t.Errorf("Write of the flusher: %d, %v", r.n, r.err)
					}
					continue
				}
				if r.n != 0 {
					t.Errorf("Write %d counts %d bytes, which wait in the queue", i, r.n)
				}
				wantErr(t, "Write", r.err, os.ErrDeadlineExceeded)
			}
			<-time.After(time.Minute)
			b.pending("Write without a deadline", last)
			b.frame(first, p)
			b.frame(100, p)
			if r := b.now("Write without a deadline", last); r.n != len(p) || r.err != nil {
				t.Errorf("Write without a deadline: %d, %v", r.n, r.err)
			}
			runtime.KeepAlive(cs)
		})
	}
}

// Writers that wait for room in staging end at their own deadlines too, and what
// they could not stage is not sent.
func TestEachWriteForRoomEndsAtItsOwnDeadline(t *testing.T) {
	inBubbles(t, func(t *testing.T, pr Protocol) {
		b := newBareOf(t, pr, false)
		var cs []*Conn
		for i := range seconds {
			cs = append(cs, b.open(i))
		}
		full := b.open(100)
		p := testBytes(copyMax, 1)
		flushes := background(func() (int, error) { return full.Write(p) })
		synctest.Wait()
		for range 2 {
			if n, err := cs[0].Write(p); n != len(p) || err != nil {
				t.Fatalf("Write of what fits: %d, %v", n, err)
			}
		}
		start := time.Now()
		var writes []<-chan result
		for i, c := range cs {
			c.SetWriteDeadline(start.Add(seconds[i]))
			writes = append(writes, background(func() (int, error) { return c.Write(p) }))
		}
		for i, done := range writes {
			r := after(t, fmt.Sprintf("Write %d", i), done, start, seconds[i])
			if r.n != 0 {
				t.Errorf("Write %d counts %d bytes", i, r.n)
			}
			wantErr(t, "Write", r.err, os.ErrDeadlineExceeded)
		}
		b.pending("Write of the flusher", flushes)
		b.frame(100, p)
		b.frame(0, p)
		b.frame(0, p)
		if r := b.now("Write of the flusher", flushes); r.n != len(p) || r.err != nil {
			t.Errorf("Write of the flusher: %d, %v", r.n, r.err)
		}
		runtime.KeepAlive(cs)
	})
}

// One leads, one flushes, and each direction has its own deadline on every
// connection.
func TestDeadlinesOfTheTwoDirectionsAreApart(t *testing.T) {
	inBubbles(t, func(t *testing.T, pr Protocol) {
		b := newBareOf(t, pr, true)
		x, y := b.open(1), b.open(2)
		b.leads(1, x)
		start := time.Now()
		x.SetReadDeadline(start.Add(4 * time.Second))
		x.SetWriteDeadline(start.Add(1 * time.Second))
		y.SetReadDeadline(start.Add(2 * time.Second))
		y.SetWriteDeadline(start.Add(3 * time.Second))
		p := testBytes(lendFrom, 1)
		call := func(f func([]byte) (int, error), p []byte) <-chan result {
			done := background(func() (int, error) { return f(p) })
			synctest.Wait()
			return done
		}
		readX := call(x.Read, make([]byte, 1))
		b.wantLeader(x)
		writeY := call(y.Write, p) // flushes
		writeX := call(x.Write, p) // queued
		readY := call(y.Read, make([]byte, 1))
		wantErr(t, "Write, queued", after(t, "Write, queued", writeX, start, time.Second).err, os.ErrDeadlineExceeded)
		wantErr(t, "Read, parked", after(t, "Read, parked", readY, start, 2*time.Second).err, os.ErrDeadlineExceeded)
		if r := after(t, "Write of the flusher", writeY, start, 3*time.Second); r.n != len(p) || r.err != nil {
			t.Errorf("Write of the flusher: %d, %v", r.n, r.err)
		}
		wantErr(t, "Read of the leader", after(t, "Read of the leader", readX, start, 4*time.Second).err, os.ErrDeadlineExceeded)
		b.frame(2, p)
		runtime.KeepAlive(x)
		runtime.KeepAlive(y)
	})
}

// moves are deadlines that are set one second after a call has blocked.
var moves = []struct {
	name     string
	from, to time.Duration // 0: none
	ends     time.Duration // 0: never
}{
	{"set", 0, 5 * time.Second, 5 * time.Second},
	{"earlier", 5 * time.Second, 2 * time.Second, 2 * time.Second},
	{"to the present", 5 * time.Second, time.Second, time.Second},
	{"to the past", 5 * time.Second, time.Nanosecond, time.Second},
	{"later", 2 * time.Second, 5 * time.Second, 5 * time.Second},
	{"away", 2 * time.Second, 0, 0},
}

// deadlineIn is the time d after start, or none.
func deadlineIn(start time.Time, d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return start.Add(d)
}

// A deadline that is moved while a Read is blocked counts from then on, whether the
// Read leads or is parked, and the other Read is not disturbed.
func TestReadDeadlineMovesWhileBlocked(t *testing.T) {
	for _, m := range moves {
		for _, moved := range []string{"the leader", "who is parked"} {
			t.Run(m.name+" of "+moved, func(t *testing.T) {
				inBubbles(t, func(t *testing.T, pr Protocol) {
					b := newBareOf(t, pr, false)
					x, y := b.open(1), b.open(2)
					b.leads(1, x)
					start := time.Now()
					c, other := x, y
					if moved != "the leader" {
						c, other = y, x
					}
					c.SetReadDeadline(deadlineIn(start, m.from))
					read := func(c *Conn) <-chan result {
						done := background(func() (int, error) { return c.Read(make([]byte, 10)) })
						synctest.Wait()
						return done
					}
					calls := map[*Conn]<-chan result{x: read(x)}
					b.wantLeader(x)
					calls[y] = read(y)
					<-time.After(time.Second)
					c.SetReadDeadline(deadlineIn(start, m.to))
					if m.ends > 0 {
						wantErr(t, "Read", after(t, "Read", calls[c], start, m.ends).err, os.ErrDeadlineExceeded)
					} else {
						<-time.After(time.Hour)
						b.pending("Read", calls[c])
						b.send(1+btoi(c == y), []byte("hi"))
						if r := b.now("Read", calls[c]); r.n != 2 || r.err != nil {
							t.Errorf("Read: %d, %v", r.n, r.err)
						}
					}
					b.pending("the other Read", calls[other])
					b.send(1+btoi(other == y), []byte("hello"))
					if r := b.now("the other Read", calls[other]); r.n != 5 || r.err != nil {
						t.Errorf("the other Read: %d, %v", r.n, r.err)
					}
					runtime.KeepAlive(c)
				})
			})
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// The same for a Write, whether it flushes or is queued.
func TestWriteDeadlineMovesWhileBlocked(t *testing.T) {
	for _, m := range moves {
		for _, moved := range []string{"the flusher", "who is queued"} {
			t.Run(m.name+" of "+moved, func(t *testing.T) {
				inBubbles(t, func(t *testing.T, pr Protocol) {
					b := newBareOf(t, pr, true)
					x, y := b.open(1), b.open(2)
					start := time.Now()
					c, other := x, y
					if moved != "the flusher" {
						c, other = y, x
					}
					p := testBytes(lendFrom, 1)
					c.SetWriteDeadline(deadlineIn(start, m.from))
					write := func(c *Conn) <-chan result {
						done := background(func() (int, error) { return c.Write(p) })
						synctest.Wait()
						return done
					}
					calls := map[*Conn]<-chan result{x: write(x), y: nil}
					calls[y] = write(y)
					<-time.After(time.Second)
					c.SetWriteDeadline(deadlineIn(start, m.to))
					sent := true
					if m.ends > 0 {
						r := after(t, "Write", calls[c], start, m.ends)
						if sent = c == x; !sent {
							wantErr(t, "Write", r.err, os.ErrDeadlineExceeded)
						}
						if r.n != len(p)*btoi(sent) {
							t.Errorf("Write: %d, %v", r.n, r.err)
						}
					} else {
						<-time.After(time.Hour)
						b.pending("Write", calls[c])
					}
					b.pending("the other Write", calls[other])
					b.frame(1, p)
					if c == x || sent {
						b.frame(2, p)
					}
					if m.ends == 0 {
						if r := b.now("Write", calls[c]); r.n != len(p) || r.err != nil {
							t.Errorf("Write: %d, %v", r.n, r.err)
						}
					}
					if r := b.now("the other Write", calls[other]); r.n != len(p) || r.err != nil {
						t.Errorf("the other Write: %d, %v", r.n, r.err)
					}
					runtime.KeepAlive(c)
				})
			})
		}
	}
}

// Close ends the blocked calls of its connection at once, and no other's.
func TestCloseEndsItsOwnBlockedCallsAtOnce(t *testing.T) {
	for _, closed := range []string{"who leads and flushes", "who waits"} {
		t.Run(closed, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, pr Protocol) {
				b := newBareOf(t, pr, true)
				x, y := b.open(1), b.open(2)
				b.leads(1, x)
				start := time.Now()
				p := testBytes(lendFrom, 1)
				far := start.Add(time.Hour)
				var reads, writes []<-chan result
				for _, c := range []*Conn{x, y} {
					c.SetDeadline(far)
					reads = append(reads, background(func() (int, error) { return c.Read(make([]byte, 10)) }))
					synctest.Wait()
					writes = append(writes, background(func() (int, error) { return c.Write(p) }))
					synctest.Wait()
				}
				b.wantLeader(x)
				i := btoi(closed == "who waits")
				<-time.After(time.Second)
				[]*Conn{x, y}[i].Close()
				wantErr(t, "Read", after(t, "Read", reads[i], start, time.Second).err, net.ErrClosed)
				r := after(t, "Write", writes[i], start, time.Second)
				if i == 1 {
					wantErr(t, "Write", r.err, net.ErrClosed)
				}
				if want := len(p) * (1 - i); r.n != want { // the flusher's was claimed
					t.Errorf("Write: %d, %v; want %d", r.n, r.err, want)
				}
				b.pending("the other Read", reads[1-i])
				b.pending("the other Write", writes[1-i])
				b.frame(1, p)
				b.frame(1+i, nil) // the end passes what is queued
				if i == 0 {
					b.frame(2, p)
				}
				b.send(2-i, []byte("hello"))
				if r := b.now("the other Read", reads[1-i]); r.n != 5 || r.err != nil {
					t.Errorf("the other Read: %d, %v", r.n, r.err)
				}
				if r := b.now("the other Write", writes[1-i]); r.n != len(p) || r.err != nil {
					t.Errorf("the other Write: %d, %v", r.n, r.err)
				}
				runtime.KeepAlive(x)
				runtime.KeepAlive(y)
			})
		})
	}
}

// Hazard 1. An Open that waits for room returns when its context ends, and leaves
// nothing behind: its address is free, and nothing of it is sent.
func TestOpenThatWaitsForRoomEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x := b.open(1)
		p := testBytes(copyMax, 1)
		flushes := background(func() (int, error) { return x.Write(p) })
		synctest.Wait() // in the transport
		y := b.openFull(t, 2, p)
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		opened := background(func() (int, error) {
			_, err := b.s.open(ctx, testAddr(3))
			return 0, err
		})
		wantErr(t, "Open", after(t, "Open", opened, start, time.Second).err, context.DeadlineExceeded)
		if b.s.table.get(testAddr(3)) != nil {
			t.Error("the address is in use")
		}
		b.pending("Write of the flusher", flushes)
		b.frame(1, p)
		b.frame(2, nil)
		b.frame(2, p)
		b.frame(2, p[:stagingSize-copyMax-3*wire.VTHeaderLen])
		if r := b.now("Write of the flusher", flushes); r.n != len(p) || r.err != nil {
			t.Errorf("Write of the flusher: %d, %v", r.n, r.err)
		}
		b.open(3).Close() // the next thing that is sent
		b.frame(3, nil)
		runtime.KeepAlive(x)
		runtime.KeepAlive(y)
	})
}

// openFull opens the i-th connection, whose frames fill staging to the last byte, while
// another flushes.
func (b *bare) openFull(t *testing.T, i int, p []byte) *Conn {
	t.Helper()
	c, err := b.s.open(context.Background(), testAddr(i))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{p, p[:stagingSize-copyMax-3*wire.VTHeaderLen]} {
		if n, err := c.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if wordOffset(b.s.out.stg.word.Load()) != stagingSize {
		t.Fatal("staging is not full")
	}
	return c
}

// Hazard 1. An Open that can be ended does not make the room itself where nobody
// flushes: it would block in a transport that takes nothing.
// To see it fail: in reserveWait, let runFlusher take the place of handOver.
func TestOpenThatFindsNoRoomLeavesTheTransportToTheHelper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x := b.open(1)
		g := &b.s.out.stg
		// What staging holds is published, and the writer has not come to claim
		// the role yet.
		p := testBytes(stagingSize/2-wire.VTHeaderLen, 1)
		for range 2 {
			buf, i, ok := g.reserve(wire.VTHeaderLen+len(p), 0)
			if !ok {
				t.Fatal("no room in staging")
			}
			copy(buf, frameBytes(1, p))
			g.commit(i, len(buf))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		var c *Conn
		opened := background(func() (_ int, err error) {
			c, err = b.s.open(ctx, testAddr(2))
			return 0, err
		})
		if r := b.now("Open", opened); r.err != nil {
			t.Error(r.err)
		}
		b.frame(1, p)
		b.frame(1, p)
		b.frame(2, nil)
		runtime.KeepAlive(x)
		runtime.KeepAlive(c)
	})
}

// Hazard 1. A vt-muxer peer opens towards a Pipe and reads nothing. The session owes it an
// END for each, and reads on though its own side of the transport is full.
func TestSessionReadsOnWhileItsRefusalsFillTheTransport(t *testing.T) {
	const n = 60_000 // more than the sockets hold in either direction
	// A Unix socket: what a TCP socket that is not read drops may hold up the
	// acknowledgements for what its own end sends.
	near, far := overUnix.narrow().dial(t)
	p, err := NewPipe(near, vtConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	defer far.Close()
	sent := async(func() error {
		var opens []byte
		for i := range n {
			opens = append(opens, frameBytes(i, nil)...)
		}
		_, err := far.Write(opens)
		return err
	})
	wantErr(t, "sending opens", wait(t, "sending opens", sent), nil)
	got := async(func() error {
		seen := make(map[string]bool, n)
		buf := make([]byte, wire.VTHeaderLen)
		for range n {
			if _, err := io.ReadFull(far, buf); err != nil {
				return err
			}
			if seen[string(buf)] {
				return fmt.Errorf("two ENDs for one connection: %x", buf)
			}
			seen[string(buf)] = true
		}
		return nil
	})
	wantErr(t, "reading ENDs", wait(t, "reading ENDs", got), nil)
}

// Hazard 1. Two ends that refuse everything and send bulk, over sockets that are full
// in both directions. If a leader waited for its ENDs to be taken, both would.
func TestBothEndsRefuseOverFullSockets(t *testing.T) {
	overTCP.narrow().withEach(t, bothEndsRefuseOverFullSockets)
}

func bothEndsRefuseOverFullSockets(t *testing.T, tr transport) {
	const openers, each = 8, 60
	near, far := tr.dial(t)
	var ends []*Pipe
	for _, c := range []net.Conn{near, far} {
		p, err := NewPipe(c, tr.config(nil))
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, p)
	}
	defer closeBoth(ends[0], ends[1])
	done := async(func() error {
		var wg sync.WaitGroup
		for i := range 2 * openers {
			wg.Go(func() {
				bulk := testBytes(32<<10, uint32(i))
				for j := range each {
					c, err := ends[i%2].Open(context.Background(), testAddr(i*each+j))
					if err != nil {
						t.Error(err)
						return
					}
					if n, err := c.Write(bulk); !tr.one() && n != len(bulk) || err != nil && !errors.Is(err, ErrRefused) {
						t.Errorf("Write: %d, %v", n, err)
					}
					wantRefused(t, tr, c, CodeNotAccepting)
					c.Close()
				}
			})
		}
		wg.Wait()
		return nil
	})
	wait(t, "the refusals", done)
}

// TestFarDeadlineIsNone: some set the end of time for "never".
// To see it fail: in deadline, take the bound by never away.
func TestFarDeadlineIsNone(t *testing.T) {
	for name, far := range map[string]time.Time{
		"the year 9999":            time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		"the longest duration":     time.Now().Add(math.MaxInt64),
		"centuries by both clocks": time.Now().Add(200 * 365 * 24 * time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			oneRun(t, onePipe, func(tc *oneTest) {
				c := tc.openIDs(1)[0]
				wantErr(tc.t, "SetDeadline", c.SetDeadline(far), nil)
				tc.write(c, "x")
				op := tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) })
				tc.send(`DATA YOURS 1 "x"`)
				op.want("what came", 1, nil)
				tc.want("what was written", `DATA 1 "x"`)
			})
		})
	}
}
