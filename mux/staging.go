package mux

import (
	"sync"
	"sync/atomic"
)

// staging gathers small frames for the next flush, without a lock. There are two
// buffers: writers fill one while the flusher sends the other.
//
// word says where the next frame goes:
//
//	bits 0-16   offset: the bytes reserved in the open buffer
//	bits 17-23  leases: how many the open buffer has given
//	bits 24-31  seals: how often a buffer was sealed, modulo 256. The lowest bit says which
//	            of the two is open
//	bits 32-63  payload: how much of all that was ever reserved is payload, modulo 1<<32, but
//	            for leases. To count it here spares those Writes a locked instruction
//
// A writer reserves with a CAS on word, which makes bytes [offset, offset+n) of
// the open buffer its own; it copies, and commits by adding n to done. The flusher
// alone seals: it swaps word to the other buffer, empty, and so ends all
// reservations in the sealed one at a known offset. A sealed buffer may be sent
// once every reservation in it is committed. The flusher can't wait for that (who
// copies may be descheduled), so sealing adds sealed-offset to done: whoever brings
// done to exactly sealed, flusher or writer, came last and has the flusher's role
// from then on. Some reservations are leases (lease.go), committed when they end.
//
// The two buffers belong to the session until it ends. They never go to a pool: a
// reservation that comes late must not land in another session's bytes. They come when
// the protocol is decided, before which there is nothing to send but a preface: a peer
// that only connects must not cost them.
type staging struct {
	once    sync.Once // init
	word    atomic.Uint64
	_       [56]byte      // writers fight for word; let them not take done's line along
	counted atomic.Uint64 // the payload, as it was at a seal that is less than 1<<32 of it ago
	done    [2]atomic.Int64
	flusher flusherCheck
	given   [2]int     // the flusher's: how many leases a sealed buffer has
	buf     [2][]byte  // stagingSize for frames, then tailSize for the flusher's own
	leases  [2][]lease // maxLeases of them
}

const (
	stagingSize = 64 << 10
	// tailSize is the flusher's room behind the sealed frames, for the control
	// frames of one flush.
	tailSize = 4 << 10

	leasesAt   = 17
	sealsAt    = 24
	payloadAt  = 32
	countEvery = 1 << 30 // payload; after that much, and a buffer's, counted is brought up to date
	sealed     = 1 << 40 // more than done ever holds in frames
)

// init makes the buffers, once. It comes before the first reservation.
func (g *staging) init() {
	g.once.Do(func() {
		for i := range g.buf {
			g.buf[i] = make([]byte, stagingSize+tailSize)
			g.leases[i] = make([]lease, maxLeases)
		}
	})
}

// These take a word apart.
func wordOffset(w uint64) int  { return int(w & (1<<leasesAt - 1)) }
func wordLeases(w uint64) int  { return int(w >> leasesAt & (1<<(sealsAt-leasesAt) - 1)) }
func wordSeals(w uint64) uint8 { return uint8(w >> sealsAt) }
func wordOpen(w uint64) int    { return int(w >> sealsAt & 1) }

// reserve gives the caller n bytes of the open buffer to fill, of which so many are payload,
// and the buffer's index for commit. It reports false where they don't fit before the next
// seal.
func (g *staging) reserve(n, payload int) ([]byte, int, bool) {
	for {
		w := g.word.Load()
		off := wordOffset(w)
		if off+n > stagingSize {
			return nil, 0, false
		}
		// The word may have come round to the same value since: the CAS is right all
		// the same, for it reserves what word says now.
		if g.word.CompareAndSwap(w, w+uint64(payload)<<payloadAt+uint64(n)) {
			i := wordOpen(w)
			return g.buf[i][off : off+n : off+n], i, true
		}
	}
}

// payload returns how much payload has been reserved, but for that of leases.
func (g *staging) payload() uint64 {
	for {
		counted := g.counted.Load()
		more := uint32(g.word.Load()>>payloadAt) - uint32(counted)
		if g.counted.Load() == counted { // else more may be of another round of 1<<32
			return counted + uint64(more)
		}
	}
}

// commit ends a reservation of n bytes in buffer i. It reports whether the buffer
// was sealed and this was the last one out: then the caller is the flusher now.
func (g *staging) commit(i, n int) bool {
	last := g.done[i].Add(int64(n)) == sealed
	if last {
		g.flusher.take()
	}
	return last
}

// fits reports whether n bytes can be reserved.
func (g *staging) fits(n int) bool { return wordOffset(g.word.Load())+n <= stagingSize }

// empty reports whether nothing is reserved.
func (g *staging) empty() bool { return wordOffset(g.word.Load()) == 0 }

// spare returns the buffer that is not open. It is the flusher's, once it has sent it.
func (g *staging) spare() []byte { return g.buf[1-wordOpen(g.word.Load())] }

// swap seals the open buffer and opens the other, which the flusher has sent. It
// returns the sealed one's index and length. Settle must follow.
func (g *staging) swap() (i, end int) {
	i = wordOpen(g.word.Load()) // only the flusher changes it
	g.done[1-i].Store(0)
	for {
		w := g.word.Load()
		if g.word.CompareAndSwap(w, w>>payloadAt<<payloadAt+uint64(wordSeals(w)+1)<<sealsAt) {
			g.given[i] = wordLeases(w)
			if all := g.payload(); all-g.counted.Load() > countEvery {
				g.counted.Store(all)
			}
			return i, wordOffset(w)
		}
	}
}

// settle reports whether all of the sealed buffer is committed. If not, the
// flusher's role has passed to the last writer, and the caller has it no more.
func (g *staging) settle(i, end int) bool {
	g.flusher.leave()
	all := g.done[i].Add(sealed-int64(end)) == sealed
	if all {
		g.flusher.take()
	}
	return all
}
