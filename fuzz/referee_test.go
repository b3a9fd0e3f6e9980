package fuzz

import (
	"fmt"
	"time"
)

// A frameStream cuts a stream of protocol 1 into plain frames, as it comes. A DATA, or a
// frame of unknown type, counts when its header has come; it has no body here.
type frameStream struct {
	buf  []byte
	skip int // payload that is still to come
	bad  bool
}

// feed calls f for each frame that b completes. malformed is set in the last of them if
// it is that; flow says that its code is 3.
func (s *frameStream) feed(b []byte, f func(fr plainFrame, malformed, flow bool)) {
	s.buf = append(s.buf, b...)
	for !s.bad {
		n := min(s.skip, len(s.buf))
		s.buf, s.skip = s.buf[n:], s.skip-n
		if s.skip > 0 || len(s.buf) < 8 {
			break
		}
		h := s.buf
		fr := plainFrame{typ: int(h[0]), flags: int(h[1]), length: int(plainInt(h[2:4])), id: uint32(plainInt(h[4:8]))}
		switch {
		case plainMalformed(fr):
			s.bad = true
			f(fr, true, false)
			return
		case fr.typ == plainData || fr.typ > plainGoAway:
			s.skip = fr.length
			s.buf = s.buf[8:]
		case len(h) < 8+fr.length:
			return
		default:
			fr.body = string(h[8 : 8+fr.length])
			s.buf = s.buf[8+fr.length:]
		}
		if fr.typ == plainWindow && fr.body[0] >= 0x80 {
			s.bad = true
			f(fr, true, true)
			return
		}
		f(fr, false, false)
	}
	if len(s.buf) == 0 {
		s.buf = nil
	}
}

// A duel is one connection between the attacker and the session, as the referee knows
// it from the frames of both.
type duel struct {
	in, out  bool   // the attacker's half is open, and the session's
	limit    uint64 // that the session has granted
	received uint64 // payload that the attacker has sent
	credit   uint64 // that the attacker has granted
	sent     uint64 // payload that the session has sent
	said     bool   // the session has sent anything on it
	stopped  bool   // the session has sent STOP
	stops    int    // STOPs of the attacker's
	fresh    int    // the round in which its state last moved in a way that the attacker can't see yet
}

// A duelKey names a connection: who has opened it, and its ID.
type duelKey struct {
	ours bool // the session's own
	id   uint32
}

// A referee follows a session of protocol 1 and its attacker by PROTOCOL.md, 2.3 to
// 2.13. It says whether the session must end, may, or must go on; and which rule a frame
// of the session's breaks.
type referee struct {
	hears, says frameStream
	duels       map[duelKey]*duel
	seen        uint32 // the highest ID of the attacker's
	allotted    uint32 // the highest of the session's
	last        uint64 // the last ID of the attacker's GOAWAYs
	ownLast     uint64 // that of the session's
	over        bool   // the session has said GOAWAY with a code
	overCode    uint32
	round       int
	blind       bool // the attacker does not read: what the session has sent is not known
	wasBlind    bool
	greedy      bool // the application reads by itself, and so may have granted more

	window  uint64 // of the attacker's preface
	payload int

	// The verdict.
	must  map[uint32]bool // the session must end, with one of these codes
	may   map[uint32]bool // it may end, with these
	ended bool            // by a GOAWAY of the attacker's
	code  uint32          // of that

	// What there was, to hold what is answered against.
	pings, stops, resets, goAways, opens int
	acks, answers, ownResets             int
	refused                              map[uint32]bool // the attacker's connections that the session has refused
	places                               int             // that refusals of 64 IDs in a row, not yet sent, may take
	place                                uint32          // the first ID of the latest

	costMost int       // tokens that have been spent at most
	tokens   int       // that are left at most, without late
	late     int       // that connections earn, nobody knows when: the bucket's size does not bound them
	filledAt time.Time // when they were counted
	paid     int       // payload on known connections, both ways, that has not earned any
	lowest   int       // tokens and late at their lowest since the session was judged last
	lately   int       // payload that it has sent since then
	writes   bool      // the application writes, which earns tokens as well

	pingOut string          // the session's PING that is unanswered; "": none is
	guessed map[string]bool // ACKs of this round, or since nobody reads, whose PING had not been seen
	asked   string          // the attacker's latest PING that is unanswered; "": none is
}

