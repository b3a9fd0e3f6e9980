package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// ---- Ends of a connection.

func TestAllThatWasWrittenArrivesBeforeEOF(t *testing.T) {
	sizes := []int{0, 1, 19, 20, 21, 100, lendFrom - 1, lendFrom, lendFrom + 1, copyMax, copyMax + 1, 65535, 65536, 70_000, lentMax + 1, 1 << 20}
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		i := 0
		for _, size := range sizes {
			for _, slow := range []bool{false, true} {
				for _, half := range []bool{false, true} {
					for _, back := range []bool{false, true} {
						x, y := connPair(t, p, l, i)
						i++
						if back {
							x, y = y, x
						}
						what := fmt.Sprintf("%d bytes, slow reader %v, CloseWrite %v, from the acceptor %v", size, slow, half, back)
						want := testBytes(size, uint32(i))
						var r io.Reader = y
						if slow {
							r = slowReader{y}
						}
						got := readAll(r)
						if n, err := x.Write(want); n != size || err != nil {
							t.Fatalf("%s: Write: %d, %v", what, n, err)
						}
						if half {
							wantErr(t, what+": CloseWrite", x.CloseWrite(), nil)
						} else {
							wantErr(t, what+": Close", x.Close(), nil)
						}
						g := wait(t, what, got)
						wantErr(t, what, g.err, nil)
						wantBytes(t, what, g.b, want)
						if n, err := y.Read(make([]byte, 1)); n != 0 || err != io.EOF {
							t.Errorf("%s: Read after io.EOF: %d, %v", what, n, err)
						}
						x.Close()
						y.Close()
					}
				}
			}
		}
	})
}

// A slowReader lets everyone else go first, and takes little.
type slowReader struct{ r io.Reader }

func (s slowReader) Read(p []byte) (int, error) {
	for range 4 {
		runtime.Gosched()
	}
	return s.r.Read(p[:min(len(p), 1500)])
}

func TestEitherHalfMayEndFirst(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		for i, name := range []string{"the opener", "the acceptor"} {
			first, second := connPair(t, p, l, i)
			if i == 1 {
				first, second = second, first
			}
			ask, answer := testBytes(100_000, 1), testBytes(100_000, 2)
			asked := readAll(second)
			if _, err := first.Write(ask); err != nil {
				t.Fatal(err)
			}
			wantErr(t, "CloseWrite", first.CloseWrite(), nil)
			g := wait(t, name+" ends first: the question", asked)
			wantErr(t, name+" ends first: the question", g.err, nil)
			wantBytes(t, name+" ends first: the question", g.b, ask)

			answered := readAll(first)
			if _, err := second.Write(answer); err != nil {
				t.Fatal(err)
			}
			wantErr(t, "CloseWrite", second.CloseWrite(), nil)
			g = wait(t, name+" ends first: the answer", answered)
			wantErr(t, name+" ends first: the answer", g.err, nil)
			wantBytes(t, name+" ends first: the answer", g.b, answer)

			waitUntil(t, "both halves over", func() bool { return p.Stats().Conns == 0 && l.Stats().Conns == 0 })
		}
	})
}

func TestWriteAfterCloseWriteIsEPIPE(t *testing.T) {
	overTCP.withEach(t, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		wantErr(t, "CloseWrite", x.CloseWrite(), nil)
		wantErr(t, "CloseWrite again", x.CloseWrite(), nil)
		if n, err := x.Write([]byte("x")); n != 0 || !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write after CloseWrite: %d, %v; want 0, EPIPE", n, err)
		}
		if n, err := x.WriteBuffers(&net.Buffers{[]byte("x")}); n != 0 || !errors.Is(err, syscall.EPIPE) {
			t.Errorf("WriteBuffers after CloseWrite: %d, %v; want 0, EPIPE", n, err)
		}
		if _, err := y.Write([]byte("y")); err != nil {
			t.Error(err)
		}
		if n, err := x.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("Read after CloseWrite: %d, %v; want 1, nil", n, err)
		}
	})
}

func TestCloseReadDiscardsAndStallsNobody(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPairWith(t, tr, nil, &Config{MaxWindow: minMaxWindow})
		x, y := connPair(t, p, l, 1)
		wantErr(t, "CloseRead", y.CloseRead(), nil)
		if n, err := y.Read(make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read after CloseRead: %d, %v; want 0, net.ErrClosed: an end is the peer's alone", n, err)
		}
		// Far more than y could hold.
		sent := async(func() error { _, err := x.Write(make([]byte, 4<<20)); return err })
		err := wait(t, "Write to who reads no more", sent)
		if tr.one() {
			var stopped *StoppedError
			if !errors.As(err, &stopped) || stopped.Code != CodeClosed || !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write to who reads no more: %v, want a *StoppedError with CodeClosed", err)
			}
		} else {
			wantErr(t, "Write", err, nil)
		}
		if _, err := y.Write([]byte("y")); err != nil {
			t.Error(err)
		}
		if n, err := x.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("Read: %d, %v; want 1, nil", n, err)
		}
	})
}

func TestCloseTwiceIsNoError(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		for _, first := range []string{"Pipe", "Listener"} {
			p, l := sessionPair(t, tr)
			x, y := connPair(t, p, l, 1)
			for _, c := range []io.Closer{x, y, x, y} {
				wantErr(t, fmt.Sprintf("%T.Close", c), c.Close(), nil)
			}
			_, err := x.Read(make([]byte, 1))
			wantErr(t, "Read after Close", err, net.ErrClosed)
			_, err = x.Write([]byte("x"))
			wantErr(t, "Write after Close", err, net.ErrClosed)
			wantErr(t, "SetDeadline after Close", x.SetDeadline(time.Time{}), net.ErrClosed)
			if first == "Pipe" {
				wantErr(t, "Pipe.Close", p.Close(), nil)
				wantErr(t, "Pipe.Close again", p.Close(), nil)
				wantErr(t, "Pipe.Err", p.Err(), net.ErrClosed)
				_, err = p.Open(bounded(t), testAddr(2))
				wantErr(t, "Open after Close", err, net.ErrClosed)
				wait(t, "Done", p.Done())
			} else {
				wantErr(t, "Listener.Close", l.Close(), nil)
				wantErr(t, "Listener.Close again", l.Close(), nil)
				wantErr(t, "Listener.Err", l.Err(), net.ErrClosed)
				_, err = l.Accept()
				wantErr(t, "Accept after Close", err, net.ErrClosed)
				wait(t, "Done", l.Done())
			}
		}
	})
}

