package sim

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A Link is the transport between two sessions. What one end writes, the other can read
// only once Deliver has let it pass: so nothing on it moves but by the test's will, and
// the two sessions never run at the same time.
//
// It is a package of its own beside faultconn, which plans its faults in advance and by
// byte: here they come in the middle of a test, as steps of it.
type Link struct {
	// Said is told what an end has handed to its transport, and Heard how many bytes an
	// end has read. They are called with the link locked. Constant.
	Said  func(from int, p []byte)
	Heard func(by int, n int)

	mu    sync.Mutex // held for a few instructions, never over a wait
	ways  [2]way     // by who writes
	ends  [2]End
	syncs int // calls of Sync
}

// A way is one direction.
type way struct {
	buf   []byte // written and not read
	ready int    // how many of them may be read
	room  int    // how many it holds before a writer waits
	piece int    // the most that one call moves; 0: no limit
	dice  *rand.Rand

	fin      bool  // nothing follows buf but io.EOF
	ended    bool  // that has arrived
	void     bool  // what is written vanishes
	readErr  error // what Read returns when buf[:ready] has been read
	withLast bool  // it comes along with the last byte
	empty    bool  // the next Read returns (0, nil)
	writeErr error // what Write returns

	readable, writable chan struct{} // capacity 1: a wake for who waits
	writing            bool          // a Write waits for room
}

// NewLink returns a link of which each direction holds room bytes. Where piece is above
// zero, a call moves at most so many bytes, and a random number of them.
func NewLink(seed uint64, room, piece [2]int) *Link {
	k := &Link{}
	for i := range k.ways {
		w := &k.ways[i]
		w.room, w.piece = room[i], piece[i]
		w.dice = rand.New(rand.NewPCG(seed, uint64(i)))
		w.readable, w.writable = make(chan struct{}, 1), make(chan struct{}, 1)
		e := &k.ends[i]
		e.link, e.i = k, i
	}
	return k
}

// End returns an end, which is a plain connection: it has deadlines and no more.
func (k *Link) End(i int) *End { return &k.ends[i] }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Undelivered returns how many bytes of from's are on their way, its end counting as one.
func (k *Link) Undelivered(from int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := &k.ways[from]
	n := len(w.buf) - w.ready
	if w.fin && !w.ended {
		n++
	}
	return n
}

// Unread returns how many bytes of from's have arrived and not been read.
func (k *Link) Unread(from int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ways[from].ready
}

// Stuck reports whether end i waits for room in a Write.
func (k *Link) Stuck(i int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ways[i].writing
}

// Sync makes what the caller has done happen before whatever comes next on the link, as the
// race detector sees it.
func (k *Link) Sync() {
	k.mu.Lock()
	k.syncs++
	k.mu.Unlock()
}

// Free returns how many bytes end i can write now.
func (k *Link) Free(i int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ways[i].room - len(k.ways[i].buf)
}

// Over reports whether nothing can be written by end i any more: it has ended its
// direction, or writing fails.
func (k *Link) Over(i int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ways[i].fin || k.ways[i].writeErr != nil
}

// Deliver lets n more bytes of from's arrive, as far as there are so many, and its end
// behind the last one.
func (k *Link) Deliver(from, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := &k.ways[from]
	w.ready = min(len(w.buf), w.ready+n)
	if w.fin && w.ready == len(w.buf) && !w.ended {
		w.ended = true
		if back := &k.ways[1-from]; k.ends[from].closed && back.writeErr == nil {
			back.writeErr = syscall.EPIPE // for who writes to a closed socket
		}
	}
	poke(w.readable)
}

// Resize changes how many bytes of from's are held.
func (k *Link) Resize(from, room int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ways[from].room = room
	poke(k.ways[from].writable)
}

// EmptyRead makes the next Read of what from has written return nothing.
func (k *Link) EmptyRead(from int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ways[from].empty = true
	poke(k.ways[from].readable)
}

// Cut breaks from's direction. What has not arrived is lost. Reading what has arrived
// ends in readErr, which comes with the last byte if withLast. Writing fails with writeErr,
// or if that is nil goes into the void; readErr nil means that reading waits for ever.
func (k *Link) Cut(from int, readErr, writeErr error, withLast bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cutLocked(from, readErr, writeErr, withLast)
}

func (k *Link) cutLocked(from int, readErr, writeErr error, withLast bool) {
	w := &k.ways[from]
	w.buf = w.buf[:w.ready]
	w.fin, w.ended = false, false
	if w.readErr == nil {
		w.readErr, w.withLast = readErr, withLast
	}
	w.writeErr, w.void = writeErr, true
	poke(w.readable)
	poke(w.writable)
}