func newReferee(window uint64, payload int) *referee {
	return &referee{duels: make(map[duelKey]*duel), last: 1<<32 - 1, ownLast: 1<<32 - 1, window: window, payload: payload,
		guessed: make(map[string]bool), refused: make(map[uint32]bool), must: make(map[uint32]bool), may: make(map[uint32]bool), tokens: 1000, filledAt: time.Now()}
}

// Codes: PROTOCOL.md, 2.14.
const (
	codeProtocol = 2
	codeFlow     = 3
	codeCalm     = 7
)

// judged reports whether the session is over in any case.
func (r *referee) judged() bool { return len(r.must) > 0 || r.ended }

// violates notes a violation: certain, or one only if the session has not moved on
// meanwhile.
func (r *referee) violates(code uint32, certain bool) {
	if certain && len(r.may) == 0 {
		r.must[code] = true
	}
	r.may[code] = true
}

// spends notes what a frame costs, at least and at most.
func (r *referee) spends(least, most int) {
	if r.costMost += most; r.costMost > 1000 {
		r.may[codeCalm] = true
	}
	n := int(time.Since(r.filledAt) / (10 * time.Millisecond))
	r.filledAt = r.filledAt.Add(time.Duration(n) * 10 * time.Millisecond)
	r.tokens = min(r.tokens+n+r.paid>>12, 1000) - least
	r.paid &= 1<<12 - 1
	if !(r.wasBlind && r.writes) {
		r.lowest = min(r.lowest, r.tokens+r.late)
	}
}

// calmed reports whether the tokens have been used up since it was asked last. What the session
// has sent since then may have earned some before they were: a WINDOW lets Writes go on while
// the next frames are charged for. Two more may be due for time and payload that the session
// counts otherwise.
func (r *referee) calmed() bool {
	lowest := r.lowest + (r.lately+1<<12-1)>>12
	r.lowest, r.lately = 0, 0
	return lowest < -2
}

// openCosts notes that an OPEN may have got no place. 64 of those, or more, cost a token.
func (r *referee) openCosts() {
	if r.opens++; r.opens%64 == 0 {
		r.spends(0, 1)
	}
}

// openWaits notes that an OPEN may be refused and that the refusal may wait. Refusals with
// other codes than those before take places of their own; with half as many left over there
// is room for these.
func (r *referee) openWaits(id uint32) {
	if r.places == 0 || id-r.place >= 64 {
		r.places++
		r.place = id
	}
	if r.places > 2048/2 {
		r.may[codeCalm] = true
	}
}

// settled notes that the session has said all that it had to say, if it is read.
func (r *referee) settled() {
	r.round++
	if !r.blind {
		clear(r.guessed)
		r.places = 0
	}
}

// heard takes bytes that the attacker sends. They are one round.
func (r *referee) heard(b []byte) {
	r.round++
	r.hears.feed(b, func(f plainFrame, malformed, flow bool) {
		switch {
		case r.judged():
		case flow:
			r.violates(codeFlow, true)
		case malformed:
			r.violates(codeProtocol, true)
		default:
			r.hear(f)
		}
	})
}

// surely returns what a frame costs at least that is for free, now and then, if its
// connection has ended and the attacker does not know.
func (r *referee) surely(n int) int {
	if r.wasBlind {
		return 0
	}
	return n
}

// unsure reports whether the state of d may be another than the attacker knows.
func (r *referee) unsure(d *duel) bool { return r.wasBlind || d != nil && d.fresh == r.round }

