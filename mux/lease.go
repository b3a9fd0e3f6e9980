package mux

import "sync/atomic"

// A lease is room in staging that a connection keeps from one small Write to the next. The
// next Write copies its frame behind the last, and neither reserves nor commits: it touches
// nothing that other connections do, and locks nothing but its turn, which it needs anyway.
//
// The lease belongs to who holds the connection's write lock, who ends it
//
//   - before it publishes payload elsewhere, so that this stays in order (an end may come
//     behind a lease: it is the last), and before it waits for anything, so that the flusher
//     never waits for who waits for it;
//   - for the flusher, when the buffer is sealed. The flusher takes the write lock for that,
//     or, if somebody has it, leaves a note there: then the unlock ends the lease;
//   - when another waits for the lock.
//
// A Write into a lease need not claim the flusher's role: who got the lease has claimed it, and
// that claim is served when the buffer is sealed, which ends the lease.
//
// A connection gets a lease with its second frame in a buffer while others flush, of no more
// spare room than it has filled: many that write little must not fill the buffer with room that
// they don't use. What is left in the end goes back if it is the last in the buffer. Else it is
// a gap, which the flusher closes.
type lease struct {
	owner   atomic.Pointer[conn] // while it runs
	start   int32                // where in the buffer it begins
	next    int32                // where its next frame goes
	end     int32                // where it ends
	payload int32                // bytes, in its frames
	_       [40]byte             // two cores must not write to one line (of 64-bit machines)
}

const (
	// leaseMax is the most that a lease has to spare. The more it is, the fewer reservations, and
	// the longer the gaps.
	leaseMax = 8 << 10
	// leaseFrame is the longest frame for which there is a lease. Where copying costs most, there
	// is little to save.
	leaseFrame = leaseMax / 6
	// maxLeases is how many leases a buffer has room for. Who finds them all given reserves.
	maxLeases = 32
	// secondBuffer, in conn.leased, says that the lease is in the second buffer.
	secondBuffer = 1 << 7
)

// lease returns c's lease, and the buffer that it is in. The caller holds the write lock, and
// leased is not 0.
func (c *conn) lease() (l *lease, buffer int) {
	buffer = int(c.leased / secondBuffer)
	return &c.s.out.stg.leases[buffer][c.leased%secondBuffer-1], buffer
}

// writeLeased writes p to c's lease, and reports whether there was room and credit for all of
// it. The caller holds the write lock, and leased is not 0.
func (c *conn) writeLeased(p []byte) bool {
	l, i := c.lease()
	head := c.s.headerLen()
	n := head + len(p)
	if len(p) == 0 || c.id != 0 && c.sendLimit.Load()-c.sent < uint64(len(p)) || int(l.end-l.next) < n && !c.growLease(l, n) {
		return false
	}
	b := c.s.out.stg.buf[i][l.next:][:n]
	c.putHeader(b, len(p))
	copy(b[head:], p)
	l.next += int32(n)
	l.payload += int32(len(p))
	c.sent += uint64(len(p))
	c.cameForward()
	c.wrote()
	return true
}

// growLease doubles c's lease for a frame of n bytes, and others like it, if nothing is reserved
// behind it.
func (c *conn) growLease(l *lease, n int) bool {
	g := &c.s.out.stg
	size := min(int(l.next-l.start), leaseMax, stagingSize-int(l.next))
	size -= size % n
	if size == 0 {
		return false
	}
	for {
		w := g.word.Load()
		if wordSeals(w) != c.seals || wordOffset(w) != int(l.end) {
			return false
		}
		if g.word.CompareAndSwap(w, w+uint64(size)-uint64(l.end-l.next)) {
			l.end = l.next + int32(size)
			return true
		}
	}
}

