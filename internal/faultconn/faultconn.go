// Package faultconn wraps a net.Conn so that it misbehaves on purpose: short and random pieces, cuts, stalls, lost bytes,
// errors at a chosen call. What it does follows from a seed and from the order of the calls, so that a failure can be repeated.
//
// It is for tests alone. It works in testing/synctest bubbles: whoever waits is parked on a channel, never on a mutex.
package faultconn

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrInjected is the error of a failing call unless Faults.FailErr names another.
var ErrInjected = errors.New("faultconn: injected error")

// An End is what becomes of a direction once it has moved Faults.EndAt bytes.
type End uint8

const (
	Open    End = iota // nothing: the direction works on
	Cut                // every further call fails with Faults.CutErr
	Stall              // every further call blocks until its deadline or Close
	Swallow            // further bytes vanish: a Write succeeds, a Read blocks until its deadline, Close or the inner end
)

// Faults says what goes wrong in one direction. The zero value is a direction without faults.
type Faults struct {
	// MaxPiece is the most bytes that one call to the inner connection moves; 0 is no limit. A Read returns one piece,
	// a Write sends one piece after another until all is sent.
	MaxPiece int
	// RandomPieces draws the size of each piece from 1 to the most possible.
	RandomPieces bool
	// ZeroEvery makes every so-many-th call move nothing and return (0, nil); 0 is never.
	ZeroEvery int

	// End takes effect at byte EndAt, 0 being before the first one. A piece never reaches across it.
	End   End
	EndAt int64
	// CutErr is what a Cut returns. The default is io.EOF for Read and syscall.ECONNRESET for Write.
	CutErr error

	// FailCall is the number, from 1, of the one call that fails with FailErr (by default ErrInjected); 0 is none.
	FailCall int
	FailErr  error

	// ErrWithBytes lets the errors of Cut and FailCall come with the last bytes that were moved, as (n > 0, err), where
	// they would come as a call of their own, as (0, err).
	ErrWithBytes bool
}

// A Plan is all that goes wrong with a connection.
type Plan struct {
	Seed  uint64 // of the random pieces; the two directions draw from different sequences
	Read  Faults
	Write Faults
	// NoDeadlines makes the SetDeadline methods fail with os.ErrNoDeadline and do nothing.
	NoDeadlines bool
}

// A Conn is a net.Conn with faults. All methods may be called concurrently; the calls of one direction happen one after
// another.
type Conn struct {
	// Constant after New.
	inner       net.Conn
	noDeadlines bool

	in, out half

	closeOnce sync.Once
	closeErr  error         // set before done is closed
	done      chan struct{} // closed by Close
}

var _ net.Conn = (*Conn)(nil)

// New returns a connection that moves bytes through inner and fails as planned. It takes ownership of inner.
func New(inner net.Conn, plan Plan) *Conn {
	c := &Conn{inner: inner, noDeadlines: plan.NoDeadlines, done: make(chan struct{})}
	c.in.init(plan.Read, plan.Seed, 1, io.EOF)
	c.out.init(plan.Write, plan.Seed, 2, syscall.ECONNRESET)
	return c
}

// Read reads at most one piece. It returns when bytes came, at the deadline, or at Close.
func (c *Conn) Read(p []byte) (int, error) {
	h := &c.in
	if err := h.enter(c.done); err != nil {
		return 0, err
	}
	defer h.leave()

	fails := h.nextCall()
	switch {
	case h.zero():
		return 0, nil
	case fails && !h.faults.ErrWithBytes:
		return 0, h.faults.FailErr
	}
	if h.ended() {
		return 0, c.readEnded()
	}
	n, err := c.inner.Read(p[:h.piece(len(p))])
	h.moved.Add(int64(n))
	if err == nil && n > 0 {
		err = h.errWithBytes(fails)
	}
	return n, err
}

// readEnded does what the read side's End asks for. It never returns nil: an End delivers no byte.
func (c *Conn) readEnded() error {
	switch h := &c.in; h.faults.End {
	case Cut:
		return h.faults.CutErr
	case Stall:
		return h.wait(c.done, nil)
	}
	var lost [512]byte
	for {
		if _, err := c.inner.Read(lost[:]); err != nil {
			return err
		}
	}
}

// Write sends p piece by piece. It keeps no reference to p.
func (c *Conn) Write(p []byte) (int, error) {
	h := &c.out
	if err := h.enter(c.done); err != nil {
		return 0, err
	}
	defer h.leave()

	fails := h.nextCall()
	switch {
	case h.zero():
		return 0, nil
	case fails && !h.faults.ErrWithBytes:
		return 0, h.faults.FailErr
	}
	sent := 0
	for {
		if h.ended() {
			n, err := c.writeEnded(len(p) - sent)
			return sent + n, err
		}
		n, err := c.inner.Write(p[sent : sent+h.piece(len(p)-sent)])
		sent += n
		h.moved.Add(int64(n))
		if err == nil && n > 0 {
			err = h.errWithBytes(fails)
		}
		if err != nil || sent == len(p) {
			return sent, err
		}
	}
}

