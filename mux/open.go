package mux

import (
	"context"
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
	if err := s.register(c); err != nil {
		return nil, err
	}
	const n = wire.VTHeaderLen
	b, i, ok := s.out.stg.reserve(n)
	if !ok {
		var err error
		if b, i, err = c.reserveWait(ctx, n); err != nil {
			s.unregister(c)
			return nil, err
		}
	}
	wire.PutVTHeader(b, a, 0)
	s.flush(c, s.out.stg.commit(i, n), false)
	if err := s.err(); err != nil {
		return nil, err
	}
	s.count.opened.Add(1)
	return newConn(c), nil
}

// register puts c into the table, with both halves open.
func (s *session) register(c *conn) error {
	t := &s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return s.openErr()
	case s.draining.Load():
		return ErrDraining
	case t.byAddr[c.addr] != nil:
		return ErrAddrInUse
	case len(t.byAddr) >= s.cfg.MaxConns:
		return ErrTooManyConns
	}
	c.halves.Store(uint32(recvOpen | sendOpen))
	t.byAddr[c.addr] = c
	return nil
}

func (s *session) openErr() error {
	if err := s.err(); err != nil {
		return err
	}
	return net.ErrClosed
}

// unregister takes back a register whose OPEN was never published.
func (s *session) unregister(c *conn) {
	s.table.mu.Lock()
	s.table.setLocked(c, 0)
	s.table.mu.Unlock()
	c.close(net.ErrClosed, net.ErrClosed, flagClosed)
}
