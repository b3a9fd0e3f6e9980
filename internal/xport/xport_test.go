package xport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vtmux/vtmux/internal/leakcheck"
)

// TestMain fails the tests if they leave a goroutine or a socket behind.
func TestMain(m *testing.M) { leakcheck.Main(m, leakcheck.OpenFiles()) }

// patience bounds every wait of the tests. It is far more than any of them needs.
const patience = 60 * time.Second

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// streamPair returns the two ends of a connection, which the test's end closes.
func streamPair(t testing.TB, network string) (a, b net.Conn) {
	t.Helper()
	if network == "pipe" {
		a, b = net.Pipe()
	} else {
		l := listen(t, network)
		defer l.Close()
		var err error
		if a, err = net.Dial(network, l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if b, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func listen(t testing.TB, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if strings.HasPrefix(network, "unix") {
		address = socketPath(t)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// socketPath returns a path for a socket. t.TempDir's are too long for one.
func socketPath(t testing.TB) string {
	dir, err := os.MkdirTemp("", "xport")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// waitUntil waits until cond holds.
func waitUntil(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for start := time.Now(); !cond(); runtime.Gosched() {
		if time.Since(start) > patience {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// opaque hides what kind of connection it is.
type opaque struct{ net.Conn }

// noDeadline has no deadline for reads, for writes, or for both.
type noDeadline struct {
	net.Conn
	read, write bool
}

func (c noDeadline) SetReadDeadline(t time.Time) error {
	if c.read {
		return os.ErrNoDeadline
	}
	return c.Conn.SetReadDeadline(t)
}

func (c noDeadline) SetWriteDeadline(t time.Time) error {
	if c.write {
		return os.ErrNoDeadline
	}
	return c.Conn.SetWriteDeadline(t)
}

// foreignTLS is a TLS connection of another package's.
type foreignTLS struct {
	net.Conn
	err error
}

func (c foreignTLS) HandshakeContext(ctx context.Context) error { return errors.Join(c.err, ctx.Err()) }

func TestWhatATransportCanDo(t *testing.T) {
	for _, tt := range []struct {
		name, network                              string
		wrap                                       func(net.Conn) net.Conn
		vectored, resumable, deadlines, handshakes bool
	}{
		{"TCP", "tcp", nil, true, true, true, false},
		{"Unix", "unix", nil, true, true, true, false},
		{"pipe", "pipe", nil, false, true, true, false},
		{"hidden TCP", "tcp", func(c net.Conn) net.Conn { return opaque{c} }, false, true, true, false},
		{"TLS", "tcp", func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{}) }, false, false, true, true},
		{"another's TLS", "tcp", func(c net.Conn) net.Conn { return foreignTLS{Conn: c} }, false, false, true, true},
		{"no read deadlines", "tcp", func(c net.Conn) net.Conn { return noDeadline{c, true, false} }, false, false, false, false},
		{"no write deadlines", "tcp", func(c net.Conn) net.Conn { return noDeadline{c, false, true} }, false, false, false, false},
		{"no deadlines", "tcp", func(c net.Conn) net.Conn { return noDeadline{c, true, true} }, false, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, _ := streamPair(t, tt.network)
			if tt.wrap != nil {
				conn = tt.wrap(conn)
			}
			x := New(conn)
			if x.Conn() != conn {
				t.Error("Conn is not what was wrapped")
			}
			for _, f := range []struct {
				name      string
				got, want bool
			}{
				{"Vectored", x.Vectored(), tt.vectored},
				{"Resumable", x.Resumable(), tt.resumable},
				{"Deadlines", x.Deadlines(), tt.deadlines},
				{"NeedsHandshake", x.NeedsHandshake(), tt.handshakes},
			} {
				if f.got != f.want {
					t.Errorf("%s is %v, want %v", f.name, f.got, f.want)
				}
			}
		})
	}
}

func TestNewTakesDeadlinesAway(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "pipe"} {
		a, b := streamPair(t, network)
		a.SetDeadline(past)
		x := New(a)
		go b.Write([]byte("x"))
		if n, err := x.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("%s: Read returned %d, %v", network, n, err)
		}
		go io.ReadFull(b, make([]byte, 1))
		if n, err := x.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("%s: Write returned %d, %v", network, n, err)
		}
	}
}

func TestHandshakeIsTheTransports(t *testing.T) {
	a, _ := streamPair(t, "pipe")
	ctx, cancel := context.WithCancel(context.Background())
	if err := New(foreignTLS{a, io.ErrNoProgress}).Handshake(ctx); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("the handshake's error is %v", err)
	}
	cancel()
	if err := New(foreignTLS{a, nil}).Handshake(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the context is not passed on: %v", err)
	}
	if err := New(a).Handshake(ctx); err != nil {
		t.Errorf("a transport without a handshake: %v", err)
	}
}

func TestIsStream(t *testing.T) {
	cases := map[string]bool{"tcp": true, "unix": true, "pipe": true}
	if runtime.GOOS == "linux" {
		cases["unixpacket"] = false
	}
	for network, want := range cases {
		a, b := streamPair(t, network)
		for _, c := range []net.Conn{a, b} {
			if IsStream(c) != want {
				t.Errorf("%s: IsStream is %v", network, !want)
			}
		}
	}
	tcp, _ := streamPair(t, "tcp")
	if !IsStream(tls.Client(tcp, &tls.Config{})) || !IsStream(opaque{tcp}) {
		t.Error("a wrapped TCP connection is no stream")
	}

	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if IsStream(udp) {
		t.Error("an unconnected UDP socket is a stream")
	}
	dialed, err := net.Dial("udp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	if IsStream(dialed) {
		t.Error("a connected UDP socket is a stream")
	}
	if runtime.GOOS != "linux" {
		return
	}
	gram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socketPath(t), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer gram.Close()
	if IsStream(gram) {
		t.Error("a unixgram socket is a stream")
	}
}

// addressless claims to be a packet connection and has no address to tell by.
type addressless struct{ *net.UDPConn }

func (addressless) LocalAddr() net.Addr { return nil }

func TestIsStreamWithoutAnAddress(t *testing.T) {
	if !IsStream(addressless{}) {
		t.Error("a connection of which nothing is known is refused")
	}
}

func TestReadVecFillsOneSliceAfterTheOther(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, tt := range []struct {
			sent, a, b, c string // what is sent, and what must be in a, b and c after
		}{
			{"0123456789", "0123", "456", "789"},
			{"01234567", "0123", "456", "7.."},
			{"0123", "0123", "...", "..."},
			{"01", "01..", "...", "..."},
			{"01234", "0123", "4..", "..."},
			{"012345678", "", "012345", "678"},
			{"012345678", "0123", "45678", ""},
		} {
			t.Run(network+" "+tt.sent, func(t *testing.T) {
				if !canReadVec {
					t.Skip("this system reads no vectors")
				}
				near, far := streamPair(t, network)
				x := New(near)
				if !x.CanReadVec() {
					t.Error("CanReadVec is false")
				}
				if _, err := far.Write([]byte(tt.sent)); err != nil {
					t.Fatal(err)
				}
				a, b, c := bytes.Repeat([]byte("."), len(tt.a)), bytes.Repeat([]byte("."), len(tt.b)), bytes.Repeat([]byte("."), len(tt.c))
				n, err := x.ReadVec(a, b, c)
				if n != len(tt.sent) || err != nil || string(a) != tt.a || string(b) != tt.b || string(c) != tt.c {
					t.Errorf("%d bytes, %v: %q, %q and %q; want %d: %q, %q and %q", n, err, a, b, c, len(tt.sent), tt.a, tt.b, tt.c)
				}
			})
		}
	}
}

func TestReadVecWithoutVectorsReadsTheFirst(t *testing.T) {
	for _, network := range []string{"pipe", "tcp"} {
		near, far := streamPair(t, network)
		x := New(opaque{near})
		if x.CanReadVec() {
			t.Errorf("%s: an opaque connection reads vectors", network)
		}
		go far.Write([]byte("012345"))
		a, b := []byte("...."), []byte("..")
		n, err := x.ReadVec(a, b, nil)
		if n != 4 || err != nil || string(a) != "0123" || string(b) != ".." {
			t.Errorf("%s: %d bytes, %v: %q and %q", network, n, err, a, b)
		}
		io.ReadFull(near, b)
	}
}

// TestReadVecTellsWhatReadTells: the end, a deadline, a reset and Close look the
// same, however bytes are read.
func TestReadVecTellsWhatReadTells(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spoil  func(near, far net.Conn)
		target error
	}{
		{"end", func(_, far net.Conn) { far.Close() }, io.EOF},
		{"deadline", func(near, _ net.Conn) { near.SetReadDeadline(past) }, os.ErrDeadlineExceeded},
		{"reset", func(_, far net.Conn) { far.(*net.TCPConn).SetLinger(0); far.Close() }, syscall.ECONNRESET},
		{"close", func(near, _ net.Conn) { near.Close() }, net.ErrClosed},
	} {
		for name, read := range map[string]func(*Transport) (int, error){
			"Read":    func(x *Transport) (int, error) { return x.Read(make([]byte, 8)) },
			"ReadVec": func(x *Transport) (int, error) { return x.ReadVec(make([]byte, 8), make([]byte, 8), make([]byte, 8)) },
		} {
			near, far := streamPair(t, "tcp")
			x := New(near)
			tt.spoil(near, far)
			n, err := read(x)
			if n != 0 || !errors.Is(err, tt.target) {
				t.Errorf("%s, %s: %d, %v; want 0, %v", tt.name, name, n, err, tt.target)
			}
			if (err == io.EOF) != (tt.target == io.EOF) {
				t.Errorf("%s, %s: %v is not io.EOF itself", tt.name, name, err)
			}
			if IsTimeout(err) != (tt.target == os.ErrDeadlineExceeded) {
				t.Errorf("%s, %s: IsTimeout(%v) is %v", tt.name, name, err, IsTimeout(err))
			}
		}
	}
}

