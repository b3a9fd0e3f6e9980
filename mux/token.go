package mux

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/internal/xport"
)

// lazyAfter is how long a free token is left for the reader that led last. It is
// about to come back; should a lazy waiter take the token meanwhile, every
// message would pay a hand-off between goroutines.
const lazyAfter = time.Millisecond

// The timer waits longer, by doublings of lazyAfter, while the reader comes back each
// time: up to 64 ms where somebody accepts, and 1 s where only the standby waits, to
// which nothing is urgent but the transport's end. A timer that fires wakes a thread, which
// carries goroutines off to another core: raw TCP itself takes 20.5 µs a round trip
// and not 17.7 in a program whose timer fires each 8 ms. To set and stop it with each
// message is worse by far (40 µs), for every new timer interrupts the poller. A reader
// that stays away for lazyAfter, once, starts over.
//
// It waits no longer than lazyAfter where it is a guess who comes back: one that has closed
// a connection that it had opened, and may open another; or one that was delivered to, and
// has not led.
const (
	guessBackoff      = 0
	maxAcceptBackoff  = 6
	maxStandbyBackoff = 10
)

// longAgo is a deadline that ends a blocked transport call at once.
var longAgo = time.Unix(1, 0)

// readToken is the right to read the transport and to hand out what comes. One
// waiter holds it, the leader; the others park until their wait is over or the
// token is passed to them.
//
//	free ──enlist──▶ held ──release──▶ free, or held by the next that waits
//	                 held ──stall────▶ stalled ──unstall──▶ held by the next
//
// Waiters are eager (they wait for bytes of a connection) or lazy (Accept, and
// the session's standby goroutine, which keeps ends, errors and opens flowing
// when nobody waits). A lazy waiter gets the token when no eager one wants it and
// the one that led last will not come back, and gives it up as soon as it has
// delivered to a reader.
//
// No wake-up is lost:
//
//  1. A waiter publishes that it waits (in its connection's list), then enlists,
//     then looks at its condition again, and only then parks or reads.
//  2. Who makes the condition true does so before it takes the waiter out of the
//     connection's list, and wakes it after.
//  3. Release passes the token to a waiter that still waits. One whose wait was
//     over already passes it on when it leaves.
//
// The transport's read deadline belongs to the leader. It is set under mu, so an
// interrupt (rouse) can't hit a leader that came later: that one clears it in
// arm, and looks at its own deadline and condition after that.
type readToken struct {
	t   *xport.Transport
	now func() int64 // nanoseconds since the session's base
	at  func(int64) time.Time

	counts *readCounts // the leader's own. Constant

	// permanent: the transport has no deadlines, so nobody blocked in it could be
	// interrupted, and the standby alone leads. Constant.
	permanent bool

	// stalled is whose unread bytes hold up the session, or nil. Written under mu.
	stalled atomic.Pointer[conn]

	mu        sync.Mutex
	leader    *waiter
	closed    bool // the session has ended: nobody leads any more
	stalledAt int64

	head, tail *waiter // eager waiters, the longest waiting first
	lazy       *waiter // lazy waiters, the newest first; linked by next and prev

	last   *conn // who led last, or was delivered to by a leader that does not come back
	lastAt int64 // when
	guess  bool  // last was delivered to by a reader, and may well not read soon

	timer   *time.Timer // gives the token to a lazy waiter; nil until needed
	armed   bool        // timer will fire
	firesAt int64       // when
	limit   int         // the most doublings that it was set by; that it fires in vain with guessBackoff tells nothing
	backs   int         // how often in a row it fired in vain

	// armedAt is the transport's read deadline: 0 none, 1 longAgo, else when.
	armedAt int64

	counted readCounts // counts as they were when the leader last came by here
}

