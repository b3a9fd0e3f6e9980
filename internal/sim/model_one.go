package sim

import (
	"encoding/binary"
	"slices"
)

// names of protocol 1's frames, by type.
var names = [...]string{"", "OPEN", "DATA", "WINDOW", "RESET", "STOP", "PING", "GOAWAY"}

const (
	yours   = 1
	finFlag = 2
	refused = 4
	ackFlag = 8
)

// preface takes the beginning of protocol 1.
func (m *Model) preface(from int, b []byte) {
	s, peer := &m.ends[from], &m.ends[1-from]
	m.log(Frame{From: from, Name: "preface", Len: len(b)})
	s.prefaced = true // or what follows would be taken for it
	body := b[20:]
	if [18]byte(b) != [18]byte{} || len(body) != 24 || string(body[:6]) != "vtmux\n" {
		m.breach(from, "no preface first: %x", b)
		return
	}
	window, conns := uint64(binary.BigEndian.Uint32(body[8:])), binary.BigEndian.Uint32(body[12:])
	most := uint64(binary.BigEndian.Uint16(body[16:]))
	if window < 65536 || conns < 128 || most < 16384 {
		m.breach(from, "a preface that announces too little: %x", body)
	}
	s.window, s.conns, s.most = window, conns, most
	for _, c := range m.Circuits { // those that the peer opened before have had this window
		c.Half[1-from].Granted = max(c.Half[1-from].Granted, window)
	}
	m.later(from, 0, nil, func() {
		s.greeted = true
		peer.knowsWindow, peer.knowsConns, peer.knowsMost = window, conns, most
	})
}

// sayOne takes a frame of protocol 1: its header, and its body unless it is DATA.
func (m *Model) sayOne(from int, b []byte) {
	s := &m.ends[from]
	typ, flags, n, id := b[0], b[1], int(binary.BigEndian.Uint16(b[2:])), binary.BigEndian.Uint32(b[4:])
	body := b[8:]
	if typ < 1 || typ > 7 || flags&^[...]byte{0, 0, yours | finFlag, yours, yours | refused, yours, ackFlag, 0}[typ] != 0 || (id == 0) != (typ >= 6) {
		m.breach(from, "a frame out of form: %x", b[:8])
		return
	}
	f := Frame{From: from, Name: names[typ], Yours: flags&yours != 0, ID: id, Len: n}
	if s.Over {
		m.breach(from, "%s behind its last GOAWAY", f.Name)
	}
	switch typ {
	case 1:
		m.sayOpen(from, f, body)
		return
	case 6:
		m.sayPing(from, f, flags&ackFlag != 0, binary.BigEndian.Uint64(body))
		return
	case 7:
		m.sayGoAway(from, f, body)
		return
	}
	opener := from
	if f.Yours {
		opener = 1 - from
	}
	c := m.ids[opener][id]
	s.on, s.skip = nil, 0
	if typ == 2 {
		s.skip = n
	}
	if c == nil || opener != from && !c.Taken {
		m.log(f)
		m.breach(from, "%s for connection %d, of which it can't know", f.Name, id)
		return
	}
	ends := typ == 5 || typ == 2 && flags&finFlag != 0 && f.Len == 0
	if opener != from && c.Refused || opener == from && c.RefusalSettled && !(ends && m.endCrosses(c, from)) {
		m.breach(from, "%s for connection %d, which is refused", f.Name, id)
	}
	switch typ {
	case 2:
		m.sayData(from, f, c, flags&finFlag != 0)
	case 3:
		m.sayWindow(from, f, c, binary.BigEndian.Uint64(body))
	case 4:
		m.sayReset(from, f, c, flags&refused != 0, body)
	case 5:
		m.sayStop(from, f, c, binary.BigEndian.Uint32(body))
	}
	c.Half[from].Spoke = true
}

