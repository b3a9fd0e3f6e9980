package mux

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// TestHonestCrowdIsNoFlood: what honest ends do at once, with many connections, never
// ends a session for frames without progress (PROTOCOL.md, 2.13).
func TestHonestCrowdIsNoFlood(t *testing.T) {
	const n = 4000 // the backlog, and four times the bucket
	for _, tt := range []struct {
		name string
		do   func(x, y *Conn, half func(func()))
	}{
		{"both close", func(x, y *Conn, half func(func())) {
			half(func() { x.Close() })
			half(func() { y.Close() })
		}},
		{"both reset", func(x, y *Conn, half func(func())) {
			half(func() { x.Reset(300) })
			half(func() { y.Reset(301) })
		}},
		{"one closes, the other has finished", func(x, y *Conn, half func(func())) {
			half(func() { x.CloseWrite(); x.Close() })
			half(func() { y.CloseWrite(); y.Close() })
		}},
		{"both stop reading", func(x, y *Conn, half func(func())) {
			half(func() { x.CloseRead() })
			half(func() { y.CloseRead() })
		}},
		{"the opener closes", func(x, y *Conn, half func(func())) { half(func() { x.Close() }) }},
		{"the acceptor closes", func(x, y *Conn, half func(func())) { half(func() { y.Close() }) }},
		{"a word each, and both close", func(x, y *Conn, half func(func())) {
			half(func() { x.Write([]byte("hello")); x.Close() })
			half(func() { y.Write([]byte("hello")); y.Close() })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, l := sessionPair(t, overTCP)
			ctx := bounded(t)
			xs, ys := crowd(t, ctx, p, l, n)
			var wg sync.WaitGroup
			for side := range 2 {
				wg.Go(func() {
					for i := range n {
						turn := 0
						tt.do(xs[i], ys[i], func(f func()) {
							if turn == side {
								f()
							}
							turn++
						})
					}
				})
			}
			wg.Wait()
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			for range 2 { // what was sent before is read when the second is answered
				if _, err := p.Ping(ctx); err != nil {
					t.Fatalf("%s: %v, %v", tt.name, err, l.Err())
				}
				if _, err := l.Ping(ctx); err != nil {
					t.Fatalf("%s: %v, %v", tt.name, err, p.Err())
				}
			}
			for i := range n {
				xs[i].Close()
				ys[i].Close()
			}
		})
	}
}

// TestOpensBeyondTheBacklogAreNoFlood: an opener keeps to the number that the peer has
// announced, and can't know how many may wait to be accepted. Those beyond are refused, and
// nothing else comes to harm.
func TestOpensBeyondTheBacklogAreNoFlood(t *testing.T) {
	const n = defaultMaxConns
	p, l := sessionPair(t, overTCP)
	ctx := bounded(t)
	xs := make([]*Conn, n)
	for i := range xs {
		x, err := p.Open(ctx, testAddr(i))
		if err != nil {
			t.Fatalf("Open %d: %v, %v", i, err, l.Err())
		}
		xs[i] = x
	}
	if _, err := p.Ping(ctx); err != nil { // all were read when it is answered
		t.Fatalf("Ping: %v, %v", err, l.Err())
	}
	if got := l.Stats().Refused; got != n-defaultBacklog {
		t.Errorf("%d were refused, want %d", got, n-defaultBacklog)
	}
	var b [1]byte
	for i := defaultBacklog; i < n; i += 1000 {
		var refused *RefusedError
		if _, err := xs[i].Read(b[:]); !errors.As(err, &refused) || refused.Code != CodeBacklog {
			t.Fatalf("Read on connection %d: %v, want it refused with code %d", i, err, CodeBacklog)
		}
	}
	for i := range defaultBacklog {
		y, err := l.AcceptConn(ctx)
		if err != nil {
			t.Fatalf("AcceptConn %d: %v", i, err)
		}
		y.Close()
	}
	for _, x := range xs {
		x.Close()
	}
	if _, err := p.Ping(ctx); err != nil {
		t.Fatalf("Ping: %v, %v", err, l.Err())
	}
}

// crowd opens n connections, all of which are accepted.
func crowd(t *testing.T, ctx context.Context, p *Pipe, l *Listener, n int) (xs, ys []*Conn) {
	t.Helper()
	xs, ys = make([]*Conn, n), make([]*Conn, n)
	accepted := async(func() (err error) {
		for i := range ys {
			if ys[i], err = l.AcceptConn(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range xs {
		x, err := p.Open(ctx, testAddr(i))
		if err != nil {
			t.Fatal(err)
		}
		xs[i] = x
	}
	if err := wait(t, "AcceptConn", accepted); err != nil {
		t.Fatal(err)
	}
	return xs, ys
}
