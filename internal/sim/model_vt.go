package sim

import "encoding/binary"

// A vtView is what one end takes an address for: PROTOCOL.md, 1.2.
type vtView struct {
	c          *Circuit
	recv, send bool
}

func (v *vtView) free() bool { return v == nil || !v.recv && !v.send }

// Named returns the connection that end i has under an address, or nil.
func (m *Model) Named(i int, a [18]byte) *Circuit {
	if v := m.addrs[i][a]; !v.free() {
		return v.c
	}
	return nil
}

// sayVT takes a frame of the vt-muxer protocol.
func (m *Model) sayVT(from int, b []byte) {
	s := &m.ends[from]
	n := int(binary.BigEndian.Uint16(b[18:]))
	a := [18]byte(b)
	v := m.addrs[from][a]
	switch {
	case n > 0 && a == [18]byte{} && !s.prefaced && s.said == 20:
		s.prefaced = true
		s.on, s.skip = nil, n
		m.log(Frame{From: from, Name: "preface", Len: n})
		m.later(from, n, nil, func() { s.greeted = true })
	case n > 0:
		m.log(Frame{From: from, Name: "DATA", Addr: a, Len: n})
		s.on, s.skip = nil, n
		if v == nil || !v.send {
			m.breach(from, "DATA for %x, which it has ended or never opened", a)
			return
		}
		h := &v.c.Half[from]
		s.on, s.off = v.c, h.Sent
		h.Sent += uint64(n)
		m.later(from, n, v.c, func() {})
	case v != nil && v.send:
		m.log(Frame{From: from, Name: "END", Addr: a})
		v.send = false
		v.c.Half[from].Fin = true
		m.later(from, 0, nil, func() { m.hearZero(1-from, a, nil) })
	case v != nil && v.recv:
		m.log(Frame{From: from, Name: "END", Addr: a})
		m.breach(from, "a second END of %x, or an OPEN before the peer's END", a)
	default:
		m.log(Frame{From: from, Name: "OPEN", Addr: a})
		c := &Circuit{Opener: from, Addr: a}
		m.Circuits = append(m.Circuits, c)
		m.addrs[from][a] = &vtView{c, true, true}
		m.Opened(c)
		m.later(from, 0, nil, func() { m.hearZero(1-from, a, c) })
	}
}

// hearZero is what end by makes of a frame of length 0; opens is the connection that it is
// to open, or nil.
func (m *Model) hearZero(by int, a [18]byte, opens *Circuit) {
	v := m.addrs[by][a]
	switch {
	case opens != nil && v.free():
		opens.Taken = true
		m.addrs[by][a] = &vtView{opens, true, true}
	case opens == nil && v != nil && v.recv:
		v.recv = false
		v.c.Half[1-by].EndHeard = true
	default:
		m.breach(1-by, "a frame of length 0 that is misread: the address is %x", a)
	}
}