// TestReadWithoutRoomIsNoEnd, by whatever call, even when the peer has closed: a read of
// nothing doesn't look. To see it fail: in ReadVec, don't look at the room.
func TestReadWithoutRoomIsNoEnd(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		near, far := streamPair(t, network)
		x := New(near)
		want := func(what string, target error) {
			t.Helper()
			if n, err := x.Read(nil); n != 0 || !errors.Is(err, target) {
				t.Errorf("%s, %s: Read: %d, %v; want 0, %v", network, what, n, err, target)
			}
			if n, err := x.ReadVec(nil, []byte{}, nil); n != 0 || !errors.Is(err, target) {
				t.Errorf("%s, %s: ReadVec: %d, %v; want 0, %v", network, what, n, err, target)
			}
		}
		want("nothing is there", nil)
		far.Write([]byte("x"))
		want("a byte is there", nil)
		far.Close()
		want("the peer has closed", nil)
		near.Close()
		want("closed", net.ErrClosed)
	}
}

// TestBlockedReadVecEndsWithItsDeadline: a deadline ends a call that waits already,
// and the next call works.
func TestBlockedReadVecEndsWithItsDeadline(t *testing.T) {
	near, far := streamPair(t, "tcp")
	x := New(near)
	time.AfterFunc(time.Millisecond, func() { x.SetReadDeadline(past) })
	if _, err := x.ReadVec(make([]byte, 1), make([]byte, 1), nil); !IsTimeout(err) {
		t.Fatalf("ReadVec returned %v", err)
	}
	x.SetReadDeadline(time.Time{})
	far.Write([]byte("x"))
	if n, err := x.ReadVec(make([]byte, 1), make([]byte, 1), nil); n != 1 || err != nil {
		t.Fatalf("after the deadline: %d, %v", n, err)
	}
}

