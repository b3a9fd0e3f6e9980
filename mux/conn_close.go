package mux

import (
	"net"
	"runtime"
	"strings"
	"syscall"

	"github.com/vtmux/vtmux/wire"
)

// Close ends both halves. What was written before is delivered, and then the peer
// reads io.EOF; what the peer still sends is discarded. Pending calls return
// net.ErrClosed, but for a ReadFrom or WriteTo that waits for the other side it copies
// from or to: close that as well. Close never waits for the transport. Closing twice is
// no error.
//
// With protocol 1 the peer's writers fail with EPIPE, if its half has not ended. The Close of
// a connection that this end has opened, and not written to since it last read, is sent along
// with what follows, or by itself within a millisecond; so close the Pipe before the process
// ends. Any other is sent at once.
//
// With the vt-muxer protocol the peer's writers are not told, and the address stays in use
// (ErrAddrInUse) until the peer has ended its half too.
func (h *Conn) Close() error {
	if h.c.closeSoon() {
		runtime.SetFinalizer(h, nil)
	}
	runtime.KeepAlive(h)
	return nil
}

// CloseWrite ends this end's half: the peer reads io.EOF after everything that was
// written. Reading goes on. It never waits, and to repeat it is no error. Where the half
// has ended otherwise, it returns what Write does.
func (h *Conn) CloseWrite() error {
	err := h.c.closeWrite()
	runtime.KeepAlive(h)
	return err
}

// CloseRead gives up reading: what was received, and what comes, is discarded, and Read
// returns net.ErrClosed; but where nothing was unread and nothing more was to come, still
// io.EOF, or the error that ended it. After Close it returns net.ErrClosed. The peer's
// Writes fail with EPIPE; with the vt-muxer protocol it is not told, and they go on into
// the void.
func (h *Conn) CloseRead() error {
	err := h.c.closeRead()
	runtime.KeepAlive(h)
	return err
}

// Reset gives the connection up: Reads and Writes here return a *ResetError with code,
// and what was received, or not yet sent, is discarded. The peer's Reads return a
// *ResetError with code as well, its Writes a *StoppedError. But where CloseWrite came
// before, the peer's Reads end as that has said. The vt-muxer protocol has no reset, so
// there the peer sees what Close would show it, and never the code. The Conn needs no
// Close then.
//
// An opener should not reset more than 25 connections a second, 250 in a burst, that the
// peer has not accepted yet: it would end the session as under attack (PROTOCOL.md, 2.13).
func (h *Conn) Reset(code Code) error {
	err := &ResetError{Code: code}
	if h.c.closeWith(err, err, owesReset, code) {
		runtime.SetFinalizer(h, nil)
	}
	runtime.KeepAlive(h)
	return nil
}

// close ends both halves here and reports whether it was the first to do so.
func (c *conn) close(readErr, writeErr error) bool {
	return c.closeWith(readErr, writeErr, owesEnd, CodeClosed)
}

// closeRefusing is close for a connection that was not accepted.
func (c *conn) closeRefusing(code Code, reason string) bool {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	c.mu.Lock()
	if r := c.rareLocked(); !r.refused {
		r.refused, r.refusal, r.reason = true, code, reason
	}
	c.mu.Unlock()
	return c.closeWith(net.ErrClosed, net.ErrClosed, owesRefusal, code)
}

// closeWith is close, where our half ends by what end says: the END or FIN, RESET with
// code, or REFUSED with code. STOP, with code as well, is sent if the peer's half is
// open.
func (c *conn) closeWith(readErr, writeErr error, end uint32, code Code) bool {
	first, owes := c.oweClose(readErr, writeErr, end, code)
	if owes {
		c.s.tryFlush()
	}
	return first
}

// oweClose is closeWith without the flush. It reports whether it was the first, and whether
// it made something owed now.
func (c *conn) oweClose(readErr, writeErr error, end uint32, code Code) (first, owes bool) {
	first, stop, open := c.shut(readErr, writeErr, end, code)
	return first, first && c.oweEnds(stop, open, end)
}

