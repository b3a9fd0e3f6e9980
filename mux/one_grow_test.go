package mux

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// A oneSender is a peer that sends on connection 1 whatever it is granted, half a round
// trip after it hears of it; so what it sends comes a round trip after the grant.
type oneSender struct {
	tc    *oneTest
	sent  uint64
	limit uint64
	most  uint64 // that was ever granted beyond what was sent
}

// sending makes the peer send, over a transport with a round trip of rtt.
func (tc *oneTest) sending(rtt time.Duration, window uint64) *oneSender {
	s := &oneSender{tc: tc, limit: window}
	p := tc.peer
	p.mu.Lock()
	p.ackAfter = rtt
	p.onFrame = func(f oneFrame) {
		if f.preface != nil || f.t != wire.TypeWindow {
			return
		}
		limit := wire.View[wire.WindowBody]([]byte(f.body)).Limit.Get()
		s.limit = limit
		s.most = max(s.most, limit-s.sent)
		time.AfterFunc(rtt, func() { s.upTo(limit) })
	}
	p.mu.Unlock()
	s.upTo(window)
	return s
}

// upTo sends all bytes below limit.
func (s *oneSender) upTo(limit uint64) {
	p := s.tc.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	for s.sent < limit {
		n := min(limit-s.sent, 32768)
		b := make([]byte, wire.HeaderLen+n)
		wire.PutDataHeader(b, 0, 1, int(n))
		p.queue(b)
		s.sent += n
	}
}

// left returns how much is granted and not yet sent.
func (s *oneSender) left() uint64 {
	s.tc.peer.mu.Lock()
	defer s.tc.peer.mu.Unlock()
	return s.limit - s.sent
}

// TestWindowGrowsWithTheRoundTrip: a connection whose reader consumes a window within a
// round trip gets a window twice as large, up to Config.MaxWindow and no further.
func TestWindowGrowsWithTheRoundTrip(t *testing.T) {
	const most = 1_000_000
	oneRun(t, oneSetup{listen: true, cfg: Config{MaxWindow: most}}, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		s := tc.sending(50*time.Millisecond, 65536)
		go io.Copy(io.Discard, c)
		tc.pass(time.Second)
		tc.peer.mu.Lock()
		early := s.most
		tc.peer.mu.Unlock()
		tc.pass(3*time.Second - 50*time.Millisecond)
		tc.peer.mu.Lock()
		defer tc.peer.mu.Unlock()
		if s.most > most {
			tc.t.Errorf("%d bytes were granted, above MaxWindow", s.most)
		}
		if s.most < most*3/4 {
			tc.t.Errorf("in 4 s of round trips of 50 ms at most %d bytes were granted, want %d or a quarter less", s.most, most)
		}
		if early < most/2 {
			tc.t.Errorf("in 1 s of round trips of 50 ms at most %d bytes were granted, want half of %d", early, most)
		}
	})
}

// TestWindowOfASlowReaderStays: what is read slowly needs no larger window.
func TestWindowOfASlowReaderStays(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		s := tc.sending(50*time.Millisecond, 65536)
		read := uint64(0)
		for range 400 { // 20 s, an eighth of a window each round trip
			n, err := io.ReadFull(c, make([]byte, 8192))
			if err != nil {
				tc.t.Fatal(err)
			}
			read += uint64(n)
			tc.pass(50 * time.Millisecond)
			tc.peer.mu.Lock()
			limit := s.limit
			tc.peer.mu.Unlock()
			if limit > read+65536 {
				tc.t.Fatalf("after %d bytes in %v the limit is %d, %d ahead", read, tc.age(), limit, limit-read)
			}
		}
	})
}

// TestWindowOfAReaderThatPausesHoldsNoMore: whatever the window has grown to, what is
// unread stays within it, and Stats knows of nothing that went nowhere.
func TestWindowOfAReaderThatPausesHoldsNoMore(t *testing.T) {
	oneRun(t, oneSetup{listen: true, cfg: Config{MaxWindow: 1 << 20}}, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		s := tc.sending(50*time.Millisecond, 65536)
		if _, err := io.CopyN(io.Discard, c, 20<<20); err != nil {
			tc.t.Fatal(err)
		}
		tc.pass(time.Minute)
		if n := s.left(); n != 0 {
			tc.t.Errorf("the peer holds back %d bytes of what it is granted", n)
		}
		tc.peer.mu.Lock()
		unread := s.sent - 20<<20
		tc.peer.mu.Unlock()
		if unread > 1<<20 {
			tc.t.Errorf("%d bytes are unread, above MaxWindow", unread)
		}
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, _ := io.Copy(io.Discard, io.LimitReader(c, int64(unread))); uint64(n) != unread {
			tc.t.Errorf("%d of %d unread bytes can be read", n, unread)
		}
		synctest.Wait()
		tc.wantAlive("all within the limits")
	})
}

// TestWindowGrowsBeyond4GiB: a span is told from the low bits of what was consumed.
func TestWindowGrowsBeyond4GiB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBareOf(t, Protocol1, false).s
		const size = 131072
		for wraps := range uint64(5) { // after as many quarters of the span
			c := s.newState(testAddr(0), false)
			c.id = 1
			c.recv.init(size)
			c.recv.consumed = 1<<32 - (wraps+1)*size/4
			c.recv.granted.Store(c.recv.consumed + size)
			for quarter := range 5 { // the first begins the span
				if c.recv.size != size {
					t.Fatalf("wrapped after %d quarters: the window has grown after %d", wraps, quarter)
				}
				c.mu.Lock()
				c.consumeLocked(size / 4)
				c.mu.Unlock()
			}
			if c.recv.size != 2*size {
				t.Errorf("wrapped after %d quarters: the window is of %d bytes, want %d", wraps, c.recv.size, 2*size)
			}
		}
	})
}