// writeEnded does what the write side's End asks for with the n bytes that are left of a Write.
func (c *Conn) writeEnded(n int) (int, error) {
	switch h := &c.out; h.faults.End {
	case Cut:
		return 0, h.faults.CutErr
	case Stall:
		return 0, h.wait(c.done, nil)
	}
	return n, nil
}

// Close closes the inner connection and wakes whoever waits.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		c.closeErr = c.inner.Close()
		close(c.done)
	})
	return c.closeErr
}

// ReadBytes returns how many bytes Read has delivered; what was swallowed does not count.
func (c *Conn) ReadBytes() int64 { return c.in.moved.Load() }

// WrittenBytes returns how many bytes Write has sent; what was swallowed does not count.
func (c *Conn) WrittenBytes() int64 { return c.out.moved.Load() }

func (c *Conn) LocalAddr() net.Addr  { return c.inner.LocalAddr() }
func (c *Conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.noDeadlines {
		return os.ErrNoDeadline
	}
	c.in.deadline.set(t)
	return c.inner.SetReadDeadline(t)
}

func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.noDeadlines {
		return os.ErrNoDeadline
	}
	c.out.deadline.set(t)
	return c.inner.SetWriteDeadline(t)
}

// A half is one direction.
type half struct {
	// turn holds one token, owned by the call in progress. A channel and not a mutex, because a synctest bubble counts who
	// waits for a mutex as running, and because a waiting call must still see its deadline.
	turn     chan struct{}
	deadline deadline
	moved    atomic.Int64 // written by the owner of the token

	// Constant after init.
	faults Faults

	// Owned by the owner of the token.
	random *rand.Rand
	calls  int
}

// init makes the direction ready. cutErr is the error of a Cut that names none.
func (h *half) init(f Faults, seed, sequence uint64, cutErr error) {
	if f.CutErr == nil {
		f.CutErr = cutErr
	}
	if f.FailErr == nil {
		f.FailErr = ErrInjected
	}
	h.faults = f
	h.random = rand.New(rand.NewPCG(seed, sequence))
	h.turn = make(chan struct{}, 1)
	h.turn <- struct{}{}
	h.deadline.init()
}

// enter waits for the token. It fails at the deadline and at done, also when the token is free.
func (h *half) enter(done <-chan struct{}) error {
	select {
	case <-done:
		return net.ErrClosed
	default:
	}
	select {
	case <-h.deadline.passed():
		return os.ErrDeadlineExceeded
	default:
	}
	return h.wait(done, h.turn)
}

func (h *half) leave() { h.turn <- struct{}{} }

// wait blocks until it gets a token from turn (never, if turn is nil), until the direction is closed, or until its
// deadline, which may be moved meanwhile, has passed.
func (h *half) wait(done, turn <-chan struct{}) error {
	for {
		passed, moved := h.deadline.watch()
		select {
		case <-turn:
			return nil
		case <-done:
			return net.ErrClosed
		case <-passed:
			return os.ErrDeadlineExceeded
		case <-moved:
		}
	}
}

// nextCall counts a call and reports whether it is the one that fails.
func (h *half) nextCall() bool {
	h.calls++
	return h.calls == h.faults.FailCall
}

// zero reports whether this call is one of those that move nothing.
func (h *half) zero() bool {
	return h.faults.ZeroEvery > 0 && h.calls%h.faults.ZeroEvery == 0
}

// ended reports whether End has taken effect.
func (h *half) ended() bool {
	return h.faults.End != Open && h.moved.Load() >= h.faults.EndAt
}

// piece returns how many of n bytes the next inner call may move: at least one unless n is 0.
func (h *half) piece(n int) int {
	if h.faults.MaxPiece > 0 {
		n = min(n, h.faults.MaxPiece)
	}
	if h.faults.End != Open {
		n = int(min(int64(n), h.faults.EndAt-h.moved.Load()))
	}
	if h.faults.RandomPieces && n > 1 {
		n = 1 + h.random.IntN(n)
	}
	return n
}

// errWithBytes returns the error that comes with bytes just moved, if one is due.
func (h *half) errWithBytes(fails bool) error {
	switch {
	case !h.faults.ErrWithBytes:
		return nil
	case fails:
		return h.faults.FailErr
	case h.faults.End == Cut && h.ended():
		return h.faults.CutErr
	}
	return nil
}
