package mux

import (
	"bytes"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/vtmux/vtmux/pool"
)

// TestIdleConnectionsCostLittle holds 10,000 connections over one session, both
// ends in this process, before they have carried anything and after.
func TestIdleConnectionsCostLittle(t *testing.T) {
	overTCP.withEach(t, idleConnectionsCostLittle)
}

func idleConnectionsCostLittle(t *testing.T, tr transport) {
	const (
		n             = 10_000
		maxGoroutines = 2 // a session
	)
	maxBytes := 300.0 // a connection and side
	if !tr.one() {
		maxBytes = 340 // its table is by addresses
	}
	p, l := sessionPairWith(t, tr, nil, &Config{AcceptBacklog: n})
	xs, ys := make([]*Conn, 0, n), make([]*Conn, 0, n)
	warm, _ := connPair(t, p, l, n) // what a session makes once is not a connection's
	before := memory()

	ctx := bounded(t)
	accepted := async(func() error {
		for range n {
			y, err := l.AcceptConn(ctx)
			if err != nil {
				return err
			}
			ys = append(ys, y)
		}
		return nil
	})
	for i := range n {
		x, err := p.Open(ctx, testAddr(i))
		if err != nil {
			t.Fatal(err)
		}
		xs = append(xs, x)
	}
	wantErr(t, "AcceptConn", wait(t, "AcceptConn", accepted), nil)

	check := func(when string) {
		t.Helper()
		got := float64(memory()-before) / (2 * n)
		t.Logf("%s: %.0f bytes a connection and side", when, got)
		switch {
		case raceEnabled || pool.Debug:
			t.Log("NOT CHECKED: bytes, because a race or debug build needs more")
		case got > maxBytes:
			t.Errorf("%s: %.0f bytes a connection and side, want at most %.0f", when, got, maxBytes)
		}
		own := ownGoroutines()
		t.Logf("%s: %d goroutines for two sessions", when, len(own))
		if len(own) > 2*maxGoroutines {
			t.Errorf("%s: %d goroutines for two sessions, want at most %d:\n\n%s",
				when, len(own), 2*maxGoroutines, strings.Join(own, "\n\n"))
		}
	}
	check("unused")
	for i := range n {
		exchange(t, xs[i], ys[i])
	}
	check("used")
	runtime.KeepAlive(warm)
	for _, x := range xs {
		x.Close()
	}
	if tr.one() { // the session answers by itself
		waitUntil(t, "all connections ended", func() bool { return p.Stats().Conns == 1 && l.Stats().Conns == 1 })
	}
	for _, y := range ys {
		y.Close()
	}
	waitUntil(t, "all connections ended", func() bool { return p.Stats().Conns == 1 && l.Stats().Conns == 1 })
}

// TestPeersThatOnlyConnectCostLittle: a Listener that has heard nothing has neither
// staging buffers nor a slab of the full size (hostile peers, A28). Each session's
// Accept waits.
func TestPeersThatOnlyConnectCostLittle(t *testing.T) {
	const (
		n        = 300
		maxBytes = 20 << 10 // a session, its peer's socket, and the goroutine that accepts
	)
	before := memory()
	var peers []net.Conn
	var listeners []*Listener
	var accepts []<-chan error
	for range n {
		peer, transport := tcpPair(t)
		l, err := NewListener(transport, nil)
		if err != nil {
			t.Fatal(err)
		}
		peers, listeners = append(peers, peer), append(listeners, l)
		accepts = append(accepts, async(func() error {
			_, err := l.Accept()
			return err
		}))
	}
	waitBlocked(t, "(*session).acceptState", n)
	got := (memory() - before) / n
	t.Logf("%d bytes a session", got)
	switch {
	case raceEnabled || pool.Debug:
		t.Log("NOT CHECKED: bytes, because a race or debug build needs more")
	case got > maxBytes:
		t.Errorf("%d bytes a session, want at most %d", got, maxBytes)
	}
	for i, l := range listeners {
		l.Close()
		peers[i].Close()
		wantErr(t, "Accept", wait(t, "Accept", accepts[i]), net.ErrClosed)
	}
}

// exchange sends a message and its answer.
func exchange(t *testing.T, x, y *Conn) {
	t.Helper()
	var buf [64]byte
	for _, c := range [][2]*Conn{{x, y}, {y, x}} {
		if _, err := c[0].Write(buf[:]); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(buf); {
			m, err := c[1].Read(buf[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
	}
}

// memory returns the bytes of heap and stacks that are in use.
func memory() int64 {
	for range 4 { // pools are emptied by the second, and objects with a cleanup by a later one
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// ownGoroutines returns the stacks of the goroutines that the package has started:
// those in this package without a test's function on the stack.
func ownGoroutines() (own []string) {
	for stack := range bytes.SplitSeq(allStacks(), []byte("\n\n")) {
		if bytes.Contains(stack, []byte("/mux.(*")) && !bytes.Contains(stack, []byte("_test.go:")) {
			own = append(own, string(stack))
		}
	}
	return own
}
