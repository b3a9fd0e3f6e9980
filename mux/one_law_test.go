package mux

import (
	"fmt"

	"github.com/vtmux/vtmux/wire"
)

// A oneLaw holds everything that a session sends against what PROTOCOL.md, 2.3 to 2.11,
// allows it to send, whatever the test is about. What the peer has allowed counts from
// the moment it is on its way: what the session can't have seen yet, it can't break.
type oneLaw struct {
	prefaced   bool
	over       bool    // a GOAWAY with a code has gone: nothing may follow
	opened     wire.ID // the highest that the session has opened
	peerOpened wire.ID // the highest that the peer has
	window     uint64  // what the session announced
	goAway     uint64  // the lowest last ID of its GOAWAYs; at first no ID at all
	pinging    bool    // a PING of the session's is unanswered
	acks       int     // PINGs of the peer's that may be answered

	// Of the peer's preface.
	peerWindow  uint64
	peerPayload int

	conns map[oneKey]*oneHalf
}

// A oneKey names a connection: by the session that opened it, or by the peer.
type oneKey struct {
	peers bool
	id    wire.ID
}

// A oneHalf is what the session has said on a connection.
type oneHalf struct {
	said    bool // anything
	stopped bool // STOP
	ended   bool // its half, or both
	sent    uint64
	limit   uint64 // that the peer has granted by WINDOW
	granted uint64 // that the session has granted
}

func (l *oneLaw) init() {
	*l = oneLaw{goAway: 1 << 32, conns: make(map[oneKey]*oneHalf)}
	l.peerAnnounces(wire.MinSettings())
}

func (l *oneLaw) peerAnnounces(s wire.Settings) {
	l.peerWindow, l.peerPayload = uint64(s.InitialWindow), int(s.MaxPayload)
}

func (l *oneLaw) half(f *oneFrame, peers bool) *oneHalf {
	k := oneKey{peers, f.id}
	h := l.conns[k]
	if h == nil {
		h = &oneHalf{granted: l.window}
		l.conns[k] = h
	}
	return h
}

// hears takes what the peer sends.
func (l *oneLaw) hears(f *oneFrame) {
	switch {
	case f.vt != nil:
	case f.preface != nil:
		l.peerAnnounces(*f.preface)
	case f.t == wire.TypeOpen:
		l.peerOpened = max(l.peerOpened, f.id)
	case f.t == wire.TypeWindow:
		h := l.half(f, f.flags&wire.FlagYours == 0)
		h.limit = max(h.limit, wire.View[wire.WindowBody]([]byte(f.body)).Limit.Get())
	case f.t == wire.TypePing && f.flags&wire.FlagAck == 0:
		l.acks++
	case f.t == wire.TypePing:
		l.pinging = false
	}
}

// says takes what the session sends, and returns which rule that breaks, or "".
func (l *oneLaw) says(f *oneFrame) string {
	switch {
	case f.vt != nil:
		return ""
	case f.preface != nil && l.prefaced:
		return "a second preface"
	case f.preface != nil:
		l.prefaced, l.window = true, uint64(f.preface.InitialWindow)
		return ""
	case l.over:
		return "something behind the last GOAWAY"
	case f.t == wire.TypePing && f.flags&wire.FlagAck != 0:
		if l.acks--; l.acks < 0 {
			return "an ACK that answers nothing"
		}
		return ""
	case f.t == wire.TypePing:
		if l.pinging {
			return "a second PING, the first unanswered"
		}
		l.pinging = true
		return ""
	case f.t == wire.TypeGoAway:
		return l.goesAway(f)
	case f.t == wire.TypeOpen:
		return l.opens(f)
	case f.t > wire.TypeGoAway:
		return "a frame of unknown type"
	}
	peers := f.flags&wire.FlagYours != 0
	if !peers && f.id > l.opened || peers && f.id > l.peerOpened {
		return "a frame for a connection that is not open"
	}
	h := l.half(f, peers)
	defer func() { h.said = true }()
	switch f.t {
	case wire.TypeData:
		return l.data(h, f)
	case wire.TypeWindow:
		return l.grants(h, wire.View[wire.WindowBody]([]byte(f.body)).Limit.Get())
	case wire.TypeStop:
		if h.stopped {
			return "a second STOP"
		}
		h.stopped = true
	case wire.TypeReset:
		if f.flags&wire.FlagRefused != 0 && h.said {
			return "REFUSED behind something else"
		}
		if h.ended {
			return "RESET of a half that has ended"
		}
		h.ended = true
	}
	return ""
}

func (l *oneLaw) goesAway(f *oneFrame) string {
	g := wire.View[wire.GoAwayBody]([]byte(f.body))
	last := uint64(g.LastID.Get())
	l.over = g.Code.Get() != 0
	switch {
	case last > l.goAway:
		return "a GOAWAY whose last ID rises"
	case l.over && last > uint64(l.peerOpened):
		return fmt.Sprintf("a GOAWAY with last ID %d, the highest seen is at most %d", last, l.peerOpened)
	}
	l.goAway = last
	return ""
}

func (l *oneLaw) opens(f *oneFrame) string {
	switch {
	case f.id <= l.opened:
		return fmt.Sprintf("an OPEN below ID %d", l.opened)
	case l.goAway < 1<<32:
		return "an OPEN behind the own GOAWAY"
	case int(f.id-l.opened) != 1:
		// Allowed, but nothing here makes gaps: it would hide a lost OPEN.
		return fmt.Sprintf("a gap between ID %d and %d", l.opened, f.id)
	}
	l.opened = f.id
	return ""
}

func (l *oneLaw) data(h *oneHalf, f *oneFrame) string {
	n := uint64(f.len())
	switch {
	case h.ended:
		return "DATA of a half that has ended"
	case n == 0 && f.flags&wire.FlagFin == 0:
		return "an empty DATA"
	case int(n) > l.peerPayload:
		return fmt.Sprintf("a payload of %d, above the peer's most of %d", n, l.peerPayload)
	case h.sent+n > max(h.limit, l.peerWindow):
		return fmt.Sprintf("DATA up to offset %d, above the limit of %d", h.sent+n, max(h.limit, l.peerWindow))
	}
	h.sent += n
	h.ended = f.flags&wire.FlagFin != 0
	return ""
}

func (l *oneLaw) grants(h *oneHalf, limit uint64) string {
	switch {
	case h.stopped:
		return "WINDOW behind STOP"
	case limit <= h.granted:
		return fmt.Sprintf("WINDOW of %d, with %d granted before", limit, h.granted)
	}
	h.granted = limit
	return ""
}
