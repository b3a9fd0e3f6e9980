package xport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/pool"
)

// A plainLayer is a layer that makes no records, and remembers how much each Write brought.
type plainLayer struct {
	net.Conn
	sizes []int
	at    []*byte
}

func (l *plainLayer) HandshakeContext(context.Context) error { return nil }

func (l *plainLayer) NetConn() net.Conn { return l.Conn }

func (l *plainLayer) Write(p []byte) (int, error) {
	l.sizes, l.at = append(l.sizes, len(p)), append(l.at, &p[0])
	return l.Conn.Write(p)
}

// CloseWrite says something last, as TLS does.
func (l *plainLayer) CloseWrite() error {
	_, err := l.Write([]byte(lastWords))
	return err
}

const lastWords = "that was all"

// belowPair returns a Below that a Transport has, over a socket that holds little, and the far
// end.
func belowPair(t testing.TB, network string) (x *Transport, b *Below, far net.Conn) {
	t.Helper()
	near, far := streamPair(t, network)
	near.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(32 << 10)
	b, ok := NewBelow(near).(*Below)
	if !ok {
		t.Fatal("this socket has no Below")
	}
	x = New(&plainLayer{Conn: b})
	if err := x.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	buffers := outstanding()
	t.Cleanup(func() {
		b.Close()
		if n := outstanding() - buffers; n != 0 {
			t.Errorf("%d buffers are left", n)
		}
	})
	return x, b, far
}

func outstanding() int64 {
	slabs, buffers := pool.Outstanding()
	return int64(slabs) + int64(buffers)
}

func testBytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * i >> 5)
	}
	return p
}

// fill writes to b until it keeps something, and returns what it has been given.
func fill(t *testing.T, b *Below) (given []byte) {
	t.Helper()
	for !b.pending() {
		p := testBytes(10_000)
		if n, err := b.Write(p); n != len(p) || err != nil {
			t.Fatalf("after %d bytes: %d, %v", len(given), n, err)
		}
		if given = append(given, p...); len(given) > 1<<30 {
			t.Fatal("the socket is never full")
		}
	}
	return given
}

// wantRead fails the test unless want comes from far.
func wantRead(t *testing.T, far net.Conn, want []byte) {
	t.Helper()
	far.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(far, got); err != nil {
		t.Fatalf("after %d bytes of %d: %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("what arrives is not what was written")
	}
}

func TestNewBelowTakesSocketsAlone(t *testing.T) {
	pipe, _ := streamPair(t, "pipe")
	tcp, _ := streamPair(t, "tcp")
	for _, c := range []net.Conn{pipe, opaque{tcp}} {
		if NewBelow(c) != c {
			t.Errorf("%T: not itself", c)
		}
	}
}

// Before a Transport has it, a Below is its socket.
func TestBelowIsASocketAtFirst(t *testing.T) {
	near, far := streamPair(t, "tcp")
	b, ok := NewBelow(near).(*Below)
	if !ok {
		t.Fatal("this socket has no Below")
	}
	if b.NetConn() != near || b.LocalAddr() != near.LocalAddr() || b.RemoteAddr() != near.RemoteAddr() {
		t.Error("it does not tell of its socket")
	}
	b.Write([]byte("x"))
	wantRead(t, far, []byte("x"))
	b.SetDeadline(past)
	if _, err := b.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write behind its deadline: %v", err)
	}
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read behind its deadline: %v", err)
	}
	if b.pending() {
		t.Error("it keeps something")
	}
}

// Write never waits and never fails for a deadline; what is kept goes before what follows.
func TestBelowKeepsWhatHasNoRoom(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			x, b, far := belowPair(t, network)
			x.SetWriteDeadline(past)
			given := fill(t, b)
			b.SetWriteDeadline(time.Time{}) // TLS's: it changes nothing
			if err := b.flushAll(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("flushAll behind its deadline: %v", err)
			}
			b.Write([]byte("behind"))
			given = append(given, "behind"...)
			x.SetWriteDeadline(time.Time{})
			done := make(chan error, 1)
			go func() { done <- b.flushAll() }()
			wantRead(t, far, given)
			if err := <-done; err != nil || b.pending() {
				t.Errorf("flushAll: %v; pending: %t", err, b.pending())
			}
		})
	}
}