func TestResetEndsBothHalves(t *testing.T) {
	overTCP.withEach(t, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		read := readAll(y)
		blocked := async(func() error { _, err := x.Read(make([]byte, 1)); return err })
		waitBlocked(t, "(*conn).await", 2)
		wantErr(t, "Reset", x.Reset(300), nil)
		wantReset(t, "Read after Reset", wait(t, "Read", blocked), false)
		_, err := x.Write([]byte("x"))
		wantReset(t, "Write after Reset", err, false)
		g := wait(t, "the peer", read)
		if tr.one() {
			wantReset(t, "the peer's Read", g.err, true)
			_, err = y.Write([]byte("y"))
			wantErr(t, "the peer's Write", err, syscall.EPIPE)
		} else if len(g.b) != 0 || g.err != nil { // it is shown what Close would show
			t.Errorf("the peer reads %d bytes, %v", len(g.b), g.err)
		}
	})
}

// wantReset fails the test unless err is a *ResetError with code 300.
func wantReset(t *testing.T, what string, err error, remote bool) {
	t.Helper()
	var reset *ResetError
	if !errors.As(err, &reset) || reset.Code != 300 || reset.Remote != remote || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: %v; want a *ResetError with code 300, the peer's: %t", what, err, remote)
	}
}

// TestCutTransportIsNoEnd cuts the transport between two frames.
func TestCutTransportIsNoEnd(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		a, b := tr.dial(t)
		p, err := NewPipe(a, tr.config(nil))
		if err != nil {
			t.Fatal(err)
		}
		l, err := NewListener(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closeBoth(p, l)
		finished, y1 := connPair(t, p, l, 1)
		unfinished, y2 := connPair(t, p, l, 2)
		waiting, _ := connPair(t, p, l, 3)

		want := testBytes(60_000, 1) // within the initial window
		for _, c := range []*Conn{y1, y2} {
			if _, err := c.Write(want); err != nil {
				t.Fatal(err)
			}
		}
		wantErr(t, "CloseWrite", y1.CloseWrite(), nil)
		blocked := async(func() error { _, err := waiting.Read(make([]byte, 1)); return err })
		waitUntil(t, "everything received", func() bool {
			return p.Stats().PayloadIn == uint64(2*len(want)) && finished.c.flags.Load()&flagReadOver != 0
		})
		b.Close()

		wantCut(t, "blocked Read", wait(t, "blocked Read", blocked))
		wait(t, "Done", p.Done())
		for _, c := range []*Conn{finished, unfinished} {
			got := make([]byte, len(want))
			n, err := io.ReadFull(c, got)
			wantErr(t, "Read of what came before", err, nil)
			wantBytes(t, "what came before", got[:n], want)
		}
		for range 2 {
			if n, err := finished.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read of the finished connection: %d, %v; want 0, io.EOF", n, err)
			}
			_, err = unfinished.Read(make([]byte, 1))
			wantCut(t, "Read of the unfinished connection", err)
			_, err = unfinished.WriteTo(io.Discard)
			wantCut(t, "WriteTo of the unfinished connection", err)
			_, err = finished.Write([]byte("x"))
			wantCut(t, "Write", err)
		}
		_, err = p.Open(bounded(t), testAddr(4))
		wantCut(t, "Open", err)
		wantCut(t, "Err", p.Err())
	})
}

// TestCutFrameIsNoEnd cuts the transport inside a frame, at each byte.
func TestCutFrameIsNoEnd(t *testing.T) {
	open := make([]byte, wire.VTHeaderLen)
	wire.PutVTHeader(open, testAddr(1), 0)
	data := make([]byte, wire.VTHeaderLen, wire.VTHeaderLen+10)
	wire.PutVTHeader(data, testAddr(1), 10)
	data = append(data, "0123456789"...)
	for cut := 1; cut < len(data); cut++ {
		a, b := net.Pipe()
		l, err := NewListener(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		a.Write(open)
		y, err := l.AcceptConn(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		got := readAll(y)
		a.Write(data[:cut])
		a.Close()
		g := wait(t, "Read", got)
		wantCut(t, fmt.Sprintf("cut after %d bytes: Read", cut), g.err)
		wantBytes(t, "what came before the cut", g.b, data[wire.VTHeaderLen:max(cut, wire.VTHeaderLen)])
		_, err = l.Accept()
		wantCut(t, fmt.Sprintf("cut after %d bytes: Accept", cut), err)
		y.Close()
		l.Close()
	}
}

// wantCut fails the test unless err tells of a cut, and can't be taken for an end.
func wantCut(t *testing.T, what string, err error) {
	t.Helper()
	var te *TransportError
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || !errors.As(err, &te) {
		t.Errorf("%s: %v; want a *TransportError with io.ErrUnexpectedEOF", what, err)
	}
}

// ---- Calls that wait.

func TestCloseEndsBlockedRead(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		ends := map[string]func(x *Conn) error{
			"Conn.Close": func(x *Conn) error { return x.Close() },
			"Pipe.Close": func(*Conn) error { return p.Close() },
		}
		for i, name := range []string{"Conn.Close", "Pipe.Close"} {
			x, _ := connPair(t, p, l, i)
			read := async(func() error { _, err := x.Read(make([]byte, 1)); return err })
			writeTo := async(func() error { _, err := x.WriteTo(io.Discard); return err })
			waitBlocked(t, "(*conn).await", 2)
			wantErr(t, name, ends[name](x), nil)
			wantErr(t, name+": Read", wait(t, "Read", read), net.ErrClosed)
			wantErr(t, name+": WriteTo", wait(t, "WriteTo", writeTo), net.ErrClosed)
		}
	})
}

