package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// closeLinger is how long Close waits for the transport to take what was
	// written. Every other call has returned by then.
	closeLinger = 500 * time.Millisecond
	// endLinger is how long Shutdown waits for the peer to end its half of the
	// transport, when everything else is done.
	endLinger = time.Second
)

var (
	errNoMetadata = fmt.Errorf("mux: the vt-muxer protocol can't carry metadata: %w", errors.ErrUnsupported)
	errNoPing     = fmt.Errorf("mux: the vt-muxer protocol has no ping, and the transport is not TCP: %w", errors.ErrUnsupported)
)

// close ends the session now.
func (s *session) close() error {
	first := s.closing.CompareAndSwap(false, true)
	s.accept.close(s, true)
	if !first {
		<-s.done // another Close is at it
	} else if !s.dead.Load() {
		s.abortAll(net.ErrClosed) // no call waits for what follows
		ctx, cancel := context.WithTimeout(context.Background(), closeLinger)
		s.awaitFlushed(ctx)
		cancel()
	}
	s.end(net.ErrClosed)
	s.helpers.Wait()
	return nil
}

// shutdown ends the session when its connections have ended.
func (s *session) shutdown(ctx context.Context) error {
	if err := s.err(); err != nil {
		return unlessClean(err)
	}
	s.draining.Store(true)
	s.accept.close(s, true)
	select {
	case <-s.table.whenEmpty():
	case <-s.done:
	case <-ctx.Done():
	}
	err := ctx.Err()
	if err == nil {
		err = s.awaitFlushed(ctx)
	}
	if ctx.Err() != nil {
		s.close()
		return err
	}
	if s.closing.Load() {
		err = net.ErrClosed // connections were cut
	}
	if err == nil {
		s.awaitPeersEnd(ctx)
	}
	s.end(net.ErrClosed)
	s.helpers.Wait()
	if s.drained.Load() {
		return nil // the peer was done first
	}
	return unlessClean(err)
}

// unlessClean returns nil for the end of a session that lost nothing.
func unlessClean(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// awaitPeersEnd ends our half of the transport and gives the peer a while to end
// its own, which is the proof that it has read everything: to close a socket with
// bytes unread would reset it. The peer may well not care: vt-muxer's MuxPipe looks
// at the transport only while it has connections.
func (s *session) awaitPeersEnd(ctx context.Context) {
	s.halfClosed.Store(true)
	if !s.t.CloseWrite() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, endLinger)
	defer cancel()
	select {
	case <-s.done:
	case <-ctx.Done():
	}
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
		o.waitRoom(w)
		idle := o.role.Load() == flushIdle && o.stg.empty()
		if !idle && !s.dead.Load() && ctx.Err() == nil {
			w.Park(0)
		}
		o.leaveRoom(w)
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

// ping returns the transport's round-trip time.
func (s *session) ping(ctx context.Context) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.err(); err != nil {
		return 0, err
	}
	if rtt, ok := s.t.RTT(); ok {
		return rtt, nil
	}
	return 0, errNoPing
}

func (s *session) stats() Stats {
	st := s.count.snapshot(s.token.count())
	st.Conns = s.table.len()
	return st
}
