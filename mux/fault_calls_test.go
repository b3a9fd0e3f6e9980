package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/internal/faultconn"
)

// The rows of the catalogue about calls, time and numbers. See fault_test.go.

// faultF20: 64 goroutines close a connection, and then both sessions, at once.
func faultF20(t *testing.T) {
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		for _, tr := range []transport{overTCP, overPipe} {
			for range 20 {
				p, l := sessionPair(t, tr.speaking(pr))
				x, y := connPair(t, p, l, 1)
				read := readAll(y)
				at := func(closer func(i int) error) {
					var wg sync.WaitGroup
					for i := range 64 {
						wg.Go(func() { wantErr(t, "Close", closer(i), nil) })
					}
					wg.Wait()
				}
				at(func(int) error { return x.Close() })
				at(func(i int) error {
					if i%2 == 0 {
						return p.Close()
					}
					return l.Close()
				})
				wait(t, "Read", read)
			}
		}
	})
}

// faultBlocked is a session in a bubble whose transport takes nothing, with n
// connections, and a blocked Read and a blocked Write of each.
func faultBlocked(t *testing.T, pr Protocol, n int) (p *Pipe, far net.Conn, errs chan error) {
	near, far := net.Pipe()
	fc := faultconn.New(near, faultconn.Plan{})
	p, err := NewPipe(fc, &Config{Protocol: pr, KeepAliveInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	p.s.lending = true
	t.Cleanup(func() { far.Close(); p.Close() })
	go io.Copy(io.Discard, far)
	if pr == Protocol1 {
		far.Write(oneBytes(fmt.Sprintf("PREFACE conns=%d", 1<<20)))
		settleOne()
	}
	errs = make(chan error, 2*n)
	conns := make([]*Conn, n)
	for i := range conns {
		if conns[i], err = p.Open(t.Context(), testAddr(i)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	fc.Break(faultconn.Open, faultconn.Stall)
	for i, c := range conns {
		go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
		size := 100 // waits for room, or for credit
		if i%3 == 0 {
			size = 200_000 // is lent
		}
		go func() { errs <- writeUntilError(c, size) }()
	}
	synctest.Wait()
	if len(errs) > 0 {
		t.Fatalf("a call is not blocked: %v", <-errs)
	}
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	return p, far, errs
}

// faultF21: all return, and nothing is left: the bubble ends. What it takes in real time
// is the matter of BenchmarkEndOfBlockedCalls in internal/stress.
func faultF21(t *testing.T) {
	n := 10_000
	if raceEnabled {
		n = 1_000 // the race detector takes no more than 8,128 goroutines
	}
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		for name, end := range faultEnds {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p, far, errs := faultBlocked(t, pr, n)
					start := time.Now()
					end.how(t, p, far)
					for range 2 * n {
						if err := wait(t, "a blocked call", errs); !end.is(err) {
							t.Fatalf("a blocked call returned %T %v", err, err)
						}
					}
					<-p.Done()
					if took := time.Since(start); took > closeLinger {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	})
}

// faultEnds are the ways for a session to end while calls are blocked.
var faultEnds = map[string]struct {
	how func(t testing.TB, p *Pipe, far net.Conn)
	is  func(error) bool
}{
	"Close": {func(t testing.TB, p *Pipe, _ net.Conn) { p.Close() }, is(net.ErrClosed)},
	"Shutdown": {func(t testing.TB, p *Pipe, _ net.Conn) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := p.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v", err)
		}
	}, is(net.ErrClosed)},
	"dropped transport": {func(t testing.TB, _ *Pipe, far net.Conn) { far.Close() }, isCut},
}

// faultF23: the last IDs work, there is no next, and the session can be shut down well.
func faultF23(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFaultPair(t, Protocol1, Config{})
		tb := &p.ends[0].s.table
		tb.mu.Lock()
		tb.allotted = maxID - 3
		tb.mu.Unlock()
		var conns [][2]*Conn
		for i := range 3 {
			x, y := connectOne(t, p.ends[0], p.ends[1], i)
			conns = append(conns, [2]*Conn{x, y})
		}
		if id := conns[2][0].c.id; id != maxID {
			t.Errorf("the last ID is %d", id)
		}
		for range 2 {
			_, err := p.ends[0].Open(t.Context(), testAddr(9))
			wantErr(t, "Open without an ID", err, ErrExhausted)
		}
		_, y := connectOne(t, p.ends[1], p.ends[0], 9) // the other end has its own
		io.WriteString(y, "to be refused")
		for _, c := range conns {
			io.WriteString(c[0], "on the last IDs")
			c[1].Close() // its STOP and FIN cross what comes
			io.WriteString(c[0], "late")
			c[0].Close()
		}
		settleOne()
		y.Close()
		settleOne()
		for i, l := range p.ends {
			if err := l.Err(); err != nil {
				t.Errorf("end %d: %v", i, err)
			}
		}
		_, err := p.ends[0].Open(t.Context(), testAddr(9))
		wantErr(t, "Open after all have ended", err, ErrExhausted)
		other := async(func() error { return p.ends[1].Shutdown(t.Context()) })
		for _, l := range p.ends {
			for c, _ := tryAccept(l); c != nil; c, _ = tryAccept(l) {
				c.Close()
			}
		}
		wantErr(t, "Shutdown", p.ends[0].Shutdown(t.Context()), nil)
		wantErr(t, "the peer's Shutdown", <-other, nil)
	})
}

