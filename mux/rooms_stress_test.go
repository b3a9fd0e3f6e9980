package mux

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// Writes of all sizes, Opens and Closes fight for room in staging, with deadlines and contexts
// that end in between: all return, what Write counts arrives in order, and nobody is left in a
// queue.
// To see it fail: in wakeRooms, wake nobody in rooms.
func TestManyFightForRoom(t *testing.T) {
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){
		"pipe": func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() },
		"TCP":  tcpPair,
	} {
		t.Run(name, func(t *testing.T) {
			const writers, openers, rounds = 40, 10, 50
			near, far := pair(t)
			b := newBareOn(t, near, far, false, false)
			received := drain(far)
			soon := func(r *rand.Rand) time.Time {
				return time.Now().Add(time.Duration(r.IntN(3000)) * time.Microsecond)
			}
			var wg sync.WaitGroup
			var sent [writers][]byte
			for i := range writers {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(1, uint64(i)))
					c, err := b.s.open(context.Background(), testAddr(i))
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					for k := range rounds {
						n := 1 + r.IntN(200)
						if i%2 == 0 {
							n = 1 + r.IntN(copyMax)
						}
						p := testBytes(n, uint32(i+k))
						if r.IntN(4) == 0 {
							c.SetWriteDeadline(soon(r))
						} else {
							c.SetWriteDeadline(time.Time{})
						}
						n, err := c.Write(p)
						sent[i] = append(sent[i], p[:n]...)
						if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Error(err)
							return
						}
					}
				})
			}
			for i := range openers {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(2, uint64(i)))
					for k := range rounds {
						ctx, cancel := context.WithDeadline(context.Background(), soon(r))
						c, err := b.s.open(ctx, testAddr(writers+i*rounds+k))
						cancel()
						if err == nil {
							c.Close()
						} else if !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if err := b.s.awaitFlushed(context.Background()); err != nil {
				t.Error(err)
			}
			if o := &b.s.out; o.waiting.Load() != 0 || o.rooms != (waitQueue{}) || o.watchers != (waitQueue{}) {
				t.Error("somebody is left in a queue")
			}
			near.Close()
			got := <-received
			for i, want := range sent {
				wantBytes(t, testAddr(i).String(), got[testAddr(i)], want)
			}
		})
	}
}
