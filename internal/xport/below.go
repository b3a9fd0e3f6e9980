package xport

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vtmux/vtmux/pool"
)

// A Below is a socket that TLS runs over, and that keeps what it can't send at once. If a write by
// TLS fails, even for a deadline, it leaves half a record behind, and the connection is lost. None
// fails here for want of room: so over a Below, a write can be interrupted and resumed as on a
// socket, and TLS be written to without waiting.
//
// It is a plain connection until a Transport has it, behind TLS's handshake. From then on
//
//   - Write takes all, and keeps what the socket has no room for, behind what it keeps already;
//   - what is kept is sent by Transport's calls, before they give TLS anything else. So no more
//     is kept than TLS makes of keptPlain bytes, and its own answers to the peer, which MaxKept
//     bounds. An answer that finds no room while nobody flushes waits for the next flush;
//   - the write deadline is the Transport's, and what TLS does to it is ignored.
//
// TLS itself must not wait either. A client that lets the server renegotiate (TLS 1.2) takes no
// write until that is over: so a record that begins it is refused.
//
// Reads belong to one goroutine at a time, which TLS sees to.
type Below struct {
	conn net.Conn
	raw  syscall.RawConn // nil where soft is set
	soft Socket          // nil but in tests
	rd   rawReader

	attached atomic.Bool

	kept atomic.Int64  // the length of what is unsent of rest
	sent atomic.Uint64 // bytes of rest that the socket has taken
	mu   sync.Mutex    // held over calls that do not wait
	rest *pool.Buffer  // what the socket has not taken of what TLS wrote; nil: nothing
	from int           // how much of rest has been sent
	now  nowWriter     // guarded by mu

	deadlineMu sync.Mutex // held over calls that do not wait
	last       bool       // CloseWrite has begun, and the write deadline is its own

	// turn is full while somebody sends what is kept, who may wait for room. It is not a mutex, for
	// the clock of a synctest bubble stands still while somebody waits for one.
	turn    chan struct{}
	wait    func(fd uintptr) bool
	waitErr error // that one's
}

const (
	// keptPlain is how much TLS is given at once.
	keptPlain = 64 << 10
	// MaxKept is the most that is kept: keptPlain in records, which takes a few percent more, and
	// nearly as much again for TLS's own answers. It is what a buffer from the pool may hold.
	MaxKept = 128 << 10
)

// errFlood is for a peer that has TLS answer ever more, and reads nothing. TLS sends nothing
// after that.
var errFlood = errors.New("the peer asks TLS for answers, and does not read them")

// errRenegotiation is for a server that wants to renegotiate, and a client that would.
var errRenegotiation = errors.New("the peer wants to renegotiate TLS, which BelowTLS does not let it: turn Config.Renegotiation off")

// renegotiates reports whether p is what begins a handshake: one record, and of handshakes' type
// without TLS 1.3's disguise (RFC 5246, 6.2.1; RFC 8446, 5.2). Behind the first handshake TLS 1.3
// makes none.
func renegotiates(p []byte) bool {
	const handshake, head = 22, 5
	return len(p) > head && p[0] == handshake && p[1] == 3 && int(p[3])<<8|int(p[4]) == len(p)-head
}

// NewBelow returns conn for TLS to run over: a Below where conn is a socket and the system can
// write without waiting, and else conn itself.
func NewBelow(conn net.Conn) net.Conn {
	b := &Below{conn: conn, turn: make(chan struct{}, 1)}
	switch c := conn.(type) {
	case *net.TCPConn:
		b.raw, _ = c.SyscallConn()
	case *net.UnixConn:
		b.raw, _ = c.SyscallConn()
	case Socket:
		b.soft = c
	}
	if b.soft == nil && (b.raw == nil || !canTryWrite) {
		return conn
	}
	b.rd.init()
	b.now.init()
	b.wait = b.stepWait
	return b
}

// NetConn returns the socket. To read or write it would break TLS.
func (b *Below) NetConn() net.Conn { return b.conn }

func (b *Below) attach() { b.attached.Store(true) }

// pending reports whether something is kept.
func (b *Below) pending() bool { return b.kept.Load() > 0 }

func (b *Below) Read(p []byte) (int, error) {
	if !direct || b.raw == nil || len(p) == 0 {
		return b.conn.Read(p)
	}
	return b.rd.read(b.raw, p)
}

