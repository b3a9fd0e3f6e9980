package mux

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/vtmux/vtmux/internal/park"
	"github.com/vtmux/vtmux/internal/xport"
	"github.com/vtmux/vtmux/pool"
	"github.com/vtmux/vtmux/wire"
)

const (
	// copyMax is the most that one staged frame carries. Two of them fit into a
	// staging buffer, so that one is filled while the other is sent.
	copyMax = stagingSize/2 - wire.VTHeaderLen
	// streakFrom is which small Write in a row, without a Read in between, is left
	// to the helper to flush. Before that, flushing at once is the fastest.
	streakFrom = 3
	// uncounted, in conn.streak, says that there were Writes, but is none of the count.
	uncounted = 1 << 31
)

// errInterrupted makes a flusher look at its own connection.
var errInterrupted = errors.New("mux: flush interrupted")

// Write sends p. It returns when p is copied or sent, never earlier, so p is the
// caller's again. It waits while the transport takes nothing, and with protocol 1 until
// the peer's application has read enough; a deadline and Close end that wait. n counts
// exactly the bytes that will be sent; only when the session ends may more have been sent
// than n says. Writes of one connection take turns, each whole.
func (h *Conn) Write(p []byte) (int, error) {
	n, err := h.c.write(p)
	runtime.KeepAlive(h)
	return n, err
}

// WriteBuffers sends all of v, as one Write of its concatenation would, and
// consumes what it sent from v as net.Buffers.WriteTo does.
func (h *Conn) WriteBuffers(v *net.Buffers) (int64, error) {
	n, err := h.c.writeBuffers(v)
	runtime.KeepAlive(h)
	return n, err
}

// ReadFrom sends everything that r gives until io.EOF, and returns how much that
// was. It does not end the half: CloseWrite does. Other Writes may come between two
// pieces that r gives. While r, a TCP or Unix socket, has nothing to read, no buffer is
// held (on Linux).
func (h *Conn) ReadFrom(r io.Reader) (int64, error) {
	n, err := h.c.readFrom(r)
	runtime.KeepAlive(h)
	return n, err
}

// writeLock serializes the Writes of a connection.
//
//	bit 0  held
//	bit 1  wanted: a goroutine waits for it (conn.writers)
//	bit 2  ending: who holds it must send our END before it unlocks
//	bit 3  revoked: who holds it must end its lease
//
// They make every unlock go to conn.mu, under which bits 1 and 2 are set. Where bit 3 is lost
// there, the lease has ended.
type writeLock struct{ v atomic.Uint32 }

const (
	wHeld uint32 = 1 << iota
	wWanted
	wEnding
	wRevoked
)

func (l *writeLock) held() bool { return l.v.Load()&wHeld != 0 }

// tryLock takes the lock if it is free, and else leaves note in it.
func (l *writeLock) tryLock(note uint32) bool {
	for {
		v := l.v.Load()
		if v&wHeld == 0 {
			if l.v.CompareAndSwap(v, v|wHeld) {
				return true
			}
		} else if l.v.CompareAndSwap(v, v|note) {
			return false
		}
	}
}

// lockWrite takes the write lock, unless nothing can be written.
func (c *conn) lockWrite() error {
	if !c.wlock.v.CompareAndSwap(0, wHeld) {
		if err := c.lockWriteSlow(); err != nil {
			return err
		}
	}
	if err := c.cantWrite(); err != nil {
		c.unlockWrite()
		return err
	}
	return nil
}

// lockWriteSlow waits for the lock, in turn. Who unlocks wakes the first that waits, and
// leaves the lock free, so that whoever runs may go on; but one that finds it taken again is
// handed it by the next unlock. So no loop of Writes keeps another Write away. It may return
// without an error where nothing can be written: the caller finds that, and passes the lock
// on.
func (c *conn) lockWriteSlow() error {
	w := c.s.waiters.get(nil)
	defer c.s.waiters.put(w)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wlock.tryLock(wWanted) {
		return nil
	}
	c.writers.push(w)
	for {
		if err := c.cantWriteLocked(); err != nil {
			c.writers.remove(w) // it is not woken, or whoever has the lock passes it on
			return err
		}
		c.mu.Unlock()
		c.parkWriter(w)
		c.mu.Lock()
		switch {
		case !w.satisfied.Load(): // a rouse
		case w.passedOver: // it is ours
			return nil
		case c.wlock.tryLock(wWanted):
			c.writers.remove(w)
			return nil
		default:
			w.satisfied.Store(false)
			w.passedOver = true
		}
	}
}

func (c *conn) unlockWrite() {
	if !c.wlock.v.CompareAndSwap(wHeld, 0) {
		c.unlockWriteSlow()
	}
}