func TestTryWriteOnAFullSocketIsShortAndNoError(t *testing.T) {
	if !canTryWrite {
		t.Skip("this system can't try")
	}
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			near, far := streamPair(t, network)
			x := New(near)
			p := make([]byte, 1<<20)
			for i := range p {
				p[i] = byte(i * i >> 3)
			}
			var sent []byte
			short := false
			for n := 1; n > 0; {
				var err error
				if n, err = x.TryWrite(p); err != nil {
					t.Fatalf("after %d bytes: %v", len(sent), err)
				}
				short = short || n > 0 && n < len(p)
				sent = append(sent, p[:n]...)
				if len(sent) > 1<<30 {
					t.Fatal("the socket is never full")
				}
			}
			if !short {
				t.Log("no call took a part")
			}
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(far, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, sent) {
				t.Error("what arrived is not what the counts say")
			}
			// The kernel may tell of the room a little later.
			waitUntil(t, "room after the peer has read", func() bool {
				n, err := x.TryWrite([]byte("x"))
				if err != nil {
					t.Fatal(err)
				}
				return n == 1
			})
		})
	}
}

func TestTryWriteTellsErrors(t *testing.T) {
	if !canTryWrite {
		t.Skip("this system can't try")
	}
	for _, tt := range []struct {
		name   string
		spoil  func(near, far net.Conn)
		target error
	}{
		{"half-closed", func(near, _ net.Conn) { near.(*net.TCPConn).CloseWrite() }, syscall.EPIPE},
		{"deadline", func(near, _ net.Conn) { near.SetWriteDeadline(past) }, os.ErrDeadlineExceeded},
		{"close", func(near, _ net.Conn) { near.Close() }, net.ErrClosed},
	} {
		near, far := streamPair(t, "tcp")
		x := New(near)
		tt.spoil(near, far)
		if n, err := x.TryWrite([]byte("x")); n != 0 || !errors.Is(err, tt.target) {
			t.Errorf("%s: %d, %v; want 0, %v", tt.name, n, err, tt.target)
		}
	}
}