func (r *referee) hear(f plainFrame) {
	switch f.typ {
	case plainOpen:
		if f.id <= r.seen {
			r.violates(codeProtocol, true)
			return
		}
		if r.seen = f.id; uint64(f.id) > r.ownLast {
			r.late += 6 // the session takes it as closed
			r.openCosts()
			return
		}
		r.late += 2 + 6 // if it is accepted, and for the strays that its end makes free
		r.openWaits(f.id)
		r.open(duelKey{false, f.id}).fresh = r.round
		r.openCosts()
		return
	case plainPing:
		if f.flags&plainAck == 0 {
			r.pings++
			r.asked = f.body
			r.spends(1, 1)
		} else if r.pingOut == f.body {
			r.pingOut = ""
		} else {
			r.spends(0, 1)
			r.guessed[f.body] = true // it may be about to be sent
		}
		return
	case plainGoAway:
		r.hearGoAway(f)
		return
	}
	if f.typ > plainGoAway {
		r.spends(1, 1)
		return
	}
	k := duelKey{f.flags&plainYours != 0, f.id}
	d := r.duels[k]
	if highest := r.highest(k); f.id > highest {
		unread := k.ours && r.wasBlind // the session's OPEN may have gone out
		if r.violates(codeProtocol, !unread); !unread {
			return
		}
		if d == nil {
			d = r.open(k)
		}
	}
	if d == nil || r.unsure(d) {
		r.spends(0, 1) // a stray
	}
	if d == nil {
		return
	}
	switch f.typ {
	case plainData:
		r.hearData(d, f)
	case plainWindow:
		limit := plainInt([]byte(f.body))
		if limit < d.credit+4096 {
			r.spends(r.surely(1), 1)
		}
		d.credit = max(d.credit, limit)
	case plainStop:
		r.stops++
		if d.stops++; d.stops > 1 {
			r.spends(r.surely(1), 1)
		}
		d.fresh = r.round
	case plainReset:
		r.resets++
		if !d.in {
			r.violates(codeProtocol, !r.unsure(d))
			return
		}
		d.in, d.fresh = false, r.round
		if f.flags&plainRefused != 0 {
			d.out = false
		}
		r.spends(0, 4)
	}
	r.forget(k, d)
}

// open begins a duel. The session's windows are the least that there are.
func (r *referee) open(k duelKey) *duel {
	d := &duel{in: true, out: true, limit: 65536, credit: r.window}
	r.duels[k] = d
	return d
}

func (r *referee) highest(k duelKey) uint32 {
	if k.ours {
		return r.allotted
	}
	return r.seen
}

// forget drops a connection whose halves have both ended.
func (r *referee) forget(k duelKey, d *duel) {
	if !d.in && !d.out {
		delete(r.duels, k)
	}
}

func (r *referee) hearData(d *duel, f plainFrame) {
	n, fin := uint64(f.length), f.flags&plainFin != 0
	switch {
	case !d.in:
		r.violates(codeProtocol, !r.unsure(d))
		return
	case d.received+n > d.limit:
		r.violates(codeFlow, !r.unsure(d) && !r.greedy)
		d.limit = d.received + n // it may have been granted
	case n == 0 && !fin:
		if r.unsure(d) {
			r.spends(0, 1)
		} else {
			r.spends(1, 1)
		}
	}
	d.received += n
	r.paid += f.length
	if fin {
		d.in = false
	}
}

func (r *referee) hearGoAway(f plainFrame) {
	last, code := plainInt([]byte(f.body[:4])), uint32(plainInt([]byte(f.body[4:8])))
	if last > r.last {
		r.violates(codeProtocol, true)
		return
	}
	r.last = last
	if r.goAways++; r.goAways > 10 {
		r.spends(0, 1)
	}
	for k := range r.duels {
		if k.ours && uint64(k.id) > last {
			delete(r.duels, k)
		}
	}
	if code != 0 {
		r.ended, r.code = true, code
	}
}