func (c *conn) unlockWriteSlow() {
	last := c.leased != 0 && c.endLease()
	c.mu.Lock()
	ending := c.passLockLocked()
	c.mu.Unlock()
	if last {
		c.s.trySend()
	}
	if ending {
		c.s.tryFlush()
	}
}

// passLockLocked unlocks, and reports whether the end of our half is to be flushed. Of those
// that wait, one at a time is woken.
func (c *conn) passLockLocked() (ending bool) {
	ending = c.wlock.v.Load()&wEnding != 0 && c.ending != 0 // see lost
	if ending {
		c.s.out.debts.add(c, uint32(c.ending))
	}
	var v uint32
	switch w := c.writers.first(); {
	case w == nil:
	case w.passedOver:
		v = wHeld
		c.writers.take(w)
		w.Wake()
	case !w.satisfied.Load():
		w.satisfied.Store(true)
		w.Wake()
	}
	if c.writers.last != nil {
		v |= wWanted
	}
	c.wlock.v.Store(v) // while it was held, only its notes could change, under mu but for wRevoked
	return ending
}

// cantWrite returns why nothing can be written now, or nil.
func (c *conn) cantWrite() error {
	if c.flags.Load()&flagWriteShut == 0 && c.writeDeadline.Load() == 0 {
		return nil
	}
	return c.cantWriteSlow()
}