// closeSoon is close for an application that is done with c. What is sent may go along with
// what follows.
func (c *conn) closeSoon() bool {
	wait := c.closeCanWait()
	first, stop, open := c.shut(net.ErrClosed, net.ErrClosed, owesEnd, CodeClosed)
	switch {
	case !first:
	case wait && stop && open && c.stageEnds(): // the STOP of a CloseRead goes ahead, and may be owed
	case c.oweEnds(stop, open, owesEnd):
		c.s.tryFlush()
	}
	return first
}

// closeCanWait reports whether what Close sends may go along with what is sent next: see
// flushLater. Who has opened c, and read last, has had its answer, and the peer waits for no
// end of one.
//
// With the vt-muxer protocol it can't, for there an OPEN that finds no place ends the session.
// The peer, to which the END comes with the next OPEN, may need the time between the two.
func (c *conn) closeCanWait() bool {
	if c.id == 0 || !c.opener || c.streak.Load() != 0 {
		return false
	}
	c.mu.Lock()
	all := c.in.n == 0
	c.mu.Unlock()
	return all && c.s.endsCanWait()
}

// shut is the part of closeWith that the application sees. It reports whether it was the
// first; whether STOP is to be sent; and whether our half was open.
func (c *conn) shut(readErr, writeErr error, end uint32, code Code) (first, stop, open bool) {
	s := c.s
	c.mu.Lock()
	f := c.flags.Load()
	if f&flagClosed != 0 {
		c.mu.Unlock()
		return false, false, false
	}
	c.readErr, c.writeErr = reason(readErr), reason(writeErr)
	c.flags.Or(flagClosed | flagReadShut | flagReadOver | flagWriteShut)
	stop = c.stopLocked(code) && end != owesRefusal && halves(c.halves.Load())&recvOpen != 0
	open = f&flagWriteShut == 0
	if c.id != 0 && open {
		c.setResetLocked(code)
		c.ending |= uint8(end & owesReset) // for stopped, which may come first
	}
	unread := c.in.takeAll()
	c.wakeReadersLocked()
	c.mu.Unlock()
	releaseAll(unread)

	s.token.closedConn(c)
	if s.token.stalled.Load() == c {
		s.unstall(c)
	}
	if c.id != 0 && end == owesRefusal {
		s.in.calm.refused(s.cfg.InitialWindow) // before the REFUSED makes strays of what comes
	}
	return true, stop, open
}

// oweEnds makes owed what c's shut said, and reports whether anything is owed now.
func (c *conn) oweEnds(stop, open bool, end uint32) (owes bool) {
	s := c.s
	if c.id == 0 {
		end = owesEnd
	}
	if stop {
		s.out.debts.add(c, owesStop)
	}
	switch {
	case open:
		owes = c.oweEnd(end)
	case end == owesRefusal: // the peer's STOP has ended our half
		s.out.debts.add(c, end)
		owes = true
	default:
		c.rouseWriters()
	}
	if c.halves.Load() == 0 { // else who ends the last half finds c closed
		s.table.freeSlot(c)
	}
	return owes || stop
}

// stageEnds stages STOP and FIN, with protocol 1, for a flush that comes later. They are staged
// and not owed, so that they go ahead of an OPEN that follows, which may need c's place. It
// reports false where they can't be: where a Write runs, there is no room, or the peer's half
// has ended, for then the peer may wait for ours.
func (c *conn) stageEnds() bool {
	s := c.s
	t := &s.table
	if !c.wlock.v.CompareAndSwap(0, wHeld) {
		return false
	}
	defer c.unlockWrite()
	const n = wire.StopLen + wire.HeaderLen
	t.mu.Lock()
	h := halves(c.halves.Load())
	if h != recvOpen|sendOpen || s.failing.Load() {
		t.mu.Unlock()
		return false
	}
	b, i, ok := s.out.stg.reserve(n, 0)
	if !ok {
		t.mu.Unlock()
		return false
	}
	_, left := c.settleOne(owesStop|owesEnd, h, b)
	t.setLocked(c, left)
	t.mu.Unlock()
	c.cameForward() // the next flush needs to wait for no Write of c
	if s.out.stg.commit(i, n) {
		s.trySend()
	} else {
		s.flushLater()
	}
	return true
}

// stopLocked prepares the STOP that tells the peer that nothing more is read, and
// reports whether it is due: once, with protocol 1.
func (c *conn) stopLocked(code Code) bool {
	if c.id == 0 || c.flags.Load()&flagStopSent != 0 {
		return false
	}
	c.flags.Or(flagStopSent)
	if c.rare != nil || code != CodeClosed {
		c.rareLocked().stopCode = code
	}
	return true
}