// A stalled session is one that sends nothing more. The writer of x is blocked, and
// other is open and unused.
type stalled struct {
	p       *Pipe
	peer    io.Closer
	x       *Conn
	other   *Conn
	written <-chan error
}

// stall is a session whose peer's application does not read. With protocol 1 x has
// used up its window, and with vt-muxer's the transport is full.
func stall(t *testing.T, tr transport) stalled {
	t.Helper()
	p, l := sessionPairWith(t, tr.narrow(), nil, &Config{MaxWindow: minMaxWindow})
	st := stalled{p: p, peer: l}
	st.x, _ = connPair(t, p, l, 1)
	st.other, _ = connPair(t, p, l, 2)
	st.fill(t)
	return st
}

// stallTransport is a session whose peer does not read the transport, which is full.
func stallTransport(t *testing.T, tr transport) (st stalled) {
	t.Helper()
	p, far := rawPair(t, tr.narrow())
	st = stalled{p: p, peer: far}
	for i, c := range []**Conn{&st.x, &st.other} {
		var err error
		if *c, err = p.Open(bounded(t), testAddr(1+i)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { st.x.Close(); st.other.Close() })
	waitUntil(t, "the opens", func() bool { return p.Stats().BytesOut >= 2*wire.VTHeaderLen })
	st.fill(t)
	return st
}

// rawPair is a Pipe and the other end of its transport, which has said what a peer
// must say first, allows everything, and reads only the first bytes.
func rawPair(t *testing.T, tr transport) (*Pipe, net.Conn) {
	t.Helper()
	near, far := tr.dial(t)
	p, err := NewPipe(near, tr.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBoth(p, far) })
	go io.CopyN(io.Discard, far, 50_000)
	if tr.one() {
		preface := make([]byte, wire.PrefaceFrameLen)
		wire.PutPreface(preface, wire.Settings{Version: 1, InitialWindow: 1 << 30, MaxConns: 1 << 20, MaxPayload: wire.MaxPayload})
		if _, err := far.Write(preface); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the peer's preface", func() bool { return p.Stats().BytesIn > 0 })
	}
	return p, far
}

// fill writes to x until that blocks.
func (st *stalled) fill(t *testing.T) {
	t.Helper()
	st.written = async(func() error { return writeUntilError(st.x, 64<<10) })
	waitStuck(t, st.p)
}

// waitStuck waits until the session sends nothing more though a Write is blocked.
func waitStuck(t *testing.T, p *Pipe) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	quiet := 0
	last := uint64(0)
	waitUntil(t, "a stalled transport", func() bool {
		<-tick.C
		if now := p.Stats().BytesOut; now != last || now == 0 {
			last, quiet = now, 0
		} else {
			quiet++
		}
		return quiet >= 20
	})
}

func TestCloseEndsBlockedWrite(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		for _, name := range []string{"Conn.Close", "Conn.CloseWrite", "Pipe.Close"} {
			t.Run(name, func(t *testing.T) { closeEndsBlockedWrite(t, stall(t, tr), name) })
			t.Run(name+", transport full", func(t *testing.T) { closeEndsBlockedWrite(t, stallTransport(t, tr), name) })
		}
	})
}

func closeEndsBlockedWrite(t *testing.T, st stalled, name string) {
	second := async(func() error { _, err := st.other.Write(make([]byte, 1<<20)); return err })
	start := time.Now()
	want := net.ErrClosed
	switch name {
	case "Conn.Close":
		wantErr(t, name, st.x.Close(), nil)
		wantErr(t, name, st.other.Close(), nil)
	case "Conn.CloseWrite":
		want = syscall.EPIPE
		wantErr(t, name, st.x.CloseWrite(), nil)
		wantErr(t, name, st.other.CloseWrite(), nil)
	case "Pipe.Close":
		wantErr(t, name, st.p.Close(), nil)
	}
	wantErr(t, name+": Write", wait(t, "Write", st.written), want)
	wantErr(t, name+": Write of another", wait(t, "Write of another", second), want)
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("%s: the Writes took %v to return", name, d)
	}
	closeBoth(st.p, st.peer)
}

func TestBlockedOpenEnds(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		st := stallTransport(t, tr)
		p := st.p
		// Opens block once the staging buffer is full. Some go to a goroutine each.
		ctx, cancel := context.WithCancel(bounded(t))
		defer cancel()
		var opened []*Conn
		results := make(chan error, 2)
		fill := func(ctx context.Context) {
			for i := len(opened); ; i++ {
				x, err := p.Open(ctx, testAddr(10+i))
				if err != nil {
					results <- err
					return
				}
				opened = append(opened, x)
			}
		}
		go fill(ctx)
		waitStuckOpen(t)
		cancel()
		wantErr(t, "Open after cancel", wait(t, "Open", results), context.Canceled)
		go fill(context.Background())
		waitStuckOpen(t)
		closed := async(p.Close)
		wantErr(t, "Open after Close", wait(t, "Open", results), net.ErrClosed)
		wantErr(t, "Close", wait(t, "Close", closed), nil)
		runtime.KeepAlive(opened)
	})
}

// waitStuckOpen waits until an Open waits for room.
func waitStuckOpen(t *testing.T) {
	t.Helper()
	waitUntil(t, "a blocked Open", func() bool {
		for stack := range bytes.SplitSeq(allStacks(), []byte("\n\n")) {
			if bytes.Contains(stack, []byte("mux.(*session).open(")) && bytes.Contains(stack, []byte("park.(*Spot).Park")) {
				return true
			}
		}
		return false
	})
}

