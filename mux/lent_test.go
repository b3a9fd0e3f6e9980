package mux

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/vtmux/vtmux/addr"
)

// A payload whose Write ends while it is queued is not sent, whoever flushes.
func TestWithdrawnPayloadIsNotSent(t *testing.T) {
	for _, f := range []struct {
		name string
		end  func(*Conn)
		want error
	}{
		{"deadline", func(c *Conn) { c.SetWriteDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		{"Close", func(c *Conn) { c.Close() }, net.ErrClosed},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBare(t, false, true)
				x, y := b.open(1), b.open(2)
				o := &b.s.out
				if !o.claim() {
					t.Fatal("the role is not free")
				}
				p, q := testBytes(lendFrom, 1), testBytes(lendFrom, 2)
				wroteX := background(func() (int, error) { return x.Write(p) })
				synctest.Wait()
				wroteY := background(func() (int, error) { return y.Write(q) })
				synctest.Wait()
				f.end(x)
				r := b.now("Write that was withdrawn", wroteX)
				if r.n != 0 {
					t.Errorf("Write of a withdrawn payload counts %d bytes", r.n)
				}
				wantErr(t, "Write", r.err, f.want)
				clear(p)
				go b.s.runFlusher(nil, nil)
				if f.name == "Close" {
					b.frame(1, nil) // its end goes first: staging and debts pass bulk
				}
				b.frame(2, q)
				if r := b.now("the other Write", wroteY); r.n != len(q) || r.err != nil {
					t.Errorf("the other Write: %d, %v", r.n, r.err)
				}
				runtime.KeepAlive(y)
			})
		})
	}
}

// A writer that is promoted when its time is over passes the role on.
func TestPromotedWriterWithoutTimePassesTheRoleOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, true)
		x, y := b.open(1), b.open(2)
		s, o := b.s, &b.s.out
		if !o.claim() {
			t.Fatal("the role is not free")
		}
		p, q := testBytes(lendFrom, 1), testBytes(lendFrom, 2)
		wroteX := background(func() (int, error) { return x.Write(p) })
		synctest.Wait()
		wroteY := background(func() (int, error) { return y.Write(q) })
		synctest.Wait()
		o.queue.take(&o.lent)
		x.c.writeDeadline.Store(1) // and nobody tells x
		s.passOn()
		r := b.now("Write, promoted after its deadline,", wroteX)
		if r.n != 0 {
			t.Errorf("Write: %d bytes, want 0", r.n)
		}
		wantErr(t, "Write", r.err, os.ErrDeadlineExceeded)
		clear(p)
		b.frame(2, q)
		if r := b.now("the other Write", wroteY); r.n != len(q) || r.err != nil {
			t.Errorf("the other Write: %d, %v", r.n, r.err)
		}
		synctest.Wait()
		if role := o.role.Load(); role != flushIdle {
			t.Errorf("the role is %d, want idle", role)
		}
		runtime.KeepAlive(x)
		runtime.KeepAlive(y)
	})
}

// The session ends while a writer is promoted and has not run yet.
func TestPromotedWriterFailsWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, true)
		x, y := b.open(1), b.open(2)
		s, o := b.s, &b.s.out
		if !o.claim() {
			t.Fatal("the role is not free")
		}
		var wrote []<-chan result
		for _, c := range []*Conn{x, y} {
			wrote = append(wrote, background(func() (int, error) { return c.Write(testBytes(lendFrom, 1)) }))
			synctest.Wait()
		}
		o.queue.take(&o.lent)
		o.stg.flusher.leave() // as passOn does
		o.queue.head.state.Store(lentPromoted)
		w := o.queue.head.w
		go s.end(net.ErrClosed)
		synctest.Wait()
		w.Wake()
		for i, done := range wrote {
			r := b.now(fmt.Sprintf("Write %d", i), done)
			if r.n != 0 {
				t.Errorf("Write %d: %d bytes", i, r.n)
			}
			wantErr(t, "Write", r.err, net.ErrClosed)
		}
		synctest.Wait()
		if role := o.role.Load(); role != flushIdle {
			t.Errorf("the role is %d, want idle", role)
		}
		runtime.KeepAlive(x)
		runtime.KeepAlive(y)
	})
}

