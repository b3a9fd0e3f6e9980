package mux

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"

	"github.com/vtmux/vtmux/internal/park"
)

// Read reads what has been received, and waits for it where there is nothing. It
// returns io.EOF when the peer has ended its half and everything has been read,
// and never for another reason. Several Reads at once get each byte once, in any
// split. All of p may be written to, as io.Reader permits, whatever Read returns.
func (h *Conn) Read(p []byte) (int, error) {
	n, err := h.c.read(p)
	runtime.KeepAlive(h)
	return n, err
}

// WriteTo writes everything received to w until the peer ends its half, and
// returns how much that was. The received buffers go to w as they are, to a TCP or
// Unix socket by writev. It holds no buffer while it waits. When w fails, what was
// taken and not written is lost, as with io.Copy.
func (h *Conn) WriteTo(w io.Writer) (int64, error) {
	n, err := h.c.writeTo(w)
	runtime.KeepAlive(h)
	return n, err
}

func (c *conn) read(p []byte) (int, error) {
	if len(p) == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return 0, c.readableLocked()
	}
	for {
		c.mu.Lock()
		err := c.readableLocked()
		if err == nil && c.in.n > 0 {
			n := c.takeLocked(p)
			c.hasRead()
			return n, nil
		}
		if err == nil && c.flags.Load()&flagReadOver != 0 {
			err = *c.readErr
		}
		if err != nil {
			c.leaveBytesLocked()
			return 0, err
		}
		w := c.beginWaitLocked(p)
		c.mu.Unlock()
		n, err := c.await(w)
		if n > 0 {
			c.hasRead()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// hasRead ends a streak of Writes.
func (c *conn) hasRead() {
	if c.streak.Load() != 0 {
		c.streak.Store(0)
	}
}

// readableLocked returns why nothing may be read now, whatever has been received.
func (c *conn) readableLocked() error {
	switch f := c.flags.Load(); {
	case f&flagReadShut != 0:
		return *c.readErr
	case c.expired(c.readDeadline.Load()):
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *conn) expired(at int64) bool { return at != 0 && c.s.now() >= at }

// takeLocked reads into p and unlocks mu. If bytes are left for another reader that
// waits, that one is woken.
func (c *conn) takeLocked(p []byte) int {
	n := c.in.read(p)
	c.tookLocked(n)
	return n
}

// leaveBytesLocked follows a Read that returns without the bytes that may have
// ended its wait: another reader that waits gets the turn. It unlocks mu.
func (c *conn) leaveBytesLocked() {
	var next *waiter
	if c.in.n > 0 {
		next = c.readers.pop()
	}
	c.mu.Unlock()
	if next != nil {
		c.s.token.rouse(next)
	}
}

// tookLocked follows the taking of n bytes from in. It unlocks mu.
func (c *conn) tookLocked(n int) {
	room := c.roomLocked()
	due := c.consumeLocked(n)
	c.leaveBytesLocked()
	c.grant(due)
	if room && c.s.token.stalled.Load() == c {
		c.s.unstall(c)
	}
}

// beginWaitLocked publishes that a reader waits, for bytes that are to go to p.
func (c *conn) beginWaitLocked(p []byte) *waiter {
	w := c.s.waiters.get(c)
	w.p, w.until = p, 0
	c.reading.Add(1)
	c.readers.push(w)
	return w
}

// await waits until w is satisfied, or the deadline passes. Meanwhile it leads, if
// nobody else does; it returns how much of w's slice was filled. It gives w back.
func (c *conn) await(w *waiter) (n int, err error) {
	s := c.s
	w.since = s.now()
	c.cameForward()
	if c.opener {
		s.flushDue()
	}
	leads := s.token.enlist(w)
	enlisted := true
	for !w.satisfied.Load() {
		at := c.readDeadline.Load()
		if c.expired(at) {
			err = os.ErrDeadlineExceeded
			break
		}
		switch {
		case leads || w.promoted.Load():
			n = s.lead(w, c)
			leads, enlisted = false, false
		case !enlisted:
			leads, enlisted = s.token.enlist(w), true
		default:
			w.Park(park.Until(at, s.nowIf(at)))
		}
	}
	if enlisted {
		s.leave(w)
	}
	if err != nil {
		c.mu.Lock()
		if !w.satisfied.Load() {
			c.readers.remove(w)
		}
		c.leaveBytesLocked()
	}
	n += w.n // by who else has led: w is in no list any more
	c.reading.Add(-1)
	if w.until == 0 {
		w.until = s.now()
	}
	s.count.reading.Add(max(w.until-w.since, 0)) // what was on its way already was not waited for
	s.waiters.put(w)
	if n > 0 {
		err = nil
	}
	return n, err
}

// satisfy ends the wait of w, which leads and has got n bytes directly. It tells
// whether a WINDOW is due.
func (c *conn) satisfy(w *waiter, n int) windowDue {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers.take(w)
	return c.consumeLocked(n)
}

// wantsDirect reports whether the next payload bytes may go to the leader's slice:
// nothing that came earlier is unread.
func (c *conn) wantsDirect() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.n == 0 && !c.discards()
}

var errInvalidWrite = errors.New("mux: the writer says that it has written less than nothing, or more than it was given")

// keptPieces is for how many pieces a WriteTo keeps room while it waits.
const keptPieces = 64

// writeTo is WriteTo.
func (c *conn) writeTo(dst io.Writer) (total int64, err error) {
	var vec net.Buffers
	var back [][]byte
	var list *segment
	var size int
	written := func() { // not before dst has it: a slow one would make us hold two windows
		releaseAll(list)
		list = nil
		c.mu.Lock()
		c.lendLocked(-size)
		c.tookLocked(size)
	}
	defer func() {
		if list != nil {
			written() // dst has panicked
		}
	}()
	for {
		c.mu.Lock()
		err := c.readableLocked()
		if err == nil && c.in.n == 0 && c.flags.Load()&flagReadOver != 0 {
			err = *c.readErr
		}
		if err != nil {
			c.leaveBytesLocked()
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
		if c.in.n == 0 {
			w := c.beginWaitLocked(nil)
			c.mu.Unlock()
			if cap(back) > keptPieces {
				vec, back = nil, nil
			}
			if _, err := c.await(w); err != nil {
				return total, err
			}
			continue
		}
		size = c.in.n
		list = c.in.takeAll()
		c.lendLocked(size)
		c.leaveBytesLocked()
		if c.s.token.stalled.Load() == c {
			c.s.unstall(c) // in is empty
		}
		back = back[:0]
		for g := list; g != nil; g = g.next {
			back = append(back, g.b[g.r:])
		}
		var n int64
		if len(back) == 1 {
			var m int
			m, err = dst.Write(back[0])
			n = int64(m)
		} else {
			vec = back
			n, err = vec.WriteTo(dst)
		}
		switch {
		case n < 0 || n > int64(size):
			n, err = 0, errInvalidWrite
		case err == nil && n < int64(size):
			err = io.ErrShortWrite
		}
		total += n
		clear(back)
		written()
		if err != nil {
			return total, err
		}
	}
}

// endRead tells readers that nothing more will come: err follows what is unread.
func (c *conn) endRead(err error) {
	c.mu.Lock()
	if c.flags.Load()&flagReadOver == 0 {
		c.readErr = reason(err)
		c.flags.Or(flagReadOver)
	}
	c.wakeReadersLocked()
	c.mu.Unlock()
}

// wakeReadersLocked ends the wait of every reader.
func (c *conn) wakeReadersLocked() {
	for w := c.readers.pop(); w != nil; w = c.readers.pop() {
		c.s.token.rouse(w)
	}
}