// TLS may write while somebody waits for room: it need not.
func TestBelowIsWrittenToBesideWhoWaits(t *testing.T) {
	_, b, far := belowPair(t, "tcp")
	given := fill(t, b)
	done := make(chan error, 1)
	go func() { done <- b.flushAll() }()
	waitUntil(t, "flushAll waits", func() bool { return len(b.turn) == 1 })
	for range 100 {
		b.Write([]byte("beside"))
		given = append(given, "beside"...)
	}
	wantRead(t, far, given)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A peer that has TLS answer, and reads nothing, does not make it keep ever more.
func TestBelowKeepsNoMoreThanItMay(t *testing.T) {
	_, b, _ := belowPair(t, "tcp")
	fill(t, b)
	var err error
	for i := 0; err == nil; i++ {
		if i > MaxKept {
			t.Fatal("it keeps all")
		}
		_, err = b.Write(make([]byte, 100))
	}
	if err != errFlood || b.kept.Load() > MaxKept || b.kept.Load() < MaxKept-100 {
		t.Errorf("%v with %d bytes kept, want %v with %d", err, b.kept.Load(), errFlood, MaxKept)
	}
}

// A peer that reads just as much as it has TLS answer makes the buffer no larger.
func TestBelowForgetsWhatIsSent(t *testing.T) {
	x, b, far := belowPair(t, "unix") // what is read makes room at once
	x.SetWriteDeadline(past)
	fill(t, b)
	read := make([]byte, 20_000)
	for range 400 {
		for b.kept.Load() < 100_000 {
			if _, err := b.Write(make([]byte, 270)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.ReadFull(far, read); err != nil {
			t.Fatal(err)
		}
		if err := b.flush(); err != nil {
			t.Fatal(err)
		}
		if b.rest != nil && cap(b.rest.B) > MaxKept {
			t.Fatalf("%d bytes are kept in a buffer of %d", b.kept.Load(), cap(b.rest.B))
		}
	}
	if b.sent.Load() < 4*MaxKept {
		t.Fatalf("%d kept bytes were sent: nothing was tested", b.sent.Load())
	}
}

// What begins a handshake is refused once a Transport has b, for nobody can be written to TLS
// until it is over. Nothing else is.
func TestBelowRefusesToRenegotiate(t *testing.T) {
	s := &tightSocket{room: 1 << 20}
	b := NewBelow(s).(*Below)
	hello := append([]byte{22, 3, 3, 1, 4}, testBytes(0x104)...)
	b.attach()
	if n, err := b.Write(hello); n != 0 || err != errRenegotiation {
		t.Errorf("a ClientHello: %d, %v; want %v", n, err, errRenegotiation)
	}
	var all []byte
	for _, p := range [][]byte{hello[:len(hello)-1], hello[:5], hello[:1], {}, {22, 4, 3, 0, 1, 0}, {23, 3, 3, 0, 1, 0}, {21, 3, 3, 0, 1, 0}, {22, 3, 3, 0, 2, 0}} {
		if n, err := b.Write(p); n != len(p) || err != nil {
			t.Errorf("% x: %d, %v", p, n, err)
		}
		all = append(all, p...)
	}
	if !bytes.Equal(s.got, all) {
		t.Errorf("% x came, want % x", s.got, all)
	}
}

// CloseWrite waits for room until its own time is over, whatever the session does to the write
// deadline.
func TestCloseWriteOverAFullBelow(t *testing.T) {
	x, b, far := belowPair(t, "tcp")
	given := fill(t, b)
	done := make(chan bool, 1)
	go func() { done <- x.CloseWrite() }()
	waitUntil(t, "CloseWrite waits", func() bool { return len(b.turn) == 1 })
	x.SetWriteDeadline(past)
	x.SetWriteDeadline(time.Time{})
	x.SetWriteDeadline(past)
	wantRead(t, far, append(given, lastWords...))
	if !<-done {
		t.Error("CloseWrite has not done it")
	}
}

// A tightSocket has room for so many bytes.
type tightSocket struct {
	net.Conn
	room   int
	got    []byte
	closed bool
}

func (s *tightSocket) TryWrite(p []byte) (int, error) {
	if s.closed {
		return 0, net.ErrClosed
	}
	n := min(len(p), s.room)
	s.room -= n
	s.got = append(s.got, p[:n]...)
	return n, nil
}

func (*tightSocket) ReadVec(_, _, _ []byte) (int, error) { return 0, io.EOF }

func (*tightSocket) Emulate(Emulated) {}

func (s *tightSocket) Close() error {
	s.closed = true
	return nil
}

// Close sends of what is kept what there is room for, and waits for no more of it.
func TestCloseSendsWhatIsKept(t *testing.T) {
	for _, room := range []int{0, 10, 100} {
		buffers := outstanding()
		s := &tightSocket{room: 20}
		b := NewBelow(s).(*Below)
		b.attach()
		given := testBytes(100)
		if n, err := b.Write(given); n != len(given) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		s.room = room
		if err := b.Close(); err != nil || !s.closed {
			t.Errorf("Close: %v; the socket is closed: %t", err, s.closed)
		}
		if want := given[:min(20+room, len(given))]; !bytes.Equal(s.got, want) {
			t.Errorf("with room for %d: %d bytes came, want %d", room, len(s.got), len(want))
		}
		if n, err := b.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write behind Close: %d, %v", n, err)
		}
		if err := b.flushAll(); err != nil {
			t.Errorf("flushAll of nothing: %v", err)
		}
		if n := outstanding() - buffers; n != 0 || b.pending() {
			t.Errorf("%d buffers are left; pending: %t", n, b.pending())
		}
	}
}

// A hiddenLayer does not tell what it runs over, and takes its time to close.
type hiddenLayer struct{ plainLayer }

func (*hiddenLayer) NetConn() net.Conn { return nil }

func (*hiddenLayer) Close() error {
	<-time.After(2 * farewellMax)
	return nil
}

func TestCloseOfALayerThatTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		if err := New(&hiddenLayer{plainLayer{Conn: near}}).Close(); err != nil {
			t.Error(err)
		}
	})
}