func TestCloseEndsBlockedAccept(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		var accepts []<-chan error
		for range 3 {
			accepts = append(accepts, async(func() error { _, err := l.Accept(); return err }))
		}
		waitBlocked(t, "(*session).awaitAccept", 3)
		if tr.one() { // a socket that is closed with a preface unread is reset
			waitUntil(t, "both prefaces", func() bool { return p.s.isSettled() && l.s.isSettled() })
		}
		wantErr(t, "Close", l.Close(), nil)
		for _, a := range accepts {
			wantErr(t, "Accept", wait(t, "Accept", a), net.ErrClosed)
		}
		wait(t, "the peer's end", p.Done())
		if !errors.Is(p.Err(), io.EOF) {
			t.Errorf("the peer's Err: %v; want io.EOF, since no connection was open", p.Err())
		}
	})
}

// wantGoAway fails the test unless err is that of a session that the peer has ended
// with code.
func wantGoAway(t *testing.T, what string, err error, code Code) {
	t.Helper()
	var gone *GoAwayError
	if !errors.As(err, &gone) || gone.Code != code || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Errorf("%s: %v; want a *GoAwayError with code %d", what, err, code)
	}
}

func TestAcceptEndsWithItsContext(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		for i := range 50 {
			ctx, cancel := context.WithCancel(context.Background())
			accept := async(func() error { _, err := l.AcceptConn(ctx); return err })
			if i < 3 {
				waitBlocked(t, "(*session).awaitAccept", 1)
			}
			cancel()
			wantErr(t, "AcceptConn", wait(t, "AcceptConn", accept), context.Canceled)
		}
		// One that was given up takes no connection with it.
		for i := range 200 {
			ctx, cancel := context.WithCancel(context.Background())
			type result struct {
				c   *Conn
				err error
			}
			accepted := make(chan result, 1)
			go func() { c, err := l.AcceptConn(ctx); accepted <- result{c, err} }()
			x, err := p.Open(bounded(t), testAddr(i))
			if err != nil {
				t.Fatal(err)
			}
			for range rand.IntN(40) {
				runtime.Gosched()
			}
			cancel()
			r := wait(t, "AcceptConn", accepted)
			if r.err != nil {
				wantErr(t, "AcceptConn", r.err, context.Canceled)
				if r.c, err = l.AcceptConn(bounded(t)); err != nil {
					t.Fatalf("the connection is lost after a canceled AcceptConn: %v", err)
				}
			}
			if r.c.Addr() != x.Addr() {
				t.Fatalf("accepted %v, want %v", r.c.Addr(), x.Addr())
			}
			x.Close()
			r.c.Close()
		}
	})
}

// TestCloseEndsAllBlockedCalls has 10,000 connections with a blocked Read and a
// blocked Write each.
func TestCloseEndsAllBlockedCalls(t *testing.T) {
	overTCP.withEach(t, closeEndsAllBlockedCalls)
}

func closeEndsAllBlockedCalls(t *testing.T, tr transport) {
	n := 10_000
	if raceEnabled {
		n = 2_000 // the race detector takes no more than 8,128 goroutines
	}
	p, _ := rawPair(t, tr)
	xs := make([]*Conn, n)
	ctx := bounded(t)
	for i := range xs {
		var err error
		if xs[i], err = p.Open(ctx, testAddr(i)); err != nil {
			t.Fatal(err)
		}
	}
	errs := make(chan error, 2*n)
	go func() { errs <- writeUntilError(xs[0], 64<<10) }()
	waitStuck(t, p)
	for i, x := range xs {
		go func() { _, err := x.Read(make([]byte, 1)); errs <- err }()
		if i > 0 {
			go func() { errs <- writeUntilError(x, 100) }()
		}
	}
	waitBlocked(t, "(*conn).await", n)
	waitBlocked(t, "(*conn).write", n)
	start := time.Now()
	closed := async(p.Close)
	for range 2 * n {
		if err := wait(t, "the blocked calls", errs); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a blocked call returned %v, want net.ErrClosed", err)
		}
	}
	wantErr(t, "Close", wait(t, "Close", closed), nil)
	t.Logf("Close and %d blocked calls took %v", 2*n, time.Since(start))
	runtime.KeepAlive(xs)
}

func writeUntilError(c *Conn, size int) error {
	for buf := make([]byte, size); ; {
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
}

// ---- Deadlines.

func TestPastDeadlineFailsAtOnce(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		if _, err := x.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 8)
		if n, err := y.Read(buf[:1]); n != 1 || err != nil {
			t.Fatalf("Read: %d, %v", n, err)
		}
		// Bytes are there, but the deadline goes first.
		y.SetReadDeadline(time.Now().Add(-time.Hour))
		n, err := y.Read(buf)
		wantTimeout(t, "Read", n, err)
		n64, err := y.WriteTo(io.Discard)
		wantTimeout(t, "WriteTo", int(n64), err)
		y.SetWriteDeadline(time.Unix(0, 1))
		for _, size := range []int{1, 1 << 20} {
			n, err = y.Write(make([]byte, size))
			wantTimeout(t, "Write", n, err)
		}
		n64, err = y.WriteBuffers(&net.Buffers{[]byte("x")})
		wantTimeout(t, "WriteBuffers", int(n64), err)

		y.SetDeadline(time.Time{})
		if n, err := io.ReadFull(y, buf[:2]); n != 2 || err != nil || string(buf[:2]) != "bc" {
			t.Errorf("Read without a deadline: %q, %v; want bc", buf[:n], err)
		}
		if _, err := y.Write([]byte("z")); err != nil {
			t.Fatal(err)
		}
		if n, err := x.Read(buf); n != 1 || err != nil || buf[0] != 'z' {
			t.Errorf("the peer reads %q, %v; want z, as nothing else was written", buf[:n], err)
		}
	})
}

func wantTimeout(t *testing.T, what string, n int, err error) {
	t.Helper()
	var ne net.Error
	if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("%s: %d, %v; want 0 and a timeout", what, n, err)
	}
}

