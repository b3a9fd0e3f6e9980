package mux

import (
	"io"

	"github.com/vtmux/vtmux/internal/xport"
)

// send writes the batch out. It returns errInterrupted when c's deadline passes, c
// is closed, or a lent payload is recalled.
func (o *writeSide) send(c *conn) error {
	if o.failed != nil {
		return o.failed
	}
	// Mostly the transport takes all at once. Then there is no deadline to set, and
	// nothing to time: c was not blocked.
	if len(o.vec) == 0 && o.s.t.CanTry() && o.armedAt.Load() == 0 {
		if err := o.try(); err != nil || !o.unsent() {
			return err
		}
	}
	if c == nil {
		return o.sendAll(nil)
	}
	since := o.s.now()
	err := o.sendAll(c)
	o.s.count.flusher.Add(o.s.now() - since)
	return err
}

// unsent reports whether the batch has not all been sent. The transport may have taken more
// than it has sent.
func (o *writeSide) unsent() bool { return len(o.head) > 0 || len(o.vec) > 0 || o.s.t.Pending() }

// try writes of head what the transport takes without waiting. The transport's
// deadline must not have passed.
func (o *writeSide) try() error {
	if o.failed != nil {
		return o.failed
	}
	o.assertLent()
	n, err := o.s.t.TryWrite(o.head)
	o.s.count.writes.Add(o.s.t.WriteCalls())
	o.s.count.bytesOut.Add(uint64(n))
	o.head = o.head[n:]
	if err != nil && o.timedOut(err) {
		return nil
	}
	return err
}

// sendAll is send for who may have to wait.
func (o *writeSide) sendAll(c *conn) error {
	if !o.s.writes.on.Load() {
		o.s.writes.begin(o.s)
	}
	for empties := 0; o.unsent(); {
		mine := len(o.head) > 0 || len(o.vec) > 0 // and not what the transport says itself
		if err := o.arm(c); err != nil {
			return err
		}
		o.assertLent()
		var n int64
		var err error
		if len(o.vec) > 0 {
			n, err = o.s.t.WriteVec(&o.vec)
		} else {
			var m int
			m, err = o.s.t.Write(o.head)
			o.head = o.head[m:]
			n = int64(m)
		}
		o.s.count.writes.Add(o.s.t.WriteCalls())
		o.s.count.bytesOut.Add(uint64(n))
		if empties++; n > 0 || !mine {
			empties = 0
		} else if err == nil && empties >= maxEmptyCalls {
			return io.ErrNoProgress
		}
		if err == nil || n > 0 && xport.IsTimeout(err) {
			continue // arm tells whose timeout it was
		}
		if o.timedOut(err) {
			err = errInterrupted
			if o.s.writes.condemned(o.s) {
				err = ErrWriteTimeout
			}
		}
		return err
	}
	return nil
}

// isMoot reports whether it does not matter that the batch can't be sent for err: our
// half of the transport has ended, or ends now because a peer that drains, or to which
// we do, has gone. What that one has sent is still to be read, and how the session
// ended shows there. Where it does not, soon, err ends the session; at once, when more
// is to be sent than control frames, for then not all was done.
//
// Nothing is sent after err: what of the batch the transport took may end inside a frame.
func (o *writeSide) isMoot(err error) bool {
	s := o.s
	o.failed = err
	if err == ErrWriteTimeout {
		return false // the peer is there, and has had its time
	}
	if o.control && s.drains() && s.halfClosed.CompareAndSwap(false, true) {
		o.gone = true
		s.endAfter(endLinger, &TransportError{Op: "write", Err: err})
		s.token.nudge()
	}
	return s.halfClosed.Load() && (o.control || !o.gone) || s.parting.Load()
}

// timedOut reports whether err comes of the deadline that arm or an interrupt has
// set. Any other timeout is the transport's own, and the session's end.
func (o *writeSide) timedOut(err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.armedAt.Load()
	return xport.IsTimeout(err) && at != 0 && at <= o.s.now()
}

// arm readies the transport for c's write as readToken.arm does for a read. It
// returns errInterrupted where somebody can't wait for that write.
func (o *writeSide) arm(c *conn) error {
	o.mu.Lock()
	o.owner = c
	var want int64
	if c != nil {
		want = c.writeDeadline.Load()
	}
	switch at := o.armedAt.Load(); {
	case at == want:
	case at > 1 && (want == 0 || at < want) && at > o.s.now():
	default:
		o.armedAt.Store(want)
		o.s.t.SetWriteDeadline(o.s.instant(want))
	}
	o.mu.Unlock()
	if o.recalling.Swap(false) || c != nil && c.cantWrite() != nil {
		return errInterrupted
	}
	return nil
}

// rouse interrupts the flusher if it is c's Write.
func (o *writeSide) rouse(c *conn) {
	o.mu.Lock()
	if o.owner == c {
		o.interruptLocked()
	}
	o.mu.Unlock()
}

// recallNow makes whoever flushes look for recalled payloads.
func (o *writeSide) recallNow() {
	o.recalling.Store(true)
	o.mu.Lock()
	o.interruptLocked()
	o.mu.Unlock()
}

func (o *writeSide) interruptLocked() {
	if o.armedAt.Load() != 1 {
		o.armedAt.Store(1)
		o.s.t.SetWriteDeadline(longAgo)
	}
}