// setResetLocked sets the code that our RESET says.
func (c *conn) setResetLocked(code Code) {
	if c.rare != nil || code != CodeClosed {
		c.rareLocked().resetCode = code
	}
}

func (c *conn) closeWrite() error {
	c.mu.Lock()
	f := c.flags.Load()
	if f&flagWriteShut != 0 {
		err := *c.writeErr
		c.mu.Unlock()
		if err == syscall.EPIPE {
			return nil // as before
		}
		return err
	}
	c.writeErr = &reasonPipe
	c.flags.Or(flagWriteShut)
	c.mu.Unlock()
	c.endWrite(owesEnd)
	return nil
}

// stopped answers the peer's STOP with RESET, and fails the writers. It reports whether
// it is the first. The leader calls it, and flushes.
func (c *conn) stopped(code Code) bool {
	c.mu.Lock()
	f := c.flags.Load()
	if f&flagStopped != 0 {
		c.mu.Unlock()
		return false
	}
	if f&flagWriteShut == 0 {
		c.writeErr = &reasonStopped
		if code != CodeClosed {
			c.writeErr = reason(&StoppedError{Code: code})
		}
	}
	if c.ending&uint8(owesReset) == 0 { // else Reset has said which
		c.setResetLocked(code)
	}
	c.flags.Or(flagStopped | flagWriteShut)
	c.mu.Unlock()
	c.oweEnd(owesReset)
	return true
}

// endWrite makes us owe the end of our half, behind the last byte that has been
// claimed. flagWriteShut is set. A Write that runs is interrupted, and the end is owed
// when it is out.
func (c *conn) endWrite(end uint32) {
	if c.oweEnd(end) {
		c.s.tryFlush()
	}
}

// oweEnd is endWrite without the flush. It reports whether the end is owed now.
func (c *conn) oweEnd(end uint32) bool {
	c.mu.Lock()
	c.ending |= uint8(end)
	free := c.wlock.tryLock(wEnding)
	c.mu.Unlock()
	if !free {
		c.rouseWriters()
		return false
	}
	c.s.out.debts.add(c, end)
	c.unlockWrite()
	return true
}

// cross ends both halves because the peer has opened the address at the same time. The address
// is not free for an Open before all that c's Writes publish has been sent: it would seem to
// belong to the new connection. The leader calls it, and flushes.
func (c *conn) cross() {
	c.abort(&ResetError{Code: CodeCrossedOpen, Remote: true})
	c.oweEnd(owesEnd)
	c.s.in.owes = true
}

// setCrossed comes before cross.
func (c *conn) setCrossed() {
	c.mu.Lock()
	c.flags.Or(flagCrossed)
	c.mu.Unlock()
}

func (c *conn) closeRead() error {
	c.mu.Lock()
	if c.isClosed() {
		c.mu.Unlock()
		return net.ErrClosed
	}
	if c.flags.Load()&flagReadOver == 0 || c.in.n > 0 {
		c.readErr = &reasonClosed // what is discarded must not look like the whole
	}
	stop := c.stopLocked(CodeClosed)
	c.flags.Or(flagReadShut | flagReadOver)
	unread := c.in.takeAll()
	c.wakeReadersLocked()
	c.mu.Unlock()
	releaseAll(unread)
	if c.s.token.stalled.Load() == c {
		c.s.unstall(c)
	}
	if stop {
		c.s.out.debts.add(c, owesStop)
		c.s.tryFlush()
	}
	return nil
}

// abort ends both halves because the session has ended, or because the peer gave
// the connection up. What was received stays readable.
func (c *conn) abort(err error) { c.abortFor(reason(err)) }

// abortFor is abort for many connections with one reason.
func (c *conn) abortFor(why *error) {
	c.mu.Lock()
	f := c.flags.Load()
	if f&flagReadOver == 0 {
		c.readErr = why
	}
	if f&flagWriteShut == 0 {
		c.writeErr = why
	}
	c.flags.Or(flagReadOver | flagWriteShut)
	c.wakeReadersLocked()
	c.mu.Unlock()
	c.rouseWriters()
}