// A peer that reads nothing does not hold up Close, and Close ends who waits for room.
func TestCloseOfAFullBelowReturns(t *testing.T) {
	_, b, _ := belowPair(t, "tcp")
	fill(t, b)
	waits := make(chan error, 1)
	go func() { waits <- b.flushAll() }()
	waitUntil(t, "flushAll waits", func() bool { return len(b.turn) == 1 })
	b.Close()
	if err := <-waits; err == nil {
		t.Error("who waited was not told")
	}
	if b.pending() {
		t.Error("it keeps what can't be sent any more")
	}
}

// Whatever the vectors, deadlines and calls, every byte arrives once and in order, and what a
// call counts is what it has taken.
func TestLayerLosesNothingToDeadlines(t *testing.T) {
	for seed := range uint64(8) {
		x, _, far := belowPair(t, []string{"tcp", "unix"}[seed%2])
		r := rand.New(rand.NewPCG(seed, 0))
		all := testBytes(3 << 20)
		got := make(chan []byte, 1)
		go func() {
			r := rand.New(rand.NewPCG(seed, 1))
			var b []byte
			p := make([]byte, 100_000)
			for len(b) < len(all) {
				n, err := far.Read(p[:1+r.IntN(len(p))])
				if err != nil {
					break
				}
				b = append(b, p[:n]...)
			}
			got <- b
		}()
		var v net.Buffers
		for at := 0; at < len(all) || len(v) > 0 || x.Pending(); {
			if len(v) == 0 {
				for range 1 + r.IntN(8) {
					n := min([]int{0, 8, 1000, maxRecord, 65_535, 200_000}[r.IntN(6)], len(all)-at)
					v = append(v, all[at:at+n])
					at += n
				}
			}
			at := time.Time{}
			if r.IntN(3) > 0 {
				at = past
			}
			x.SetWriteDeadline(at)
			left := 0
			for _, p := range v {
				left += len(p)
			}
			var n int64
			var err error
			if r.IntN(2) == 0 {
				n, err = x.WriteVec(&v)
			} else {
				for len(v) > 0 && len(v[0]) == 0 {
					v = v[1:]
				}
				var p []byte
				if len(v) > 0 {
					p = v[0]
				}
				call := x.TryWrite
				if r.IntN(2) == 0 {
					call = x.Write
				}
				var m int
				m, err = call(p)
				n = int64(m)
				consume(&v, m)
			}
			if err != nil && !IsTimeout(err) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for _, p := range v {
				left -= len(p)
			}
			if int64(left) != n {
				t.Fatalf("seed %d: a call counts %d bytes and has taken %d", seed, n, left)
			}
		}
		if b := <-got; !bytes.Equal(b, all) {
			t.Fatalf("seed %d: %d bytes have come of %d, or others", seed, len(b), len(all))
		}
	}
}

// A vector goes to TLS in full records, and what fills one is not copied.
func TestLayerIsGivenFullRecords(t *testing.T) {
	for _, tt := range []struct{ sizes, want []int }{
		{[]int{100}, []int{100}},
		{[]int{keptPlain + 1}, []int{keptPlain, 1}},
		{[]int{8, 100}, []int{108}},
		{[]int{8, 65_535, 8, 1}, []int{maxRecord, 3 * maxRecord, 16}},
		{[]int{maxRecord, maxRecord + 5}, []int{maxRecord, maxRecord + 5}},
		{[]int{8, 200_000, 8}, []int{maxRecord, keptPlain, keptPlain, 3 * maxRecord, 200_016 - maxRecord - 2*keptPlain - 3*maxRecord}},
	} {
		near, far := streamPair(t, "tcp")
		b, ok := NewBelow(near).(*Below)
		if !ok {
			t.Fatal("this socket has no Below")
		}
		l := &plainLayer{Conn: b}
		x := New(l)
		x.Handshake(t.Context())
		go io.Copy(io.Discard, far)
		var v net.Buffers
		sum := 0
		for _, n := range tt.sizes {
			v = append(v, make([]byte, n))
			sum += n
		}
		lent := v[len(v)-1]
		for _, p := range v {
			if len(p) > len(lent) {
				lent = p
			}
		}
		n, err := x.WriteVec(&v)
		if n != int64(sum) || err != nil {
			t.Fatalf("%v: %d, %v", tt.sizes, n, err)
		}
		if !slices.Equal(l.sizes, tt.want) {
			t.Errorf("%v: TLS is given %v, want %v", tt.sizes, l.sizes, tt.want)
		}
		for i, n := range l.sizes {
			if n > maxRecord && !within(l.at[i], lent) {
				t.Errorf("%v: write %d is of %d bytes that were copied", tt.sizes, i, n)
			}
		}
		b.Close()
	}
}

// within reports whether at points into p.
func within(at *byte, p []byte) bool {
	for i := range p {
		if at == &p[i] {
			return true
		}
	}
	return false
}