func TestCanTryOnlyWhereReadinessIsSeen(t *testing.T) {
	tcp, _ := streamPair(t, "tcp")
	pipe, _ := streamPair(t, "pipe")
	for _, c := range []net.Conn{opaque{tcp}, pipe} {
		if New(c).CanTry() {
			t.Errorf("%T: CanTry", c)
		}
	}
}

func TestWriteVecWritesAllInOrder(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "pipe"} {
		near, far := streamPair(t, network)
		x := New(near)
		v := &net.Buffers{[]byte("one "), nil, []byte("two "), []byte("three")}
		done := make(chan error, 1)
		go func() { _, err := x.WriteVec(v); done <- err }()
		got := make([]byte, len("one two three"))
		if _, err := io.ReadFull(far, got); err != nil || string(got) != "one two three" {
			t.Errorf("%s: %q, %v", network, got, err)
		}
		if err := <-done; err != nil || len(*v) != 0 {
			t.Errorf("%s: %v, %d slices are left", network, err, len(*v))
		}
	}
}

// TestWriteVecConsumesEmptySlices wherever they are. To see it fail: leave to package net
// what WriteVec consumes.
func TestWriteVecConsumesEmptySlices(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		near, far := streamPair(t, network)
		x := New(near)
		for _, backing := range [][][]byte{{{}, nil}, {{}}, {nil, []byte("x"), {}, nil}, {}} {
			v := net.Buffers(backing)
			want := len(bytes.Join(v, nil))
			if n, err := x.WriteVec(&v); int(n) != want || err != nil || len(v) != 0 {
				t.Errorf("%s: %d bytes, %v, %d slices are left; want %d bytes and no slice", network, n, err, len(v), want)
			}
			for i, p := range backing {
				if p != nil {
					t.Errorf("%s: slice %d of %d is still referred to", network, i, len(backing))
				}
			}
		}
		near.Close()
		if got, err := io.ReadAll(far); string(got) != "x" || err != nil {
			t.Errorf("%s: the peer read %q, %v", network, got, err)
		}
	}
}

