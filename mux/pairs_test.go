package mux

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/internal/xport"
)

// vtConfig are the defaults with the vt-muxer protocol.
var vtConfig = &Config{Protocol: ProtocolVT}

// vtOf is cfg with the vt-muxer protocol.
func vtOf(cfg *Config) *Config { return transport{protocol: ProtocolVT}.config(cfg) }

// patience bounds every wait of the tests. It is far more than any of them needs.
const patience = 60 * time.Second

// protocols are what a session may speak. Tests that hold for both run over them.
var protocols = []Protocol{ProtocolVT, Protocol1}

// A transport makes the two ends of a connection that a session can run over, and
// says what a Pipe on it speaks. A Listener follows.
type transport struct {
	name     string
	dial     func(testing.TB) (net.Conn, net.Conn)
	protocol Protocol
}

var (
	overTCP         = transport{name: "tcp", dial: tcpPair}
	overUnix        = transport{name: "unix", dial: unixPair}
	overTLS         = transport{name: "tls", dial: tlsPair}
	overBelow       = transport{name: "tls below", dial: belowPair}
	overPipe        = transport{name: "pipe", dial: func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() }}
	overOpaque      = transport{name: "opaque", dial: opaquePair}
	overNoDeadlines = transport{name: "no deadlines", dial: noDeadlinesPair}

	transports = []transport{overTCP, overUnix, overTLS, overBelow, overPipe, overOpaque, overNoDeadlines}
)

// overEach runs f as a subtest for each protocol and transport.
func overEach(t *testing.T, f func(*testing.T, transport)) {
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) { overEachOf(t, p, f) })
	}
}

// overEachOf runs f as a subtest for each transport, with one protocol.
func overEachOf(t *testing.T, p Protocol, f func(*testing.T, transport)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) { f(t, tr.speaking(p)) })
	}
}

// withEach runs f as a subtest for each protocol, over one transport.
func (tr transport) withEach(t *testing.T, f func(*testing.T, transport)) {
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) { f(t, tr.speaking(p)) })
	}
}

func (tr transport) speaking(p Protocol) transport {
	tr.protocol = p
	return tr
}

// one reports whether sessions over tr speak protocol 1.
func (tr transport) one() bool { return tr.protocol != ProtocolVT }

// config returns cfg, or the defaults if that is nil, for an end that must be told
// what it speaks: a Pipe, or a Listener that opens before its peer has said anything.
func (tr transport) config(cfg *Config) *Config {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	c.Protocol = tr.protocol
	return &c
}

func tcpPair(t testing.TB) (net.Conn, net.Conn) { return dialPair(t, "tcp", "127.0.0.1:0") }

func unixPair(t testing.TB) (net.Conn, net.Conn) {
	dir, err := os.MkdirTemp("", "mux") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	return dialPair(t, "unix", filepath.Join(dir, "s"))
}

// needSockets skips a test where there are to be no real sockets: an emulator of another
// machine then runs what lives in bubbles and over net.Pipe. Whoever sets the variable
// tells what that left out.
func needSockets(t testing.TB) {
	if os.Getenv("VTMUX_NO_SOCKETS") != "" {
		t.Skip("VTMUX_NO_SOCKETS is set")
	}
}

func dialPair(t testing.TB, network, address string) (net.Conn, net.Conn) {
	t.Helper()
	needSockets(t)
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		a.Close()
		t.Fatal(err)
	}
	return a, b
}

// tlsPair is TLS 1.3 over TCP. The handshake is left to the sessions.
func tlsPair(t testing.TB) (net.Conn, net.Conn) { return tlsOver(tcpPair(t)) }

// belowPair is tlsPair over what BelowTLS makes of the sockets.
func belowPair(t testing.TB) (net.Conn, net.Conn) {
	a, b := tcpPair(t)
	return tlsOver(BelowTLS(a), BelowTLS(b))
}

func tlsOver(a, b net.Conn) (net.Conn, net.Conn) {
	cert := testCert()
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	return tls.Client(a, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: "vtmux.test"}),
		tls.Server(b, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}})
}

// testCert makes a certificate that signs itself.
var testCert = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "vtmux.test"},
		DNSNames:              []string{"vtmux.test"},
		NotBefore:             time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), // a bubble's clock stands at 2000
		NotAfter:              time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})

// opaqueConn hides what kind of connection it is.
type opaqueConn struct{ net.Conn }

func opaquePair(t testing.TB) (net.Conn, net.Conn) {
	a, b := tcpPair(t)
	return opaqueConn{a}, opaqueConn{b}
}

// noDeadlinesConn has no deadlines, so that only Close interrupts a call.
type noDeadlinesConn struct{ net.Conn }