func TestReadDeadlineLosesNoByte(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		want := testBytes(2<<20, 1)
		sent := async(func() error {
			rng := rand.New(rand.NewPCG(1, 1))
			for p := want; len(p) > 0; {
				n, err := x.Write(p[:min(len(p), 1+rng.IntN(20_000))])
				if err != nil {
					return err
				}
				p = p[n:]
				if rng.IntN(4) == 0 {
					runtime.Gosched()
				}
			}
			return x.CloseWrite()
		})
		type result struct {
			b        []byte
			timeouts int
			err      error
		}
		done := make(chan result, 1)
		go func() {
			rng := rand.New(rand.NewPCG(2, 2))
			var r result
			buf := make([]byte, 16<<10)
			for r.err == nil {
				y.SetReadDeadline(time.Now().Add(time.Duration(rng.IntN(300)) * time.Microsecond))
				var n int
				n, r.err = y.Read(buf[:1+rng.IntN(len(buf))])
				r.b = append(r.b, buf[:n]...)
				if errors.Is(r.err, os.ErrDeadlineExceeded) {
					if n != 0 {
						break
					}
					r.err = nil
					r.timeouts++
				}
			}
			done <- r
		}()
		wantErr(t, "Write", wait(t, "Write", sent), nil)
		r := wait(t, "Read", done)
		if r.err != io.EOF {
			t.Errorf("Read: %v, want io.EOF", r.err)
		}
		wantBytes(t, fmt.Sprintf("with %d timeouts", r.timeouts), r.b, want)
	})
}

// TestWriteDeadlineLosesNoByte sends again what a Write did not take. The slice is
// overwritten as soon as Write has returned, timed out or not.
func TestWriteDeadlineLosesNoByte(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPairWith(t, tr.narrow(), nil, &Config{MaxWindow: minMaxWindow})
		x, y := connPair(t, p, l, 1)
		want := testBytes(4<<20, 1)
		timeouts := 0
		sent := async(func() error {
			rng := rand.New(rand.NewPCG(3, 3))
			buf := make([]byte, 400_000)
			for rest := want; len(rest) > 0; {
				size := 1 + rng.IntN(len(buf))
				if rng.IntN(2) == 0 {
					size = 1 + rng.IntN(10_000)
				}
				b := buf[:copy(buf[:size], rest)]
				x.SetWriteDeadline(time.Now().Add(time.Duration(rng.IntN(2000)) * time.Microsecond))
				n, err := x.Write(b)
				clear(b)
				switch {
				case errors.Is(err, os.ErrDeadlineExceeded):
					timeouts++
				case err != nil:
					return err
				case n != len(b):
					return fmt.Errorf("Write took %d of %d bytes and returned nil", n, len(b))
				}
				rest = rest[n:]
			}
			return x.CloseWrite()
		})
		got := readAll(pausingReader{y})
		wantErr(t, "Write", wait(t, "Write", sent), nil)
		g := wait(t, "Read", got)
		wantErr(t, "Read", g.err, nil)
		wantBytes(t, fmt.Sprintf("with %d timeouts", timeouts), g.b, want)
		t.Logf("%d Writes timed out", timeouts)
		if timeouts == 0 {
			t.Error("no Write timed out, so nothing was shown")
		}
	})
}

// A pausingReader reads in bursts, with pauses of a few milliseconds.
type pausingReader struct{ r io.Reader }

func (s pausingReader) Read(p []byte) (int, error) {
	if rand.IntN(15) == 0 {
		<-time.After(4 * time.Millisecond)
	}
	return s.r.Read(p[:min(len(p), 8<<10)])
}

func TestDeadlineOfOneLeaderDisturbsNoOther(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		hasty, _ := connPair(t, p, l, 1)
		patient, y := connPair(t, p, l, 2)
		stop := make(chan struct{})
		hurried := async(func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				hasty.SetReadDeadline(time.Now().Add(50 * time.Microsecond))
				if _, err := hasty.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					return fmt.Errorf("Read with a deadline: %v", err)
				}
			}
		})
		want := testBytes(1000, 1)
		served := async(func() error {
			got := make([]byte, len(want))
			for range 1000 {
				if _, err := y.Write(want); err != nil {
					return err
				}
				if _, err := io.ReadFull(patient, got); err != nil {
					return err
				}
				if !bytes.Equal(got, want) {
					return errors.New("other bytes than were sent")
				}
			}
			return nil
		})
		wantErr(t, "the connection without a deadline", wait(t, "the connection without a deadline", served), nil)
		close(stop)
		wantErr(t, "the connection with deadlines", wait(t, "the connection with deadlines", hurried), nil)
	})
}

// ---- What a Write promises.

func TestSliceIsTheCallersAfterWrite(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		sizes := []int{1, 100, lendFrom - 1, lendFrom, 40_000, 65_535, 65_536, 300_000}
		var want []byte
		for i, size := range sizes {
			want = append(want, testBytes(size, uint32(i))...)
		}
		const rounds = 5
		sent := async(func() error {
			buf := make([]byte, 300_000)
			for range rounds {
				for i, size := range sizes {
					p := buf[:copy(buf, testBytes(size, uint32(i)))]
					if _, err := x.Write(p); err != nil {
						return err
					}
					clear(p)
				}
			}
			return x.CloseWrite()
		})
		got := readAll(y)
		wantErr(t, "Write", wait(t, "Write", sent), nil)
		g := wait(t, "Read", got)
		wantErr(t, "Read", g.err, nil)
		wantBytes(t, "what was written", g.b, bytes.Repeat(want, rounds))
	})
}