func (m *Model) sayOpen(from int, f Frame, body []byte) {
	s, peer := &m.ends[from], &m.ends[1-from]
	f.Addr = [18]byte(body)
	m.log(f)
	open := uint32(0)
	for _, c := range m.ids[from] {
		if !(c.Half[from].Ended() && c.Half[1-from].EndHeard) && !c.RefusalHeard {
			open++
		}
	}
	switch {
	case f.ID != s.opened+1: // gaps are allowed, but nothing here makes any: they would hide a lost OPEN
		m.breach(from, "OPEN %d behind OPEN %d", f.ID, s.opened)
	case s.goAway < 1<<32:
		m.breach(from, "OPEN %d behind its own GOAWAY", f.ID)
	case s.knowsGoAway || s.told:
		m.breach(from, "OPEN %d behind the peer's GOAWAY", f.ID)
	case open >= max(s.knowsConns, 128):
		m.breach(from, "OPEN %d, with %d connections open and %d allowed", f.ID, open, s.knowsConns)
	case len(body) > 18+1024:
		m.breach(from, "OPEN %d with %d bytes of metadata", f.ID, len(body)-18)
	}
	s.opened = f.ID
	c := &Circuit{Opener: from, ID: f.ID, Addr: f.Addr, Meta: slices.Clone(body[18:])}
	c.Half[from].Granted, c.Half[1-from].Granted = peer.window, s.window
	c.RefusalHeard = s.heardGoAway && f.ID > s.heardLast // it was about to be said
	m.Circuits = append(m.Circuits, c)
	m.ids[from][f.ID] = c
	m.Opened(c)
	m.later(from, 0, nil, func() {
		c.Taken = uint64(f.ID) <= peer.goAway
		peer.highestHeard = f.ID
	})
}

func (m *Model) sayData(from int, f Frame, c *Circuit, fin bool) {
	s, h := &m.ends[from], &c.Half[from]
	s.on, s.off = c, h.Sent
	if fin {
		f.Name = "FIN"
	}
	m.log(f)
	switch n, limit := uint64(f.Len), max(h.Limit, s.knowsWindow); {
	case h.Ended():
		m.breach(from, "DATA for connection %d, whose half it has ended", f.ID)
	case n == 0 && !fin:
		m.breach(from, "an empty DATA for connection %d", f.ID)
	case n > s.knowsMost:
		m.breach(from, "a payload of %d, the most is %d", n, s.knowsMost)
	case h.Sent+n > limit:
		m.breach(from, "DATA of connection %d up to byte %d, beyond the limit of %d", f.ID, h.Sent+n, limit)
	}
	h.Sent += uint64(f.Len)
	h.Fin = fin
	m.later(from, f.Len, c, func() {
		if !fin {
			return
		}
		h.EndHeard = true
		m.hearsEnd(c, from)
		if other := &c.Half[1-from]; other.Stopped && c.Opener == from {
			other.StopDue = m.Now() + answerWithin
		}
	})
}

func (m *Model) sayWindow(from int, f Frame, c *Circuit, limit uint64) {
	f.Arg = limit
	m.log(f)
	h := &c.Half[1-from]
	switch read := m.Read(c, from); {
	case h.Stop:
		m.breach(from, "WINDOW for connection %d behind STOP", f.ID)
	case h.EndKnown:
		m.breach(from, "WINDOW for connection %d, whose peer has ended its half", f.ID)
	case limit <= h.Granted:
		m.breach(from, "WINDOW of %d for connection %d, with %d granted", limit, f.ID, h.Granted)
	case limit > read+max(m.ends[from].window, m.MaxWindow[from]):
		m.breach(from, "WINDOW of %d for connection %d, of which %d bytes have been read", limit, f.ID, read)
	}
	h.Granted = limit
	m.later(from, 0, nil, func() { h.Limit = max(h.Limit, limit) })
}

func (m *Model) sayReset(from int, f Frame, c *Circuit, refusal bool, body []byte) {
	h := &c.Half[from]
	f.Arg = uint64(binary.BigEndian.Uint32(body))
	if refusal {
		f.Name = "REFUSED"
	}
	m.log(f)
	code := uint32(f.Arg)
	switch {
	case h.Ended():
		m.breach(from, "%s for connection %d, whose half it has ended", f.Name, f.ID)
	case refusal && (h.Spoke || c.Opener == from):
		m.breach(from, "REFUSED for connection %d, on which it has spoken", f.ID)
	case refusal && (len(body) > 260 || code >= 12 && code < 256), !refusal && len(body) != 4:
		m.breach(from, "%s for connection %d out of form", f.Name, f.ID)
	}
	h.Cut, h.Code = true, code
	if refusal {
		c.Refused, c.Code, c.Reason = true, code, string(body[4:])
	}
	m.later(from, 0, nil, func() {
		h.EndHeard = true
		m.hearsEnd(c, from)
		c.RefusalHeard = c.RefusalHeard || refusal
	})
}