// faultF24: a day of silence, and then all works on. The wall clock is never asked.
func faultF24(t *testing.T) {
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		synctest.Test(t, func(t *testing.T) {
			p := newFaultPair(t, pr, Config{})
			x, y := connectOne(t, p.ends[0], p.ends[1], 1)
			for range 3 {
				<-time.After(24 * time.Hour)
				for _, c := range [][2]*Conn{{x, y}, {y, x}} {
					io.WriteString(c[0], "good morning")
					wantDone(t, "Read after a day", reading(c[1], 12), 12, nil)
				}
				z, _ := connectOne(t, p.ends[1], p.ends[0], 2)
				z.Close()
				settleOne()
				wantErr(t, "Err", errors.Join(p.ends[0].Err(), p.ends[1].Err()), nil)
				if pr == ProtocolVT {
					break // the address is in use until the other end has ended it
				}
			}
		})
	})
	wall := regexp.MustCompile(`UnixNano|UnixMilli|UnixMicro|\.Unix\(\)|time\.Date\(|\.Truncate\(`)
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if at := wall.FindIndex(text); at != nil && !strings.HasSuffix(f, "_test.go") {
			t.Errorf("%s asks the wall clock: %s", f, text[at[0]:at[1]])
		}
	}
}

// faultF25: a transport that stands still for a while, as where a process or a machine was
// stopped. Shorter than keep-alive bears it harms nothing. TestStoppedProcess does it
// to a process.
func faultF25(t *testing.T) {
	bears := defaultKeepAliveInterval + defaultKeepAliveTimeout
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		for _, pause := range []time.Duration{time.Second, 20 * time.Second, bears - time.Second, bears + time.Second, time.Hour} {
			for _, at := range []int64{40_000, 40_001, 100_000} {
				t.Run(fmt.Sprintf("%v at %d", pause, at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { faultPause(t, pr, pause, at, pause < bears || pr == ProtocolVT) })
				})
			}
		}
	})
}

func faultPause(t *testing.T, pr Protocol, pause time.Duration, at int64, survives bool) {
	stop := faultconn.Faults{End: faultconn.Stall, EndAt: at, StallFor: pause}
	p := newFaultPair(t, pr, Config{WriteTimeout: -1}, faultconn.Plan{Read: stop, Write: stop}) // it is about keep-alive
	x, y := connectOne(t, p.ends[0], p.ends[1], 1)
	const size = 300_000
	start := time.Now()
	want := testBytes(size, 1)
	sent := [2]<-chan result{writing(x, want), writing(y, want)}
	got := make([]byte, size)
	for i, c := range []*Conn{y, x} {
		n, err := io.ReadFull(c, got)
		wantBytes(t, "what came", got[:n], want[:n])
		switch {
		case survives && err != nil:
			t.Errorf("end %d: %v", i, err)
		case !survives && (err == nil || !isCut(err) || errors.Is(err, io.EOF)):
			t.Errorf("end %d reads %d bytes and %v", i, n, err)
		}
		if r := wait(t, "Write", sent[i]); survives && r.err != nil || !survives && (r.err == nil || !isCut(r.err)) {
			t.Errorf("Write: %d, %v", r.n, r.err)
		}
	}
	if took := time.Since(start); survives && took < pause {
		t.Errorf("there was no pause: %v", took)
	}
}

// faultF26: an hour of a full window, and of an application that reads nothing.
func faultF26(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFaultPair(t, Protocol1, Config{KeepAliveInterval: 300 * time.Millisecond, KeepAliveTimeout: 900 * time.Millisecond})
		x, y := connectOne(t, p.ends[0], p.ends[1], 1)
		want := testBytes(300_000, 1)
		sent := writing(x, want)
		<-time.After(time.Hour)
		wantErr(t, "Err", errors.Join(p.ends[0].Err(), p.ends[1].Err()), nil)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(y, got); err != nil {
			t.Error(err)
		}
		wantBytes(t, "what was kept", got, want)
		wantDone(t, "Write", sent, len(want), nil)
	})
}