// cantWriteSlow is apart for its defer, which every Write would pay for.
func (c *conn) cantWriteSlow() error {
	if c.flags.Load()&flagWriteShut == 0 {
		return c.writeTooLate()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.writeErr
}

func (c *conn) cantWriteLocked() error {
	if c.flags.Load()&flagWriteShut == 0 {
		return c.writeTooLate()
	}
	return *c.writeErr
}

func (c *conn) writeTooLate() error {
	if c.expired(c.writeDeadline.Load()) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *conn) write(p []byte) (int, error) {
	if err := c.lockWrite(); err != nil {
		return 0, err
	}
	n, err := c.writeHeld(p)
	c.unlockWrite()
	return n, err
}

// writeHeld writes p. The caller holds the write lock.
func (c *conn) writeHeld(p []byte) (n int, err error) {
	if c.leased != 0 && c.writeLeased(p) {
		if err := c.sentErr(); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	for len(p) > 0 {
		room := len(p)
		if c.id != 0 {
			if room, err = c.credit(room); err != nil {
				return n, err
			}
		}
		most := int(c.s.peer.maxPayload.Load())
		var m int
		if c.s.lending && room >= lendFrom {
			m, err = c.writeLent(p[:min(room, lentMax, lentFrames*most)])
			c.s.count.payloadOut.Add(uint64(m))
		} else {
			m = min(room, copyMax, most)
			err = c.writeCopy(p[:m])
			if err != nil {
				m = 0
			}
		}
		n += m
		c.sent += uint64(m)
		p = p[m:]
		if err == nil && len(p) > 0 {
			err = c.cantWrite() // the deadline may have passed in the middle
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// inStreak counts a small write and reports whether it belongs to a streak.
func (c *conn) inStreak() bool { return c.streak.Add(1)&^uncounted >= streakFrom }

// wrote notes a Write that is not counted.
func (c *conn) wrote() {
	if c.streak.Load() == 0 {
		c.streak.Store(uncounted)
	}
}

// writeCopy stages p as one frame.
func (c *conn) writeCopy(p []byte) error {
	head := c.s.headerLen()
	n := head + len(p)
	more := 2 * n
	if c.leased != 0 {
		l, _ := c.lease()
		more = max(more, 2*int(l.next-l.start))
		c.letGo()
	} else if b := c.claimAlone(n); b != nil {
		c.putHeader(b, len(p))
		copy(b[head:], p)
		c.s.count.payloadOut.Add(uint64(len(p)))
		c.s.runFlusher(c, nil)
		return c.sentErr()
	}
	b, i, slot, ok := c.s.out.reserveFor(c, n, len(p), more)
	if !ok {
		var err error
		if b, i, err = c.reserveWait(context.Background(), n, len(p), true); err != nil {
			return err
		}
		slot = -1
	}
	c.putHeader(b, len(p))
	copy(b[head:], p)
	if slot >= 0 {
		c.s.flush(c, c.keep(i, slot))
	} else {
		c.s.flush(c, c.s.out.stg.commit(i, n))
	}
	return c.sentErr()
}

// claimAlone takes the flusher's role for one frame of n bytes, and returns where to
// put it: the caller fills that and runs the flusher. It spares a lone conversation
// the staging. It returns nil unless nobody flushes, nothing is published, and nobody
// is expected to publish. What c published before has been sent then: its frames for
// nobody gives the role up before, and its OPEN, which may have had no claim yet, for
// that is looked at with the role held.
func (c *conn) claimAlone(n int) []byte {
	s, o := c.s, &c.s.out
	streak := c.streak.Load() + 1
	if !s.inline || streak&^uncounted >= streakFrom || c.expected.Load() != 0 || s.expect.left() != 0 || o.published() ||
		!o.role.CompareAndSwap(flushIdle, flushBusy) {
		return nil
	}
	o.stg.flusher.take()
	if o.parted.Load() || o.published() { // by who found the role taken, or is about to claim it
		s.runFlusher(c, nil)
		return nil
	}
	c.streak.Store(streak)
	o.head = o.stg.spare()[:n]
	o.control = false // as build would say; what is left there is the last batch's
	o.phase = phaseSending
	return o.head
}

// sentErr is what Write returns after a frame was published.
func (c *conn) sentErr() error {
	if s := c.s; s.out.parted.Load() || s.closing.Load() || s.dead.Load() {
		return c.lost() // nobody knows whether p was sent
	}
	return nil
}

// lost is what a Write returns because the session ends. It is c's last that sends anything,
// though the session may not have come to abort c yet: the peer would read what follows in
// the place of what the caller takes for lost. For the same reason an end that waits for this
// Write is not sent.
func (c *conn) lost() error {
	err := c.s.lostErr()
	c.abort(err)
	c.mu.Lock()
	c.ending &^= uint8(owesEnd)
	c.mu.Unlock()
	return err
}

// reserveWait is staging.reserve, and waits for room until ctx is done. flush: the
// caller may make the room itself, and block in the transport; its deadline ends that,
// but ctx could not.
func (c *conn) reserveWait(ctx context.Context, n, payload int, flush bool) (b []byte, i int, err error) {
	s := c.s
	w := s.waiters.get(nil)
	w.need = n
	c.setSender(w)
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, w.Wake)()
	}
	o := &s.out
	o.enter(&o.rooms, w)
	for {
		var ok bool
		if b, i, ok = o.stg.reserve(n, payload); ok {
			break
		}
		if err = c.cantWrite(); err == nil {
			err = ctx.Err()
		}
		if err != nil {
			break
		}
		if o.claim() {
			// Nobody flushes, so we make the room.
			if s.inline && flush {
				o.leave(&o.rooms, w)
				s.runFlusher(c, nil)
				o.enter(&o.rooms, w)
				continue
			}
			s.handOver()
		}
		o.passOver(w)
		c.parkWriter(w)
	}
	o.leave(&o.rooms, w)
	c.setSender(nil)
	s.waiters.put(w)
	return b, i, err
}

// parkWriter parks w, which belongs to a Write, until it is woken or c's deadline
// passes.
func (c *conn) parkWriter(w *waiter) {
	since := c.s.now()
	w.Park(park.Until(c.writeDeadline.Load(), since))
	c.s.count.flusher.Add(c.s.now() - since)
}

// setSender names who to wake when c is closed or its write deadline is set.
func (c *conn) setSender(w *waiter) {
	c.mu.Lock()
	c.sender = w
	c.mu.Unlock()
}

func (c *conn) writeBuffers(v *net.Buffers) (total int64, err error) {
	if err := c.lockWrite(); err != nil {
		return 0, err
	}
	defer c.unlockWrite()
	for len(*v) > 0 {
		p := (*v)[0]
		n, err := c.writeHeld(p)
		total += int64(n)
		if err != nil {
			(*v)[0] = p[n:]
			return total, err
		}
		(*v)[0] = nil
		*v = (*v)[1:]
		if len(*v) > 0 {
			if err := c.cantWrite(); err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

var errInvalidRead = errors.New("mux: the reader says that it has read less than nothing, or more than there was room for")

// readFromMax is how much ReadFrom reads at once: one frame of the largest size.
const readFromMax = wire.VTMaxPayload

func (c *conn) readFrom(r io.Reader) (total int64, err error) {
	var slab *pool.Slab
	get := func() []byte {
		slab = pool.GetSlab(readFromMax)
		return slab.Bytes()[:readFromMax]
	}
	put := func() {
		slab.Release()
		slab = nil
	}
	src := xport.NewSource(r)
	defer func() {
		if slab != nil {
			put() // r has panicked
		}
	}()
	for {
		if err = c.cantWrite(); err != nil {
			return total, err // what nobody can send stays in r
		}
		n, rerr := src.Read(get, put)
		if n < 0 || n > readFromMax {
			return total, errInvalidRead
		}
		if n > 0 {
			var m int
			m, err = c.write(slab.Bytes()[:n])
			total += int64(m)
		}
		if slab != nil {
			put()
		}
		switch {
		case err != nil:
			return total, err
		case rerr == io.EOF:
			return total, nil
		case rerr != nil:
			return total, rerr
		}
	}
}
