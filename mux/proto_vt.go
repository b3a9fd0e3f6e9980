package mux

import (
	"fmt"
	"io"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// onVTHeader handles a frame's header. The leader calls it. An error ends the
// session.
func (s *session) onVTHeader(h *wire.VTHeader) error {
	r := &s.in
	if n := int(h.Len.Get()); n > 0 {
		r.cur = s.receiver(h.Addr)
		r.predicted.note(r.cur, n)
		return nil
	}
	r.cur = nil
	t := &s.table
	t.mu.Lock()
	c := t.byAddr[h.Addr]
	if c != nil && c.flags.Load()&flagCrossed != 0 {
		delete(t.byAddr, h.Addr)
		t.orphans++
		c = nil
	}
	var was halves
	var held bool // as many as may are the application's still, though they have ended
	if c != nil {
		was = halves(c.halves.Load())
	}
	is, event := was.onZero()
	if event == zeroOpens {
		crossed := t.orphans >= maxOrphans
		full := crossed || len(t.byAddr) >= s.cfg.MaxConns
		if !full && !t.closed {
			c = s.newState(h.Addr, false)
			t.addLocked(c, is)
			if c.slot = t.slots < s.cfg.MaxConns; c.slot {
				t.slots++
			}
			held = !c.slot
		}
		t.mu.Unlock()
		if full {
			rule := fmt.Sprintf("the peer opened more than MaxConns (%d) connections", s.cfg.MaxConns)
			if crossed {
				rule = fmt.Sprintf("the peer crossed %d opens and reads nothing", maxOrphans)
			}
			return &ProtocolError{
				Offset: r.dec.Offset(),
				Addr:   h.Addr,
				Rule:   rule,
				Err:    ErrTooManyConns,
			}
		}
		switch {
		case held:
			s.refuseNew(c)
		case c != nil:
			s.offer(c)
		}
		return nil
	}
	if event == zeroEnds {
		t.setLocked(c, is)
		t.mu.Unlock()
		c.endRead(io.EOF)
		return nil
	}
	c.setCrossed() // here, for an Open that is given up looks under table.mu whether it is
	t.mu.Unlock()
	c.cross()
	return nil
}

// receiver returns the connection that takes payload for a, or nil.
func (s *session) receiver(a addr.SocketAddr) *conn {
	r := &s.in
	// A connection whose receiving half is open is in the table, under its
	// address, so the one found last needs no look there. But Close empties the table, and
	// then another may have come under that address.
	if c := r.last; c != nil && c.addr == a && halves(c.halves.Load())&recvOpen != 0 && c.flags.Load()&flagReadOver == 0 {
		return c
	}
	c := s.table.get(a)
	if c == nil || halves(c.halves.Load())&recvOpen == 0 {
		return nil
	}
	r.last = c
	return c
}

// newState makes a connection's state.
func (s *session) newState(a addr.SocketAddr, opener bool) *conn {
	return &conn{s: s, addr: a, opener: opener}
}
