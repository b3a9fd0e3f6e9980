package mux

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// maxOrphans bounds table.orphans. Only a peer that crosses opens, reads nothing and goes on
// gets there; the flusher settles them all as soon as the transport takes anything.
const maxOrphans = 4 << 10

// A table holds the connections that are open in either direction: by address with
// the vt-muxer protocol, by ID with protocol 1.
type table struct {
	mu      sync.Mutex
	byAddr  map[addr.SocketAddr]*conn
	byID    map[connKey]*conn
	closed  bool
	orphans int // vt: crossed, no more in byAddr, since the peer has opened it again, and not settled yet
	peak    int // the most connections that the maps have held since they were made
	slots   int // connections that count against MaxConns: the peer's, with the vt-muxer protocol ours too
	ours    int // protocol 1: ours that do
	// emptied is closed when the table is empty and a Shutdown waits for that.
	emptied chan struct{}

	prefaced bool // our preface is staged, before any OPEN

	// Protocol 1. An ID at or below the highest of its space that is not in byID is
	// closed, so a closed connection costs no memory (PROTOCOL.md, 2.5).
	allotted wire.ID       // the highest of our own space
	seen     wire.ID       // the highest of the peer's
	opened   int           // connections in byID that we opened
	ended    atomic.Uint64 // connections of either space that have been forgotten

	goAways  int     // GOAWAYs received; counted to freeGoAways and one more
	peerLast wire.ID // the last ID of the latest of them
	last     wire.ID // the last ID that our own GOAWAYs have told
}

// A connKey names a connection of protocol 1: its ID, and bit 32 where it is of our
// own space.
type connKey uint64

func keyOf(id wire.ID, ours bool) connKey {
	k := connKey(id)
	if ours {
		k |= 1 << 32
	}
	return k
}

func (c *conn) key() connKey { return keyOf(c.id, c.opener) }

func (t *table) init() {
	t.byAddr = make(map[addr.SocketAddr]*conn)
	t.byID = make(map[connKey]*conn)
	t.peerLast, t.last = maxID, maxID
}

// get returns the connection of a, or nil.
func (t *table) get(a addr.SocketAddr) *conn {
	t.mu.Lock()
	c := t.byAddr[a]
	t.mu.Unlock()
	return c
}

// find returns the connection of an ID, or nil, and whether the ID has ever been
// opened, or passed over.
func (t *table) find(id wire.ID, ours bool) (c *conn, opened bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	highest := t.seen
	if ours {
		highest = t.allotted
	}
	return t.byID[keyOf(id, ours)], id <= highest
}

// len returns the number of connections that are not free yet.
func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lenLocked()
}

func (t *table) lenLocked() int { return len(t.byAddr) + len(t.byID) }

// addLocked puts c in, with the halves h.
func (t *table) addLocked(c *conn, h halves) {
	c.halves.Store(uint32(h))
	if c.id != 0 {
		t.byID[c.key()] = c
	} else {
		t.byAddr[c.addr] = c
	}
	t.peak = max(t.peak, t.lenLocked())
}

// shrinkFrom is how many connections a map must have held to be worth giving back.
const shrinkFrom = 1024

// shrinkLocked makes the maps anew when an eighth is left of what they have held, for a map
// gives no memory back, and to look through it takes as long as when it was full.
func (t *table) shrinkLocked() {
	if t.peak < shrinkFrom || t.lenLocked() > t.peak/8 {
		return
	}
	t.peak = t.lenLocked()
	byAddr := make(map[addr.SocketAddr]*conn, len(t.byAddr))
	maps.Copy(byAddr, t.byAddr)
	byID := make(map[connKey]*conn, len(t.byID))
	maps.Copy(byID, t.byID)
	t.byAddr, t.byID = byAddr, byID
}

// setLocked changes c's halves and forgets c when none is left.
func (t *table) setLocked(c *conn, h halves) {
	was := halves(c.halves.Load())
	c.halves.Store(uint32(h))
	if h != 0 || was == 0 {
		return
	}
	t.freeSlotLocked(c)
	switch {
	case c.id != 0:
		if t.byID[c.key()] != c {
			return // the session has ended
		}
		delete(t.byID, c.key())
		t.ended.Add(1)
		if c.opener {
			t.opened--
		}
	case t.byAddr[c.addr] != c:
		return // after crossed opens the address may be another's already
	default:
		delete(t.byAddr, c.addr)
	}
	t.shrinkLocked()
	if t.lenLocked() == 0 && t.emptied != nil {
		close(t.emptied)
		t.emptied = nil
	}
}

// settleCrossedLocked forgets c, whose open the peer's has crossed.
func (t *table) settleCrossedLocked(c *conn) {
	if c.halves.Load() != 0 && t.byAddr[c.addr] != c {
		t.orphans--
	}
	t.setLocked(c, 0)
}

// freeSlotLocked gives c's slot back once c has ended and the application has let go
// of it (hostile peers, R3).
func (t *table) freeSlotLocked(c *conn) {
	if !c.slot || c.halves.Load() != 0 || !c.isClosed() {
		return
	}
	c.slot = false
	if c.opener && c.id != 0 {
		t.ours--
	} else {
		t.slots--
	}
}

// freeSlot is freeSlotLocked for who has closed c.
func (t *table) freeSlot(c *conn) {
	t.mu.Lock()
	t.freeSlotLocked(c)
	t.mu.Unlock()
}

// lowerLocked takes the last ID that the peer serves, and returns the connections of ours
// that it does not serve any more. It costs no more than we have opened, all of the peer's
// GOAWAYs together.
func (t *table) lowerLocked(last wire.ID) (unserved []*conn) {
	from, to := last, min(t.peerLast, t.allotted)
	t.peerLast = last
	switch {
	case from >= to:
	case uint64(to-from) < uint64(len(t.byID)):
		for id := to; id > from; id-- {
			if c := t.byID[keyOf(id, true)]; c != nil {
				unserved = append(unserved, c)
			}
		}
	default:
		for _, c := range t.byID {
			if c.opener && c.id > from {
				unserved = append(unserved, c)
			}
		}
	}
	return unserved
}

// whenEmpty returns a channel that is closed when no connection is left.
func (t *table) whenEmpty() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.emptied == nil {
		t.emptied = make(chan struct{})
	}
	ch := t.emptied
	if t.lenLocked() == 0 {
		close(t.emptied)
		t.emptied = nil
	}
	return ch
}

// unfinished reports whether a connection is open in either direction.
func (t *table) unfinished() bool { return t.len() > 0 }

// allLocked returns every connection.
func (t *table) allLocked() []*conn {
	all := make([]*conn, 0, t.lenLocked())
	for _, c := range t.byAddr {
		all = append(all, c)
	}
	for _, c := range t.byID {
		all = append(all, c)
	}
	return all
}

// each calls f for every connection and lets nobody in after that.
func (t *table) each(f func(*conn)) {
	t.mu.Lock()
	t.closed = true
	all := t.allLocked()
	t.byAddr, t.byID = nil, nil
	if t.emptied != nil {
		close(t.emptied)
		t.emptied = nil
	}
	t.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}