func TestEachWriteIsContiguous(t *testing.T) {
	const writers, each = 8, 60
	overEach(t, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		var wg sync.WaitGroup
		errs := make(chan error, writers)
		for w := range writers {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 4))
				for range each {
					// A message: its length in four bytes, then the writer's number, all over.
					size := 1 + rng.IntN(300)
					if rng.IntN(4) == 0 {
						size = 1 + rng.IntN(150_000)
					}
					p := bytes.Repeat([]byte{byte(w)}, 4+size)
					binary.BigEndian.PutUint32(p, uint32(size))
					var err error
					if rng.IntN(2) == 0 {
						_, err = x.Write(p)
					} else {
						_, err = x.WriteBuffers(&net.Buffers{p[:4], p[4 : 4+size/2], p[4+size/2:]})
					}
					if err != nil {
						errs <- err
						return
					}
				}
			})
		}
		read := async(func() error {
			counts := make([]int, writers)
			for range writers * each {
				var head [4]byte
				if _, err := io.ReadFull(y, head[:]); err != nil {
					return err
				}
				size := binary.BigEndian.Uint32(head[:])
				if size > 150_000 {
					return fmt.Errorf("a message of %d bytes: its length belongs to another Write", size)
				}
				p := make([]byte, size)
				if _, err := io.ReadFull(y, p); err != nil {
					return err
				}
				if n := bytes.Count(p, p[:1]); n != len(p) {
					return fmt.Errorf("a message of writer %d has %d of another's bytes", p[0], len(p)-n)
				}
				counts[p[0]]++
			}
			for w, n := range counts {
				if n != each {
					return fmt.Errorf("%d messages of writer %d, want %d", n, w, each)
				}
			}
			return nil
		})
		wantErr(t, "Read", wait(t, "Read", read), nil)
		wg.Wait()
		close(errs)
		for err := range errs {
			t.Error(err)
		}
	})
}

// ---- Copying.

// TestCopyBetweenSocketsAndConnections relays as a proxy does: socket to
// connection to socket, both ways at once.
func TestCopyBetweenSocketsAndConnections(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		client, edge := tcpPair(t)
		origin, backend := tcpPair(t)
		for _, c := range []net.Conn{client, edge, origin, backend} {
			defer c.Close()
		}
		copyAndClose := func(dst, src net.Conn) <-chan error {
			return async(func() error {
				_, err := io.Copy(dst, src)
				return errors.Join(err, dst.(interface{ CloseWrite() error }).CloseWrite())
			})
		}
		relays := []<-chan error{
			copyAndClose(x, edge),   // ReadFrom
			copyAndClose(edge, x),   // WriteTo
			copyAndClose(origin, y), // WriteTo
			copyAndClose(y, origin), // ReadFrom
		}
		up, down := testBytes(5_000_000, 1), testBytes(5_000_001, 2)
		send := func(c net.Conn, p []byte) <-chan error {
			return async(func() error {
				_, err := c.Write(p)
				return errors.Join(err, c.(*net.TCPConn).CloseWrite())
			})
		}
		atBackend, atClient := readAll(backend), readAll(client)
		sends := []<-chan error{send(client, up), send(backend, down)}
		for _, done := range append(sends, relays...) {
			wantErr(t, "relay", wait(t, "relay", done), nil)
		}
		g := wait(t, "backend", atBackend)
		wantErr(t, "backend", g.err, nil)
		wantBytes(t, "at the backend", g.b, up)
		g = wait(t, "client", atClient)
		wantErr(t, "client", g.err, nil)
		wantBytes(t, "at the client", g.b, down)
	})
}

func TestReadFromAndWriteToBuffers(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		want := testBytes(3_000_000, 1)
		sent := async(func() error {
			n, err := x.ReadFrom(onlyReader{bytes.NewReader(want)})
			if err == nil && n != int64(len(want)) {
				err = fmt.Errorf("ReadFrom returned %d of %d", n, len(want))
			}
			return errors.Join(err, x.CloseWrite())
		})
		var got bytes.Buffer
		received := async(func() error {
			n, err := y.WriteTo(&got)
			if err == nil && n != int64(len(want)) {
				err = fmt.Errorf("WriteTo returned %d of %d", n, len(want))
			}
			return err
		})
		wantErr(t, "ReadFrom", wait(t, "ReadFrom", sent), nil)
		wantErr(t, "WriteTo", wait(t, "WriteTo", received), nil)
		wantBytes(t, "copied", got.Bytes(), want)
	})
}

// onlyReader hides WriteTo, which io.Copy would prefer.
type onlyReader struct{ io.Reader }

// ---- Much at once.

// TestBothEndsWriteBeforeTheyRead has nobody read until all is written.
func TestBothEndsWriteBeforeTheyRead(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		const n, size = 4, 3 << 20
		cfg := &Config{InitialWindow: size}
		p, l := sessionPairWith(t, tr, cfg, cfg)
		var done []<-chan error
		for i := range n {
			x, y := connPair(t, p, l, i)
			for j, c := range []*Conn{x, y} {
				out, in := testBytes(size, uint32(2*i+j)), testBytes(size, uint32(2*i+1-j))
				done = append(done, async(func() error {
					if _, err := c.Write(out); err != nil {
						return err
					}
					got := make([]byte, size)
					if _, err := io.ReadFull(c, got); err != nil {
						return err
					}
					if !bytes.Equal(got, in) {
						return errors.New("other bytes than were sent")
					}
					return nil
				}))
			}
		}
		for _, d := range done {
			wantErr(t, "write, then read", wait(t, "write, then read", d), nil)
		}
	})
}

// TestBulkBothWaysWithSmallWindows has both ends write and read at once, far more
// than anyone may hold.
func TestBulkBothWaysWithSmallWindows(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		cfg := &Config{MaxWindow: minMaxWindow}
		p, l := sessionPairWith(t, tr, cfg, cfg)
		const n, size = 4, 3 << 20
		var done []<-chan error
		for i := range n {
			x, y := connPair(t, p, l, i)
			for j, c := range []*Conn{x, y} {
				out, in := testBytes(size, uint32(2*i+j)), testBytes(size, uint32(2*i+1-j))
				done = append(done, async(func() error {
					if _, err := c.Write(out); err != nil {
						return err
					}
					return c.CloseWrite()
				}), async(func() error {
					got, err := io.ReadAll(c)
					if err == nil && !bytes.Equal(got, in) {
						err = errors.New("other bytes than were sent")
					}
					return err
				}))
			}
		}
		for _, d := range done {
			wantErr(t, "bulk", wait(t, "bulk", d), nil)
		}
	})
}

// ---- Addresses and limits.

