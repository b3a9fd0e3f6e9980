package mux

import (
	"fmt"
	"sync/atomic"

	"github.com/vtmux/vtmux/wire"
)

// The beginning of a session: PROTOCOL.md, 2.2.

// A readMode says what the leader takes the next bytes for.
type readMode uint8

const (
	modeFirst   readMode = iota // a preface's header, or where that is open the first vt-muxer frame
	modePreface                 // a preface's body
	modeVT
	modeOne
)

// peerSide is what the peer has announced; until then, the least that it may.
type peerSide struct {
	settled    chan struct{} // closed when the preface has arrived
	window     atomic.Uint64 // the limit of a new connection
	maxConns   atomic.Uint32
	maxPayload atomic.Uint32 // with the vt-muxer protocol as well
}

func (p *peerSide) init() {
	p.settled = make(chan struct{})
	p.set(wire.MinSettings())
}

func (p *peerSide) set(s wire.Settings) {
	p.window.Store(uint64(s.InitialWindow))
	p.maxConns.Store(s.MaxConns)
	p.maxPayload.Store(uint32(s.MaxPayload))
}

// begin decides the protocol where it is given.
func (s *session) begin() {
	switch {
	case s.cfg.Protocol == ProtocolVT:
		s.in.mode = modeVT
		s.decide(false)
	case s.cfg.Protocol == Protocol1 || !s.accepting:
		s.decide(true)
		s.offerPreface()
	}
}

// awaitPeer bounds the time for the peer to begin.
func (s *session) awaitPeer() {
	switch {
	case s.cfg.Protocol == ProtocolVT:
	case s.cfg.Protocol == Protocol1 || !s.accepting:
		s.watch.await(s, s.cfg.PrefaceTimeout)
	default:
		s.watch.await(s, s.cfg.SilenceTimeout)
	}
}

// decide settles which protocol is spoken. It is called once.
func (s *session) decide(one bool) {
	s.one = one
	s.out.stg.init()
	if !one {
		s.peer.maxPayload.Store(wire.VTMaxPayload)
	}
	close(s.known)
}

// offerPreface stages our preface, unless that has been done. Nothing else can have
// been staged before, so there is room.
func (s *session) offerPreface() {
	t := &s.table
	t.mu.Lock()
	if t.prefaced {
		t.mu.Unlock()
		return
	}
	t.prefaced = true
	s.out.stg.init()
	b, i, ok := s.out.stg.reserve(wire.PrefaceFrameLen, 0)
	if !ok {
		panic("BUG: no room for the preface")
	}
	wire.PutPreface(b, s.cfg.settings())
	last := s.out.stg.commit(i, wire.PrefaceFrameLen)
	t.mu.Unlock()
	if last {
		s.trySend()
	}
}

// parseFirst parses the preface, or finds that there is none. The leader calls it.
func (s *session) parseFirst() {
	r := &s.in
	for r.r < r.w && r.mode <= modePreface {
		h, payload, n := r.dec.Next(r.slab.Bytes()[r.r:r.w])
		r.r += n
		switch {
		case h != nil && !wire.IsPreface(h):
			s.onNoPreface(h)
		case h != nil:
			s.onPrefaceHeader(h)
		case payload != nil:
			r.preface = append(r.preface, payload...)
			if wire.HasMagic(r.preface) {
				s.vtmux.Store(true)
			}
			if r.dec.Remaining() == 0 {
				s.onPreface()
			}
		}
	}
	if r.mode <= modePreface && s.cfg.Protocol == ProtocolAuto && s.accepting && r.dec.Offset() > 0 {
		s.watch.awaitRest(s, s.cfg.PrefaceTimeout)
	}
}

// onNoPreface handles a first frame that is vt-muxer's.
func (s *session) onNoPreface(h *wire.VTHeader) {
	r := &s.in
	if s.isKnown() {
		s.failPreface(ErrNoPreface.Error(), ErrNoPreface)
		return
	}
	s.watch.stop()
	s.decide(false)
	r.mode = modeVT
	r.count.framesIn++
	if err := s.onVTHeader(h); err != nil {
		s.end(err)
		r.r = r.w
	}
}

// onPrefaceHeader handles the first 20 bytes of a preface.
func (s *session) onPrefaceHeader(h *wire.VTHeader) {
	if _, err := wire.PrefaceBodyLen(h); err != nil {
		s.failPreface(err.Error(), ErrNoPreface)
		return
	}
	s.in.mode = modePreface
	if !s.isKnown() {
		s.offerPreface()
		s.decide(true)
		s.in.owes = true
	}
}

// onPreface handles a preface that is complete.
func (s *session) onPreface() {
	r := &s.in
	set, err := wire.ParsePreface(r.preface)
	if err != nil {
		if e, ok := err.(*wire.PrefaceError); ok && (e.Field == "magic" || e.Field == "length") {
			s.failPreface(err.Error(), ErrNoPreface)
		} else {
			s.fail(&ProtocolError{Offset: r.dec.Offset(), Frame: "preface", Code: CodeProtocol, Rule: err.Error()}, CodeProtocol, err.Error())
			r.r = r.w
		}
		return
	}
	r.preface = nil
	r.mode = modeOne
	t := &s.table
	t.mu.Lock()
	s.peer.set(set)
	all := t.allLocked() // those that we have opened meanwhile
	t.mu.Unlock()
	close(s.peer.settled)
	for _, c := range all {
		c.raise(uint64(set.InitialWindow))
	}
	s.out.wakeAll() // who waits to open looks again
	s.in.owes = true
	s.watch.keepAlive(s)
}

// failPreface ends the session without a word: the peer may speak something else.
func (s *session) failPreface(rule string, err error) {
	s.in.r = s.in.w
	s.end(&ProtocolError{Offset: s.in.dec.Offset(), Frame: "preface", Code: CodeProtocol, Rule: rule, Err: err})
}

// isKnown reports whether the protocol is decided.
func (s *session) isKnown() bool {
	select {
	case <-s.known:
		return true
	default:
		return false
	}
}

// isSettled reports whether the peer's preface has arrived.
func (s *session) isSettled() bool {
	select {
	case <-s.peer.settled:
		return true
	default:
		return false
	}
}

// onSilence ends a session whose peer has not begun in time.
func (s *session) onSilence() {
	var e *ProtocolError
	if s.isKnown() {
		e = &ProtocolError{Frame: "preface", Code: CodeTimeout, Err: ErrNoPreface,
			Rule: fmt.Sprintf("no preface within Config.PrefaceTimeout (%v): if the peer is a vt-muxer, set Config.Protocol to ProtocolVT", s.cfg.PrefaceTimeout)}
	} else {
		e = &ProtocolError{Frame: "preface", Code: CodeTimeout, Err: ErrNoPreface,
			Rule: fmt.Sprintf("nothing came within Config.SilenceTimeout (%v), or no more within PrefaceTimeout (%v); if the peer is a vt-muxer that opens late, set Config.Protocol to ProtocolVT", s.cfg.SilenceTimeout, s.cfg.PrefaceTimeout)}
	}
	if s.vtmux.Load() {
		s.fail(e, CodeTimeout, "the preface is late")
		return
	}
	s.end(e)
}
