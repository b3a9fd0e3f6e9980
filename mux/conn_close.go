package mux

import (
	"net"
	"runtime"
	"syscall"
)

// Close ends both halves. What was written before is delivered, and then the peer
// reads io.EOF; what the peer still sends is discarded. Pending calls return
// net.ErrClosed. Close never waits for the transport. Closing twice is no error.
//
// The address stays in use (ErrAddrInUse) until the peer has ended its half too.
func (h *Conn) Close() error {
	if h.c.close(net.ErrClosed, net.ErrClosed) {
		runtime.SetFinalizer(h, nil)
	}
	runtime.KeepAlive(h)
	return nil
}

// CloseWrite ends this end's half: the peer reads io.EOF after everything that was
// written. Reading goes on.
func (h *Conn) CloseWrite() error {
	err := h.c.closeWrite()
	runtime.KeepAlive(h)
	return err
}

// CloseRead gives up reading: what was received, and what comes, is discarded, and
// Read returns net.ErrClosed. With the vt-muxer protocol the peer is not told, and its
// Writes go on into the void.
func (h *Conn) CloseRead() error {
	err := h.c.closeRead()
	runtime.KeepAlive(h)
	return err
}

// Reset gives the connection up: calls here return a *ResetError with code, and
// what was received is discarded. The vt-muxer protocol has no reset, so the peer
// sees what Close would show it, and never the code. The Conn needs no Close then.
func (h *Conn) Reset(code Code) error {
	err := &ResetError{Code: code}
	if h.c.close(err, err) {
		runtime.SetFinalizer(h, nil)
	}
	runtime.KeepAlive(h)
	return nil
}

// close ends both halves here and reports whether it was the first to do so.
func (c *conn) close(readErr, writeErr error) bool {
	c.mu.Lock()
	f := c.flags.Load()
	if f&flagClosed != 0 {
		c.mu.Unlock()
		return false
	}
	c.readErr, c.writeErr = readErr, writeErr
	c.flags.Or(flagClosed | flagReadShut | flagReadOver | flagWriteShut)
	unread := c.in.takeAll()
	c.wakeReadersLocked()
	c.mu.Unlock()
	releaseAll(unread)

	c.s.token.closedConn(c)
	if c.s.token.stalled.Load() == c {
		c.s.unstall(c)
	}
	if f&flagWriteShut == 0 {
		c.endWrite()
	} else {
		c.rouseWriters()
	}
	return true
}

func (c *conn) closeWrite() error {
	c.mu.Lock()
	f := c.flags.Load()
	if f&flagWriteShut != 0 {
		err := c.writeErr
		c.mu.Unlock()
		if err == syscall.EPIPE {
			return nil // as before
		}
		return err
	}
	c.writeErr = syscall.EPIPE
	c.flags.Or(flagWriteShut)
	c.mu.Unlock()
	c.endWrite()
	return nil
}

// endWrite sends our END behind the last byte that has been claimed. flagWriteShut
// is set. A Write that runs is interrupted, and sends the END when it is out.
func (c *conn) endWrite() {
	c.mu.Lock()
	free := c.wlock.tryLock(wEnding)
	c.mu.Unlock()
	if !free {
		c.rouseWriters()
		return
	}
	c.s.out.debts.add(c, owesEnd)
	c.unlockWrite()
	c.s.tryFlush()
}

func (c *conn) closeRead() error {
	c.mu.Lock()
	if c.isClosed() {
		c.mu.Unlock()
		return net.ErrClosed
	}
	if c.flags.Load()&flagReadOver == 0 {
		c.readErr = net.ErrClosed
	}
	c.flags.Or(flagReadShut | flagReadOver)
	unread := c.in.takeAll()
	c.wakeReadersLocked()
	c.mu.Unlock()
	releaseAll(unread)
	if c.s.token.stalled.Load() == c {
		c.s.unstall(c)
	}
	return nil
}

// abort ends both halves because the session has ended, or because the peer gave
// the connection up. What was received stays readable.
func (c *conn) abort(err error) {
	c.mu.Lock()
	f := c.flags.Load()
	if f&flagReadOver == 0 {
		c.readErr = err
	}
	if f&flagWriteShut == 0 {
		c.writeErr = err
	}
	c.flags.Or(flagReadOver | flagWriteShut)
	c.wakeReadersLocked()
	c.mu.Unlock()
	c.rouseWriters()
}