// enlist makes w wait for the token, and reports whether w has it right away.
// To enlist twice is to enlist once.
func (t *readToken) enlist(w *waiter) bool {
	if t.permanent && !w.standby {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assertLocked()
	if w.queued || t.leader == w {
		return t.leader == w
	}
	free := t.leader == nil && t.stalled.Load() == nil && !t.closed
	if free && !w.lazy {
		if w.since-t.lastAt >= int64(lazyAfter) {
			t.backs = 0
		}
		t.leader = w
		return true
	}
	t.linkLocked(w)
	if free {
		t.offerLazyLocked()
	}
	return t.leader == w
}

// leave ends w's wait for the token: it is in no list after that, and if the
// token was passed to it meanwhile, the token goes on to the next.
func (t *readToken) leave(w *waiter) {
	t.mu.Lock()
	t.assertLocked()
	if w.queued {
		t.unlinkLocked(w)
	}
	if t.leader == w {
		t.passLocked()
	}
	w.ledLocked()
	t.mu.Unlock()
}

// release gives up the token that w holds. last is the connection whose reader
// is about to wait again, or nil; with it, release also tells w when that was. guess
// says that this is not known. at is the time if the caller knows it, else 0.
func (t *readToken) release(w *waiter, last *conn, guess bool, at int64) {
	t.mu.Lock()
	t.assertLocked()
	if t.leader != w {
		panic("BUG: release of the read token by who does not hold it")
	}
	w.ledLocked()
	t.counted = *t.counts
	if last != nil {
		t.last, t.guess, t.lastAt = last, guess, at
		if at == 0 {
			t.lastAt = t.now()
		}
		w.until = t.lastAt
	}
	t.passLocked()
	t.mu.Unlock()
}

// stall gives up the token that w holds until c's reader has caught up.
func (t *readToken) stall(w *waiter, c *conn) {
	t.mu.Lock()
	t.assertLocked()
	w.ledLocked()
	t.counted = *t.counts
	t.leader = nil
	t.stalledAt = t.now()
	t.stalled.Store(c)
	t.mu.Unlock()
}

// unstall ends a stall on c, if there is one, and returns how long it lasted.
func (t *readToken) unstall(c *conn) (lasted int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assertLocked()
	if t.stalled.Load() == c {
		lasted = t.now() - t.stalledAt
		t.stalled.Store(nil)
		t.last = nil // who led last may be the one that waits
		t.passLocked()
	}
	return lasted
}

// passLocked makes the next waiter the leader, or leaves the token free.
func (t *readToken) passLocked() {
	t.leader = nil
	if t.closed || t.stalled.Load() != nil {
		return
	}
	for t.head != nil {
		w := t.head
		t.unlinkLocked(w)
		if w.satisfied.Load() {
			continue // it was woken, and needs no token
		}
		t.promoteLocked(w)
		return
	}
	t.offerLazyLocked()
}

func (t *readToken) promoteLocked(w *waiter) {
	t.leader = w
	w.promoted.Store(true)
	w.Wake()
}

// offerLazyLocked gives a free token to a lazy waiter: now, or later by the timer.
func (t *readToken) offerLazyLocked() {
	if t.lazy == nil {
		return
	}
	if t.lazyMayLocked() {
		w := t.lazy
		t.unlinkLocked(w)
		t.promoteLocked(w)
		return
	}
	limit := maxAcceptBackoff
	switch {
	case t.guess || t.last.isClosed():
		limit = guessBackoff
	case t.lazy.standby:
		limit = maxStandbyBackoff
	}
	if t.armed && t.limit <= limit {
		return // soon enough, which needs no look at the clock
	}
	after := lazyAfter << min(t.backs, limit)
	at := t.now() + int64(after)
	if t.armed && t.firesAt <= at {
		return
	}
	t.armed, t.firesAt, t.limit = true, at, limit
	if t.timer == nil {
		t.timer = time.AfterFunc(after, t.onTimer)
	} else {
		t.timer.Reset(after)
	}
}

// lazyMayLocked reports whether a lazy waiter may take the free token. Who has closed a
// connection does not come back; but who had opened it may, by the next that it opens, and
// a standby that led in between would have to wake it.
func (t *readToken) lazyMayLocked() bool {
	if t.permanent || t.last == nil {
		return true
	}
	if t.last.isClosed() && !(t.last.opener && t.lazy != nil && t.lazy.standby) {
		return true
	}
	return t.now()-t.lastAt >= int64(lazyAfter)
}

func (t *readToken) onTimer() {
	t.mu.Lock()
	t.assertLocked()
	t.armed = false
	switch {
	case t.leader == nil && t.lazyMayLocked():
		t.backs = 0
	case t.limit != guessBackoff:
		t.backs = min(t.backs+1, maxStandbyBackoff)
	}
	if t.leader == nil && t.stalled.Load() == nil && !t.closed {
		t.offerLazyLocked()
	}
	t.mu.Unlock()
}

// closedConn follows the close of c, whose reader will not come back to lead.
func (t *readToken) closedConn(c *conn) {
	t.mu.Lock()
	t.assertLocked()
	if t.last == c && t.leader == nil && t.stalled.Load() == nil && !t.closed {
		t.offerLazyLocked()
	}
	t.mu.Unlock()
}

// rouse wakes w wherever it is: parked, or leading and blocked in the transport.
func (t *readToken) rouse(w *waiter) {
	w.roused.Store(true)
	t.mu.Lock()
	t.assertLocked()
	if t.leader == w && t.armedAt != 1 {
		t.armedAt = 1
		t.t.SetReadDeadline(longAgo)
	}
	t.mu.Unlock()
	w.Wake()
}

// arm readies the transport for w's next read: an old interrupt is cleared, and
// the transport's deadline is no later than w's. It may be earlier, left by one
// who led before: then the read times out early and the leader comes back here,
// which is rarer than a deadline that moves with every read. It returns w's
// deadline as it was when the interrupt was cleared, and whether w was roused.
func (t *readToken) arm(w *waiter) (want int64, roused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assertLocked()
	t.counted = *t.counts
	roused = w.roused.Load()
	if roused {
		w.roused.Store(false)
	}
	if w.deadline != nil {
		want = w.deadline.Load()
	}
	switch {
	case t.armedAt == want || t.closed:
	case t.armedAt != 0 && t.armedAt != 1 && (want == 0 || t.armedAt < want) && t.armedAt > t.now():
	default:
		t.armedAt = want
		t.t.SetReadDeadline(t.at(want))
	}
	return want, roused
}

// timedOut reports whether err comes of the deadline that arm or rouse has set. Any
// other timeout is the transport's own, and the session's end.
func (t *readToken) timedOut(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assertLocked()
	return xport.IsTimeout(err) && t.armedAt != 0 && t.armedAt <= t.now()
}

// close ends the token: nobody is given it any more.
func (t *readToken) close() {
	t.mu.Lock()
	t.assertLocked()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
}

// count returns what the leaders have counted.
func (t *readToken) count() readCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assertLocked()
	return t.counted
}

