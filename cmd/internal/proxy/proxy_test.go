package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/vtmux/vtmux/mux"
)

// patience bounds what should happen at once.
const patience = 10 * time.Second

// A testChain is an edge and an origin before a backend whose connections the test handles itself.
type testChain struct {
	front   string
	backend *proxyproto.Listener // gives connections with the clients' addresses
	stop    context.CancelFunc
	closed  <-chan error // closed when the edge has stopped accepting

	mu         sync.Mutex
	transports []net.Conn // accepted by the origin
}

type chainKind struct {
	name  string
	start func(*testing.T, *testChain, time.Duration)
}

var chainKinds = []chainKind{
	{"tcp", startTCP},
	{"1", startMux(mux.Protocol1)},
	{"vt", startMux(mux.ProtocolVT)},
}

// eachChain runs a test over every kind of chain.
func eachChain(t *testing.T, test func(*testing.T, *testChain)) {
	for _, kind := range chainKinds {
		t.Run(kind.name, func(t *testing.T) { test(t, newTestChain(t, kind, patience)) })
	}
}

func newTestChain(t *testing.T, kind chainKind, grace time.Duration) *testChain {
	t.Helper()
	c := &testChain{backend: &proxyproto.Listener{Listener: listen(t, "127.0.0.1:0")}}
	kind.start(t, c, grace)
	return c
}

func startTCP(t *testing.T, c *testChain, grace time.Duration) {
	between := listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	origin := serve(t, func() error {
		return (&Server{Connect: DialTCP(c.backend.Addr().String()), Grace: grace}).Serve(ctx, ListenHeader(between))
	})
	c.run(t, cancel, origin, DialTCP(between.Addr().String()), ctx, grace)
}

func startMux(protocol mux.Protocol) func(*testing.T, *testChain, time.Duration) {
	return func(t *testing.T, c *testChain, grace time.Duration) {
		startSession(t, c, grace, &mux.Config{Protocol: protocol})
	}
}

func startSession(t *testing.T, c *testChain, grace time.Duration, config *mux.Config) {
	between := recordingListener{listen(t, "127.0.0.1:0"), c}
	ctx, cancel := context.WithCancel(context.Background())
	origin := serve(t, func() error {
		s := &Server{Connect: DialTCP(c.backend.Addr().String()), Grace: grace}
		return ServeTransports(ctx, between, config, s, nil)
	})
	uplink := NewUplink(between.Addr().String(), config)
	c.run(t, cancel, origin, uplink.Connect, ctx, grace)
	t.Cleanup(func() {
		cancel()
		uplink.Shutdown(ctx)
	})
}

// run starts the edge, and has the end of the test stop both.
func (c *testChain) run(t *testing.T, cancel context.CancelFunc, origin <-chan error, connect Connector, ctx context.Context, grace time.Duration) {
	closed := make(chan error)
	front := &closeListener{Listener: listen(t, "127.0.0.1:0"), closed: closed}
	c.front, c.stop, c.closed = front.Addr().String(), cancel, closed
	edge := serve(t, func() error {
		return (&Server{Connect: connect, Grace: grace}).Serve(ctx, front)
	})
	t.Cleanup(func() {
		cancel()
		receive(t, "the edge to end", edge)
		receive(t, "the origin to end", origin)
	})
}

// dial gives both ends of a connection through the chain, which has carried a byte each way.
func (c *testChain) dial(t *testing.T) (client, backend *net.TCPConn) {
	t.Helper()
	conn, err := net.Dial("tcp", c.front)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	write(t, conn, "?")
	accepted := c.accept(t)
	if got, want := accepted.RemoteAddr().String(), conn.LocalAddr().String(); got != want {
		t.Fatalf("the backend was told of client %s, want %s", got, want)
	}
	read(t, accepted, "?")
	write(t, accepted, "!")
	read(t, conn, "!")
	return conn.(*net.TCPConn), accepted.(*proxyproto.Conn).Raw().(*net.TCPConn)
}

func (c *testChain) accept(t *testing.T) net.Conn {
	t.Helper()
	c.backend.Listener.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	conn, err := c.backend.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func TestEachDirectionEndsAlone(t *testing.T) {
	eachChain(t, func(t *testing.T, c *testChain) {
		client, backend := c.dial(t)
		write(t, client, "request")
		client.CloseWrite()
		readAll(t, backend, "request")
		write(t, backend, "answer")
		backend.CloseWrite()
		readAll(t, client, "answer")
	})
}

func TestBackendMayEndFirst(t *testing.T) {
	eachChain(t, func(t *testing.T, c *testChain) {
		client, backend := c.dial(t)
		write(t, backend, "banner")
		backend.CloseWrite()
		readAll(t, client, "banner")
		write(t, client, "the rest")
		client.CloseWrite()
		readAll(t, backend, "the rest")
	})
}

func TestAbortIsNotACleanEnd(t *testing.T) {
	eachChain(t, func(t *testing.T, c *testChain) {
		if strings.HasSuffix(t.Name(), "/vt") {
			t.Skip("the vt-muxer protocol has no frame for it")
		}
		client, backend := c.dial(t)
		write(t, backend, "half of the ans")
		read(t, client, "half of the ans")
		backend.SetLinger(0)
		backend.Close()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after the backend's reset the client read %v, want ECONNRESET", err)
		}
	})
}