func (m *Model) sayStop(from int, f Frame, c *Circuit, code uint32) {
	h := &c.Half[1-from]
	f.Arg = uint64(code)
	m.log(f)
	switch {
	case h.Stop:
		m.breach(from, "a second STOP for connection %d", f.ID)
	case h.EndKnown && !m.endCrosses(c, from):
		m.breach(from, "STOP for connection %d, whose peer has ended its half", f.ID)
	case c.Half[from].Cut && c.Half[from].Code == code && !c.Half[from].Stopped:
		m.breach(from, "STOP for connection %d behind the RESET of the same close", f.ID)
	}
	h.Stop, h.StopCode = true, code
	m.later(from, 0, nil, func() {
		h.Stopped = true
		if c.Opener != from { // which may have staged its own end
			h.StopDue = m.Now() + answerWithin
		}
	})
}

// hearsEnd notes that the other end hears that from ends c, or refuses it.
func (m *Model) hearsEnd(c *Circuit, from int) {
	if from != c.Opener {
		c.heardAt, c.crossed = m.Now(), false
	}
}

// endCrosses reports whether what from says to close c may have been staged before it heard that
// the peer ends c.
func (m *Model) endCrosses(c *Circuit, from int) bool { return from == c.Opener && !c.crossed }

func (m *Model) sayPing(from int, f Frame, ack bool, opaque uint64) {
	s, peer := &m.ends[from], &m.ends[1-from]
	f.Arg = opaque
	if ack {
		f.Name = "ACK"
	}
	m.log(f)
	at := slices.IndexFunc(s.asked, func(q question) bool { return q.opaque == opaque })
	switch {
	case ack && at < 0:
		m.breach(from, "an ACK that answers nothing")
	case ack:
		s.told = s.told || s.asked[at].last
		s.asked = s.asked[at+1:]
		m.later(from, 0, nil, func() { peer.pinging = 0 })
	case s.pinging != 0:
		m.breach(from, "a second PING, the first unanswered")
	default:
		s.pinging = opaque
		m.later(from, 0, nil, func() { peer.asked = append(peer.asked, question{opaque, peer.heardGoAway}) })
	}
}

func (m *Model) sayGoAway(from int, f Frame, body []byte) {
	s, peer := &m.ends[from], &m.ends[1-from]
	last, code := binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:])
	f.ID, f.Arg = last, uint64(code)
	m.log(f)
	switch {
	case uint64(last) > s.goAway:
		m.breach(from, "a GOAWAY whose last ID rises to %d", last)
	case last != 1<<32-1 && last > s.highestHeard:
		m.breach(from, "a GOAWAY with last ID %d, the highest heard is %d", last, s.highestHeard)
	case last == 1<<32-1 && code != 0:
		m.breach(from, "a GOAWAY that ends the session without a last ID")
	case code == 2 || code == 3 || code == 7 || code == 10:
		m.breach(from, "a GOAWAY with code %d (%q) to an honest peer", code, body[8:])
	case code != 0 && code != 8 && code != 9:
		m.breach(from, "a GOAWAY with code %d", code)
	}
	for _, c := range m.Circuits {
		if c.Opener != from && c.ID > last && c.Taken && (c.Half[from].Spoke || code == 0) {
			m.breach(from, "a GOAWAY that leaves out connection %d, which it has taken", c.ID)
		}
	}
	s.goAway = uint64(last)
	s.Over, s.OverCode = code != 0, code
	m.later(from, 0, nil, func() {
		peer.heardGoAway, peer.heardLast = true, last
		for _, c := range m.Circuits {
			if c.Opener != from && c.ID > last && !c.RefusalHeard {
				c.RefusalHeard = true
				m.hearsEnd(c, from)
			}
		}
	})
}
