package sim

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// A Model reads what crosses a Link, both ways, and holds it against PROTOCOL.md. It is
// written from that page alone, and shares no code with the library.
//
// An end's knowledge has two steps. What it has *heard* it may have acted on: a frame
// that this allows is allowed. What is *settled* it must have acted on: it was heard, and
// since then the session has come to rest with nothing on its way out.
type Model struct {
	VT        bool      // the vt-muxer protocol is spoken. Constant
	MaxWindow [2]uint64 // the greatest window that each end grants. Constant

	// Now tells the time. Content reports whether p is what was written at offset off of
	// what from says on c. Read tells how many bytes end i's application has read of c.
	// Opened is told of each connection. Constant.
	Now     func() time.Duration
	Content func(c *Circuit, from int, off uint64, p []byte) bool
	Read    func(c *Circuit, i int) uint64
	Opened  func(c *Circuit)

	Log      []Frame
	Breaches []string

	ends     [2]speaker
	Circuits []*Circuit // all connections, in the order of their OPENs
	ids      [2]map[uint32]*Circuit
	addrs    [2]map[[18]byte]*vtView // vt-muxer: what each end takes an address for
}

// A Circuit is a connection as the wire shows it.
type Circuit struct {
	Opener int
	ID     uint32
	Addr   [18]byte
	Meta   []byte
	Half   [2]Half // by who sends
	// Refused: the acceptor has said REFUSED. RefusalHeard: and the opener has heard it,
	// or a GOAWAY that leaves the connection out. Taken: the acceptor has heard the OPEN.
	Refused, RefusalHeard, Taken bool
	RefusalSettled               bool
	// heardAt is when the opener has heard the latest of the peer's end and of a refusal. crossed:
	// what it has staged to close the connection, before it heard that, has left since.
	heardAt time.Duration
	crossed bool
	Code    uint32
	Reason  string
}

// A Half is one direction of a connection.
type Half struct {
	Spoke    bool // its sender has said something on the connection, be it of this half or not
	Sent     uint64
	Arrived  uint64 // of that, read from the transport by the receiver
	Granted  uint64 // by the receiver
	Limit    uint64 // of that, heard by the sender
	Fin, Cut bool   // its sender has ended it by FIN; by RESET or REFUSED
	Code     uint32 // of that RESET
	EndHeard bool   // the receiver has heard of that end
	EndKnown bool   // and it is settled
	Stop     bool   // the receiver has said STOP
	StopCode uint32
	Stopped  bool // and the sender has heard it
	// StopDue is when the sender must have answered at the latest: not at once where it has
	// heard of the end of the other half as well.
	StopDue time.Duration
}

// answerWithin is how long what a Close sends, and the answer, may wait for what else is sent.
const answerWithin = time.Millisecond

// Ended reports whether the sender has ended its half.
func (h *Half) Ended() bool { return h.Fin || h.Cut }

type speaker struct {
	said   uint64 // bytes
	sum    uint32
	head   []byte // of the frame that is being said
	skip   int    // payload bytes of it that are to come
	on     *Circuit
	off    uint64
	heard  uint64
	whole  uint64      // of that, up to the end of the last frame
	queue  []utterance // what this end has said and the other has not heard, from first on
	first  int
	opened uint32

	prefaced                       bool
	greeted                        bool   // the other has heard its preface
	window, most                   uint64 // as this end announced
	conns                          uint32
	knowsWindow, knowsMost         uint64 // of the other's announcement, as heard
	knowsConns                     uint32
	pinging                        uint64 // its PING that is unanswered; 0: none
	asked                          []question
	goAway                         uint64 // its lowest last ID; at first 1<<32
	Over                           bool   // it has said GOAWAY with a code
	OverCode                       uint32
	heardGoAway, knowsGoAway, told bool
	highestHeard                   uint32
	heardLast                      uint32 // the last ID of the GOAWAY that it has heard
}

// A question is a PING that was heard and not answered.
type question struct {
	opaque uint64
	last   bool // a GOAWAY had been heard before it
}

// An utterance is a frame on its way.
type utterance struct {
	end  uint64 // offset of the byte behind it
	size int    // of its payload, where that counts
	do   func() // what it does when it is heard
	c    *Circuit
}

// NewModel returns the model of a link where nothing has been said.
func NewModel(vt bool) *Model {
	m := &Model{VT: vt}
	for i := range m.ends {
		s := &m.ends[i]
		s.goAway = 1 << 32
		s.window, s.knowsWindow = 65536, 65536
		s.most, s.knowsMost = 16384, 16384
		s.conns, s.knowsConns = 128, 128
		m.ids[i] = make(map[uint32]*Circuit)
		m.addrs[i] = make(map[[18]byte]*vtView)
	}
	return m
}

// Ended returns the code of end i's last GOAWAY, if that has one.
func (m *Model) Ended(i int) (code uint32, ended bool) { return m.ends[i].OverCode, m.ends[i].Over }

func (m *Model) breach(from int, format string, args ...any) {
	if len(m.Breaches) < 20 {
		m.Breaches = append(m.Breaches, fmt.Sprintf("end %c must not say this: ", 'A'+from)+fmt.Sprintf(format, args...))
	}
}

