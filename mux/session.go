package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vtmux/vtmux/internal/xport"
)

// A session is one transport and everything on it. Listener and Pipe are its two
// faces.
//
// Lock order: conn.mu or acceptQueue.mu, then readToken.mu or writeSide.mu; endMu,
// then table.mu or helperMu. No lock is held across I/O or a wait.
type session struct {
	// Constant after newSession.
	cfg       Config
	t         *xport.Transport
	base      time.Time // the session's clock starts here
	accepting bool      // a Listener's: the peer may open
	inline    bool      // writers flush themselves; else the helper does, always
	lending   bool      // large payloads are sent from the caller's slice

	// one: protocol 1 is spoken, and not vt-muxer's. Constant once known is closed; no
	// connection exists before.
	one   bool
	known chan struct{}
	vtmux atomic.Bool // the magic of the peer's preface has come
	peer  peerSide

	token readToken
	in    readSide  // owned by who holds the token
	out   writeSide // see there

	owes     atomic.Uint32 // the session's own debts
	goAway   goAway
	refusals refusals

	table   table
	accept  acceptQueue
	waiters waiterPool
	idle    *waiter // the standby's
	count   counters

	expect expectation
	later  laterFlush
	pings  pinger
	watch  watch
	writes writeWatch

	draining atomic.Bool // Shutdown has begun
	closing  atomic.Bool // Close has begun
	drained  atomic.Bool // the session ended by Shutdown, of either end
	// halfClosed: Shutdown, of either end, has ended our half of the transport. What can
	// still be owed is answers that crossed with it, and goes unsaid.
	halfClosed atomic.Bool
	leaving    chan struct{} // closed when it begins to end, by whatever: no call waits any more
	left       sync.Once     // for that
	done       chan struct{} // closed when the session has ended
	over       chan struct{} // closed when end has done all of its work

	// dead is set after cause and before done is closed. Who publishes anything
	// looks at it after publishing.
	dead  atomic.Bool
	endMu sync.Mutex
	cause error // why the session ended; set once, read after dead or done

	// failing is set after failure, when the peer is to be told by a GOAWAY first.
	failing  atomic.Bool
	failure  error
	endTimer *time.Timer // of endAfter
	parting  atomic.Bool // that GOAWAY has been sent

	readFailed atomic.Pointer[error] // nothing can be read any more, for this; see readOver

	helperMu sync.Mutex
	helpers  sync.WaitGroup // standby and helper
	helping  bool           // the helper runs
	work     chan struct{}  // capacity 1: the flusher's role is handed to the helper
	handed   atomic.Bool    // it is, and the helper has not begun
}

func newSession(transport net.Conn, cfg *Config, accepting bool) (*session, error) {
	if transport == nil {
		return nil, errors.New("mux: transport is nil")
	}
	if !xport.IsStream(transport) {
		return nil, fmt.Errorf("mux: transport %T over %s is not a byte stream", transport, transport.LocalAddr().Network())
	}
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &session{
		cfg:       c,
		t:         xport.New(transport),
		base:      time.Now().Add(-time.Microsecond), // so that now is never 0, which means no deadline
		accepting: accepting,
		known:     make(chan struct{}),
		leaving:   make(chan struct{}),
		done:      make(chan struct{}),
		over:      make(chan struct{}),
		work:      make(chan struct{}, 1),
	}
	s.inline = s.t.Resumable()
	s.lending = s.t.Resumable() && s.t.Vectored()
	s.token = readToken{t: s.t, now: s.now, at: s.instant, counts: &s.in.count, permanent: !s.t.Deadlines()}
	s.table.init()
	s.expect.init()
	s.out.s = s
	s.peer.init()
	s.in.poke = wakePoller
	s.in.timed = c.KeepAliveInterval > 0 && c.Protocol != ProtocolVT
	s.begin()
	s.start()
	s.tryFlush() // the preface
	return s, nil
}

// now returns the nanoseconds since base. It is monotonic, and never 0.
func (s *session) now() int64 { return int64(time.Since(s.base)) }

// nowIf is now where there is a deadline to hold it against, and else 0.
func (s *session) nowIf(deadline int64) int64 {
	if deadline == 0 {
		return 0
	}
	return s.now()
}

// instant turns what now counts into a time; 0 into the zero time.
func (s *session) instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return s.base.Add(time.Duration(ns))
}

// start runs the standby, which finishes the transport's handshake first: until
// then it holds the token and the flusher's role.
func (s *session) start() {
	w := s.waiters.get(nil)
	w.lazy, w.standby = true, true
	handshake := s.t.NeedsHandshake()
	s.idle = w
	leads := s.token.enlist(w)
	if handshake {
		s.out.claim()
	} else {
		s.awaitPeer()
	}
	s.helpers.Add(1)
	go func() {
		defer s.helpers.Done()
		if handshake {
			if err := s.handshake(); err != nil {
				s.end(&TransportError{Op: "handshake", Err: err})
			} else {
				s.awaitPeer()
			}
			s.handOver()
		}
		s.standby(w, leads)
	}()
}