// Writers of every size with deadlines of every length share a transport that takes
// little at a time. However their payloads come to be sent, copied or withdrawn, the
// peer gets what the Writes count: each byte, once, in order, and as it was before
// the slice was the caller's again.
func TestLentPayloadsUnderStress(t *testing.T) {
	for _, tr := range []transport{overPipe, overTCP.narrow(), overUnix.narrow()} {
		for _, most := range []int{1000, 100_000} {
			t.Run(fmt.Sprintf("%s %d", tr.name, most), func(t *testing.T) {
				near, far := tr.dial(t)
				stressLent(t, near, far, most)
			})
		}
	}
}

func stressLent(t *testing.T, near, far net.Conn, most int) {
	const writers, bytesEach = 8, 2 << 20
	s, err := newSession(near, vtConfig, false)
	if err != nil {
		t.Fatal(err)
	}
	s.lending = true
	got := make(chan map[addr.SocketAddr][]byte, 1)
	go func() {
		var all []byte
		buf := make([]byte, most)
		rnd := rand.New(rand.NewPCG(uint64(most), 1))
		for {
			n, err := far.Read(buf[:1+rnd.IntN(most)])
			all = append(all, buf[:n]...)
			for range rnd.IntN(20) {
				runtime.Gosched()
			}
			if err != nil {
				got <- sortPayloads(all)
				return
			}
		}
	}()
	want := make([][]byte, writers)
	var mu sync.Mutex
	timeouts, partial := 0, 0
	done := async(func() error {
		var wg sync.WaitGroup
		for i := range writers {
			c, err := s.open(context.Background(), testAddr(i))
			if err != nil {
				return err
			}
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 2))
				buf := make([]byte, 3*lentMax)
				src := testBytes(len(buf), uint32(i))
				for turn, tried := 0, 0; tried < bytesEach; turn++ {
					size := 1 + rnd.IntN(len(buf))
					if rnd.IntN(2) == 0 {
						size = 1 + rnd.IntN(2*lendFrom)
					}
					tried += size
					p := buf[:size]
					copy(p, src[rnd.IntN(len(src)-size+1):])
					sent := bytes.Clone(p)
					var at time.Time
					if rnd.IntN(4) > 0 {
						at = time.Now().Add(time.Duration(rnd.IntN(2000)) * time.Microsecond)
					}
					c.SetWriteDeadline(at)
					n, err := c.Write(p)
					clear(p)
					want[i] = append(want[i], sent[:n]...)
					switch {
					case err == nil && n == size:
					case os.IsTimeout(err) && n <= size && !at.IsZero():
						mu.Lock()
						timeouts++
						if n > 0 {
							partial++
						}
						mu.Unlock()
					default:
						t.Errorf("writer %d: Write of %d with deadline %v: %d, %v", i, size, at, n, err)
						return
					}
				}
				c.Close()
			})
		}
		wg.Wait()
		// Whatever was counted is sent before the ends, so it is all out when the
		// session has nothing left to flush.
		return s.awaitFlushed(bounded(t))
	})
	wantErr(t, "the stress", wait(t, "the stress", done), nil)
	t.Logf("%d Writes timed out, %d of them in the middle", timeouts, partial)
	s.close()
	all := wait(t, "the far end", got)
	far.Close()
	for i := range want {
		wantBytes(t, fmt.Sprintf("connection %d", i), all[testAddr(i)], want[i])
	}
}

// TestWithdrawnPayloadIsLetGo: the peer reads nothing, and sends STOP to each Write. What it
// has withdrawn waits for the flusher, and the caller's slice must not.
// To see it fail: in awaitLent, withdraw without letting go of p.
func TestWithdrawnPayloadIsLetGo(t *testing.T) {
	const conns = 50
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.p.s.lending = true // as over TCP
		tc.deaf(true)
		var bodies []weak.Pointer[[128 << 10]byte]
		for i := range conns {
			tc.peer.say(fmt.Sprintf("OPEN %d", i+1))
			c, err := tc.l.AcceptConn(context.Background())
			if err != nil {
				tc.t.Fatal(err)
			}
			done := make(chan error)
			go func() {
				b := new([128 << 10]byte)
				bodies = append(bodies, weak.Make(b))
				_, err := c.Write(b[:])
				c.Close()
				done <- err
			}()
			synctest.Wait()
			tc.peer.say(fmt.Sprintf("STOP %d 9", i+1), fmt.Sprintf("RESET %d 9", i+1))
			wantErr(tc.t, "Write", <-done, syscall.EPIPE)
			synctest.Wait()
		}
		if n := reachable(bodies); n > 3 {
			tc.t.Errorf("%d of %d slices are reachable, and every Write has returned", n, conns)
		}
		tc.deaf(false)
		tc.settle()
		tc.peer.takeFrames()
	})
}
