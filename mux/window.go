package mux

import (
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/internal/park"
)

// Flow control of protocol 1: PROTOCOL.md, 2.9. All limits are offsets, so that they
// can be told again, late and together. A peer's numbers are only compared with ours:
// limits are below 2^63 and never go back, so that no difference is negative and no sum
// wraps (hostile peers, R5).

// A recvWindow is what a connection grants the peer. It is guarded by conn.mu, but
// for received, which the leader owns.
type recvWindow struct {
	granted  atomic.Uint64 // the limit; written under mu
	told     uint64        // as the peer knows it; vt: see lendLocked
	received uint64        // payload bytes received
	consumed uint64        // of them, read by the application
	size     uint64        // the window: what is granted beyond consumed

	// A span of the stream, for telling whether a window is consumed per round trip.
	spanFrom uint64 // in bytes
	spanAt   int64  // on the session's clock; 0: none has begun
}

func (v *recvWindow) init(size uint64) {
	v.size, v.told = size, size
	v.granted.Store(size)
}

// consumeLocked counts n bytes as read by the application, and reports whether that
// makes a WINDOW due: after a quarter of the window, since waiting for a half leaves
// fast and long paths idle.
func (c *conn) consumeLocked(n int) bool {
	v := &c.recv
	v.consumed += uint64(n)
	if c.id == 0 || v.consumed+v.size-v.granted.Load() < v.size/4 || c.discards() || c.flags.Load()&flagReadOver != 0 {
		return false
	}
	c.growLocked()
	v.granted.Store(v.consumed + v.size)
	return true
}

// minSpan counts as a round trip where that is shorter: a window that lasts no longer
// would keep both ends busy with WINDOWs. On loopback, where a round trip takes 50 µs,
// they cost a sixth of the throughput.
const minSpan = 4 * time.Millisecond

// maxSpan is the most that counts as twice a round trip: a peer that answers late must not
// get the largest window for a reader of any speed.
const maxSpan = 2 * time.Second

// growLocked doubles the window while the connection consumes one within a round trip
// or little more: then it is the window that holds it up.
func (c *conn) growLocked() {
	v, s := &c.recv, c.s
	most := uint64(s.cfg.MaxWindow)
	if v.size >= most {
		return
	}
	now := s.now()
	s.pings.probe(s, now)
	if v.spanAt == 0 {
		v.spanFrom, v.spanAt = v.consumed, now
		return
	}
	if v.consumed-v.spanFrom < v.size {
		return
	}
	if now-v.spanAt <= min(max(2*s.pings.rtt.Load(), int64(minSpan)), int64(maxSpan)) {
		v.size = min(2*v.size, most)
	}
	v.spanFrom, v.spanAt = v.consumed, now
}

// grant sends the WINDOW that consumeLocked said is due.
func (c *conn) grant() {
	c.s.out.debts.add(c, owesWindow)
	c.s.tryFlush()
}

// minRaise is the least by which a WINDOW raises a limit for nothing. Else each byte that a
// peer grants would make a Write that waits send a frame (PROTOCOL.md, 2.13).
const minRaise = 4 << 10

// raise lets c send up to limit, and returns by how much that is more than before. The
// leader calls it.
func (c *conn) raise(limit uint64) (by uint64) {
	for {
		old := c.sendLimit.Load()
		if limit <= old {
			return 0
		}
		if c.sendLimit.CompareAndSwap(old, limit) {
			by = limit - old
			break
		}
	}
	c.mu.Lock()
	w := c.creditor
	if w != nil {
		c.creditor = nil
		w.satisfied.Store(true)
	}
	c.mu.Unlock()
	if r := &c.s.in; w != nil && w != r.leader {
		c.expected.Store(c.s.expect.add())
		r.woken = append(r.woken, w)
	}
	return by
}

// credit returns how many of n bytes c may send now, and waits until it is one at
// least. The caller holds the write lock, and so owns sent.
func (c *conn) credit(n int) (int, error) {
	for {
		if room := c.sendLimit.Load() - c.sent; room > 0 {
			return int(min(uint64(n), room)), nil
		}
		if err := c.awaitCredit(); err != nil {
			return 0, err
		}
	}
}

// awaitCredit waits until c may send, or can't any more. Meanwhile it leads if nobody
// else does: somebody must read the WINDOW.
func (c *conn) awaitCredit() (err error) {
	s := c.s
	w := s.waiters.get(nil)
	w.deadline = &c.writeDeadline
	w.since = s.now()
	c.cameForward()
	c.mu.Lock()
	c.creditor = w
	c.mu.Unlock()
	leads, enlisted := s.token.enlist(w), true
	for !w.satisfied.Load() && c.sendLimit.Load() == c.sent {
		if err = c.cantWrite(); err != nil {
			break
		}
		switch {
		case leads || w.promoted.Load():
			s.lead(w, c)
			leads, enlisted = false, false
		case !enlisted:
			leads, enlisted = s.token.enlist(w), true
		default:
			at := c.writeDeadline.Load()
			w.Park(park.Until(at, s.nowIf(at)))
		}
	}
	if enlisted {
		s.leave(w)
	}
	c.mu.Lock()
	if c.creditor == w {
		c.creditor = nil
	}
	c.mu.Unlock()
	s.count.credit.Add(s.now() - w.since)
	s.waiters.put(w)
	return err
}

// rtt returns the smoothed round-trip time, 0 if it is not known.
func (s *session) rtt() time.Duration { return time.Duration(s.pings.rtt.Load()) }
