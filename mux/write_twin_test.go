package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// The write path as a whole, without a lock, must earn its place against a twin that has one: at -cpu 1,2,4,8, over a
// transport in memory. (That of its parts which is hard, staging, has a twin and a benchmark of its own.)

// A takeAll is a transport that takes everything and gives nothing.
type takeAll struct {
	frames func([]byte) // gets each Write, if not nil
	copied [64 << 10]byte
	once   sync.Once
	closed chan struct{}
}

func newTakeAll(frames func([]byte)) *takeAll {
	return &takeAll{frames: frames, closed: make(chan struct{})}
}

func (s *takeAll) Read([]byte) (int, error) {
	<-s.closed
	return 0, io.EOF
}

// Write copies, as a kernel would.
func (s *takeAll) Write(p []byte) (int, error) {
	if s.frames != nil {
		s.frames(p)
	}
	for rest := p; len(rest) > 0; {
		rest = rest[copy(s.copied[:], rest):]
	}
	return len(p), nil
}

func (s *takeAll) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (*takeAll) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*takeAll) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*takeAll) SetDeadline(time.Time) error      { return nil }
func (*takeAll) SetReadDeadline(time.Time) error  { return nil }
func (*takeAll) SetWriteDeadline(time.Time) error { return nil }

// A writePath carries the small writes of many connections to one transport.
type writePath interface {
	open(t testing.TB, i int) io.WriteCloser
	io.Closer
}

var writePaths = []struct {
	name string
	make func(testing.TB, *takeAll) writePath
}{
	{"lockfree", newOurPath},
	{"mutex", func(_ testing.TB, t *takeAll) writePath { return newLockedPath(t) }},
}

// ourPath is the library.
type ourPath struct{ *Pipe }

func newOurPath(t testing.TB, s *takeAll) writePath {
	p, err := NewPipe(s, &Config{Protocol: ProtocolVT})
	if err != nil {
		t.Fatal(err)
	}
	return ourPath{p}
}

func (p ourPath) open(t testing.TB, i int) io.WriteCloser {
	c, err := p.Open(context.Background(), testAddr(i))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// lockedPath is the same as one would write it without a thought for speed: a lock around a buffer, and a goroutine that
// sends what is in it. It has what the library must have on this path, and no more: a connection's writes take turns, a
// deadline and a close end them, and there is a bound.
type lockedPath struct {
	t      net.Conn
	work   chan struct{} // capacity 1
	done   chan struct{}
	mu     sync.Mutex
	room   sync.Cond
	filled []byte // what is filled
	sent   []byte // what is sent
	busy   bool   // the goroutine sends, or is about to
	closed bool
}

func newLockedPath(t net.Conn) *lockedPath {
	p := &lockedPath{t: t, work: make(chan struct{}, 1), done: make(chan struct{})}
	p.room.L = &p.mu
	p.filled, p.sent = make([]byte, 0, stagingSize), make([]byte, 0, stagingSize)
	go p.send()
	return p
}

func (p *lockedPath) send() {
	defer close(p.done)
	for range p.work {
		p.mu.Lock()
		for len(p.filled) > 0 {
			p.filled, p.sent = p.sent[:0], p.filled
			p.room.Broadcast()
			p.mu.Unlock()
			p.t.Write(p.sent)
			p.mu.Lock()
		}
		p.busy = false
		p.mu.Unlock()
	}
}

// publish appends a frame, and reports whether nobody sends.
func (p *lockedPath) publish(a *addr.SocketAddr, payload []byte) (idle bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := wire.VTHeaderLen + len(payload)
	for len(p.filled)+n > stagingSize && !p.closed {
		p.room.Wait()
	}
	if p.closed {
		return false, net.ErrClosed
	}
	at := len(p.filled)
	p.filled = p.filled[:at+n]
	h := wire.ViewVTHeader(p.filled[at:])
	h.Addr = *a
	h.Len.Set(uint16(len(payload)))
	copy(p.filled[at+wire.VTHeaderLen:], payload)
	idle, p.busy = !p.busy, true
	return idle, nil
}

func (p *lockedPath) open(_ testing.TB, i int) io.WriteCloser {
	c := &lockedConn{p: p, addr: testAddr(i)}
	c.publish(nil)
	return c
}

func (p *lockedPath) Close() error {
	p.mu.Lock()
	p.closed = true
	p.room.Broadcast()
	p.mu.Unlock()
	close(p.work)
	<-p.done
	return p.t.Close()
}

type lockedConn struct {
	p        *lockedPath
	addr     addr.SocketAddr
	mu       sync.Mutex
	closed   bool
	deadline time.Time
}

func (c *lockedConn) Write(payload []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case !c.deadline.IsZero() && time.Now().After(c.deadline):
		return 0, context.DeadlineExceeded
	}
	return len(payload), c.publish(payload)
}

