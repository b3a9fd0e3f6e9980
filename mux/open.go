package mux

import (
	"context"
	"errors"
	"net"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// open opens a connection that bears a. It is in the table before its OPEN can
// reach the wire, so that the peer's first bytes find it.
func (s *session) open(ctx context.Context, a addr.SocketAddr) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := s.newState(a, true)
	if err := s.registerWait(ctx, c); err != nil {
		return nil, err
	}
	const n = wire.VTHeaderLen
	b, i, ok := s.out.stg.reserve(n)
	if !ok {
		var err error
		if b, i, err = c.reserveWait(ctx, n, false); err != nil {
			s.unregister(c)
			return nil, err
		}
	}
	wire.PutVTHeader(b, a, 0)
	if s.out.stg.commit(i, n) || s.out.claim() {
		s.trySend() // ctx could not end a blocked write
	}
	if err := s.err(); err != nil {
		return nil, err
	}
	s.count.opened.Add(1)
	return newConn(c), nil
}

// registerWait is register, but where the address is taken only until the END of
// its last connection is on its way, it waits for that.
func (s *session) registerWait(ctx context.Context, c *conn) error {
	err := s.register(c)
	if err != errEnding {
		return err
	}
	w := s.waiters.get(nil)
	defer s.waiters.put(w)
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, w.Wake)()
	}
	for {
		s.tryFlush()
		s.out.waitRoom(w)
		err = s.register(c)
		if err == errEnding {
			if ctx.Err() == nil {
				w.Park(0)
			} else {
				err = ctx.Err()
			}
		}
		s.out.leaveRoom(w)
		if err != errEnding {
			return err
		}
	}
}

// errEnding: the address is free as soon as our END is on its way.
var errEnding = errors.New("mux: address is ending")

// register puts c into the table, with both halves open.
func (s *session) register(c *conn) error {
	t := &s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed && s.closing.Load():
		return net.ErrClosed
	case t.closed:
		return s.cause // set before the table was closed
	case s.draining.Load():
		return ErrDraining
	case t.byAddr[c.addr] != nil:
		if old := t.byAddr[c.addr]; halves(old.halves.Load()) == sendOpen && old.flags.Load()&flagWriteShut != 0 {
			return errEnding
		}
		return ErrAddrInUse
	case len(t.byAddr) >= s.cfg.MaxConns:
		return ErrTooManyConns
	}
	c.halves.Store(uint32(recvOpen | sendOpen))
	t.byAddr[c.addr] = c
	return nil
}

// unregister takes back a register whose OPEN was never published.
func (s *session) unregister(c *conn) {
	s.table.mu.Lock()
	s.table.setLocked(c, 0)
	s.table.mu.Unlock()
	c.close(net.ErrClosed, net.ErrClosed)
}
