package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// A oneLink joins two sessions by a transport that takes its time, and holds what each
// of them says against oneLaw.
type oneLink struct {
	t    *testing.T
	laws [2]struct {
		mu sync.Mutex
		oneLaw
	}
}

// tell logs the connections that the link has not seen both ends end, in the words of
// the two ends.
func (k *oneLink) tell() {
	for _, opener := range []int{0, 1} {
		for id := wire.ID(1); id <= k.laws[opener].opened; id++ {
			x, y := k.laws[opener].conns[oneKey{false, id}], k.laws[1-opener].conns[oneKey{true, id}]
			if x == nil || y == nil || !x.ended || !y.ended {
				k.t.Logf("connection %d of end %d: its opener has said %+v, its acceptor %+v", id, opener, x, y)
			}
		}
	}
}

// carry moves what end from says to the other end, in random pieces and late.
func (k *oneLink) carry(from int, src, dst net.Conn, rng *rand.Rand) {
	defer dst.Close()
	var d oneDecoder
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf[:1+rng.IntN(len(buf))])
		var frames []oneFrame
		if derr := d.feed(buf[:n], func(f oneFrame) { frames = append(frames, f) }); derr != nil {
			k.t.Errorf("end %d: %v", from, derr)
		}
		me, other := &k.laws[from], &k.laws[1-from]
		me.mu.Lock()
		for _, f := range frames {
			if breach := me.says(&f); breach != "" {
				k.t.Errorf("end %d must not send %s: %s", from, f.text(), breach)
			}
		}
		me.mu.Unlock()
		if err != nil {
			return
		}
		<-time.After(time.Duration(rng.IntN(3000)) * time.Microsecond)
		other.mu.Lock()
		for _, f := range frames {
			other.hears(&f)
		}
		other.mu.Unlock()
		for b := buf[:n]; len(b) > 0; {
			m := 1 + rng.IntN(len(b))
			if _, err := dst.Write(b[:m]); err != nil {
				return
			}
			b = b[m:]
		}
	}
}

// A oneStory is one direction of one connection: what its writer wants to say, and how
// far it has come.
type oneStory struct {
	all     []byte
	written atomic.Int64
	ended   atomic.Bool   // by CloseWrite, or Close with no Write under way
	cut     atomic.Bool   // by Close with a Write under way: it ends cleanly somewhere
	over    chan struct{} // closed when the writer is done
}

// A oneWorld is everything that two sessions do with each other in one run.
type oneWorld struct {
	t       *testing.T
	ls      [2]*Listener
	mu      sync.Mutex
	stories map[uint64]*[2]oneStory // by the number that goes as metadata; [0] is the opener's
	conns   []*Conn                 // all, so that none is closed by the garbage collector
	wg      sync.WaitGroup
}

func (w *oneWorld) keep(c *Conn) {
	w.mu.Lock()
	w.conns = append(w.conns, c)
	w.mu.Unlock()
}

// opens lets one end open connections, one after the other, or many at once.
func (w *oneWorld) opens(side int, n int, rng *rand.Rand) {
	for i := range n {
		number := uint64(side)<<32 | rng.Uint64()>>40<<8 | uint64(i)
		st := new([2]oneStory)
		for k := range st {
			st[k].over = make(chan struct{})
			st[k].all = testBytes(rng.IntN(rng.IntN(200_000)+1), uint32(number)+uint32(k))
		}
		w.mu.Lock()
		w.stories[number] = st
		w.mu.Unlock()
		meta := binary.BigEndian.AppendUint64(nil, number)
		c, err := w.ls[side].Pipe().OpenWith(context.Background(), OpenOptions{Addr: testAddr(i % 3), Metadata: meta})
		if err != nil {
			w.t.Errorf("Open: %v", err)
			return
		}
		w.live(c, &st[0], &st[1], rand.New(rand.NewPCG(number, 1)))
		if rng.IntN(3) > 0 {
			<-time.After(time.Duration(rng.IntN(20_000)) * time.Microsecond)
		}
	}
}

// accepts serves what the other end opens, or refuses it.
func (w *oneWorld) accepts(side int, rng *rand.Rand) {
	for {
		p, err := w.ls[side].AcceptPending(context.Background())
		if err != nil {
			if !errors.Is(err, ErrDraining) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
				w.t.Errorf("AcceptPending: %v", err)
			}
			return
		}
		number := binary.BigEndian.Uint64(p.Metadata())
		w.mu.Lock()
		st := w.stories[number]
		w.mu.Unlock()
		if rng.IntN(6) == 0 {
			p.Reject(Code(rng.IntN(400)), "no")
			continue
		}
		c, _ := p.Accept()
		w.live(c, &st[1], &st[0], rand.New(rand.NewPCG(number, 2)))
	}
}

// live lets two goroutines use a connection: one writes out, one reads in.
func (w *oneWorld) live(c *Conn, out, in *oneStory, rng *rand.Rand) {
	w.keep(c)
	seed := rng.Uint64()
	w.wg.Go(func() { w.writes(c, out, rand.New(rand.NewPCG(seed, 3))) })
	w.wg.Go(func() { w.reads(c, in, out, rand.New(rand.NewPCG(seed, 4))) })
}

