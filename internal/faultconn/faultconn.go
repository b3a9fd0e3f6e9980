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
	// Short lets a Write return after one piece, with fewer bytes than it was given and no error.
	Short bool
	// ShortCall is the number, from 1, of the one call that moves a single byte and returns no error; 0 is none.
	ShortCall int
	// ZeroEvery makes every so-many-th call move nothing and return (0, nil); 0 is never.
	ZeroEvery int

	// GateEvery makes every so-many-th call wait for something to come from Gate, for its deadline or for Close, before it
	// moves anything; 0 is never.
	GateEvery int
	Gate      <-chan struct{}

	// End takes effect at byte EndAt, 0 being before the first one. A piece never reaches across it.
	End   End
	EndAt int64
	// CutErr is what a Cut returns. The default is io.EOF for Read and syscall.ECONNRESET for Write.
	CutErr error
	// StallFor is how long a Stall lasts, from the first call that it holds up: then the direction works on for good, as
	// where a process was stopped for a while. 0 is for ever.
	StallFor time.Duration

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
		h.fire()
		return 0, h.faults.FailErr
	case h.gated():
		if err := h.wait(c.done, h.faults.Gate); err != nil {
			return 0, err
		}
	}
	if end := h.end(); end != Open {
		if over, err := c.readEnded(end); over {
			return 0, err
		}
	}
	n, err := c.inner.Read(p[:h.piece(len(p))])
	h.moved.Add(int64(n))
	if err == nil && n > 0 {
		err = h.errWithBytes(fails)
	}
	return n, err
}

// readEnded does what the read side's End asks for, which delivers no byte. It reports false where the direction works on.
func (c *Conn) readEnded(end End) (over bool, err error) {
	h := &c.in
	h.fire()
	switch end {
	case Cut:
		return true, h.faults.CutErr
	case Stall:
		err = h.stall(c.done)
		return err != nil, err
	}
	var lost [512]byte
	for {
		if _, err := c.inner.Read(lost[:]); err != nil {
			return true, err
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
		h.fire()
		return 0, h.faults.FailErr
	case h.gated():
		if err := h.wait(c.done, h.faults.Gate); err != nil {
			return 0, err
		}
	}
	sent := 0
	for {
		if end := h.end(); end != Open {
			if over, n, err := c.writeEnded(end, len(p)-sent); over {
				return sent + n, err
			}
		}
		n, err := c.inner.Write(p[sent : sent+h.piece(len(p)-sent)])
		sent += n
		h.moved.Add(int64(n))
		if err == nil && n > 0 {
			err = h.errWithBytes(fails)
		}
		if err != nil || sent == len(p) || h.short() {
			return sent, err
		}
	}
}

// writeEnded does what the write side's End asks for with the n bytes that are left of a Write. It reports false where
// the direction works on.
func (c *Conn) writeEnded(end End, n int) (over bool, taken int, err error) {
	h := &c.out
	h.fire()
	switch end {
	case Cut:
		return true, 0, h.faults.CutErr
	case Stall:
		err = h.stall(c.done)
		return err != nil, 0, err
	}
	return true, n, nil
}

// Break makes either direction end from its next call on, whatever was planned; Open makes it work again. A call that
// is blocked already is not disturbed.
func (c *Conn) Break(read, write End) {
	c.in.forced.Store(uint32(read))
	c.out.forced.Store(uint32(write))
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

// ReadFault reports whether a planned fault has struck Read (its End, FailCall or ShortCall), and how many bytes Read had
// delivered by then, those that came with the fault included.
func (c *Conn) ReadFault() (at int64, struck bool) { return c.in.struck() }

// WriteFault is ReadFault for Write.
func (c *Conn) WriteFault() (at int64, struck bool) { return c.out.struck() }

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

	forced atomic.Uint32 // an End, by Break
	fired  atomic.Int64  // moved+1 when the first fault struck; 0: none has

	// Constant after init, but for End, which is the owner's of the token.
	faults Faults

	// Owned by the owner of the token.
	random *rand.Rand
	calls  int
	over   chan struct{} // closed when a Stall that has begun is over
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

// fire notes that a fault strikes.
func (h *half) fire() { h.fired.CompareAndSwap(0, h.moved.Load()+1) }

func (h *half) struck() (at int64, struck bool) {
	at = h.fired.Load()
	return max(at-1, 0), at != 0
}

// short reports whether this call is to return although bytes are left.
func (h *half) short() bool { return h.faults.Short || h.isShortCall() }

func (h *half) isShortCall() bool { return h.faults.ShortCall != 0 && h.calls == h.faults.ShortCall }

// stall blocks as a Stall does. It returns nil when the Stall is over.
func (h *half) stall(done <-chan struct{}) error {
	if h.faults.StallFor == 0 {
		return h.wait(done, nil)
	}
	if h.over == nil {
		over := make(chan struct{})
		h.over = over
		time.AfterFunc(h.faults.StallFor, func() { close(over) })
	}
	err := h.wait(done, h.over)
	if err == nil {
		h.faults.End = Open
	}
	return err
}

// zero reports whether this call is one of those that move nothing.
func (h *half) zero() bool {
	return h.faults.ZeroEvery > 0 && h.calls%h.faults.ZeroEvery == 0
}

// end returns the End that has taken effect.
func (h *half) end() End {
	if forced := End(h.forced.Load()); forced != Open {
		return forced
	}
	if h.moved.Load() >= h.faults.EndAt {
		return h.faults.End
	}
	return Open
}

// gated reports whether this call is one of those that wait for the gate.
func (h *half) gated() bool {
	return h.faults.GateEvery > 0 && h.calls%h.faults.GateEvery == 0
}

// piece returns how many of n bytes the next inner call may move: at least one unless n is 0.
func (h *half) piece(n int) int {
	if h.faults.MaxPiece > 0 {
		n = min(n, h.faults.MaxPiece)
	}
	if h.isShortCall() {
		return min(n, 1)
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
	case h.isShortCall() && !fails:
		h.fire()
		return nil
	case !h.faults.ErrWithBytes:
		return nil
	case fails:
		h.fire()
		return h.faults.FailErr
	case h.end() == Cut:
		h.fire()
		return h.faults.CutErr
	}
	return nil
}