func (c *lockedConn) publish(payload []byte) error {
	idle, err := c.p.publish(&c.addr, payload)
	if idle {
		c.p.work <- struct{}{}
	}
	return err
}

func (c *lockedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.publish(nil)
}

// TestWritePathsKeepEachConnectionsOrder is for both: everything arrives, whole and in its connection's order.
func TestWritePathsKeepEachConnectionsOrder(t *testing.T) {
	const writers, each = 8, 3000
	for _, w := range writePaths {
		t.Run(w.name, func(t *testing.T) {
			v := &frameCheck{t: t, next: map[addr.SocketAddr]uint64{}, opens: map[addr.SocketAddr]int{}, all: make(chan struct{}), want: writers * each}
			path := w.make(t, newTakeAll(v.take))
			var wg sync.WaitGroup
			for i := range writers {
				c := path.open(t, i)
				wg.Go(func() {
					p := make([]byte, 128)
					for n := range uint64(each) {
						size := 8 + int(n)%120
						for j := range p[:size] {
							p[j] = byte(n)
						}
						binary.BigEndian.PutUint64(p, n)
						if _, err := c.Write(p[:size]); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			select {
			case <-v.all:
			case <-time.After(patience):
				t.Error("not all that was written has arrived")
			}
			path.Close()
		})
	}
}

// A frameCheck looks at what arrives in a takeAll.
type frameCheck struct {
	t     *testing.T
	rest  []byte
	next  map[addr.SocketAddr]uint64
	opens map[addr.SocketAddr]int
	got   int
	want  int
	all   chan struct{}
}

func (v *frameCheck) take(p []byte) {
	v.rest = append(v.rest, p...)
	for len(v.rest) >= wire.VTHeaderLen {
		n := int(binary.BigEndian.Uint16(v.rest[18:]))
		if len(v.rest) < wire.VTHeaderLen+n {
			return
		}
		v.frame(v.rest[:wire.VTHeaderLen], v.rest[wire.VTHeaderLen:wire.VTHeaderLen+n])
		v.rest = v.rest[wire.VTHeaderLen+n:]
	}
}

func (v *frameCheck) frame(header, payload []byte) {
	var a addr.SocketAddr
	if err := a.UnmarshalBinary(header[:18]); err != nil {
		v.t.Errorf("header % x: %v", header, err)
		return
	}
	if len(payload) == 0 {
		v.opens[a]++
		return
	}
	n := v.next[a]
	size := 8 + int(n)%120
	if v.opens[a] != 1 || len(payload) != size || binary.BigEndian.Uint64(payload) != n || !bytes.Equal(payload[8:], bytes.Repeat([]byte{byte(n)}, size-8)) {
		v.t.Errorf("%v: after %d opens and %d frames comes % x", a, v.opens[a], n, payload)
	}
	v.next[a]++
	if v.got++; v.got == v.want {
		close(v.all)
	}
}

func BenchmarkWritePath(b *testing.B) {
	const writers = 16
	for _, size := range []int{16, 128, 1024} {
		for _, w := range writePaths {
			b.Run(fmt.Sprintf("%dB/%s", size, w.name), func(b *testing.B) {
				path := w.make(b, newTakeAll(nil))
				defer path.Close()
				var opened atomic.Int64
				b.SetParallelism(max(writers/runtime.GOMAXPROCS(0), 1))
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					c := path.open(b, int(opened.Add(1)))
					p := make([]byte, size)
					for pb.Next() {
						if _, err := c.Write(p); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