// In protocol 1 addresses are always free: TestOneAddressManyTimes.
func TestAddressIsFreeWhenBothEndsHaveEnded(t *testing.T) {
	overEachOf(t, ProtocolVT, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		inUse := func(when string) {
			t.Helper()
			_, err := p.Open(bounded(t), testAddr(1))
			wantErr(t, "Open "+when, err, ErrAddrInUse)
		}
		for i := range 100 {
			var x *Conn
			waitUntil(t, "a free address", func() bool {
				var err error
				x, err = p.Open(bounded(t), testAddr(1))
				if err != nil && !errors.Is(err, ErrAddrInUse) {
					t.Fatal(err)
				}
				return err == nil
			})
			y, err := l.AcceptConn(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			want := testBytes(100, uint32(i))
			if _, err := x.Write(want); err != nil {
				t.Fatal(err)
			}
			inUse("while both ends are open")
			if i%2 == 0 {
				x.Close()
				inUse("while the acceptor has not ended")
			} else {
				x.CloseWrite()
			}
			g := wait(t, "Read", readAll(y))
			wantErr(t, "Read", g.err, nil)
			wantBytes(t, "bytes of this connection", g.b, want)
			inUse("while the acceptor has not ended")
			y.Close()
			x.Close()
		}
	})
}

func TestOpensBeyondTheBacklogAreRefused(t *testing.T) {
	overTCP.withEach(t, opensBeyondTheBacklogAreRefused)
}

func opensBeyondTheBacklogAreRefused(t *testing.T, tr transport) {
	const backlog, n = 4, 10
	p, l := sessionPairWith(t, tr, nil, &Config{AcceptBacklog: backlog})
	x, y := connPair(t, p, l, 100)
	var opened []*Conn
	for i := range n {
		c, err := p.Open(bounded(t), testAddr(i))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		opened = append(opened, c)
		if _, err := c.Write([]byte("hello")); err != nil && !errors.Is(err, ErrRefused) { // the answer may be here already
			t.Fatal(err)
		}
	}
	exchange(t, x, y) // nobody is held up
	if got := l.Stats().Refused; got != n-backlog {
		t.Errorf("%d connections refused, want %d", got, n-backlog)
	}
	for _, c := range opened[backlog:] {
		wantRefused(t, tr, c, CodeBacklog)
	}
	for i := range backlog {
		c, err := l.AcceptConn(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.Addr() != testAddr(i) {
			t.Errorf("accepted %v, want %v: the oldest goes first", c.Addr(), testAddr(i))
		}
		exchangeHello(t, c)
	}
}

// wantRefused fails the test unless c's calls tell that the peer has refused it,
// as far as the protocol can say so. It returns the error, if there is one.
func wantRefused(t *testing.T, tr transport, c *Conn, code Code) *RefusedError {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	if !tr.one() {
		if n != 0 || err != io.EOF {
			t.Errorf("Read of a refused connection: %d, %v; want 0, io.EOF", n, err)
		}
		return nil
	}
	_, werr := c.Write([]byte("x"))
	var refused *RefusedError
	for _, err := range []error{err, werr} {
		if !errors.As(err, &refused) || refused.Code != code || !errors.Is(err, ErrRefused) {
			t.Errorf("a refused connection: %v; want a *RefusedError with code %d", err, code)
		}
	}
	return refused
}

func exchangeHello(t *testing.T, c *Conn) {
	t.Helper()
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("Read: %q, %v; want hello", got, err)
	}
}

func TestMaxConnsBoundsOpens(t *testing.T) {
	overTCP.withEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPairWith(t, tr, &Config{MaxConns: 3}, nil)
		var xs, ys [3]*Conn
		for i := range xs {
			xs[i], ys[i] = connPair(t, p, l, i)
		}
		_, err := p.Open(bounded(t), testAddr(9))
		wantErr(t, "Open at MaxConns", err, ErrTooManyConns)
		xs[1].CloseWrite()
		_, err = p.Open(bounded(t), testAddr(9))
		wantErr(t, "Open while the peer has not ended", err, ErrTooManyConns)
		ys[1].Close()
		waitUntil(t, "the end of one", func() bool { return p.Stats().Conns == 2 })
		xs[1].Close()
		connPair(t, p, l, 9)
		exchange(t, xs[0], ys[0])
	})
}

// With protocol 1 they are refused: TestOpensBeyondMaxConnsAreRefused.
func TestPeerBeyondMaxConnsEndsTheSession(t *testing.T) {
	p, l := sessionPairWith(t, overTCP.speaking(ProtocolVT), nil, &Config{MaxConns: 3})
	x, y := connPair(t, p, l, 0)
	for i := range 3 {
		c, err := p.Open(bounded(t), testAddr(1+i))
		if err != nil && i == 2 {
			break // the session had ended by the time that Open returned
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	wait(t, "Done", l.Done())
	wantErr(t, "Err", l.Err(), ErrTooManyConns)
	wantErr(t, "Err", l.Err(), ErrProtocol)
	_, err := y.Read(make([]byte, 1))
	wantErr(t, "Read", err, ErrProtocol)
	if _, err = x.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the peer's Read: %v; want an error that is no clean end", err)
	}
}

// ---- Pending, dropped, shut down.

func TestRejectedConnectionEndsAtTheOpener(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		for i, reject := range []bool{true, false, true} {
			x, err := p.Open(bounded(t), testAddr(i))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			pending, err := l.AcceptPending(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			if pending.Addr() != testAddr(i) || len(pending.Metadata()) != 0 {
				t.Errorf("pending %v with %q, want %v and no metadata", pending.Addr(), pending.Metadata(), testAddr(i))
			}
			if reject {
				wantErr(t, "Reject", pending.Reject(300, "no"), nil)
				if refused := wantRefused(t, tr, x, 300); refused != nil && refused.Reason != "no" {
					t.Errorf("the reason is %q, want no", refused.Reason)
				}
			} else {
				y, err := pending.Accept()
				if err != nil {
					t.Fatal(err)
				}
				exchangeHello(t, y)
				exchange(t, x, y)
				y.Close()
			}
			x.Close()
		}
		waitUntil(t, "all ended", func() bool { return p.Stats().Conns == 0 && l.Stats().Conns == 0 })
		if got := l.Stats().Refused; got != 2 {
			t.Errorf("%d refused, want 2", got)
		}
	})
}