// lastRead returns when something came last, on the session's clock, if the leader
// looks at the clock for that.
func (t *readToken) lastRead() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assertLocked()
	return t.counted.lifeAt
}

// nudge gives a free token to a lazy waiter, whoever may come back, and reports whether
// it was free.
func (t *readToken) nudge() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assertLocked()
	free := t.leader == nil && t.stalled.Load() == nil && !t.closed
	if free {
		t.last = nil
		t.offerLazyLocked()
	}
	return free
}

// held reports whether somebody leads.
func (t *readToken) held() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assertLocked()
	return t.leader != nil
}

func (t *readToken) linkLocked(w *waiter) {
	w.queued = true
	if w.lazy {
		// The standby is the last resort: whoever accepts goes before it.
		at := &t.lazy
		for w.standby && *at != nil {
			w.prev, at = *at, &(*at).next
		}
		w.next = *at
		if w.next != nil {
			w.next.prev = w
		}
		*at = w
		return
	}
	w.prev, w.next = t.tail, nil
	if t.tail == nil {
		t.head = w
	} else {
		t.tail.next = w
	}
	t.tail = w
}

func (t *readToken) unlinkLocked(w *waiter) {
	switch {
	case w.prev != nil:
		w.prev.next = w.next
	case w.lazy:
		t.lazy = w.next
	default:
		t.head = w.next
	}
	switch {
	case w.next != nil:
		w.next.prev = w.prev
	case !w.lazy:
		t.tail = w.prev
	}
	w.next, w.prev, w.queued = nil, nil, false
}
