package mux

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// Who leads fills the slices of readers that wait. The invariant: a slice is filled only
// while its waiter is in the connection's list, under the connection's lock, and what is
// filled is returned.

// Several readers of a connection share a payload in the order in which they wait, and
// what is left waits for the next Read.
func TestWaitingReadersShareAPayload(t *testing.T) {
	for _, pr := range []Protocol{ProtocolVT, Protocol1} {
		for _, f := range []struct {
			name    string
			payload string
			want    []string // what the two readers get, of 3 bytes each; then what is left
		}{
			{"less than the first takes", "ab", []string{"ab", ""}},
			{"as much as the first takes", "abc", []string{"abc", ""}},
			{"some for the second", "abcde", []string{"abc", "de"}},
			{"as much as both take", "abcdef", []string{"abc", "def"}},
			{"more than both take", "abcdefgh", []string{"abc", "def", "gh"}},
		} {
			t.Run(pr.String()+"/"+f.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBareOf(t, pr, false)
					x, y := b.open(1), b.open(2)
					lead := b.holdsLead(2, y)
					var slices [2][]byte
					var reads [2]<-chan result
					for i := range reads {
						slices[i] = make([]byte, 3)
						reads[i] = background(func() (int, error) { return x.Read(slices[i]) })
						synctest.Wait()
					}
					b.send(1, []byte(f.payload))
					for i, read := range reads {
						if f.want[i] == "" {
							b.pending("the second Read", read)
							continue
						}
						if r := b.now("Read", read); r.err != nil || string(slices[i][:r.n]) != f.want[i] {
							t.Errorf("Read %d: %q, %v; want %q", i, slices[i][:r.n], r.err, f.want[i])
						}
					}
					if len(f.want) > 2 {
						rest := make([]byte, 10)
						if n, err := x.Read(rest); err != nil || string(rest[:n]) != f.want[2] {
							t.Errorf("Read of the rest: %q, %v; want %q", rest[:n], err, f.want[2])
						}
					}
					x.c.mu.Lock()
					if x.c.in.n != 0 {
						t.Errorf("%d bytes are left", x.c.in.n)
					}
					x.c.mu.Unlock()
					go io.Copy(io.Discard, b.far)
					x.Close()
					y.Close()
					<-lead
					if f.want[1] == "" {
						<-reads[1]
					}
				})
			})
		}
	}
}

// What a reader waits for goes straight to its slice, and behind what is unread it does
// not. To see it fail: take the copy to w.p out of deliver, or its look at c.in.n.
func TestDeliverFillsTheSliceOfWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x := b.open(1)
		s, c := b.s, x.c
		held := func() *waiter { // a reader of which the test is the goroutine
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.beginWaitLocked(make([]byte, 4))
		}
		w := held()
		if !s.deliver(c, []byte("abcdef")) {
			t.Fatal("it takes nothing")
		}
		if !w.satisfied.Load() || w.n != 4 || string(w.p) != "abcd" || c.in.n != 2 {
			t.Errorf("satisfied %v, %q of %d, %d unread; want abcd, and 2 unread", w.satisfied.Load(), w.p, w.n, c.in.n)
		}
		behind := held()
		if s.deliver(c, []byte("gh")); behind.n != 0 || !behind.satisfied.Load() || c.in.n != 4 {
			t.Errorf("%d bytes overtake others; %d are unread, want 4", behind.n, c.in.n)
		}
		for _, w := range []*waiter{w, behind} {
			want := w.n
			if n, err := c.await(w); n != want || err != nil {
				t.Errorf("await: %d, %v; want %d", n, err, want)
			}
		}
		got := make([]byte, 10)
		if n, err := x.Read(got); err != nil || !bytes.Equal(got[:n], []byte("efgh")) {
			t.Errorf("Read: %q, %v; want efgh", got[:n], err)
		}
	})
}

// A deadline that passes when the slice has been filled loses nothing.
// To see it fail: in await, add w.n only where err is nil.
func TestDeadlineBehindAFilledSliceIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x, y := b.open(1), b.open(2)
		lead := b.holdsLead(2, y)
		p := make([]byte, 10)
		read := background(func() (int, error) { return x.Read(p) })
		synctest.Wait()

		// The reader finds its deadline passed, and is filled before it leaves the list.
		x.c.mu.Lock()
		x.c.readDeadline.Store(1)
		w := x.c.readers.first()
		w.Wake()
		for queued := true; queued; runtime.Gosched() {
			b.s.token.mu.Lock()
			queued = w.queued
			b.s.token.mu.Unlock()
		}
		w.n = copy(w.p, "bytes")
		x.c.readers.pop()
		x.c.mu.Unlock()
		if r := b.now("Read", read); r.n != 5 || r.err != nil || string(p[:5]) != "bytes" {
			t.Errorf("Read: %d, %v, %q; want what came", r.n, r.err, p[:r.n])
		}
		if n, err := x.Read(p); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the next Read: %d, %v; want its deadline", n, err)
		}
		x.SetReadDeadline(time.Time{})
		y.Close()
		<-lead
	})
}

// A Read that began while its bytes were being handed out has waited for no time, not
// for less. To see it fail: take the max out of await.
func TestReadingTimeNeverShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x := b.open(1)
		c := x.c
		<-time.After(time.Second)
		c.mu.Lock()
		w := c.beginWaitLocked(make([]byte, 4))
		w.n, w.until = copy(w.p, "abcd"), 1 // what a leader knows that read long ago
		c.readers.pop()
		c.mu.Unlock()
		if n, err := c.await(w); n != 4 || err != nil {
			t.Fatalf("await: %d, %v", n, err)
		}
		if d := (&Pipe{b.s}).Stats().Blocked.Reading; d != 0 {
			t.Errorf("Reads have waited for %v, want 0", d)
		}
	})
}