func (b *Below) Write(p []byte) (int, error) {
	if !b.attached.Load() {
		return b.conn.Write(p)
	}
	if renegotiates(p) {
		return 0, errRenegotiation
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	if b.rest == nil {
		var err error
		if n, err = b.sendLocked(p); err != nil {
			return n, err
		}
		if n == len(p) {
			return n, nil
		}
		b.rest, b.from = pool.GetBuffer(), 0
	}
	if int(b.kept.Load())+len(p)-n > MaxKept {
		return n, errFlood
	}
	b.keepLocked(p[n:])
	return len(p), nil
}

// keepLocked keeps p. What has been sent of rest makes room first: a peer that has TLS answer
// and reads as slowly as it makes it may never let rest become empty.
func (b *Below) keepLocked(p []byte) {
	if r := b.rest; b.from > 0 && len(r.B)+len(p) > cap(r.B) {
		r.B = r.B[:copy(r.B, r.B[b.from:])]
		b.from = 0
	}
	b.rest.Append(p)
	b.kept.Add(int64(len(p)))
}

// sendLocked sends of p what the socket has room for. It does not look at the deadline.
func (b *Below) sendLocked(p []byte) (int, error) {
	if b.soft != nil {
		n, err := b.soft.TryWrite(p)
		if err == os.ErrDeadlineExceeded {
			err = nil
		}
		return n, err
	}
	return b.now.send(b.raw, p)
}

// sentLocked follows the sending of n kept bytes.
func (b *Below) sentLocked(n int) {
	b.sent.Add(uint64(n))
	if b.rest == nil {
		return // Close was here
	}
	b.from += n
	if b.kept.Add(-int64(n)) == 0 {
		b.dropLocked()
	}
}

func (b *Below) dropLocked() {
	b.kept.Store(0)
	b.rest.Release()
	b.rest = nil
}

// flush sends what is kept, as far as the socket takes it at once. Where somebody else is
// sending it, it does nothing: then it stays pending, and the caller knows.
func (b *Below) flush() error {
	if !b.pending() {
		return nil
	}
	select {
	case b.turn <- struct{}{}:
		defer b.leave()
		return b.flushNow()
	default:
		return nil
	}
}

func (b *Below) leave() { <-b.turn }

// flushNow is flush for who has the turn.
func (b *Below) flushNow() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == nil {
		return nil
	}
	n, err := b.sendLocked(b.rest.B[b.from:])
	b.sentLocked(n)
	return err
}

// flushAll sends all that is kept, and waits until the write deadline for the socket to take it.
func (b *Below) flushAll() error {
	if !b.pending() {
		return nil
	}
	b.turn <- struct{}{}
	defer b.leave()
	return b.flushWait()
}

// flushWait is flushAll for who has the turn.
func (b *Below) flushWait() error {
	if b.soft != nil {
		return b.flushSoft()
	}
	err := b.raw.Write(b.wait)
	if err == nil {
		err = b.waitErr
	}
	return err
}

func (b *Below) stepWait(fd uintptr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waitErr = nil
	if b.rest == nil {
		return true
	}
	n, err := b.now.sendOn(fd, b.rest.B[b.from:])
	b.sentLocked(n)
	b.waitErr = err
	if err == nil && b.rest != nil {
		return false
	}
	wokeUp()
	return true
}

// flushSoft is flushWait for a test's Socket.
func (b *Below) flushSoft() error {
	for {
		if err := b.flushNow(); err != nil || !b.pending() {
			return err
		}
		b.mu.Lock()
		if b.rest == nil { // Close was here
			b.mu.Unlock()
			return net.ErrClosed
		}
		first := b.rest.B[b.from] // nobody else sends it
		b.mu.Unlock()
		n, err := b.soft.Write([]byte{first})
		b.mu.Lock()
		b.sentLocked(n)
		b.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// setWriteDeadline sets the deadline of flushAll, for its caller; or the last one, which no
// other replaces.
func (b *Below) setWriteDeadline(at time.Time, last bool) error {
	b.deadlineMu.Lock()
	defer b.deadlineMu.Unlock()
	if b.last && !last {
		return nil
	}
	b.last = last
	return b.conn.SetWriteDeadline(at)
}

// flushLast is flushAll behind TLS's last words, which nothing may follow. It takes so long at
// most.
func (b *Below) flushLast(most time.Duration) error {
	b.setWriteDeadline(time.Now().Add(most), true)
	return b.flushAll()
}

// Close sends of what is kept what the socket has room for, and closes the socket, which ends
// the calls that wait for room. It does not wait: the rest is lost, as is what a socket that is
// closed has not taken.
func (b *Below) Close() error {
	b.flush()
	err := b.conn.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest != nil {
		b.dropLocked()
	}
	return err
}

func (b *Below) LocalAddr() net.Addr  { return b.conn.LocalAddr() }
func (b *Below) RemoteAddr() net.Addr { return b.conn.RemoteAddr() }

func (b *Below) SetDeadline(at time.Time) error {
	if err := b.SetReadDeadline(at); err != nil {
		return err
	}
	return b.SetWriteDeadline(at)
}

func (b *Below) SetReadDeadline(at time.Time) error { return b.conn.SetReadDeadline(at) }

func (b *Below) SetWriteDeadline(at time.Time) error {
	if b.attached.Load() {
		return nil
	}
	return b.conn.SetWriteDeadline(at)
}
