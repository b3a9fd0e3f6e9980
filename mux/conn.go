package mux

import (
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// A Conn is one logical connection. It is a net.Conn, safe for concurrent use.
//
// A Conn that becomes unreachable without Close is closed by the runtime and
// counted in Stats.Dropped. That may take long; call Close.
type Conn struct {
	// c is apart so that the session's table does not keep the Conn reachable.
	// Every method ends in runtime.KeepAlive: else the finalizer might run while
	// the method does.
	c *conn
}

var _ net.Conn = (*Conn)(nil)

// newConn makes the application's handle of c.
//
// It has a finalizer and not a cleanup: runtime.AddCleanup allocates twice, as much
// as the connection itself, and the reasons to prefer it don't hold here, for a
// Conn is in no cycle and the finalizer does not keep it.
func newConn(c *conn) *Conn {
	h := &Conn{c: c}
	runtime.SetFinalizer(h, (*Conn).drop)
	return h
}

// drop closes a connection that the application lost. It runs in the runtime's
// finalizer goroutine, which it must not hold up.
func (h *Conn) drop() {
	if h.c.close(net.ErrClosed, net.ErrClosed) {
		h.c.s.count.dropped.Add(1)
	}
}

// Addr returns the address that the connection bears.
func (h *Conn) Addr() addr.SocketAddr {
	a := h.c.addr
	runtime.KeepAlive(h)
	return a
}

// LocalAddr returns, where this end opened the connection, its address as a
// *net.TCPAddr, and else the transport's local address.
func (h *Conn) LocalAddr() net.Addr {
	defer runtime.KeepAlive(h)
	if h.c.opener {
		return h.c.addr.TCPAddr()
	}
	return h.c.s.t.Conn().LocalAddr()
}

// RemoteAddr returns, where the peer opened the connection, its address as a
// *net.TCPAddr, so that servers and loggers see the client, and else the
// transport's remote address.
func (h *Conn) RemoteAddr() net.Addr {
	defer runtime.KeepAlive(h)
	if h.c.opener {
		return h.c.s.t.Conn().RemoteAddr()
	}
	return h.c.addr.TCPAddr()
}

// SetDeadline sets both deadlines. See SetReadDeadline and SetWriteDeadline.
func (h *Conn) SetDeadline(t time.Time) error {
	err := h.c.setReadDeadline(t)
	if err == nil {
		err = h.c.setWriteDeadline(t)
	}
	runtime.KeepAlive(h)
	return err
}

// SetReadDeadline makes calls of Read and WriteTo, pending ones included, fail
// with os.ErrDeadlineExceeded from t on. Nothing that was received is lost. The
// zero time takes the deadline away. It is one atomic store while nobody reads. A
// WriteTo that waits in its writer ends only when that does. After Close it returns
// net.ErrClosed.
func (h *Conn) SetReadDeadline(t time.Time) error {
	err := h.c.setReadDeadline(t)
	runtime.KeepAlive(h)
	return err
}

// SetWriteDeadline makes calls of Write, ReadFrom and WriteBuffers, pending ones
// included, fail with os.ErrDeadlineExceeded from t on. The bytes that such a call
// counts as written will be sent; the others will not. The zero time takes the
// deadline away. It is one atomic store while nobody writes. A ReadFrom that waits for
// its reader ends only when that does. After Close it returns net.ErrClosed.
func (h *Conn) SetWriteDeadline(t time.Time) error {
	err := h.c.setWriteDeadline(t)
	runtime.KeepAlive(h)
	return err
}

// Flags of a conn. They are only ever set.
const (
	flagClosed    uint32 = 1 << iota // by Close
	flagReadShut                     // nothing more is kept for readers
	flagWriteShut                    // nothing more is accepted from writers
	flagReadOver                     // readErr is set: nothing more will come
	flagStopSent                     // STOP is owed or sent
	flagStopped                      // the peer's STOP has come
	flagCrossed                      // vt: the peer has opened the address too; our half ends unsaid
)

// conn is a connection's state. The session's table holds it from the open until
// both ends have ended their halves, the application by a Conn until Close.
type conn struct {
	// Constant.
	s      *session
	id     wire.ID // protocol 1; else 0. Set before anybody else sees the connection
	addr   addr.SocketAddr
	opener bool // we opened it

	// Of one byte each, which fill up what the address leaves.
	slot   bool  // counts in table.slots; guarded by table.mu
	taken  uint8 // the flusher's: what was owed when it took the connection
	ending uint8 // what is owed when the write lock is free: owesEnd or another end; guarded by mu
	leased uint8 // its lease: number, from 1 on, and secondBuffer; 0: none. The write lock's holder's
	seals  uint8 // wordSeals when it last reserved; likewise

	halves atomic.Uint32 // written under table.mu

	flags  atomic.Uint32 // set under mu
	streak atomic.Uint32 // 0 if the last thing was a read; else small writes since, and uncounted

	reading  atomic.Int32  // Reads that may wait
	expected atomic.Uint32 // the round in which the session expects c to write; 0: none

	// Nanoseconds on the session's clock; 0: none. A setter stores, then looks
	// whether somebody waits; a waiter publishes that it waits, then loads.
	readDeadline, writeDeadline atomic.Int64

	wlock    writeLock
	owes     atomic.Uint32 // debts; from 0 to something: whoever did that adds the conn to the stack
	owesNext *conn         // the stack's and then the flusher's

	offered *offered // while nobody has accepted it; guarded by acceptQueue.mu

	// Protocol 1's flow control: see window.go.
	sendLimit atomic.Uint64
	sent      uint64 // payload bytes sent or lent; the write lock's holder's
	recv      recvWindow

	mu       sync.Mutex
	in       recvQueue
	readers  waitList // who waits for in; written under mu
	writers  waitList // who waits for wlock
	sender   *waiter  // of the Write that holds wlock, while it may park
	readErr  *error   // what follows the bytes of in; set once, with flagReadOver
	writeErr *error   // why nothing can be written; set once, with flagWriteShut
	rare     *rare    // nil while all in it is as newRare makes it
}

// rare is what few connections have, and so apart: an idle one should cost little.
type rare struct {
	metadata  []byte // that came with the OPEN
	stopCode  Code   // what our STOP says
	resetCode Code   // what our RESET says

	refused bool // what follows is set
	refusal Code // what our REFUSED says
	reason  string
}

func newRare() *rare { return &rare{stopCode: CodeClosed, resetCode: CodeClosed} }

// rareLocked returns c's rare for changes.
func (c *conn) rareLocked() *rare {
	if c.rare == nil {
		c.rare = newRare()
	}
	return c.rare
}

// codesLocked returns what our STOP and our RESET say.
func (c *conn) codesLocked() (stop, reset Code) {
	if c.rare == nil {
		return CodeClosed, CodeClosed
	}
	return c.rare.stopCode, c.rare.resetCode
}

// The reasons for which most halves end. A connection has a pointer to its reason, which is
// half of an interface.
var (
	reasonClosed  error = net.ErrClosed
	reasonEOF     error = io.EOF
	reasonPipe    error = syscall.EPIPE
	reasonStopped error = errStopped
)

// reason returns err as a connection keeps it.
func reason(err error) *error {
	switch err {
	case reasonClosed:
		return &reasonClosed
	case reasonEOF:
		return &reasonEOF
	case reasonPipe:
		return &reasonPipe
	case reasonStopped:
		return &reasonStopped
	}
	kept := err
	return &kept
}

// yours returns the flag that says whose ID c's frames bear.
func (c *conn) yours() wire.Flags {
	if c.opener {
		return 0
	}
	return wire.FlagYours
}

// headerLen returns the length of the header of a frame with payload.
func (s *session) headerLen() int {
	if s.one {
		return wire.HeaderLen
	}
	return wire.VTHeaderLen
}

// putHeader writes the header of a frame of c with n bytes of payload.
func (c *conn) putHeader(b []byte, n int) {
	if c.id != 0 {
		wire.PutDataHeader(b, c.yours(), c.id, n)
	} else {
		// Not by PutVTHeader: to pass an address by value costs a third of a small Write.
		h := wire.ViewVTHeader(b)
		h.Addr = c.addr
		h.Len.Set(uint16(n))
	}
}

func (c *conn) isClosed() bool { return c.flags.Load()&flagClosed != 0 }

// discards reports whether what comes for c is thrown away.
func (c *conn) discards() bool { return c.flags.Load()&flagReadShut != 0 }

// cameForward tells the session that c has published, or that its reader waits
// again: nothing more is to be expected of it. It reports whether that was too late
// for the flush that expected it.
func (c *conn) cameForward() (late bool) {
	if r := c.expected.Load(); r != 0 {
		c.expected.Store(0)
		late = !c.s.expect.done(r)
	}
	return late
}

// hasRoom reports whether c can take more.
func (c *conn) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.discards() || c.roomLocked()
}