func (w *oneWorld) writes(c *Conn, st *oneStory, rng *rand.Rand) {
	defer close(st.over)
	stopAt := len(st.all)
	if rng.IntN(4) == 0 {
		stopAt = rng.IntN(len(st.all) + 1)
	}
	for at := 0; at < stopAt; {
		if rng.IntN(4) == 0 {
			c.SetWriteDeadline(time.Now().Add(time.Duration(rng.IntN(2000)) * time.Microsecond))
		} else {
			c.SetWriteDeadline(time.Time{})
		}
		n, err := c.Write(st.all[at:min(at+1+rng.IntN(50_000), stopAt)])
		at += n
		st.written.Add(int64(n))
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			w.check("Write", err)
			break
		}
		if rng.IntN(8) == 0 {
			<-time.After(time.Duration(rng.IntN(3000)) * time.Microsecond)
		}
	}
	switch rng.IntN(5) {
	case 0:
		c.Reset(Code(rng.IntN(1000)))
	case 1:
		st.ended.Store(true)
		c.Close()
	default:
		st.ended.Store(true)
		c.CloseWrite()
	}
}

func (w *oneWorld) reads(c *Conn, st, own *oneStory, rng *rand.Rand) {
	defer func() {
		if rng.IntN(3) == 0 {
			own.cut.Store(true)
		} else {
			<-own.over
		}
		<-time.After(time.Duration(rng.IntN(20_000)) * time.Microsecond)
		c.Close()
	}()
	giveUp := -1
	if rng.IntN(4) == 0 {
		giveUp = rng.IntN(len(st.all) + 1)
	}
	buf := make([]byte, 1+rng.IntN(64<<10))
	for at := 0; ; {
		n, err := c.Read(buf)
		if at+n > len(st.all) || !bytes.Equal(buf[:n], st.all[at:at+n]) {
			w.t.Errorf("read %d bytes at %d that were not written there", n, at)
			return
		}
		at += n
		switch {
		case err == io.EOF:
			if !st.cut.Load() && (!st.ended.Load() || st.written.Load() != int64(at)) {
				w.t.Errorf("a clean end after %d bytes; written %d, ended %v", at, st.written.Load(), st.ended.Load())
			}
			return
		case err != nil:
			w.check("Read", err)
			return
		case giveUp >= 0 && at >= giveUp:
			c.CloseRead()
			return
		}
		if rng.IntN(10) == 0 {
			<-time.After(time.Duration(rng.IntN(3000)) * time.Microsecond)
		}
	}
}

// check fails the test if err is none of what honest ends do to each other.
func (w *oneWorld) check(what string, err error) {
	var (
		reset   *ResetError
		refused *RefusedError
		stopped *StoppedError
	)
	if !errors.As(err, &reset) && !errors.As(err, &refused) && !errors.As(err, &stopped) &&
		!errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EPIPE) {
		w.t.Errorf("%s: %v", what, err)
	}
}

// TestTwoSessionsKeepTheLaw lets two sessions do at random whatever the API has, over a
// slow link where everything crosses. Neither may break a rule, or find that the other
// does; each byte arrives or the reader is told; and in the end nothing is left.
func TestTwoSessionsKeepTheLaw(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { oneRandom(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func oneRandom(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	k := &oneLink{t: t}
	w := &oneWorld{t: t, stories: make(map[uint64]*[2]oneStory)}
	var far [2]net.Conn
	for i := range 2 {
		k.laws[i].init()
		var near net.Conn
		near, far[i] = net.Pipe()
		switch rng.IntN(6) { // the ways that a session has to write, and to read
		case 0:
			near = opaqueConn{near}
		case 1:
			near = noDeadlinesConn{near}
		}
		cfg := &Config{MaxWindow: 1 << (17 + rng.IntN(4))}
		if i == 0 {
			cfg.Protocol = Protocol1
		}
		if rng.IntN(3) == 0 {
			cfg.AcceptBacklog = 1 + rng.IntN(3)
		}
		l, err := NewListener(near, cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.ls[i] = l
	}
	var link sync.WaitGroup
	link.Go(func() { k.carry(0, far[0], far[1], rand.New(rand.NewPCG(seed, 1))) })
	link.Go(func() { k.carry(1, far[1], far[0], rand.New(rand.NewPCG(seed, 2))) })
	var acceptors sync.WaitGroup
	for i := range 2 {
		acceptors.Go(func() { w.accepts(i, rand.New(rand.NewPCG(seed, uint64(10+i)))) })
		w.wg.Go(func() { w.opens(i, 20, rand.New(rand.NewPCG(seed, uint64(20+i)))) })
	}
	<-time.After(50 * time.Millisecond)
	if _, err := w.ls[0].Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	over := make(chan struct{})
	go func() { w.wg.Wait(); close(over) }()
	select {
	case <-over:
	case <-ctx.Done():
		t.Errorf("connections hang: %d and %d are open", w.ls[0].Stats().Conns, w.ls[1].Stats().Conns)
		k.tell()
	}
	<-time.After(time.Second)
	for i, l := range w.ls {
		if n := l.Stats().Conns; n != 0 || l.Err() != nil {
			t.Errorf("end %d: %d connections are left, Err is %v", i, n, l.Err())
		}
	}
	downs := []<-chan error{async(func() error { return w.ls[0].Shutdown(ctx) })}
	if rng.IntN(2) == 0 {
		downs = append(downs, async(func() error { return w.ls[1].Shutdown(ctx) }))
	}
	for _, down := range downs {
		if err := <-down; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
	for _, l := range w.ls {
		l.Close()
	}
	acceptors.Wait()
	for _, c := range w.conns {
		c.Close()
	}
	w.wg.Wait()
	link.Wait()
}
