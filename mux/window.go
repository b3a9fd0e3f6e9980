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
	size     uint32        // the window: what is granted beyond consumed

	// A span of the stream, for telling whether a window is consumed per round trip.
	spanFrom uint32 // in bytes, the low bits of consumed
	spanAt   int64  // on the session's clock; 0: none has begun

	dueAt int64 // when a WINDOW was last due; 0: never
}

func (v *recvWindow) init(size uint32) {
	v.size, v.told = size, uint64(size)
	v.granted.Store(uint64(size))
}

// A windowDue says whether a WINDOW is due, and for when.
type windowDue uint8

const (
	notDue  windowDue = iota
	dueSoon           // within flushWithin
	dueNow
)

// consumeLocked counts n bytes as read by the application, and tells whether that
// makes a WINDOW due: after a quarter of the window, since waiting for a half leaves
// fast and long paths idle.
func (c *conn) consumeLocked(n int) windowDue {
	v := &c.recv
	v.consumed += uint64(n)
	size := uint64(v.size)
	if c.id == 0 || v.consumed+size-v.granted.Load() < size/4 || c.discards() || c.flags.Load()&flagReadOver != 0 {
		return notDue
	}
	now := c.s.now()
	due := dueNow
	left := v.granted.Load() - v.consumed - uint64(c.in.n) // the peer's credit, but for what is on its way
	if v.dueAt != 0 && now-v.dueAt >= int64(flushWithin) && left >= size/2 && c.othersExpected() {
		due = dueSoon
	}
	v.dueAt = now
	c.growLocked(now)
	v.granted.Store(v.consumed + uint64(v.size))
	return due
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
func (c *conn) growLocked(now int64) {
	v, s := &c.recv, c.s
	most := uint32(s.cfg.MaxWindow)
	if v.size >= most {
		return
	}
	s.pings.probe(s, now)
	at := uint32(v.consumed)
	if v.spanAt == 0 {
		v.spanFrom, v.spanAt = at, now
		return
	}
	if at-v.spanFrom < v.size {
		return
	}
	if now-v.spanAt <= min(max(2*s.pings.rtt.Load(), int64(minSpan)), int64(maxSpan)) {
		v.size = min(2*v.size, most)
	}
	v.spanFrom, v.spanAt = at, now
}

// grant sends the WINDOW that consumeLocked said is due.
//
// One that is due soon goes along with what others write, of whom some are expected to. A
// flush for each WINDOW costs 128 connections in ping-pong a tenth of their messages/s. It
// may wait since the quarter before lasted longer than it will, and the peer has half of the
// window left.
func (c *conn) grant(due windowDue) {
	if due == notDue {
		return
	}
	c.s.out.debts.add(c, owesWindow)
	if due == dueSoon {
		c.s.flushLater()
	} else {
		c.s.tryFlush()
	}
}

// othersExpected reports whether some connection but c is expected to write.
func (c *conn) othersExpected() bool {
	n := c.s.expect.left()
	if c.expected.Load() != 0 {
		n--
	}
	return n > 0
}

// oweWindow is grant for the leader, which flushes when all is handed out.
func (s *session) oweWindow(c *conn, due windowDue) {
	switch due {
	case dueNow:
		s.owe(c, owesWindow)
	case dueSoon:
		c.grant(due)
	}
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
	w := c.sender
	if w != nil && w.forCredit {
		c.sender = nil
		w.satisfied.Store(true)
	} else {
		w = nil
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
	c.letGo()
	w := s.waiters.get(nil)
	w.deadline, w.forCredit = &c.writeDeadline, true
	w.since = s.now()
	c.cameForward()
	c.setSender(w)
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
	c.setSender(nil)
	s.count.credit.Add(s.now() - w.since)
	s.waiters.put(w)
	return err
}

// rtt returns the smoothed round-trip time, 0 if it is not known.
func (s *session) rtt() time.Duration { return time.Duration(s.pings.rtt.Load()) }