// reserveFor is reserve for a frame of c, which holds its write lock. If c has a frame in the
// open buffer, and others flush, as much as more bytes come with it, for frames of that size:
// then there is a lease, number slot of the buffer, which keep must begin when the frame is
// filled in. Else slot is -1.
func (o *writeSide) reserveFor(c *conn, n, payload, more int) (b []byte, i, slot int, ok bool) {
	for g := &o.stg; ; {
		w := g.word.Load()
		off := wordOffset(w)
		if off+n > stagingSize {
			return nil, 0, 0, false
		}
		size, add := n, uint64(payload)<<payloadAt
		slot = -1
		if wordSeals(w) == c.seals {
			if most := min(more, leaseMax, stagingSize-off); n <= leaseFrame && most >= 2*n && wordLeases(w) < maxLeases && c.wlock.v.Load() == wHeld && o.role.Load() != flushIdle {
				size, add = most-most%n, 1<<leasesAt // its end counts the payload
				slot = wordLeases(w)
			}
		}
		if !g.word.CompareAndSwap(w, w+add+uint64(size)) {
			continue
		}
		c.seals = wordSeals(w)
		i = wordOpen(w)
		if slot >= 0 {
			l := &g.leases[i][slot]
			l.start, l.next, l.end, l.payload = int32(off), int32(off+n), int32(off+size), int32(payload)
		}
		return g.buf[i][off : off+n : off+n], i, slot, true
	}
}

// keep begins the lease that reserveFor gave. It reports what commit does.
func (c *conn) keep(i, slot int) (last bool) {
	g := &c.s.out.stg
	c.leased = uint8(slot + 1 + i*secondBuffer)
	g.leases[i][slot].owner.Store(c)
	// A flusher that has sealed the buffer before it could see the owner does not end the lease.
	if wordSeals(g.word.Load()) != c.seals {
		return c.endLease()
	}
	return false
}

// endLease ends c's lease. The caller holds the write lock, and leased is not 0. It reports
// what commit does.
func (c *conn) endLease() (last bool) {
	g := &c.s.out.stg
	l, i := c.lease()
	c.leased = 0
	l.owner.Store(nil)
	c.s.count.payloadOut.Add(uint64(l.payload))
	if g.giveBack(i, int(l.end), int(l.end-l.next)) {
		l.end = l.next
	}
	return g.commit(i, int(l.end-l.start))
}

// letGo ends c's lease, if it has one, and flushes if that has come to be c's part. The caller
// holds the write lock.
func (c *conn) letGo() {
	if c.leased != 0 && c.endLease() {
		c.s.trySend()
	}
}

// giveBack makes the last n bytes before end free again, if buffer i is open, and nothing in
// it is reserved behind them.
func (g *staging) giveBack(i, end, n int) bool {
	for n > 0 {
		w := g.word.Load()
		if wordOpen(w) != i || wordOffset(w) != end {
			return false
		}
		if g.word.CompareAndSwap(w, w-uint64(n)) {
			return true
		}
	}
	return false
}

// revoke ends the first n leases of buffer i, for the flusher. That of a connection which is
// being written to ends when that Write is out.
func (g *staging) revoke(i, n int) {
	if n == 0 { // perhaps init has not made them
		return
	}
	for j := range g.leases[i][:n] {
		c := g.leases[i][j].owner.Load()
		if c == nil || !c.wlock.tryLock(wRevoked) {
			continue
		}
		if c.leased != 0 { // another, perhaps, that c has by now: nothing is lost by that
			c.endLease() // never the last: no buffer is settled before this has returned
		}
		c.unlockWrite()
	}
}

// closeGaps moves what is in sealed buffer i together, up to end, and returns where it ends
// then.
func (g *staging) closeGaps(i, end int) int {
	b, to, from := g.buf[i], 0, 0
	for j := range g.leases[i][:g.given[i]] { // in the order of their bytes
		if l := &g.leases[i][j]; l.next < l.end {
			to += move(b, to, from, int(l.next))
			from = int(l.end)
		}
	}
	return to + move(b, to, from, end)
}

// move moves b[from:upto] to b[to:], and returns how much that is.
func move(b []byte, to, from, upto int) int {
	if to != from {
		copy(b[to:], b[from:upto])
	}
	return upto - from
}