func (noDeadlinesConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (noDeadlinesConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (noDeadlinesConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

func noDeadlinesPair(t testing.TB) (net.Conn, net.Conn) {
	a, b := tcpPair(t)
	return noDeadlinesConn{a}, noDeadlinesConn{b}
}

// narrow makes the kernel hold little of what is sent over tr, so that a reader
// that pauses is soon felt by the writer.
func (tr transport) narrow() transport {
	dial := tr.dial
	tr.dial = func(t testing.TB) (net.Conn, net.Conn) {
		a, b := dial(t)
		for _, c := range []net.Conn{a, b} {
			switch outer := c.(type) {
			case *tls.Conn:
				c = outer.NetConn()
				if below, ok := c.(*xport.Below); ok {
					c = below.NetConn()
				}
			case opaqueConn:
				c = outer.Conn
			case noDeadlinesConn:
				c = outer.Conn
			}
			if s, ok := c.(interface {
				SetReadBuffer(int) error
				SetWriteBuffer(int) error
			}); ok {
				s.SetReadBuffer(32 << 10)
				s.SetWriteBuffer(32 << 10)
			}
		}
		return a, b
	}
	return tr
}

// sessionPair starts a session over tr and ends it with the test.
func sessionPair(t testing.TB, tr transport) (*Pipe, *Listener) {
	t.Helper()
	return sessionPairWith(t, tr, nil, nil)
}

func sessionPairWith(t testing.TB, tr transport, pipeCfg, listenerCfg *Config) (*Pipe, *Listener) {
	t.Helper()
	a, b := tr.dial(t)
	p, err := NewPipe(a, tr.config(pipeCfg))
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewListener(b, listenerCfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBoth(p, l) })
	return p, l
}

// closeBoth ends both ends of a session at once. One after the other, the first
// might wait for the transport to take what the second doesn't read.
func closeBoth(a, b io.Closer) {
	var wg sync.WaitGroup
	wg.Go(func() { a.Close() })
	b.Close()
	wg.Wait()
}

// testAddr returns the i-th of many addresses.
func testAddr(i int) addr.SocketAddr {
	ip := netip.AddrFrom4([4]byte{198, 18, byte(i >> 16), byte(i >> 8)})
	return addr.SocketAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(1024+i&255)))
}

// connPair opens the i-th connection and accepts it. Both ends stay reachable
// until the test's end, or they would be closed by the garbage collector.
func connPair(t testing.TB, p *Pipe, l *Listener, i int) (x, y *Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	x, err := p.Open(ctx, testAddr(i))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	y, err = l.AcceptConn(ctx)
	if err != nil {
		t.Fatalf("AcceptConn: %v", err)
	}
	if y.Addr() != testAddr(i) {
		t.Fatalf("accepted %v, want %v", y.Addr(), testAddr(i))
	}
	t.Cleanup(func() { x.Close(); y.Close() })
	return x, y
}

// conns is one connection over a new session.
func conns(t testing.TB, tr transport) (x, y *Conn) {
	t.Helper()
	p, l := sessionPair(t, tr)
	return connPair(t, p, l, 1)
}

// bounded returns a context that ends long after the test should have.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// async runs f in a goroutine and returns where its error will come.
func async(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// wait returns what done brings, and fails the test with all stacks if that is
// nothing.
func wait[T any](t testing.TB, what string, done <-chan T) (v T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v = <-done:
	case <-timer.C:
		hangs(t, what)
	}
	return v
}

// waitUntil waits until cond holds.
func waitUntil(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for start := time.Now(); !cond(); runtime.Gosched() {
		if time.Since(start) > patience {
			hangs(t, what)
		}
	}
}

func hangs(t testing.TB, what string) {
	t.Helper()
	var stacks bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	t.Fatalf("%s: not within %v\n%s", what, patience, stacks.Bytes())
}

// waitBlocked waits until n goroutines are parked in the named call of Conn's or
// Listener's state, such as "(*conn).await".
func waitBlocked(t testing.TB, call string, n int) {
	t.Helper()
	waitUntil(t, "goroutines blocked in "+call, func() bool {
		return bytes.Count(allStacks(), []byte("mux."+call+"(")) >= n
	})
}

// allStacks returns the stacks of all goroutines as a traceback shows them, the caller's
// first, with an empty line between two.
func allStacks() []byte {
	for buf := make([]byte, 1<<20); ; buf = make([]byte, 2*len(buf)) {
		if n := runtime.Stack(buf, true); n < len(buf) {
			return buf[:n]
		}
	}
}

// wantErr fails the test unless err is target.
func wantErr(t testing.TB, what string, err, target error) {
	t.Helper()
	if target == nil && err != nil || target != nil && !errors.Is(err, target) {
		t.Errorf("%s: error %v, want %v", what, err, target)
	}
}

// testBytes returns n bytes in which no shift and no mix-up goes unnoticed.
func testBytes(n int, seed uint32) []byte {
	p := make([]byte, n)
	v := seed*2654435761 + 1
	for i := range p {
		v ^= v << 13
		v ^= v >> 17
		v ^= v << 5
		p[i] = byte(v)
	}
	return p
}

// wantBytes fails the test unless got is want, and tells where they part.
func wantBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s: %d bytes (sum %x), want %d (sum %x); the first difference is at %d",
		what, len(got), sum(got), len(want), sum(want), at)
}

func sum(p []byte) []byte { s := sha256.Sum256(p); return s[:4] }

// readAll reads r to its end in the background.
func readAll(r io.Reader) <-chan readResult {
	done := make(chan readResult, 1)
	go func() {
		b, err := io.ReadAll(r)
		done <- readResult{b, err}
	}()
	return done
}

type readResult struct {
	b   []byte
	err error
}