func TestCloseWriteEndsOneHalf(t *testing.T) {
	for network, want := range map[string]bool{"tcp": true, "unix": true, "pipe": false} {
		near, far := streamPair(t, network)
		x := New(near)
		if got := x.CloseWrite(); got != want {
			t.Errorf("%s: CloseWrite reports %v, want %v", network, got, want)
		}
		if !want {
			continue
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: the peer reads %v, want io.EOF", network, err)
		}
		far.Write([]byte("x"))
		if n, err := x.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("%s: the other half: %d, %v", network, n, err)
		}
	}
	near, _ := streamPair(t, "tcp")
	near.Close()
	if New(near).CloseWrite() {
		t.Error("CloseWrite of a closed connection reports true")
	}
}

func TestRTTIsKnownOfTCPAlone(t *testing.T) {
	near, far := streamPair(t, "tcp")
	x := New(near)
	for range 10 {
		near.Write([]byte("x"))
		io.ReadFull(far, make([]byte, 1))
	}
	d, ok := x.RTT()
	if ok != (runtime.GOOS == "linux") || ok && (d <= 0 || d > patience) {
		t.Errorf("on loopback: %v, %v", d, ok)
	}
	x.Close()
	if d, ok := x.RTT(); ok {
		t.Errorf("of a closed connection: %v", d)
	}
	unix, _ := streamPair(t, "unix")
	pipe, _ := streamPair(t, "pipe")
	for _, c := range []net.Conn{unix, pipe, opaque{near}} {
		if d, ok := New(c).RTT(); ok || d != 0 {
			t.Errorf("%T: %v, %v", c, d, ok)
		}
	}
}

// timeout is a net.Error.
type timeout bool

func (timeout) Error() string     { return "timeout" }
func (t timeout) Timeout() bool   { return bool(t) }
func (t timeout) Temporary() bool { return bool(t) }

// contractual is all that net.Conn promises of an error after a deadline: it wraps
// os.ErrDeadlineExceeded and its Timeout method returns true. It has no Temporary,
// which is deprecated.
type contractual struct{}

func (contractual) Error() string { return "too late" }
func (contractual) Timeout() bool { return true }
func (contractual) Unwrap() error { return os.ErrDeadlineExceeded }

func TestIsTimeout(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{io.EOF, false},
		{net.ErrClosed, false},
		{syscall.ECONNRESET, false},
		{os.ErrDeadlineExceeded, true},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, true},
		{timeout(true), true},
		{timeout(false), false},
		// The kernel has given the peer up: no deadline of ours.
		{syscall.ETIMEDOUT, false},
		{os.NewSyscallError("readv", syscall.ETIMEDOUT), false},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}, false},
		{contractual{}, true},
	} {
		if got := IsTimeout(tt.err); got != tt.want {
			t.Errorf("IsTimeout is %v for %T %v", got, tt.err, tt.err)
		}
	}
}

