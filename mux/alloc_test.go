package mux

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/vtmux/vtmux/pool"
	"github.com/vtmux/vtmux/wire"
)

// exactAllocs skips a test whose gate holds in ordinary builds alone.
func exactAllocs(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("NOT CHECKED: allocations, because a race build drops what is pooled")
	}
	if pool.Debug {
		t.Skip("NOT CHECKED: allocations, because a debug build keeps accounts")
	}
}

// wantAllocs fails the test unless a steady state is reached in which f, which does
// ops operations, makes at most limit allocations for each. All that the process
// allocates meanwhile counts, the other end's too.
//
// The first rounds fill the pools. A later round may still allocate now and then,
// when more buffers are under way at once than ever before, or when the goroutine
// has moved to a processor whose pool is empty. So the best round counts.
func wantAllocs(t *testing.T, what string, limit float64, ops int, f func()) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection would empty the pools
	const rounds = 12
	best := -1.0
	for i := range rounds {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		per := float64(after.Mallocs-before.Mallocs) / float64(ops)
		if i > 0 && (best < 0 || per < best) {
			best = per
		}
		if best >= 0 && best <= limit {
			break
		}
	}
	t.Logf("%s: %.4f allocations", what, best)
	// Less than one in a hundred operations is what the test itself and the runtime need.
	if best > limit+0.01 {
		t.Errorf("%s: %.4f allocations, want at most %v", what, best, limit)
	}
}

var allocSizes = []int{100, 4 << 10, 64 << 10}

func TestPingPongAllocatesNothing(t *testing.T) {
	exactAllocs(t)
	overTCP.withEach(t, pingPongAllocatesNothing)
}

func pingPongAllocatesNothing(t *testing.T, tr transport) {
	for _, size := range allocSizes {
		for _, deadlines := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d B, deadlines %v", size, deadlines), func(t *testing.T) {
				x, y := conns(t, tr)
				const ops = 1000
				go echo(y, size, deadlines)
				p := make([]byte, size)
				wantAllocs(t, "Write, Read and answer", 0, ops, func() {
					for range ops {
						if deadlines {
							x.SetReadDeadline(time.Now().Add(time.Minute))
							x.SetWriteDeadline(time.Now().Add(time.Minute))
						}
						if _, err := x.Write(p); err != nil {
							t.Fatal(err)
						}
						if _, err := io.ReadFull(x, p); err != nil {
							t.Fatal(err)
						}
					}
				})
			})
		}
	}
}

// echo sends back messages of the given size. With deadlines it moves them forward
// before each call, as proxies do.
func echo(c *Conn, size int, deadlines bool) {
	p := make([]byte, size)
	for {
		if deadlines {
			c.SetReadDeadline(time.Now().Add(time.Minute))
		}
		if _, err := io.ReadFull(c, p); err != nil {
			return
		}
		if deadlines {
			c.SetWriteDeadline(time.Now().Add(time.Minute))
		}
		if _, err := c.Write(p); err != nil {
			return
		}
	}
}

func TestOneWayStreamAllocatesNothing(t *testing.T) {
	exactAllocs(t)
	overTCP.withEach(t, oneWayStreamAllocatesNothing)
}