// faultF27: opens and closes without end cost nothing in the end.
func faultF27(t *testing.T) {
	n := 50_000
	if raceEnabled {
		n = 5_000
	}
	overPipe.withEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		go func() {
			for {
				c, err := l.AcceptConn(context.Background())
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		ctx := bounded(t)
		churn := func(n int) (heap int64) {
			for i := range n {
				c, err := p.Open(ctx, testAddr(i))
				if err != nil {
					t.Fatal(err)
				}
				c.CloseWrite()
				if _, err := c.Read(make([]byte, 1)); err != io.EOF { // so that one is open at a time
					t.Fatal(err)
				}
				c.Close()
			}
			waitUntil(t, "all ends", func() bool { return p.Stats().Conns == 0 && l.Stats().Conns == 0 })
			var m runtime.MemStats
			for range 3 { // finalizers, and what they held
				runtime.GC()
			}
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		heap := churn(2000)
		goroutines := runtime.NumGoroutine()
		heap2 := churn(n)
		if grown := heap2 - heap; grown > 64<<10 {
			t.Errorf("%d opens have grown the heap by %d bytes", n, grown)
		}
		// The one that runs finalizers counts while it does.
		waitUntil(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines })
	})
}

// faultF28: as net.TCPConn does.
func faultF28(t *testing.T) {
	overPipe.withEach(t, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		text := testBytes(20_000, 1)
		sent := async(func() error {
			for p := text; len(p) > 0; {
				n, err := x.Write(p[:min(len(p), 777)])
				if n2, err2 := x.Write(nil); n2 != 0 || err2 != nil {
					return fmt.Errorf("empty Write: %d, %v", n2, err2)
				}
				if err != nil {
					return err
				}
				p = p[n:]
			}
			return x.CloseWrite()
		})
		if err := iotest.TestReader(y, text); err != nil {
			t.Error(err)
		}
		wantErr(t, "Write", wait(t, "Write", sent), nil)
		for range 3 {
			if n, err := y.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read behind the end: %d, %v", n, err)
			}
			if n, err := y.Read(nil); n != 0 || err != nil && err != io.EOF {
				t.Errorf("empty Read behind the end: %d, %v", n, err)
			}
		}
		y.Close()
		for range 2 {
			if n, err := y.Read(make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read after Close: %d, %v", n, err)
			}
			if n, err := y.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write after Close: %d, %v", n, err)
			}
		}
	})
}

// faultF30: nothing and no error, for ever; and a panic in what a caller has given.
func faultF30(t *testing.T) {
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		for name, plan := range map[string]faultconn.Plan{
			"Read": {Read: faultconn.Faults{ZeroEvery: 1}}, "Write": {Write: faultconn.Faults{ZeroEvery: 1}},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newFaultPair(t, pr, Config{}, plan)
					c, err := p.ends[0].Open(t.Context(), testAddr(1))
					if err == nil {
						t.Cleanup(func() { c.Close() })
						c.SetDeadline(time.Now().Add(time.Second))
						_, err = c.Read(make([]byte, 1))
					}
					if !isCut(err) || !errors.Is(err, io.ErrNoProgress) {
						t.Errorf("the session's end: %v", err)
					}
					wantErr(t, "Err", p.ends[0].Err(), io.ErrNoProgress)
				})
			})
		}
		t.Run("panics", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newFaultPair(t, pr, Config{})
				x, y := connectOne(t, p.ends[0], p.ends[1], 1)
				panics := func(f func()) (did any) {
					defer func() { did = recover() }()
					f()
					return nil
				}
				io.WriteString(x, "lost with the writer")
				if panics(func() { y.WriteTo(badCaller{}) }) == nil || panics(func() { y.ReadFrom(badCaller{}) }) == nil {
					t.Error("the panic does not come through")
				}
				io.WriteString(x, "hello")
				got := make([]byte, 5)
				if _, err := io.ReadFull(y, got); err != nil || !bytes.Equal(got, []byte("hello")) {
					t.Errorf("%q, %v", got, err)
				}
				io.WriteString(y, "hello")
				wantDone(t, "Read", reading(x, 5), 5, nil)
			})
		})
	})
}

// A badCaller panics.
type badCaller struct{}

func (badCaller) Read([]byte) (int, error)  { panic("a reader of the caller's") }
func (badCaller) Write([]byte) (int, error) { panic("a writer of the caller's") }