// TestCallsAllocateNothing in a steady state, with both ends counted.
func TestCallsAllocateNothing(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		near, far := streamPair(t, network)
		x, y := New(near), New(far)
		p, a, b := make([]byte, 1000), make([]byte, 600), make([]byte, 400)
		want := func(what string, f func()) {
			t.Helper()
			if n := testing.AllocsPerRun(1000, f); n != 0 {
				t.Errorf("%s, %s: %v allocations, want none", network, what, n)
			}
		}
		full := func(read func() (int, error)) {
			for n := 0; n < len(p); {
				m, err := read()
				if err != nil {
					t.Fatal(err)
				}
				n += m
			}
		}
		readVec := func() (int, error) { return y.ReadVec(a, b, nil) }
		want("Write and ReadVec", func() { x.Write(p); full(readVec) })
		want("Write and Read", func() { x.Write(p); full(func() (int, error) { return y.Read(p) }) })
		if canTryWrite {
			want("TryWrite and ReadVec", func() {
				if n, err := x.TryWrite(p); n != len(p) || err != nil {
					t.Fatal(n, err)
				}
				full(readVec)
			})
		}
		var v net.Buffers
		backing := make([][]byte, 2)
		want("WriteVec", func() {
			backing[0], backing[1] = p[:500], p[500:]
			v = backing
			x.WriteVec(&v)
			full(readVec)
		})
		src := NewSource(far)
		get, put := func() []byte { return p }, func() {}
		want("Source", func() { x.Write(p); full(func() (int, error) { return src.Read(get, put) }) })
	}
}

// A purse counts what a Source gets and puts.
type purse struct {
	buf        []byte
	gets, puts atomic.Int32
}

func (p *purse) get() []byte { p.gets.Add(1); return p.buf }
func (p *purse) put()        { p.puts.Add(1) }

// held returns how many buffers the Source has.
func (p *purse) held() int32 { return p.gets.Load() - p.puts.Load() }

// copied returns the reader that io.Copy from conn hands ReadFrom.
func copied(t *testing.T, conn net.Conn) io.Reader {
	var dst readerTaker
	if _, err := io.Copy(&dst, conn); err != nil {
		t.Fatal(err)
	}
	return dst.r
}

// readerTaker takes what it is to read from, and reads nothing.
type readerTaker struct {
	io.Writer
	r io.Reader
}

func (d *readerTaker) ReadFrom(r io.Reader) (int64, error) {
	d.r = r
	return 0, nil
}

// TestSourceHoldsNoBufferWhileItWaits also where io.Copy hands on a type of package net's
// own, as it does for TCP. To see it fail: in NewSource, take the case net.Conn away.
func TestSourceHoldsNoBufferWhileItWaits(t *testing.T) {
	if !canReadVec {
		t.Skip("this system has no raw reads")
	}
	for _, tt := range []struct {
		network string
		copied  bool
	}{{"tcp", false}, {"tcp", true}, {"unix", false}, {"unix", true}} {
		t.Run(fmt.Sprintf("%s, copied %v", tt.network, tt.copied), func(t *testing.T) {
			near, far := streamPair(t, tt.network)
			var r io.Reader = near
			if tt.copied {
				r = copied(t, near)
			}
			src := NewSource(r)
			p := &purse{buf: make([]byte, 8)}
			for i, sent := range []string{"one", "two", ""} {
				before := p.gets.Load()
				type result struct {
					n   int
					err error
				}
				done := make(chan result, 1)
				go func() {
					n, err := src.Read(p.get, p.put)
					done <- result{n, err}
				}()
				waitUntil(t, "the Source has looked and put its buffer back", func() bool {
					return p.gets.Load() > before && p.held() == 0
				})
				want := result{len(sent), nil}
				if sent == "" {
					far.Close()
					want.err = io.EOF
				} else {
					far.Write([]byte(sent))
				}
				if got := <-done; got != want || string(p.buf[:got.n]) != sent {
					t.Fatalf("read %d: %v %q, want %v %q", i, got, p.buf[:got.n], want, sent)
				}
				if p.held() != 1 {
					t.Fatalf("read %d: %d buffers are held after the Read, want the caller's one", i, p.held())
				}
				p.put()
			}
		})
	}
}

func TestSourceReadsWhatIsThereWithOneBuffer(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "pipe"} {
		near, far := streamPair(t, network)
		written := make(chan struct{})
		go func() { defer close(written); far.Write([]byte("0123456789")) }()
		if network != "pipe" {
			<-written
		}
		p := &purse{buf: make([]byte, 4)}
		src := NewSource(near)
		var got []byte
		for range 3 {
			n, err := src.Read(p.get, p.put)
			if err != nil {
				t.Fatal(network, err)
			}
			got = append(got, p.buf[:n]...)
			if p.held() != 1 {
				t.Errorf("%s: %d buffers are held after a Read, want 1", network, p.held())
			}
			p.put()
		}
		if string(got) != "0123456789" || p.gets.Load() != 3 {
			t.Errorf("%s: %q with %d buffers", network, got, p.gets.Load())
		}
		<-written
	}
}