// lendLocked counts n bytes that a WriteTo takes to its writer, or brings back as written. With
// the vt-muxer protocol they count against MaxWindow; protocol 1 has limits for that.
func (c *conn) lendLocked(n int) {
	if c.id == 0 {
		c.recv.told += uint64(n)
	}
}

// roomLocked reports whether, with the vt-muxer protocol, c takes one more piece. Where nothing
// waits it does, whatever a WriteTo has: a Read may wait for that piece, and its bytes must
// not be taken in part.
func (c *conn) roomLocked() bool {
	return c.in.n == 0 || c.in.n+int(c.recv.told) < c.s.cfg.MaxWindow
}

// never is so far off that now can be added to it, and small enough for any clock.
const never = 1 << 62

// deadline turns t into the session's clock. It is never 0 but for the zero time.
func (c *conn) deadline(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if t == t.Round(0) {
		// A wall clock time: what counts is how far off it is by now's clock.
		return max(c.s.now()+min(int64(time.Until(t)), never), 1)
	}
	return max(min(int64(t.Sub(c.s.base)), never), 1)
}

func (c *conn) setReadDeadline(t time.Time) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	c.readDeadline.Store(c.deadline(t))
	if c.reading.Load() > 0 {
		c.rouseReaders()
	}
	return nil
}

func (c *conn) setWriteDeadline(t time.Time) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	c.writeDeadline.Store(c.deadline(t))
	if c.wlock.held() {
		c.rouseWriters()
	}
	return nil
}

// rouseReaders makes every Read look at its deadline again.
func (c *conn) rouseReaders() {
	c.mu.Lock()
	for w := c.readers.first(); w != nil; w = c.readers.after(w) {
		c.s.token.rouse(w)
	}
	c.mu.Unlock()
}

// rouseWriters makes every Write look at its deadline and at writeErr again.
func (c *conn) rouseWriters() {
	c.mu.Lock()
	for w := c.writers.first(); w != nil; w = c.writers.after(w) {
		w.Wake()
	}
	switch w := c.sender; {
	case w == nil:
	case w.forCredit:
		c.s.token.rouse(w)
	default:
		w.Wake()
	}
	c.mu.Unlock()
	c.s.out.rouse(c)
}
