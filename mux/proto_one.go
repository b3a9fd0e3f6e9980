package mux

import (
	"fmt"
	"io"
	"slices"

	"github.com/vtmux/vtmux/wire"
)

// What a received frame of protocol 1 does: PROTOCOL.md, 2.6. The leader calls all of
// this. A *ProtocolError ends the session; the state is changed only by frames that
// have passed every check (hostile peers, R4 and R6).

const (
	maxID = wire.ID(1<<32 - 1)
	// freeGoAways is how many GOAWAYs cost no token: PROTOCOL.md, 2.13.
	freeGoAways = 10
)

// parseOne hands out everything in the slab.
func (s *session) parseOne() {
	r := &s.in
	for r.r < r.w {
		h, body, n, err := r.one.Next(r.slab.Bytes()[r.r:r.w])
		r.r += n
		switch {
		case err != nil:
			s.onFrameError(err.(*wire.FrameError))
			return
		case h != nil:
			r.count.framesIn++
			if err := s.onFrame(h, body); err != nil {
				err.Offset += r.dec.Offset() + r.one.Offset()
				err.Frame = h.String()
				s.fail(err, err.Code, err.Rule)
				r.r = r.w
				return
			}
		case body != nil:
			r.count.payloadIn += uint64(n)
			s.deliver(r.cur, body)
			s.endFrame()
		}
	}
}

// endFrame ends the peer's half when the last byte of a DATA with FIN has come.
func (s *session) endFrame() {
	if r := &s.in; r.fin && r.one.Remaining() == 0 {
		r.fin = false
		s.onFin(r.cur)
	}
}

func (s *session) onFrameError(e *wire.FrameError) {
	code := CodeProtocol
	if e.Flow {
		code = CodeFlowControl
	}
	s.in.r = s.in.w
	s.fail(&ProtocolError{Offset: s.in.dec.Offset() + s.in.one.Offset(), Frame: e.Header.String(), Code: code, Rule: e.Rule, Err: e}, code, e.Rule)
}

func (s *session) onFrame(h *wire.Header, body []byte) *ProtocolError {
	switch h.Type {
	case wire.TypeData:
		return s.onData(h)
	case wire.TypeOpen:
		return s.onOpen(h, body)
	case wire.TypeWindow, wire.TypeReset, wire.TypeStop:
		return s.onControl(h, body)
	case wire.TypePing:
		return s.onPing(h, wire.View[wire.PingBody](body).Opaque)
	case wire.TypeGoAway:
		return s.onGoAway(body)
	}
	s.in.cur, s.in.fin = nil, false
	return s.cost(1, "frames of unknown types")
}

// cost charges for a frame that brings nothing forward.
func (s *session) cost(tokens int64, what string) *ProtocolError {
	if s.charge(tokens) {
		return nil
	}
	return &ProtocolError{Code: CodeCalm, Rule: "too many frames without progress, the last of them " + what}
}

// lookup returns the connection that h names, nil if it is closed.
func (s *session) lookup(h *wire.Header) (*conn, *ProtocolError) {
	c, opened := s.table.find(wire.ID(h.ID.Get()), h.Flags&wire.FlagYours != 0)
	if !opened {
		return nil, &ProtocolError{Code: CodeProtocol, Rule: "the connection was never opened"}
	}
	return c, nil
}

func (s *session) onData(h *wire.Header) *ProtocolError {
	r := &s.in
	r.cur, r.fin = nil, false
	n := int(h.Len.Get())
	// A connection whose receiving half is open is in the table, so the one found
	// last needs no look there. Its halves are read once: the flusher closes what it
	// refuses at any time.
	c, open := r.last, halves(0)
	if c != nil && c.id == wire.ID(h.ID.Get()) && c.opener == (h.Flags&wire.FlagYours != 0) {
		open = halves(c.halves.Load())
	}
	if open&recvOpen == 0 {
		var err *ProtocolError
		if c, err = s.lookup(h); err != nil {
			return err
		}
		if c != nil {
			open = halves(c.halves.Load())
		}
	}
	fin := h.Flags&wire.FlagFin != 0
	switch {
	case c == nil || open == 0:
		return s.stray(n, fin)
	case open&recvOpen == 0:
		return &ProtocolError{Code: CodeProtocol, Rule: "the half had ended"}
	case uint64(n) > c.recv.granted.Load()-c.recv.received:
		return &ProtocolError{Code: CodeFlowControl, Rule: fmt.Sprintf("DATA goes up to byte %d, beyond the limit of %d", c.recv.received+uint64(n), c.recv.granted.Load())}
	case n == 0 && !fin:
		return s.cost(1, "empty DATA")
	}
	c.recv.received += uint64(n)
	r.known += uint64(n)
	r.last = c
	if n == 0 {
		s.onFin(c)
		return nil
	}
	r.cur, r.fin = c, fin
	r.predicted.note(c, n)
	return nil
}

