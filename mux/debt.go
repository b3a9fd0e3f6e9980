package mux

import (
	"sync/atomic"

	"github.com/vtmux/vtmux/wire"
)

// A connection owes the peer control frames that nobody waits for, such as its
// end. They are bits on the connection, not frames in a queue: however often one
// is owed it is sent once, and memory stays bounded by the connections whatever
// the peer does (hostile peers, R1). The flusher turns them into frames, behind
// everything that the connection published before.
const (
	// owesEnd: the END of our half.
	owesEnd uint32 = 1 << iota
)

// maxDebtLen is the most that settleDebts writes for one connection.
const maxDebtLen = wire.VTHeaderLen

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
		c.owesNext = first
		first, c = c, next
	}
	return first
}

// settleDebts writes c's control frames to b and returns their length. The caller
// is the flusher and has sealed staging after it took c: what c published before
// goes first, and an OPEN of the same address that follows will go later.
func (s *session) settleDebts(c *conn, b []byte) (n int) {
	owed := c.owes.Swap(0)
	if owed&owesEnd != 0 {
		s.table.mu.Lock()
		h := halves(c.halves.Load())
		if h&sendOpen != 0 { // else the peer's crossing open has taken it away
			wire.PutVTHeader(b, c.addr, 0)
			n = wire.VTHeaderLen
			s.table.setLocked(c, h.onEndSent())
		}
		s.table.mu.Unlock()
	}
	return n
}
