package mux

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/vtmux/vtmux/wire"
)

// A connection owes the peer control frames that nobody waits for, such as its
// end. They are bits on the connection, not frames in a queue: however often one
// is owed it is sent once, and memory stays bounded by the connections whatever
// the peer does (hostile peers, R1). The flusher turns them into frames, behind
// everything that the connection published before. The session's own are bits on the
// session.
const (
	// owesEnd: the END, or FIN, of our half.
	owesEnd uint32 = 1 << iota
	// The rest is protocol 1's.
	owesWindow  // the limit in recv.granted
	owesStop    // with rare.stopCode
	owesReset   // with rare.resetCode
	owesRefusal // no more than 8: see conn.taken
)

const (
	owesPing uint32 = 1 << iota
	owesPong
	owesGoAway
	owesRefusals // of connections that we keep no state of
)

const (
	// maxDebtLen is the most that settleDebts writes for one connection: WINDOW, STOP,
	// and RESET or FIN, or else REFUSED.
	maxDebtLen = max(wire.WindowLen+wire.StopLen+wire.ResetLen, wire.ResetLen+wire.MaxText)
	// maxSessionDebtLen is the most that settleSession writes, without refusals.
	maxSessionDebtLen = 2*wire.PingLen + wire.GoAwayLen + wire.MaxText
	// refusalLen is how many IDs in a row share a place among the refusals.
	refusalLen = 64
	// maxRefusals bounds the refusals that are not sent yet, in places: twice what the
	// 65,536 connections take that Config.MaxConns lets an opener have by default.
	maxRefusals = 2 * defaultMaxConns / refusalLen
)

// A debtStack holds the connections that owe something, each once.
type debtStack struct{ top atomic.Pointer[conn] }

// add makes c owe what.
func (d *debtStack) add(c *conn, what uint32) {
	if c.owes.Or(what) != 0 {
		return // in the stack already, or about to be
	}
	for {
		top := d.top.Load()
		c.owesNext = top
		if d.top.CompareAndSwap(top, c) {
			return
		}
	}
}

// take takes all, linked by owesNext, in the order of adding. A connection can be
// added again only once settleDebts has taken its debts; its owesNext must be read
// before that.
func (d *debtStack) take() (first *conn) {
	if d.top.Load() == nil {
		return nil
	}
	for c := d.top.Swap(nil); c != nil; {
		next := c.owesNext
		c.taken = uint8(c.owes.Load())
		c.owesNext = first
		first, c = c, next
	}
	return first
}

// settleDebts writes c's control frames to b and returns their length. The caller
// is the flusher and has sealed staging after it took c: what c published before
// goes first, and an OPEN of the same address that follows will go later.
//
// An end that c came to owe after it was taken must wait for the next time: c may have
// published bytes after the seal, and then the end.
func (s *session) settleDebts(c *conn, b []byte) (n int) {
	owed := c.owes.Swap(0)
	if late := owed &^ uint32(c.taken) & (owesEnd | owesReset | owesRefusal); late != 0 {
		owed &^= late
		s.out.debts.add(c, late)
	}
	if s.failing.Load() || s.out.parted.Load() {
		return 0 // nothing follows the GOAWAY
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	h := halves(c.halves.Load())
	if c.id != 0 {
		var left halves
		n, left = c.settleOne(owed, h, b)
		switch {
		case left == h:
		case owed&owesEnd != 0:
			s.out.noteEnd()
		default: // a RESET or REFUSED, for which the end of the session does as well
			s.out.control = false
		}
		s.table.setLocked(c, left)
	} else if owed&owesEnd != 0 && c.flags.Load()&flagCrossed != 0 {
		s.table.settleCrossedLocked(c)
	} else if owed&owesEnd != 0 && h&sendOpen != 0 {
		wire.PutVTHeader(b, c.addr, 0)
		n = wire.VTHeaderLen
		s.out.noteEnd()
		s.table.setLocked(c, h.onEndSent())
	}
	return n
}

// settleOne is settleDebts with protocol 1. It returns the halves that are left. STOP
// goes before the end of our half, so that it does not find a connection that this
// very end has closed (PROTOCOL.md, 2.7).
func (c *conn) settleOne(owed uint32, h halves, b []byte) (n int, left halves) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if owed&owesRefusal != 0 && h&sendOpen != 0 {
		return wire.PutRefused(b, c.id, uint32(c.rare.refusal), c.rare.reason), 0
	} else if owed&owesRefusal != 0 {
		owed |= owesStop // our half has ended already, by the answer to a STOP
	}
	stop, reset := c.codesLocked()
	// More may have been granted since, told now, and owed once more.
	if limit := c.recv.granted.Load(); owed&owesWindow != 0 && h&recvOpen != 0 && !c.discards() && limit > c.recv.told {
		c.recv.told = limit
		n += wire.PutWindow(b[n:], c.yours(), c.id, limit)
	}
	if owed&owesStop != 0 && h&recvOpen != 0 {
		n += wire.PutStop(b[n:], c.yours(), c.id, uint32(stop))
	}
	switch {
	case h&sendOpen == 0:
	case owed&owesReset != 0:
		n += wire.PutReset(b[n:], c.yours(), c.id, uint32(reset))
		h &^= sendOpen
	case owed&owesEnd != 0:
		n += wire.PutDataHeader(b[n:], c.yours()|wire.FlagFin, c.id, 0)
		h &^= sendOpen
	}
	return n, h
}

