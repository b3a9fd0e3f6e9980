package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// An honest peer has a connection through the victim, on a session of its own, and a message on it answered every 5 ms.
type honest struct {
	conn net.Conn

	mu    sync.Mutex
	took  []time.Duration // each answer since the last look
	count int             // right answers, ever
	err   error           // the first that was wrong
}

const (
	honestEvery = 5 * time.Millisecond
	honestLimit = 10 * time.Second // for an answer: what takes so long does not come
)

// startHonest connects, and probes until the test ends.
func startHonest(t *testing.T, address string) *honest {
	t.Helper()
	tcp, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p, err := mux.NewPipe(tcp, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Open(context.Background(), addr.SocketAddr{})
	if err != nil {
		t.Fatal(err)
	}
	h := &honest{conn: c}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		h.probe(stop)
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		p.Close()
	})
	return h
}

func (h *honest) probe(stop <-chan struct{}) {
	tick := time.NewTicker(honestEvery)
	defer tick.Stop()
	out, in := bytes.Repeat([]byte("honest!!"), 32), make([]byte, 256)
	for i := uint64(0); ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		binary.BigEndian.PutUint64(out, i)
		began := time.Now()
		err := h.echo(out, in)
		took := time.Since(began)
		h.mu.Lock()
		if err == nil {
			h.count++
			h.took = append(h.took, took)
		} else if h.err == nil {
			h.err = fmt.Errorf("echo %d: %w", i, err)
		}
		h.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (h *honest) echo(out, in []byte) error {
	_ = h.conn.SetDeadline(time.Now().Add(honestLimit))
	if _, err := h.conn.Write(out); err != nil {
		return err
	}
	if _, err := io.ReadFull(h.conn, in); err != nil {
		return err
	}
	if !bytes.Equal(in, out) {
		return fmt.Errorf("got %x, want %x", in, out)
	}
	return nil
}

// look returns what has been seen since the last look.
func (h *honest) look(t *testing.T) (took []time.Duration) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		t.Errorf("the honest peer: %v", h.err)
	}
	took, h.took = h.took, nil
	slices.Sort(took)
	return took
}

// await waits until the next n answers have come.
func (h *honest) await(t *testing.T, n int) {
	t.Helper()
	h.mu.Lock()
	want := h.count + n
	h.mu.Unlock()
	settle(t, fmt.Sprintf("%d honest answers", n), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.count >= want || h.err != nil
	})
}

// settle waits until a condition holds.
func settle(t *testing.T, what string, holds func() bool) bool {
	t.Helper()
	limit, tick := time.NewTimer(2*endLimit), time.NewTicker(honestEvery)
	defer limit.Stop()
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Errorf("waited in vain for %s", what)
			return false
		}
	}
	return true
}

// quantile returns the q-th of sorted times.
func quantile(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	return took[min(int(q*float64(len(took))), len(took)-1)]
}