func TestOpenTowardsAPipeIsRefused(t *testing.T) {
	overTCP.withEach(t, func(t *testing.T, tr transport) {
		// A vt-muxer Pipe that has opened nothing does not show what it speaks.
		p, l := sessionPairWith(t, tr, nil, tr.config(nil))
		y, err := l.Open(bounded(t), testAddr(1))
		if err != nil {
			t.Fatal(err)
		}
		defer y.Close()
		wantRefused(t, tr, y, CodeNotAccepting)
		if got := p.Stats().Refused; got != 1 {
			t.Errorf("%d refused, want 1", got)
		}
	})
}

func TestDroppedConnIsClosedAndCounted(t *testing.T) {
	overTCP.withEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		y := openAndDrop(t, p, l)
		got := readAll(y)
		waitUntil(t, "the runtime's cleanup", func() bool { runtime.GC(); return p.Stats().Dropped == 1 })
		g := wait(t, "Read", got)
		wantErr(t, "Read", g.err, nil)
		wantBytes(t, "what was written before", g.b, []byte("hello"))
		y.Close()
		waitUntil(t, "the end", func() bool { return p.Stats().Conns == 0 })
		if got := l.Stats().Dropped; got != 0 {
			t.Errorf("%d dropped at the end that called Close, want 0", got)
		}
	})
}

//go:noinline
func openAndDrop(t *testing.T, p *Pipe, l *Listener) *Conn {
	x, err := p.Open(bounded(t), testAddr(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	y, err := l.AcceptConn(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// TestBlockedReadKeepsItsConn has a Conn reachable from a pending call alone.
func TestBlockedReadKeepsItsConn(t *testing.T) {
	overTCP.withEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		x, err := p.Open(bounded(t), testAddr(1))
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func(x *Conn) { _, err := x.Read(make([]byte, 1)); got <- err }(x)
		y, err := l.AcceptConn(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		defer y.Close()
		waitBlocked(t, "(*conn).await", 1)
		for range 5 {
			runtime.GC()
		}
		if _, err := y.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "Read", wait(t, "Read", got), nil)
	})
}

func TestShutdownWaitsForConnections(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		x, y := connPair(t, p, l, 1)
		accept := async(func() error {
			for {
				c, err := l.Accept() // an Open may have been before Shutdown
				if err != nil {
					return err
				}
				c.Close()
			}
		})
		shut := async(func() error { return p.Shutdown(bounded(t)) })
		waitUntil(t, "Shutdown's begin", p.s.draining.Load)
		_, err := p.Open(bounded(t), testAddr(2))
		wantErr(t, "Open", err, ErrDraining)
		want := testBytes(1<<20, 1)
		got := readAll(y)
		if _, err := x.Write(want); err != nil {
			t.Fatal(err)
		}
		x.CloseWrite()
		g := wait(t, "Read", got)
		wantErr(t, "Read", g.err, nil)
		wantBytes(t, "written during Shutdown", g.b, want)
		select {
		case err := <-shut:
			t.Fatalf("Shutdown returned %v before the peer has ended its half", err)
		default:
		}
		y.Close()
		wantErr(t, "Shutdown", wait(t, "Shutdown", shut), nil)
		wait(t, "the peer's Done", l.Done())
		wantErr(t, "the peer's Accept", wait(t, "the peer's Accept", accept), io.EOF)
		wantErr(t, "Err", p.Err(), net.ErrClosed)
	})
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		x, y := connPair(t, p, l, 1)
		ctx, cancel := context.WithCancel(context.Background())
		shut := async(func() error { return l.Shutdown(ctx) })
		cancel()
		wantErr(t, "Shutdown", wait(t, "Shutdown", shut), context.Canceled)
		_, err := y.Read(make([]byte, 1))
		wantErr(t, "Read", err, net.ErrClosed)
		_, err = x.Read(make([]byte, 1))
		if tr.one() {
			wantGoAway(t, "the peer's Read", err, CodeClosed)
		} else {
			wantCut(t, "the peer's Read", err)
		}
	})
}

func TestAddressesOfAConn(t *testing.T) {
	overTCP.withEach(t, addressesOfAConn)
}

func addressesOfAConn(t *testing.T, tr transport) {
	p, l := sessionPair(t, tr)
	x, y := connPair(t, p, l, 1)
	logical := testAddr(1).TCPAddr().String()
	for _, tt := range []struct {
		what string
		got  net.Addr
		want string
	}{
		{"LocalAddr of the opener", x.LocalAddr(), logical},
		{"RemoteAddr of the opener", x.RemoteAddr(), l.Addr().String()},
		{"RemoteAddr of the acceptor", y.RemoteAddr(), logical},
		{"LocalAddr of the acceptor", y.LocalAddr(), l.Addr().String()},
	} {
		if _, ok := tt.got.(*net.TCPAddr); !ok || tt.got.String() != tt.want {
			t.Errorf("%s is %T %v, want *net.TCPAddr %v", tt.what, tt.got, tt.got, tt.want)
		}
	}
}

// TestWriteToAfterTheEndIsNoError: a peer that has ended its half, and of which
// everything has been read, leaves WriteTo nothing to complain of, CloseRead or not.
func TestWriteToAfterTheEndIsNoError(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		x, y := connPair(t, p, l, 1)
		wantErr(t, "CloseWrite", x.CloseWrite(), nil)
		for _, end := range []func() error{func() error { return nil }, y.CloseRead} {
			if n, err := y.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read: %d, %v; want 0, io.EOF", n, err)
			}
			wantErr(t, "CloseRead", end(), nil)
			if n, err := y.WriteTo(io.Discard); n != 0 || err != nil {
				t.Errorf("WriteTo: %d, %v; want 0, nil", n, err)
			}
		}
	})
}