// Say takes what an end hands to its transport.
func (m *Model) Say(from int, p []byte) {
	s := &m.ends[from]
	for len(p) > 0 {
		var n int
		if s.skip > 0 {
			n = min(s.skip, len(p))
			if s.on != nil && !m.Content(s.on, from, s.off, p[:n]) {
				m.breach(from, "payload of connection %d at offset %d that was not written there", s.on.ID, s.off)
			}
			s.skip -= n
			s.off += uint64(n)
		} else {
			n = min(m.headLen(s)-len(s.head), len(p))
			s.head = append(s.head, p[:n]...)
		}
		s.sum = crc32.Update(s.sum, crc32.IEEETable, p[:n])
		s.said += uint64(n)
		p = p[n:]
		if s.skip == 0 && len(s.head) == m.headLen(s) {
			m.headed(from, s.head)
			s.head = s.head[:0]
		}
	}
}

// headLen returns how many bytes must be there to know the frame that is being said: all
// but the payload of DATA.
func (m *Model) headLen(s *speaker) int {
	switch b := s.head; {
	case m.VT || !s.prefaced && (len(b) < 20 || [18]byte(b) != [18]byte{}):
		return 20
	case !s.prefaced:
		return 20 + int(binary.BigEndian.Uint16(b[18:]))
	case len(b) < 8 || b[0] == 2:
		return 8
	default:
		return 8 + int(binary.BigEndian.Uint16(b[2:]))
	}
}

// headed takes a frame whose head is complete.
func (m *Model) headed(from int, b []byte) {
	switch s := &m.ends[from]; {
	case m.VT:
		m.sayVT(from, b)
	case !s.prefaced:
		m.preface(from, b)
	default:
		m.sayOne(from, b)
	}
}

// log enters a frame.
func (m *Model) log(f Frame) {
	f.At, f.Sum = m.Now(), m.ends[f.From].sum
	m.Log = append(m.Log, f)
}

// later queues what a frame does when the other end has heard size payload bytes more, and
// then all of it.
func (m *Model) later(from, size int, c *Circuit, do func()) {
	s := &m.ends[from]
	if len(s.queue) == s.first {
		s.queue, s.first = s.queue[:0], 0
	}
	s.queue = append(s.queue, utterance{s.said + uint64(size), size, do, c})
}

// Hear takes how many bytes more an end has read.
func (m *Model) Hear(by, n int) {
	s := &m.ends[1-by]
	s.heard += uint64(n)
	for ; s.first < len(s.queue); s.first++ {
		u := &s.queue[s.first]
		if u.size > 0 && u.c != nil {
			got := u.size - int(min(uint64(u.size), u.end-min(u.end, s.heard)))
			u.c.Half[1-by].Arrived += uint64(got)
			u.size -= got
		}
		if s.heard < u.end {
			return
		}
		u.do()
		s.whole = u.end
	}
}

// Between reports whether what end i has heard ends with a whole frame.
func (m *Model) Between(i int) bool { return m.ends[1-i].heard == m.ends[1-i].whole }

// Payload returns how many bytes of payload end i has sent, and how many have arrived at it.
func (m *Model) Payload(i int) (sent, arrived uint64) {
	for _, c := range m.Circuits {
		sent += c.Half[i].Sent
		arrived += c.Half[1-i].Arrived
	}
	if m.VT && m.ends[1-i].greeted {
		arrived += 24 // the preface is taken for payload
	}
	return sent, arrived
}

// Settle is called when the session of end i has come to rest and nothing waits to leave.
// Then it must have answered what is to be answered.
func (m *Model) Settle(i int) {
	s := &m.ends[i]
	if m.VT || s.Over || m.ends[1-i].Over {
		return
	}
	if n := len(s.asked); n > 0 {
		m.breach(i, "nothing, while a PING waits for its answer")
		s.asked = s.asked[:0]
	}
	s.knowsGoAway = s.heardGoAway
	for _, c := range m.Circuits {
		own, peers := &c.Half[i], &c.Half[1-i]
		if c.Opener == i {
			c.crossed = m.Now() >= c.heardAt+answerWithin
		}
		if own.Stopped && !own.Ended() && !c.Refused && !c.RefusalHeard && m.Now() >= own.StopDue {
			m.breach(i, "nothing, while the STOP of connection %d waits for its answer", c.ID)
			own.Stopped = false
		}
		peers.EndKnown = peers.EndHeard
		c.RefusalSettled = c.RefusalSettled || c.RefusalHeard && c.Opener == i
	}
}

// Window returns the least limit of end i's connections, as far as it can know.
func (m *Model) Window(i int) uint64 { return m.ends[i].knowsWindow }

// Announced returns the initial window that end i has announced.
func (m *Model) Announced(i int) uint64 { return m.ends[i].window }

// Views returns how many addresses end i has in use, with the vt-muxer protocol.
func (m *Model) Views(i int) (n int) {
	for _, v := range m.addrs[i] {
		if !v.free() {
			n++
		}
	}
	return n
}

// Greeted reports whether end i has heard a preface.
func (m *Model) Greeted(i int) bool { return m.ends[1-i].greeted }

// HeardGoAway reports whether end i has heard a GOAWAY.
func (m *Model) HeardGoAway(i int) bool { return m.ends[i].heardGoAway }