// TestSourceEndsAsItsReaderDoes: errors reach the caller whatever the reader is.
func TestSourceEndsAsItsReaderDoes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spoil  func(near, far net.Conn)
		target error
	}{
		{"end", func(_, far net.Conn) { far.Close() }, io.EOF},
		{"deadline", func(near, _ net.Conn) { near.SetReadDeadline(past) }, os.ErrDeadlineExceeded},
		{"reset", func(_, far net.Conn) { far.(*net.TCPConn).SetLinger(0); far.Close() }, syscall.ECONNRESET},
		{"close", func(near, _ net.Conn) { near.Close() }, net.ErrClosed},
	} {
		for _, plain := range []bool{false, true} {
			near, far := streamPair(t, "tcp")
			var r io.Reader = near
			if plain {
				r = opaque{near}
			}
			src := NewSource(r)
			tt.spoil(near, far)
			p := &purse{buf: make([]byte, 8)}
			n, err := src.Read(p.get, p.put)
			if n != 0 || !errors.Is(err, tt.target) || (err == io.EOF) != (tt.target == io.EOF) {
				t.Errorf("%s, plain %v: %d, %v; want 0, %v", tt.name, plain, n, err, tt.target)
			}
			if held := p.held(); held < 0 || held > 1 {
				t.Errorf("%s, plain %v: %d buffers are held", tt.name, plain, held)
			}
		}
	}
}

// upper embeds a TCP connection and reads in a way of its own.
type upper struct{ *net.TCPConn }

func (c upper) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	copy(p, bytes.ToUpper(p[:n]))
	return n, err
}

// TestSourceReadsByTheReadOfAWrapper that has all the methods of a socket. To see it fail:
// in NewSource, don't look at the package.
func TestSourceReadsByTheReadOfAWrapper(t *testing.T) {
	near, far := streamPair(t, "tcp")
	c := upper{near.(*net.TCPConn)}
	for _, r := range []io.Reader{c, &c, struct{ upper }{c}} {
		if _, err := far.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		p := &purse{buf: make([]byte, 8)}
		if n, err := NewSource(r).Read(p.get, p.put); n != 1 || err != nil || p.buf[0] != 'X' {
			t.Errorf("%T: %d, %v, %q", r, n, err, p.buf[:n])
		}
	}
}

// lastBytes gives its bytes and its end at once, as a plain reader may.
type lastBytes string

func (r lastBytes) Read(p []byte) (int, error) { return copy(p, r), io.EOF }

func TestSourcePassesBytesAndEndOfAPlainReader(t *testing.T) {
	p := &purse{buf: make([]byte, 8)}
	n, err := NewSource(lastBytes("end")).Read(p.get, p.put)
	if n != 3 || err != io.EOF || string(p.buf[:3]) != "end" || p.held() != 1 {
		t.Errorf("%d, %v, %q, %d buffers", n, err, p.buf[:n], p.held())
	}
}

// TestEmptyDatagramIsNoEnd: net reads an empty datagram as 0 bytes and no error.
func TestEmptyDatagramIsNoEnd(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no unixgram")
	}
	path := socketPath(t)
	gram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer gram.Close()
	c, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, r := range []io.Reader{opaque{gram}, gram} {
		if _, err := c.Write(nil); err != nil {
			t.Fatal(err)
		}
		p := &purse{buf: make([]byte, 8)}
		if n, err := NewSource(r).Read(p.get, p.put); n != 0 || err != nil {
			t.Errorf("%T: an empty datagram reads as %d, %v", r, n, err)
		}
	}
}