// An End is one end's transport.
type End struct {
	link *Link
	i    int

	// Guarded by link.mu.
	closed         bool
	read, write    deadline
	brokenByExpiry bool
}

var _ net.Conn = (*End)(nil)

// A deadline pokes who waits when it has passed.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) set(at time.Time, who chan struct{}) {
	d.at = at
	if d.timer != nil {
		d.timer.Stop()
	}
	switch wait := time.Until(at); {
	case at.IsZero():
	case wait <= 0:
		poke(who)
	case d.timer == nil:
		d.timer = time.AfterFunc(wait, func() { poke(who) })
	default:
		d.timer.Reset(wait)
	}
}

// size returns how many of n bytes a call moves.
func (w *way) size(n int) int {
	if w.piece > 0 && n > 0 {
		n = 1 + w.dice.IntN(min(n, w.piece))
	}
	return n
}

func (e *End) Read(p []byte) (int, error) { return e.readInto(p) }

func (e *End) readInto(vec ...[]byte) (int, error) {
	k := e.link
	w := &k.ways[1-e.i]
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		switch {
		case e.closed:
			return 0, net.ErrClosed
		case e.read.passed():
			return 0, os.ErrDeadlineExceeded
		case w.empty:
			w.empty = false
			return 0, nil
		case w.ready > 0:
			room := 0
			for _, p := range vec {
				room += len(p)
			}
			n := w.size(min(w.ready, room))
			from := w.buf[:n]
			for _, p := range vec {
				from = from[copy(p, from):]
			}
			w.buf = append(w.buf[:0], w.buf[n:]...)
			w.ready -= n
			poke(w.writable)
			k.Heard(e.i, n)
			if w.withLast && w.ready == 0 {
				return n, w.readErr
			}
			return n, nil
		case w.readErr != nil:
			return 0, w.readErr
		case w.ended:
			return 0, io.EOF
		}
		k.mu.Unlock()
		<-w.readable
		k.mu.Lock()
	}
}

func (e *End) Write(p []byte) (int, error) { return e.writeFrom(p, true) }

// writeFrom writes p; all of it if it may wait.
func (e *End) writeFrom(p []byte, wait bool) (sent int, err error) {
	k := e.link
	w := &k.ways[e.i]
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		room := len(p) - sent
		if !w.void {
			room = min(room, w.room-len(w.buf))
		}
		switch {
		case e.closed:
			return sent, net.ErrClosed
		case e.write.passed() || e.brokenByExpiry:
			return sent, os.ErrDeadlineExceeded
		case w.writeErr != nil:
			return sent, w.writeErr
		case w.fin && !w.void:
			return sent, syscall.EPIPE
		case sent == len(p):
			return sent, nil
		case room > 0:
			n := w.size(room)
			k.Said(e.i, p[sent:sent+n])
			if !w.void {
				w.buf = append(w.buf, p[sent:sent+n]...)
			}
			sent += n
			if sent == len(p) {
				return sent, nil
			}
			continue
		case !wait:
			return sent, nil
		}
		w.writing = true
		k.mu.Unlock()
		<-w.writable
		k.mu.Lock()
		w.writing = false
	}
}

// Close ends both directions, as a socket's does: what was written still arrives, unless
// something that has arrived here was not read, for then all is reset.
func (e *End) Close() error {
	k := e.link
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	in, out := &k.ways[1-e.i], &k.ways[e.i]
	if in.ready > 0 && out.readErr == nil {
		k.cutLocked(e.i, syscall.ECONNRESET, nil, false)
	} else {
		out.fin = true
	}
	in.buf, in.ready, in.void = in.buf[:0], 0, true
	for i := range k.ways {
		poke(k.ways[i].readable)
		poke(k.ways[i].writable)
	}
	e.read.set(time.Time{}, nil)
	e.write.set(time.Time{}, nil)
	return nil
}

func (e *End) LocalAddr() net.Addr  { return linkAddr{} }
func (e *End) RemoteAddr() net.Addr { return linkAddr{} }

func (e *End) SetDeadline(at time.Time) error {
	e.SetReadDeadline(at)
	return e.SetWriteDeadline(at)
}

func (e *End) SetReadDeadline(at time.Time) error {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	e.read.set(at, e.link.ways[1-e.i].readable)
	return nil
}

func (e *End) SetWriteDeadline(at time.Time) error {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	e.write.set(at, e.link.ways[e.i].writable)
	return nil
}

type linkAddr struct{}

func (linkAddr) Network() string { return "sim" }
func (linkAddr) String() string  { return "link" }
