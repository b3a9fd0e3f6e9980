package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/vtmux/vtmux/wire"
)

const (
	// closeLinger is how long Close waits for the transport to take what was
	// written. Every other call has returned by then (hostile peers, R9).
	closeLinger = 500 * time.Millisecond
	// endLinger is how long Shutdown waits for a peer that has said nothing yet; and, when
	// everything else is done, for a sign that the peer reads on, or for the end of its half
	// of the transport.
	endLinger = time.Second
	// failLinger is how long a session that fails tries to tell the peer why.
	failLinger = time.Second
)

var (
	errNoMetadata      = fmt.Errorf("mux: the vt-muxer protocol can't carry metadata: %w", errors.ErrUnsupported)
	errMetadataTooLong = fmt.Errorf("mux: metadata is longer than %d bytes: %w", wire.MaxMetadata, syscall.EMSGSIZE)
	errNoPing          = fmt.Errorf("mux: the vt-muxer protocol has no ping, and the system tells no round-trip time of this transport: %w", errors.ErrUnsupported)
)

// close ends the session now.
func (s *session) close() error {
	s.tryFlush()                                        // a RESET that waits may end a connection
	cut := s.isKnown() && s.one && s.table.unfinished() // what is refused now included
	first := s.closing.CompareAndSwap(false, true)
	s.accept.close(s, true)
	if !first {
		<-s.done // another Close is at it
	} else if !s.dead.Load() {
		s.abortAll(net.ErrClosed) // no call waits for what follows
		ctx, cancel := context.WithTimeout(context.Background(), closeLinger)
		err := s.awaitFlushed(ctx)
		if cut && err == nil { // behind the ends of what was closed before
			s.tell(s.lastSeen(), CodeClosed, "closed")
			s.awaitFlushed(ctx)
		}
		cancel()
	}
	s.endWait()
	return nil
}

// shutdown ends the session when its connections have ended.
func (s *session) shutdown(ctx context.Context) error {
	if err := s.err(); err != nil {
		if s.drained.Load() {
			return nil // another was first
		}
		return unlessClean(err)
	}
	err := s.drain(ctx)
	if err == nil {
		select {
		case <-s.table.whenEmpty():
		case <-s.done:
		case <-ctx.Done():
		}
		err = ctx.Err()
	}
	if err == nil {
		err = s.awaitFlushed(ctx)
	}
	if err == nil && s.failing.Load() { // connections were cut
		select {
		case <-s.done: // fail may have a GOAWAY to send yet
		case <-ctx.Done():
		}
		err = s.failure
	}
	if late := ctx.Err(); late != nil {
		s.close()
		if err == nil {
			err = late
		}
		return err
	}
	if s.closing.Load() {
		<-s.done            // Close may have a GOAWAY to send yet
		err = net.ErrClosed // connections were cut
	}
	if err == nil {
		err = s.awaitPeersEnd(ctx)
	}
	if s.overErr() != nil {
		select {
		case <-s.done: // as above
		case <-ctx.Done():
		}
	} else if err == nil {
		s.drained.Store(true)
	}
	s.endWait()
	if s.drained.Load() {
		return nil // the peer was done first, or another Shutdown
	}
	return unlessClean(err)
}

// drain sees to it that nothing new is opened. With protocol 1 it returns when no OPEN
// is on the way any more (PROTOCOL.md, 2.11).
func (s *session) drain(ctx context.Context) error {
	t := &s.table
	t.mu.Lock()
	s.draining.Store(true)
	t.mu.Unlock()
	if err := s.awaitFirst(ctx); err != nil {
		return err
	}
	if !s.isKnown() || !s.one {
		s.accept.close(s, true)
		return nil
	}
	s.tell(maxID, CodeNone, "")
	s.tryFlush() // the PING may have to wait for another one's ACK
	if _, err := s.roundTrip(ctx, true); err != nil {
		if s.dead.Load() {
			return nil // the caller looks why
		}
		return err
	}
	t.mu.Lock()
	t.last = min(t.last, t.seen)
	last := t.last
	t.mu.Unlock()
	s.tell(last, CodeNone, "")
	s.tryFlush()
	s.accept.close(s, false)
	return nil
}