// onFin ends the peer's half of c, all of which has been delivered.
func (s *session) onFin(c *conn) {
	t := &s.table
	t.mu.Lock()
	left := halves(c.halves.Load()) &^ recvOpen
	t.setLocked(c, left)
	t.mu.Unlock()
	if c.opener && left == 0 && !s.out.stg.empty() {
		s.tryFlush() // our end may wait, and the peer for it: see closeSoon
	}
	c.endRead(io.EOF)
	if r := &s.in; r.stop == c && s.endsCanWait() { // the peer has closed c, and waits for nothing
		r.stop, r.frees = nil, true
		s.flushLater()
	}
}

func (s *session) onOpen(h *wire.Header, body []byte) *ProtocolError {
	id := wire.ID(h.ID.Get())
	t := &s.table
	t.mu.Lock()
	if id <= t.seen {
		t.mu.Unlock()
		return &ProtocolError{Code: CodeProtocol, Rule: "the ID is not above the earlier ones"}
	}
	t.seen = id
	beyond, full, ended := id > t.last, t.slots >= s.cfg.MaxConns, t.closed
	t.mu.Unlock()
	if full && s.in.frees {
		s.in.frees = false
		s.tryFlush()
		t.mu.Lock()
		full = t.slots >= s.cfg.MaxConns
		t.mu.Unlock()
	}
	switch {
	case ended:
		return nil
	case beyond: // it will learn that from the GOAWAY
		return s.noPlace("OPENs behind a GOAWAY")
	case !s.accepting:
		return s.refuseOpen(id, CodeNotAccepting)
	case full:
		return s.refuseOpen(id, CodeTooManyConns)
	case s.accept.full(s.cfg.backlog(true)):
		return s.refuseOpen(id, CodeBacklog)
	}
	c := s.newState(wire.View[wire.OpenBody](body).Addr, false)
	c.id = id
	c.recv.init(uint32(s.cfg.InitialWindow))
	c.sendLimit.Store(s.peer.window.Load())
	if meta := body[wire.OpenBodyLen:]; len(meta) > 0 {
		c.rare = newRare()
		c.rare.metadata = slices.Clip(slices.Clone(meta))
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	c.slot = true
	t.slots++
	t.addLocked(c, recvOpen|sendOpen)
	t.mu.Unlock()
	s.offer(c)
	return nil
}

// refuseOpen answers an OPEN that gets no place. It keeps no state but the answer.
func (s *session) refuseOpen(id wire.ID, code Code) *ProtocolError {
	s.count.refused.Add(1)
	most := max(maxRefusals, 2*s.cfg.MaxConns/refusalLen)
	room, ok := s.refusals.add(id, code, most)
	if !ok {
		return &ProtocolError{Code: CodeCalm, Rule: "too many OPENs are refused while the refusals are not read"}
	}
	s.owes.Or(owesRefusals)
	s.in.owes = true
	if room < most/2 {
		s.tryFlush() // one read may bring more than there is room for
	}
	return s.noPlace("OPENs that are refused")
}

func (s *session) onControl(h *wire.Header, body []byte) *ProtocolError {
	c, err := s.lookup(h)
	switch {
	case err != nil:
		return err
	case c == nil:
		return s.strayControl(h)
	case h.Type == wire.TypeWindow:
		if c.raise(wire.View[wire.WindowBody](body).Limit.Get()) < minRaise {
			return s.cost(1, "WINDOW that raises little or nothing")
		}
		return nil
	case h.Type == wire.TypeStop:
		return s.onStop(c, Code(wire.View[wire.CodeBody](body).Code.Get()))
	}
	return s.onReset(c, h, body)
}

// strayControl deals with a frame but DATA for a connection that is closed.
func (s *session) strayControl(h *wire.Header) *ProtocolError {
	if s.crossed() {
		return nil
	}
	return s.cost(1, h.Type.String()+" for closed connections")
}

// onStop answers STOP with RESET, by itself, unless our half has ended: then the two
// have crossed, which honest peers can't help.
func (s *session) onStop(c *conn, code Code) *ProtocolError {
	if !c.stopped(code) {
		return s.cost(1, "STOP that repeats one")
	}
	if c.opener {
		s.tryFlush() // before a reader learns that the other half has ended, and opens in c's place
	} else {
		s.in.owes = s.in.owes || s.in.stop != nil
		s.in.stop = c // parse flushes, unless onFin takes it back
	}
	return nil
}

func (s *session) onReset(c *conn, head *wire.Header, body []byte) *ProtocolError {
	refused := head.Flags&wire.FlagRefused != 0
	code := Code(wire.View[wire.CodeBody](body).Code.Get())
	t := &s.table
	t.mu.Lock()
	h := halves(c.halves.Load())
	switch {
	case h == 0: // it was open when it was looked up, and the flusher has refused it
		t.mu.Unlock()
		return s.strayControl(head)
	case h&recvOpen == 0:
		t.mu.Unlock()
		return &ProtocolError{Code: CodeProtocol, Rule: "the half had ended"}
	}
	h &^= recvOpen
	if refused {
		h = 0
	}
	t.setLocked(c, h)
	t.mu.Unlock()
	if refused {
		c.abort(&RefusedError{Code: code, Reason: wire.Text(body[wire.CodeBodyLen:])})
		return nil
	}
	if c.flags.Load()&flagReadOver == 0 { // else nobody would see the error
		c.endRead(&ResetError{Code: code, Remote: true})
	}
	if !c.opener && s.accept.remove(c) {
		err := &ResetError{Code: code, Remote: true}
		c.oweClose(err, err, owesReset, code)
		s.in.owes, s.in.frees = true, true
		return s.cost(4, "RESET of connections that nobody has accepted")
	}
	return nil
}

func (s *session) onPing(h *wire.Header, opaque [8]byte) *ProtocolError {
	if h.Flags&wire.FlagAck != 0 {
		if !s.pings.onAck(s, opaque) {
			return s.cost(1, "ACK that nobody waits for")
		}
		return nil
	}
	s.pings.owe(s, opaque)
	s.in.owes = true
	return s.cost(1, "PING")
}

func (s *session) onGoAway(body []byte) *ProtocolError {
	b := wire.View[wire.GoAwayBody](body)
	last, code := wire.ID(b.LastID.Get()), Code(b.Code.Get())
	t := &s.table
	t.mu.Lock()
	if last > t.peerLast {
		t.mu.Unlock()
		return &ProtocolError{Code: CodeProtocol, Rule: fmt.Sprintf("the last ID rises from %d", t.peerLast)}
	}
	first := t.goAways == 0
	unserved := t.lowerLocked(last)
	t.goAways = min(t.goAways+1, freeGoAways+1) // it counts no further, so it can't overflow
	often := t.goAways > freeGoAways
	for _, c := range unserved {
		t.setLocked(c, 0)
	}
	t.mu.Unlock()
	for _, c := range unserved {
		c.abort(&RefusedError{Code: CodeDraining, Reason: "the peer is shutting down"})
	}
	if code != CodeNone {
		s.end(&GoAwayError{Code: code, Text: wire.Text(body[wire.GoAwayBodyLen:])})
		s.in.r = s.in.w
		return nil
	}
	if first {
		s.out.wakeAll() // who waits to open looks again
	}
	s.in.owes = true // an OPEN that waits to be sent goes now
	if often {
		return s.cost(1, "GOAWAY")
	}
	return nil
}