// said takes bytes that the session has sent, behind its preface. It returns the rule
// that they break.
func (r *referee) said(b []byte) (err error) {
	r.says.feed(b, func(f plainFrame, malformed, _ bool) {
		if err != nil {
			return
		}
		rule := ""
		if malformed {
			rule = "it is malformed"
		} else {
			rule = r.say(f)
		}
		if rule != "" {
			err = fmt.Errorf("the session must not send %v: %s", f, rule)
		}
	})
	return err
}

func (r *referee) say(f plainFrame) string {
	if r.over {
		return "it has said GOAWAY"
	}
	switch f.typ {
	case plainOpen:
		if f.id <= r.allotted {
			return "the ID does not rise"
		}
		r.allotted = f.id
		r.late += 2 + 6
		if k := (duelKey{true, f.id}); uint64(f.id) <= r.last && r.duels[k] == nil {
			r.open(k)
		}
		return ""
	case plainPing:
		if f.flags&plainAck != 0 {
			if r.acks++; r.acks > r.pings {
				return "nobody has asked"
			}
			if f.body == r.asked {
				r.asked = ""
			}
			return ""
		}
		if r.pingOut != "" {
			return "another one is unanswered"
		}
		if r.pingOut = f.body; r.guessed[f.body] {
			r.pingOut = "" // or not: who knows
		}
		return ""
	case plainGoAway:
		r.ownLast = min(r.ownLast, plainInt([]byte(f.body[:4])))
		if code := uint32(plainInt([]byte(f.body[4:8]))); code != 0 {
			r.over, r.overCode = true, code
		}
		return ""
	}
	if f.typ > plainGoAway {
		return "it is of unknown type"
	}
	k := duelKey{f.flags&plainYours == 0, f.id}
	if f.id > r.highest(k) {
		return "the connection was never opened"
	}
	if f.typ == plainReset && f.flags&plainRefused != 0 {
		if r.refused[f.id] {
			return "the connection was refused before"
		}
		r.refused[f.id] = true
	}
	d := r.duels[k]
	if d == nil {
		if r.judged() || f.typ == plainWindow || f.typ == plainStop || f.typ == plainReset || k.ours {
			return "" // what the attacker has said since has crossed with it
		}
		return "the connection has ended"
	}
	defer r.forget(k, d)
	defer func() { d.said = true }()
	switch f.typ {
	case plainData:
		return r.sayData(d, f)
	case plainWindow:
		limit := plainInt([]byte(f.body))
		if d.stopped || limit <= d.limit && !r.unsure(d) && len(r.may) == 0 {
			return "it grants nothing"
		}
		d.limit = max(d.limit, limit)
	case plainStop:
		if d.stopped {
			return "it repeats one"
		}
		d.stopped = true
	case plainReset:
		if !d.out || f.flags&plainRefused != 0 && d.said {
			return "the half has ended, or something was sent on it"
		}
		d.out = false
		if f.flags&plainRefused != 0 {
			d.in = false
		} else {
			r.answers++
		}
		if r.answers > r.stops+r.resets+r.ownResets {
			return "there are more answers than questions"
		}
	}
	return ""
}

// owes returns what the session has not answered, if it has been at rest and the attacker has heard all.
func (r *referee) owes() string {
	if r.asked != "" {
		return "a PING"
	}
	for k, d := range r.duels {
		if d.stops > 0 && d.out {
			return fmt.Sprintf("the STOP of %+v", k)
		}
	}
	return ""
}

func (r *referee) sayData(d *duel, f plainFrame) string {
	n := uint64(f.length)
	switch {
	case !d.out:
		return "the half has ended"
	case n == 0 && f.flags&plainFin == 0:
		return "it says nothing"
	case f.length > r.payload:
		return "it has more payload than the attacker takes"
	case d.sent+n > d.credit:
		return "it is above the limit"
	}
	d.sent += n
	r.paid += f.length
	r.lately += f.length
	if f.flags&plainFin != 0 {
		d.out = false
	}
	return ""
}
