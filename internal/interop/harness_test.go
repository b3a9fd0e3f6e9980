package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"
)

const (
	buildLimit = 5 * time.Minute // a first build downloads and compiles thirty crates
	caseLimit  = 30 * time.Second
)

var build = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	return Build(ctx, "peer")
})

// peerBinary returns the path of the peer's program, and builds it at the first call.
func peerBinary(t *testing.T) string {
	t.Helper()
	bin, err := build()
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("VTMUX_REQUIRE_INTEROP") != "1" {
		t.Skip("cargo is not installed: nothing was tested against vt-muxer")
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// startPeer starts a peer that the end of the test ends.
func startPeer(t *testing.T, setup Setup) *Peer {
	t.Helper()
	bin := peerBinary(t)
	ctx, cancel := context.WithTimeout(t.Context(), caseLimit)
	defer cancel()
	p, err := Start(ctx, bin, setup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// A family is an IP version, both of the transport and of the logical addresses.
type family struct {
	name      string
	loopback  string
	goAddrs   netip.Addr // from here on, opened by the Go end
	rustAddrs netip.Addr // likewise by the Rust end: the sets are disjoint, since crossed opens can't be told from ends
}

var (
	ipv4 = family{"IPv4", "127.0.0.1:0", netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("198.51.100.0")}
	ipv6 = family{"IPv6", "[::1]:0", netip.MustParseAddr("2001:db8:1::"), netip.MustParseAddr("2001:db8:2::")}
)

// require skips the test where the host lacks the family.
func (f family) require(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", f.loopback)
	if err != nil {
		t.Skipf("no %s here: %v", f.name, err)
	}
	ln.Close()
}

// logical returns the i-th address from base on: both the IP and the port differ from its neighbours'.
func logical(base netip.Addr, i int) netip.AddrPort {
	b := base.As16()
	b[15] += byte(i % 200)
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), uint16(1024+i))
}

// A rig is a peer and the Go end of its TCP connection.
type rig struct {
	peer *Peer
	conn net.Conn

	describe func() string // the Go end's state, if there is more to tell than stacks
}

// newRig starts a peer. A listening peer is dialed, a pipe dials, as programs do.
func newRig(t *testing.T, f family, setup Setup) *rig {
	t.Helper()
	f.require(t)
	if setup.Role == Listener {
		addr := netip.MustParseAddrPort(f.loopback)
		setup.Transport.Bind = &addr
		peer := startPeer(t, setup)
		conn, err := net.Dial("tcp", peer.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &rig{peer: peer, conn: conn, describe: func() string { return "" }}
	}
	ln, err := net.Listen("tcp", f.loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	setup.Transport.Connect = &addr
	peer := startPeer(t, setup)
	conn, err := ln.Accept() // at once: the peer is ready when it is connected
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rig{peer: peer, conn: conn, describe: func() string { return "" }}
}

// bounded runs f, which may block for ever. If it outlasts limit, both ends' states are printed, then the transport is cut, which
// must end f, and the test fails.
func (r *rig) bounded(t *testing.T, limit time.Duration, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%v\nThe Rust end: %s", err, r.rustState())
		}
		return
	case <-timer.C:
	}
	t.Errorf("hung for %v\n%s", limit, r.state())
	cancel()
	r.conn.Close()
	select {
	case err := <-done:
		t.Fatalf("after the transport was cut: %v", err)
	case <-time.After(5 * time.Second):
		t.Fatal("still hung after the transport was cut")
	}
}

// state describes both ends.
func (r *rig) state() string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return fmt.Sprintf("The Rust end: %s\nThe Go end: %s\n%s", r.rustState(), r.describe(), stacks)
}

func (r *rig) rustState() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := r.peer.State(ctx)
	if err != nil {
		return err.Error()
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// stateWhen polls the peer's state until cond holds.
func (r *rig) stateWhen(ctx context.Context, cond func(State) bool) (State, error) {
	for {
		s, err := r.peer.State(ctx)
		if err != nil || cond(s) {
			return s, err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// check reports how a conversation differs from one that received the first n bytes of what the other end should have sent.
func (c *Conversation) check(n int, want Pattern) error {
	switch {
	case c.Error != "":
		return fmt.Errorf("%v, round %d: the Rust end failed: %s", c.Addr, c.Round, c.Error)
	case c.Received != n:
		return fmt.Errorf("%v, round %d: the Rust end received %d bytes, want %d", c.Addr, c.Round, c.Received, n)
	case c.Sum != want.Sum(n):
		return fmt.Errorf("%v, round %d: the Rust end received %d bytes, but not those sent", c.Addr, c.Round, n)
	}
	return nil
}
