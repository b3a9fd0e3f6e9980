package mux

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/vtmux/vtmux/wire"
)

// A lone writer's frame does not go through staging.
func TestLoneWriteSparesStaging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		c := b.open(1)
		was := b.s.out.stg.word.Load()
		done := async(func() error {
			_, err := c.Write([]byte("alone"))
			return err
		})
		b.frame(1, []byte("alone"))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if is := b.s.out.stg.word.Load(); is != was {
			t.Errorf("staging's word went from %#x to %#x", was, is)
		}
	})
}

// Without the look at what is published, in claimAlone, the first frame would wait in
// staging for whoever flushes next.
func TestLoneWriteTakesAlongWhatOthersAreAboutToFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x, y := b.open(1), b.open(2)
		// x has committed, and has not come round to claim the flusher's role.
		frame := frameBytes(1, []byte("first"))
		p, i, ok := b.s.out.stg.reserve(len(frame), 0)
		if !ok {
			t.Fatal("no room in an empty staging buffer")
		}
		copy(p, frame)
		b.s.out.stg.commit(i, len(frame))

		done := async(func() error {
			_, err := y.Write([]byte("second"))
			return err
		})
		b.frame(1, []byte("first"))
		b.frame(2, []byte("second"))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		_ = x.Close()
	})
}

// Whoever publishes while a lone writer sends is served by it, and the order of each
// connection holds.
func TestLoneWriteServesWhoComesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x, y := b.open(1), b.open(2)
		first := async(func() error {
			_, err := x.Write([]byte("first"))
			return err
		})
		synctest.Wait() // it is in the transport, which takes nothing
		second := async(func() error {
			_, err := y.Write([]byte("second"))
			return err
		})
		synctest.Wait()
		if err := <-second; err != nil {
			t.Fatal(err)
		}
		b.frame(1, []byte("first"))
		b.frame(2, []byte("second"))
		if err := <-first; err != nil {
			t.Fatal(err)
		}
	})
}

// The frame of a lone writer whose time is over goes on to the helper, whole.
func TestLoneWriteThatIsInterruptedIsSentByTheHelper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		c := b.open(1)
		payload := bytes.Repeat([]byte("0123456789"), 100)
		done := async(func() error {
			_, err := c.Write(payload)
			return err
		})
		head := make([]byte, 10)
		if _, err := b.far.Read(head); err != nil { // half of a header
			t.Fatal(err)
		}
		c.Close()
		<-done
		rest := make([]byte, wire.VTHeaderLen+len(payload)-len(head)+wire.VTHeaderLen)
		for n := 0; n < len(rest); {
			m, err := b.far.Read(rest[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
		want := append(frameBytes(1, payload)[len(head):], frameBytes(1, nil)...)
		wantBytes(t, "the rest of the frame and the END", rest, want)
		if _, err := b.s.open(context.Background(), testAddr(2)); err != nil {
			t.Error(err)
		}
	})
}

// Debts that come while earlier ones still wait for room behind staging are sent as
// well. Without debts in writeSide.pending, the flusher would rest before them.
func TestDebtsBehindThoseThatFoundNoRoomAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		n := (stagingSize+tailSize)/wire.VTHeaderLen + 50 // more than one flush takes
		b.send(0, nil)                                    // the first refusal blocks the flusher
		var opens []byte
		for i := range n {
			opens = append(opens, frameBytes(1+i, nil)...)
		}
		if _, err := b.far.Write(opens); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.frame(0, nil)
		synctest.Wait() // the flusher has taken n, and is blocked with what it has room for
		b.send(1+n, nil)
		synctest.Wait()
		for i := range n + 1 {
			b.frame(1+i, nil)
		}
	})
}

// A brokenWrites is a transport whose Write fails once it is told to.
type brokenWrites struct {
	net.Conn
	broken atomic.Bool
}

func (c *brokenWrites) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// While a session drains, it may give up control frames that it can't send: the peer may
// have drained too, and gone. A payload is another matter, also one whose batch nobody built:
//
//  1. Shutdown has begun. GOAWAY and PING, a batch of control frames, have been sent.
//  2. The transport stops taking anything.
//  3. A lone writer puts its frame into a batch of its own.
//
// Without control in claimAlone, Write would report that it has sent the payload.
func TestLonePayloadOfADrainingSessionIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		transport := &brokenWrites{Conn: near}
		b := startBare(t, transport, far, &Config{Protocol: Protocol1, KeepAliveInterval: -1}, false, false)
		b.speak(Protocol1)
		c := b.open(1)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		shut := async(func() error { return b.s.shutdown(ctx) })
		for _, want := range []wire.FrameType{wire.TypeGoAway, wire.TypePing} {
			if f := b.one.read(b); f.header.Type != want {
				t.Fatalf("got %v, want a frame of type %v", f.header, want)
			}
		}
		synctest.Wait()

		transport.broken.Store(true)
		if _, err := c.Write([]byte("payload")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write returned %v, want EPIPE", err)
		}
		if !b.s.dead.Load() {
			t.Error("the session goes on")
		}
		if err := <-shut; err == nil {
			t.Error("Shutdown reports that nothing was lost")
		}
	})
}