func TestClientIsAbortedWhenNobodyAnswers(t *testing.T) {
	gone := listen(t, "127.0.0.1:0")
	gone.Close()
	front := listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	s := &Server{
		Connect: DialPlainTCP(gone.Addr().String()),
		OnError: func(_ netip.AddrPort, err error) { failed <- err },
	}
	ended := serve(t, func() error { return s.Serve(ctx, front) })
	// The reset may come before Dial has returned.
	if client, err := net.Dial("tcp", front.Addr().String()); err == nil {
		defer client.Close()
		client.SetDeadline(time.Now().Add(patience))
		if n, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the client read %d bytes and %v, want a reset", n, err)
		}
	}
	if err := receive(t, "OnError", failed); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("OnError was told %v, want ECONNREFUSED", err)
	}
	cancel()
	if err := receive(t, "Serve to end", ended); err != nil {
		t.Errorf("Serve returned %v after its context ended, want nil", err)
	}
}

func TestServeLetsRelaysFinish(t *testing.T) {
	eachChain(t, func(t *testing.T, c *testChain) {
		client, backend := c.dial(t)
		c.stop()
		receive(t, "the edge to stop accepting", c.closed)
		write(t, client, "still here")
		client.CloseWrite()
		readAll(t, backend, "still here")
		write(t, backend, "so am I")
		backend.CloseWrite()
		readAll(t, client, "so am I")
	})
}

func TestServeAbortsRelaysAfterGrace(t *testing.T) {
	for _, kind := range chainKinds {
		t.Run(kind.name, func(t *testing.T) {
			c := newTestChain(t, kind, time.Millisecond)
			client, _ := c.dial(t)
			c.stop()
			if n, err := client.Read(make([]byte, 1)); err == nil {
				t.Errorf("the client read %d bytes, want an error", n)
			}
		})
	}
}

// eachMux runs a test over the chains that multiplex.
func eachMux(t *testing.T, test func(*testing.T, *testChain)) {
	for _, kind := range chainKinds[1:] {
		t.Run(kind.name, func(t *testing.T) { test(t, newTestChain(t, kind, patience)) })
	}
}

func TestClientsShareOneTransport(t *testing.T) {
	eachMux(t, func(t *testing.T, c *testChain) {
		for range 20 {
			c.dial(t)
		}
		if n := len(c.accepted()); n != 1 {
			t.Errorf("%d transports for 20 clients, want 1", n)
		}
	})
}

func TestUplinkDialsAgainAfterItsSessionEnded(t *testing.T) {
	eachMux(t, func(t *testing.T, c *testChain) {
		client, _ := c.dial(t)
		c.accepted()[0].Close()
		// The client learns of the end once the edge has.
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Fatal("the client's connection outlived its transport")
		}
		c.dial(t)
		if n := len(c.accepted()); n != 2 {
			t.Errorf("%d transports, want 2", n)
		}
	})
}

func TestIPv6ClientBeforeIPv4Backend(t *testing.T) {
	backend := &proxyproto.Listener{Listener: listen(t, "127.0.0.1:0")}
	client := netip.MustParseAddrPort("[2001:db8::1]:4321")
	conn, err := DialTCP(backend.Addr().String())(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := backend.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if got := accepted.RemoteAddr().String(); got != client.String() {
		t.Errorf("the backend was told of %s, want %s", got, client)
	}
}

// accepted gives the transports that the origin has accepted so far.
func (c *testChain) accepted() []net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.transports)
}

// A recordingListener keeps the transports for a test to break.
type recordingListener struct {
	net.Listener
	chain *testChain
}

func (l recordingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.chain.mu.Lock()
		l.chain.transports = append(l.chain.transports, c)
		l.chain.mu.Unlock()
	}
	return c, err
}

// A closeListener tells when it is first closed.
type closeListener struct {
	net.Listener
	once   sync.Once
	closed chan<- error
}

func (l *closeListener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() { close(l.closed) })
	return err
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func serve(t *testing.T, f func() error) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		ended <- f()
		close(ended) // whoever asks again gets nil
	}()
	return ended
}

func receive(t *testing.T, what string, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
		return nil
	}
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("writing %q: %v", s, err)
	}
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q and %v, want %q", got[:n], err, want)
	}
}

func readAll(t *testing.T, c net.Conn, want string) {
	t.Helper()
	if got, err := io.ReadAll(c); err != nil || string(got) != want {
		t.Fatalf("read %q and %v to the end, want %q", got, err, want)
	}
}