// settleSession writes the session's own control frames to b, as far as there is
// room, and returns their length. A GOAWAY goes before the PING whose answer is to
// show that it has been read.
func (s *session) settleSession(b []byte) (n int) {
	if len(b) < maxSessionDebtLen {
		return 0
	}
	owed := s.out.owed
	s.out.owed = 0
	if s.out.parted.Load() {
		return 0
	}
	if s.failing.Load() {
		owed &= owesGoAway
	}
	if owed&owesGoAway != 0 {
		var ends bool
		if n, ends = s.goAway.put(b); ends {
			s.out.parted.Store(true)
			return n // nothing follows it
		}
	}
	if owed&owesPing != 0 {
		n += s.pings.put(b[n:])
	}
	if owed&owesPong != 0 {
		n += s.pings.putPong(b[n:])
	}
	if owed&owesRefusals != 0 {
		m, all := s.refusals.put(b[n:])
		n += m
		if !all {
			s.out.owed = owesRefusals
		}
	}
	return n
}

// A goAway is what our latest GOAWAY says.
type goAway struct {
	mu   sync.Mutex
	told bool
	last wire.ID // never rises
	code Code
	text string
}

// tell makes a GOAWAY owed, unless one with a code is already. The caller flushes.
func (s *session) tell(last wire.ID, code Code, text string) {
	g := &s.goAway
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.code != CodeNone {
		return
	}
	if g.told {
		last = min(last, g.last)
	}
	g.told, g.last, g.code, g.text = true, last, code, text
	s.owes.Or(owesGoAway)
}

// put writes it, and reports whether it ends the session.
func (g *goAway) put(b []byte) (n int, last bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return wire.PutGoAway(b, g.last, uint32(g.code), g.text), g.code != CodeNone
}

// refusals are the REFUSED that we owe for connections that never got a place. One read may
// bring thousands of OPENs, and the flusher may not get to run meanwhile. So they are kept
// in little space: an opener that uses each ID, and keeps to the announced number, finds
// room for twice as many, though some in between were taken.
type refusals struct {
	mu   sync.Mutex
	list []refusal
}

// A refusal is of the IDs id+i where bit i of ids is set.
type refusal struct {
	ids  uint64
	id   wire.ID
	code Code
}

// add queues one, if there is room for it in most places, and reports whether there was,
// and how many are left. IDs only rise.
func (q *refusals) add(id wire.ID, code Code, most int) (room int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := len(q.list)
	if k > 0 {
		if last := &q.list[k-1]; last.code == code && id-last.id < refusalLen {
			last.ids |= 1 << (id - last.id)
			return most - k, true
		}
	}
	if k >= most {
		return 0, false
	}
	q.list = append(q.list, refusal{1, id, code})
	return most - k - 1, true
}

// put writes what there is room for, and reports whether that was all.
func (q *refusals) put(b []byte) (n int, all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := 0
	for i < len(q.list) && n+wire.ResetLen <= len(b) {
		r := &q.list[i]
		id := r.id + wire.ID(bits.TrailingZeros64(r.ids))
		n += wire.PutReset(b[n:], wire.FlagYours|wire.FlagRefused, id, uint32(r.code))
		if r.ids &= r.ids - 1; r.ids == 0 {
			i++
		}
	}
	q.list = q.list[:copy(q.list, q.list[i:])]
	if len(q.list) == 0 {
		q.list = nil // most sessions refuse nothing
	}
	return n, len(q.list) == 0
}