// awaitFirst waits for the peer's first words, where they decide the protocol. They may be
// on their way, with connections that are to be told that they are not served: to end the
// transport at once would cut them. From a peer that says nothing for a while, nothing is
// expected.
func (s *session) awaitFirst(ctx context.Context) error {
	if s.isKnown() {
		return nil
	}
	s.awaitFlushed(ctx) // a TLS handshake comes before the first words
	t := time.NewTimer(endLinger)
	defer t.Stop()
	select {
	case <-s.known:
	case <-s.done:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// drains reports whether either end has said that it will open nothing more. It never
// goes back.
func (s *session) drains() bool {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	return s.drainsLocked()
}

func (s *session) drainsLocked() bool { return s.draining.Load() || s.table.goAways > 0 }

// lastSeen returns the last ID for a GOAWAY that ends the session.
func (s *session) lastSeen() wire.ID {
	t := &s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = min(t.last, t.seen)
	return t.last
}

// fail ends the session for err, which the peer is told first as far as it listens: for
// a second at most, the session says GOAWAY and then only reads. All calls on
// connections return err at once.
func (s *session) fail(err error, code Code, text string) {
	s.endMu.Lock()
	if s.cause != nil || s.failure != nil {
		s.endMu.Unlock()
		return
	}
	s.failure = err
	s.endMu.Unlock()
	s.tell(s.lastSeen(), code, text)
	s.failing.Store(true)
	s.abortAll(err)
	s.accept.close(s, false)
	s.endAfter(failLinger, err)
	s.tryFlush()
	s.token.nudge() // somebody must read
}

// endAfter ends the session for err in a while, unless it has ended by then.
func (s *session) endAfter(d time.Duration, err error) {
	s.endMu.Lock()
	defer s.endMu.Unlock()
	if s.cause == nil && s.endTimer == nil {
		s.endTimer = time.AfterFunc(d, func() { s.end(err) })
	}
}

// part follows when the GOAWAY of fail has been handed to the transport. To close a
// socket with bytes unread would reset it, and the peer might never see the GOAWAY.
func (s *session) part() {
	if s.out.published() || !s.parting.CompareAndSwap(false, true) {
		return
	}
	leave := func() {
		if !s.t.CloseWrite() {
			s.end(s.failure)
		}
	}
	if s.inline && !s.t.NeedsHandshake() {
		leave()
	} else {
		go leave() // TLS writes its farewell, which may block
	}
}

// unlessClean returns nil for the end of a session that lost nothing.
func unlessClean(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// awaitPeersEnd ends our half of the transport and waits for the peer to end its own,
// which is the proof that it has read everything: to close a socket with bytes unread, or
// before more come, would reset it, and what the kernel has not sent yet would be lost.
// The peer may well not care: vt-muxer's MuxPipe looks at the transport only while it has
// connections. So the wait ends when nothing has shown for a while that it reads.
//
// Where the transport has no halves, the ACK of a PING is the proof. Without it the peer
// might find that it can't write any more, and end, before it has looked at the last ends.
func (s *session) awaitPeersEnd(ctx context.Context) error {
	if !s.t.HasHalves() {
		if !s.isKnown() || !s.one {
			return nil
		}
		if _, err := s.roundTrip(ctx, true); err != nil {
			return err
		}
		return s.sendLast(ctx)
	}
	s.halfClosed.Store(true)
	if !s.t.CloseWrite() {
		return nil
	}
	tick := time.NewTicker(endLinger)
	defer tick.Stop()
	for before := s.signs(); ; {
		select {
		case <-s.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now := s.signs()
		if now == before {
			return nil
		}
		before = now
	}
}

// sendLast sends what is left, such as the ACK of the peer's last PING, and lets nothing
// follow: a peer that hears a part of a frame takes itself for cut.
func (s *session) sendLast(ctx context.Context) error {
	o := &s.out
	for {
		if err := s.awaitFlushed(ctx); err != nil {
			return err
		}
		if o.role.CompareAndSwap(flushIdle, flushBusy) {
			o.stg.flusher.take()
			o.parted.Store(true)
			s.runFlusher(nil, nil)
			return nil
		}
	}
}

// signs returns what changes while the peer reads: how much has come from it, and how
// much of ours its kernel has acknowledged.
func (s *session) signs() (signs [2]uint64) {
	moved, _ := s.t.Moved()
	return [2]uint64{s.token.count().bytesIn, moved}
}

// awaitFlushed waits until all that was published has been handed to the
// transport.
func (s *session) awaitFlushed(ctx context.Context) error {
	o := &s.out
	w := s.waiters.get(nil)
	defer s.waiters.put(w)
	defer context.AfterFunc(ctx, w.Wake)()
	for {
		s.tryFlush()
		o.enter(&o.watchers, w)
		idle := o.role.Load() == flushIdle && o.stg.empty()
		if !idle && !s.dead.Load() && ctx.Err() == nil {
			w.Park(0)
		}
		o.leave(&o.watchers, w)
		switch {
		case s.dead.Load():
			return s.err()
		case ctx.Err() != nil:
			return ctx.Err()
		case idle:
			return nil
		}
	}
}

// ping returns the round-trip time: protocol 1's, or else the transport's.
func (s *session) ping(ctx context.Context) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.err(); err != nil {
		return 0, err
	}
	if rtt, ok := s.t.RTT(); ok && !s.isKnown() {
		return rtt, nil
	}
	if err := s.awaitProtocol(ctx); err != nil {
		return 0, err
	}
	if s.one {
		return s.roundTrip(ctx, false)
	}
	if rtt, ok := s.t.RTT(); ok {
		return rtt, nil
	}
	return 0, errNoPing
}

func (s *session) stats() Stats {
	st := s.count.snapshot(s.token.count(), s.out.stg.payload())
	st.Conns = s.table.len()
	st.RTT = s.rtt()
	return st
}
