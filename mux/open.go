package mux

import (
	"context"
	"errors"
	"net"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// open is openWith without metadata.
func (s *session) open(ctx context.Context, a addr.SocketAddr) (*Conn, error) {
	return s.openWith(ctx, a, nil)
}

// openWith opens a connection that bears a. It is in the table before its OPEN can
// reach the wire, so that the peer's first bytes find it.
func (s *session) openWith(ctx context.Context, a addr.SocketAddr, metadata []byte) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.awaitProtocol(ctx); err != nil {
		return nil, err
	}
	c := s.newState(a, true)
	var err error
	if s.one {
		err = s.openOne(ctx, c, metadata)
	} else if len(metadata) > 0 {
		err = errNoMetadata
	} else {
		err = s.openVT(ctx, c)
	}
	if err == nil {
		err = s.err()
	}
	if err != nil {
		return nil, err
	}
	s.count.opened.Add(1)
	return newConn(c), nil
}

// awaitProtocol waits until the protocol is known. A Listener that leaves it to the
// peer begins by its preface, which a vt-muxer peer drops.
func (s *session) awaitProtocol(ctx context.Context) error {
	if s.isKnown() {
		return nil
	}
	s.offerPreface()
	s.tryFlush()
	select {
	case <-s.known:
		return nil
	case <-s.leaving:
		return s.overErr()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) openVT(ctx context.Context, c *conn) error {
	if err := s.retry(ctx, 0, func() error { return s.register(c) }); err != nil {
		return err
	}
	const n = wire.VTHeaderLen
	b, i, ok := s.out.stg.reserve(n, 0)
	if !ok {
		var err error
		if b, i, err = c.reserveWait(ctx, n, 0, false); err != nil {
			s.unregister(c)
			return err
		}
	}
	wire.PutVTHeader(b, c.addr, 0)
	s.announced(s.out.stg.commit(i, n))
	return nil
}

func (s *session) openOne(ctx context.Context, c *conn, metadata []byte) error {
	if len(metadata) > wire.MaxMetadata {
		return errMetadataTooLong
	}
	var last bool
	err := s.retry(ctx, wire.OpenLen+len(metadata), func() (err error) {
		last, err = s.announce(c, metadata)
		return err
	})
	if err != nil {
		return err
	}
	s.announced(last)
	return nil
}

// announced follows the commit of an OPEN, and is told what that said.
func (s *session) announced(last bool) {
	if last {
		s.trySend() // ctx could not end a blocked write
	} else {
		s.openLater()
	}
}

// announce allots c's ID, puts c into the table and stages its OPEN, all under one
// lock: so IDs rise on the wire, and no OPEN follows the ACK of a PING that came after
// a GOAWAY. last is what staging.commit says.
func (s *session) announce(c *conn, metadata []byte) (last bool, err error) {
	t := &s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	settled := s.isSettled()
	switch {
	case t.closed && s.closing.Load():
		return false, net.ErrClosed
	case t.closed && s.failure != nil:
		return false, s.failure // set before the table was closed
	case t.closed:
		return false, s.cause // likewise
	case s.draining.Load() || t.goAways > 0:
		return false, ErrDraining
	case t.allotted == maxID:
		return false, ErrExhausted
	case t.ours >= s.cfg.MaxConns:
		return false, ErrTooManyConns
	case uint64(t.opened) >= uint64(s.peer.maxConns.Load()) && settled:
		return false, ErrTooManyConns
	case uint64(t.opened) >= uint64(s.peer.maxConns.Load()):
		return false, errUnsettled
	}
	n := wire.OpenLen + len(metadata)
	b, i, ok := s.out.stg.reserve(n, 0)
	if !ok {
		return false, errNoRoom
	}
	t.allotted++
	t.opened++
	t.ours++
	c.slot = true
	c.id = t.allotted
	c.recv.init(uint32(s.cfg.InitialWindow))
	c.sendLimit.Store(s.peer.window.Load())
	t.addLocked(c, recvOpen|sendOpen)
	wire.PutOpen(b, c.id, c.addr, metadata)
	return s.out.stg.commit(i, n), nil
}

// What an open waits for.
var (
	errEnding    = errors.New("mux: address is free as soon as our END is on its way")
	errNoRoom    = errors.New("mux: no room in staging")
	errUnsettled = errors.New("mux: the peer has not yet said how many connections it takes")
)

func mayRetry(err error) bool { return err == errEnding || err == errNoRoom || err == errUnsettled }

// retry calls f until it succeeds or fails for good. In between it waits until the
// flusher, or the peer's preface, has changed something. need is what f takes of staging.
func (s *session) retry(ctx context.Context, need int, f func() error) error {
	err := f()
	if !mayRetry(err) {
		return err
	}
	w := s.waiters.get(nil)
	defer s.waiters.put(w)
	w.need = need
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, w.Wake)()
	}
	o := &s.out
	q := o.queueFor(err)
	o.enter(q, w)
	defer func() { o.leave(q, w) }()
	for {
		if err = f(); !mayRetry(err) {
			return err
		}
		if next := o.queueFor(err); next != q {
			o.leave(q, w)
			q = next
			o.enter(q, w)
			continue
		}
		if err = ctx.Err(); err != nil {
			return err
		}
		if o.published() { // else whoever waits here would wake the others, and they it
			s.tryFlush()
		}
		if q == &o.rooms {
			o.passOver(w)
		}
		w.Park(0)
	}
}

// queueFor returns where to wait for the end of err.
func (o *writeSide) queueFor(err error) *waitQueue {
	if err == errNoRoom {
		return &o.rooms
	}
	return &o.watchers
}

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
	case t.slots >= s.cfg.MaxConns || len(t.byAddr) >= s.cfg.MaxConns:
		return ErrTooManyConns
	}
	c.slot = true
	t.slots++
	t.addLocked(c, recvOpen|sendOpen)
	return nil
}

// unregister takes back a register whose OPEN was never published. What the peer has sent
// for the address meanwhile was not the END that it was taken for, but its OPEN, and what came
// behind that its END: each is answered by our END.
func (s *session) unregister(c *conn) {
	t := &s.table
	var answer *conn
	t.mu.Lock()
	switch h := halves(c.halves.Load()); {
	case c.flags.Load()&flagCrossed != 0:
		t.settleCrossedLocked(c)
		if !t.closed && t.byAddr[c.addr] == nil { // else the peer has gone on without
			answer = s.newState(c.addr, false)
			t.addLocked(answer, sendOpen)
		}
	case h == sendOpen:
		t.setLocked(c, recvOpen|sendOpen)
	default:
		t.setLocked(c, 0)
	}
	t.mu.Unlock()
	c.close(net.ErrClosed, net.ErrClosed)
	if answer != nil {
		answer.close(net.ErrClosed, net.ErrClosed)
	}
}