func (s *session) handshake() error {
	ctx := context.Background()
	if limit := s.cfg.HandshakeTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
		// The transport may not return then: a callback of tls.Config can wait for ever.
		defer context.AfterFunc(ctx, func() { s.end(&TransportError{Op: "handshake", Err: errHandshakeTimeout}) })()
	}
	err := s.t.Handshake(ctx)
	if ctx.Err() != nil {
		return errHandshakeTimeout // the context is none of a caller's
	}
	return err
}

// standby leads when nobody else does, so that ends, errors and opens come
// through while no application waits.
func (s *session) standby(w *waiter, leads bool) {
	for {
		if leads {
			s.lead(w, nil)
		} else {
			w.Park(0)
		}
		if s.dead.Load() {
			s.leave(w)
			return
		}
		leads = s.token.enlist(w)
	}
}

// end ends the session, once: cause is set, then done is closed, then everything
// that waits is woken with it.
func (s *session) end(cause error) {
	s.endMu.Lock()
	if s.cause != nil {
		s.endMu.Unlock()
		return
	}
	if s.failure != nil {
		cause = s.failure // what came after it follows from it
	}
	te, ok := cause.(*TransportError)
	eof := ok && te.Err == io.EOF
	cut := eof && s.unfinished()
	switch {
	case s.closing.Load(): // whatever came in between. (Looked at last: Close empties the table.)
		cause = net.ErrClosed
	case cut:
		te.Err = io.ErrUnexpectedEOF
	case eof && s.draining.Load():
		cause = net.ErrClosed // the peer's answer to our Shutdown
		s.drained.Store(true)
	}
	s.cause = cause
	if s.endTimer != nil {
		s.endTimer.Stop()
	}
	s.helperMu.Lock() // handOver starts no helper once dead is set
	s.dead.Store(true)
	s.helperMu.Unlock()
	s.endMu.Unlock()
	close(s.done)

	s.token.close()
	s.watch.stop()
	s.writes.stop()
	s.abortAll(s.connCause())
	s.accept.close(s, s.closing.Load())
	s.idle.Wake()
	s.t.Close() // ends what the leader and the flusher are blocked in
	if s.out.claim() {
		s.runFlusher(nil, nil) // fails what was queued and nobody sends
	}
	s.reap()
	close(s.over)
}

// unfinished reports whether a connection is open in either direction, or the end of a half
// has not been sent.
func (s *session) unfinished() bool { return s.table.unfinished() || s.out.ending.Load() }

// endWait is end for Close and Shutdown, which return when nothing is left to do: another
// goroutine may be at it, such as the reader that led when the transport failed.
func (s *session) endWait() {
	s.end(net.ErrClosed)
	<-s.over
	s.helpers.Wait()
}

// abortAll ends every connection with err, and lets no more in. What else is waited for,
// but Accept, ends with it.
func (s *session) abortAll(err error) {
	why := reason(err)
	s.table.each(func(c *conn) { c.abortFor(why) })
	s.left.Do(func() { close(s.leaving) })
	s.pings.close(s)
	s.out.wakeAll()
}

// leave ends w's wait for the token.
func (s *session) leave(w *waiter) {
	s.token.leave(w)
	s.reap() // the token may have been passed to w
}

// reap gives the read slab back once the session has ended and nobody leads.
func (s *session) reap() {
	if s.dead.Load() && !s.token.held() {
		s.token.mu.Lock()
		defer s.token.mu.Unlock()
		if s.token.leader == nil {
			s.in.release()
		}
	}
}

// err returns why the session ended, or nil.
func (s *session) err() error {
	if !s.dead.Load() {
		return nil
	}
	s.endMu.Lock()
	defer s.endMu.Unlock()
	return s.cause
}

// overErr is what a call returns that would have to wait, once the session begins to end.
func (s *session) overErr() error {
	if s.closing.Load() {
		return net.ErrClosed
	}
	s.endMu.Lock()
	defer s.endMu.Unlock()
	if s.cause != nil {
		return s.cause
	}
	return s.failure
}

// lostErr is what a Write returns that may not have been sent, because the session ends.
func (s *session) lostErr() error {
	switch {
	case s.closing.Load():
		return net.ErrClosed
	case s.dead.Load():
		return s.connCause()
	}
	s.endMu.Lock()
	defer s.endMu.Unlock()
	if s.failure == nil { // our half of the transport has ended, and the leader is about to abort the connection
		return &TransportError{Op: "write", Err: syscall.EPIPE}
	}
	return s.failure // set before the GOAWAY behind which nothing is sent
}

// connCause is what the calls of an unfinished connection return after the end:
// the cause, but never one that reads as a clean end (hostile peers, R10).
func (s *session) connCause() error {
	err := s.err()
	if errors.Is(err, io.EOF) {
		return &TransportError{Op: "read", Err: io.ErrUnexpectedEOF}
	}
	return err
}
