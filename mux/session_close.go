package mux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// closeLinger is how long Close waits for the transport to take what was written.
const closeLinger = time.Second

var (
	errNoMetadata = fmt.Errorf("mux: the vt-muxer protocol can't carry metadata: %w", errors.ErrUnsupported)
	errNoPing     = fmt.Errorf("mux: the vt-muxer protocol has no ping, and the transport is not TCP: %w", errors.ErrUnsupported)
)

// close ends the session now.
func (s *session) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLinger)
	defer cancel()
	s.draining.Store(true)
	s.awaitFlushed(ctx)
	s.end(net.ErrClosed)
	s.helpers.Wait()
	return nil
}

// shutdown ends the session when its connections have ended.
func (s *session) shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.accept.closeAll(s)
	select {
	case <-s.table.whenEmpty():
	case <-s.done:
	case <-ctx.Done():
	}
	err := ctx.Err()
	if err == nil {
		err = s.awaitFlushed(ctx)
	}
	if err == nil && !s.dead.Load() {
		// The peer answers our end of the transport with its own, which is the
		// proof that it has read everything.
		if s.t.CloseWrite() {
			select {
			case <-s.done:
			case <-ctx.Done():
			}
		}
	}
	s.end(net.ErrClosed)
	s.helpers.Wait()
	return err
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
	st := s.count.snapshot()
	st.Conns = s.table.len()
	return st
}