func oneWayStreamAllocatesNothing(t *testing.T, tr transport) {
	for _, size := range allocSizes {
		t.Run(fmt.Sprintf("%d B", size), func(t *testing.T) {
			x, y := conns(t, tr)
			ops := max(2000, 4<<20/size)
			got := make(chan error, 1)
			next := make(chan struct{})
			go sink(y, size, size*ops, next, got)
			t.Cleanup(func() { close(next) })
			p := make([]byte, size)
			wantAllocs(t, "Write and Read", 0, ops, func() {
				next <- struct{}{}
				for range ops {
					if _, err := x.Write(p); err != nil {
						t.Fatal(err)
					}
				}
				if err := <-got; err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// sink reads n bytes, size at a time, for each message from next.
func sink(c *Conn, size, n int, next <-chan struct{}, got chan<- error) {
	p := make([]byte, size)
	for range next {
		var err error
		for left := n; left > 0 && err == nil; {
			var m int
			m, err = c.Read(p[:min(left, size)])
			left -= m
		}
		got <- err
	}
}

func TestWriteBuffersAllocatesNothing(t *testing.T) {
	exactAllocs(t)
	overTCP.withEach(t, writeBuffersAllocatesNothing)
}

func writeBuffersAllocatesNothing(t *testing.T, tr transport) {
	x, y := conns(t, tr)
	const ops = 1000
	parts := [][]byte{make([]byte, 100), make([]byte, 4<<10), make([]byte, 64<<10)}
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	got := make(chan error, 1)
	next := make(chan struct{})
	go sink(y, size, size*ops, next, got)
	t.Cleanup(func() { close(next) })
	backing := make([][]byte, len(parts))
	v := new(net.Buffers)
	wantAllocs(t, "WriteBuffers and Read", 0, ops, func() {
		next <- struct{}{}
		for range ops {
			copy(backing, parts)
			*v = backing
			if _, err := x.WriteBuffers(v); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	})
}

func TestSetDeadlineAllocatesNothing(t *testing.T) {
	exactAllocs(t)
	overTCP.withEach(t, setDeadlineAllocatesNothing)
}

func setDeadlineAllocatesNothing(t *testing.T, tr transport) {
	const ops = 10000
	set := func(t *testing.T, x *Conn) {
		at := time.Now().Add(time.Hour)
		wantAllocs(t, "SetReadDeadline", 0, ops, func() {
			for range ops {
				x.SetReadDeadline(at)
			}
		})
		wantAllocs(t, "SetWriteDeadline", 0, ops, func() {
			for range ops {
				x.SetWriteDeadline(at)
			}
		})
	}
	t.Run("idle", func(t *testing.T) {
		x, _ := conns(t, tr)
		set(t, x)
	})
	t.Run("while a Read is blocked", func(t *testing.T) {
		x, _ := conns(t, tr)
		blocked := async(func() error { _, err := x.Read(make([]byte, 1)); return err })
		waitBlocked(t, "(*conn).await", 1)
		set(t, x)
		// One at a time: each finds the Read back in the transport.
		const ops = 200
		at := time.Now().Add(time.Hour)
		wantAllocs(t, "SetReadDeadline, each seen by the Read", 0, ops, func() {
			for range ops {
				at = at.Add(time.Second)
				x.SetReadDeadline(at)
				waitUntil(t, "the Read", func() bool { return x.c.s.token.isArmed() })
			}
		})
		x.Close()
		wantErr(t, "Read", wait(t, "Read", blocked), net.ErrClosed)
	})
}

// isArmed reports whether nobody has interrupted the leader, or it has seen that.
func (t *readToken) isArmed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.armedAt != 1
}

// The two tests below have a peer that only plays frames, so that what is counted
// belongs to one side.

func TestOpenAndCloseAllocateAtMostThree(t *testing.T) {
	exactAllocs(t)
	overTCP.withEach(t, openAndCloseAllocate)
}

func openAndCloseAllocate(t *testing.T, tr transport) {
	a, b := tr.dial(t)
	p, err := NewPipe(a, tr.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	const ops = 1000
	peer := async(func() error { return endWhatEnds(b, tr.one()) })
	ctx := bounded(t)
	i := 0
	wantAllocs(t, "Open and Close", 3, ops, func() {
		for range ops {
			x, err := p.Open(ctx, testAddr(i))
			if err != nil {
				t.Fatal(err)
			}
			x.Close()
			i++
			for p.Stats().Conns > 16 {
				runtime.Gosched()
			}
		}
	})
	p.Close()
	wait(t, "peer", peer)
	b.Close()
}

// endWhatEnds ends each connection that the peer has opened and closed.
func endWhatEnds(peer net.Conn, one bool) error {
	if one {
		if err := exchangePrefaces(peer); err != nil {
			return err
		}
	}
	// Several may be opened before the first ends, so each frame is looked at. No map grows
	// that holds as few as the test has open at once.
	in, b := bufio.NewReader(peer), make([]byte, 1<<10)
	opened := make(map[[wire.VTHeaderLen]byte]bool, 256)
	for {
		head := wire.VTHeaderLen
		if one {
			head = wire.HeaderLen
		}
		if _, err := io.ReadFull(in, b[:head]); err != nil {
			return err
		}
		if one {
			body := int(binary.BigEndian.Uint16(b[2:4]))
			if _, err := io.ReadFull(in, b[head:head+body]); err != nil {
				return err
			}
			if b[0] != byte(wire.TypeData) {
				continue // OPEN and STOP
			}
			id := wire.ID(binary.BigEndian.Uint32(b[4:8]))
			head = wire.PutReset(b, wire.FlagYours, id, uint32(CodeClosed))
		} else if key := [wire.VTHeaderLen]byte(b[:head]); !opened[key] {
			opened[key] = true
			continue
		} else {
			delete(opened, key)
		}
		if _, err := peer.Write(b[:head]); err != nil {
			return err
		}
	}
}

// exchangePrefaces sends a preface and reads the peer's.
func exchangePrefaces(peer io.ReadWriter) error {
	preface := make([]byte, wire.PrefaceFrameLen)
	wire.PutPreface(preface, wire.Settings{Version: 1, InitialWindow: wire.MinWindow, MaxConns: 1 << 20, MaxPayload: wire.MaxPayload})
	if _, err := peer.Write(preface); err != nil {
		return err
	}
	_, err := io.ReadFull(peer, preface)
	return err
}

func TestAcceptAndCloseAllocateAtMostThree(t *testing.T) {
	exactAllocs(t)
	overTCP.withEach(t, acceptAndCloseAllocate)
}

func acceptAndCloseAllocate(t *testing.T, tr transport) {
	a, b := tr.dial(t)
	l, err := NewListener(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if tr.one() {
		if err := exchangePrefaces(a); err != nil {
			t.Fatal(err)
		}
	}
	const ops = 1000
	buf := make([]byte, 64)
	i := 0
	// open and end are what the peer sends, and closed is how much Close does.
	open := func() []byte { wire.PutVTHeader(buf, testAddr(i), 0); return buf[:wire.VTHeaderLen] }
	end, closed := open, wire.VTHeaderLen
	if tr.one() {
		open = func() []byte { return buf[:wire.PutOpen(buf, wire.ID(i), testAddr(i), nil)] }
		end = func() []byte { return buf[:wire.PutReset(buf, 0, wire.ID(i), uint32(CodeClosed))] }
		closed = wire.StopLen + wire.HeaderLen
	}
	wantAllocs(t, "Accept and Close", 3, ops, func() {
		for range ops {
			i++
			if _, err := a.Write(open()); err != nil {
				t.Fatal(err)
			}
			y, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			y.Close()
			if _, err := io.ReadFull(a, buf[:closed]); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Write(end()); err != nil {
				t.Fatal(err)
			}
		}
	})
	l.Close()
	a.Close()
}
