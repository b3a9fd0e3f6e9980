package mux

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// stager is what staging does, and what its twin with a mutex does.
type stager interface {
	reserve(n, payload int) ([]byte, int, bool)
	payload() uint64
	commit(i, n int) bool
	empty() bool
	swap() (i, end int)
	settle(i, end int) bool
	sent(i, end int) []byte // what the sealed buffer holds
}

type lockFree struct{ staging }

func newLockFree() *lockFree {
	g := new(lockFree)
	g.init()
	return g
}

func (g *lockFree) sent(i, end int) []byte { return g.buf[i][:end] }

// lockedStaging is staging as one would write it without a thought for speed.
type lockedStaging struct {
	mu     sync.Mutex
	total  uint64 // of payload
	open   int    // which buffer
	off    int
	done   [2]int // bytes committed
	sealed [2]int // length at the seal; -1: it is not sealed
	buf    [2][]byte
}

func newLocked() *lockedStaging {
	g := &lockedStaging{sealed: [2]int{-1, -1}}
	for i := range g.buf {
		g.buf[i] = make([]byte, stagingSize)
	}
	return g
}

func (g *lockedStaging) reserve(n, payload int) ([]byte, int, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.off+n > stagingSize {
		return nil, 0, false
	}
	g.total += uint64(payload)
	at := g.off
	g.off += n
	return g.buf[g.open][at:g.off:g.off], g.open, true
}

func (g *lockedStaging) payload() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

func (g *lockedStaging) commit(i, n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done[i] += n
	return g.done[i] == g.sealed[i]
}

func (g *lockedStaging) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.off == 0
}

func (g *lockedStaging) swap() (i, end int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, end = g.open, g.off
	g.open, g.off = 1-i, 0
	g.done[1-i], g.sealed[1-i] = 0, -1
	return i, end
}

func (g *lockedStaging) settle(i, end int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done[i] == end {
		return true
	}
	g.sealed[i] = end
	return false
}

func (g *lockedStaging) sent(i, end int) []byte { return g.buf[i][:end] }

var stagers = []struct {
	name string
	make func() stager
}{
	{"lockfree", func() stager { return newLockFree() }},
	{"mutex", func() stager { return newLocked() }},
}

func eachStager(t *testing.T, f func(*testing.T, stager)) {
	for _, s := range stagers {
		t.Run(s.name, func(t *testing.T) { f(t, s.make()) })
	}
}

func mustReserve(t *testing.T, g stager, n int) ([]byte, int) {
	t.Helper()
	p, i, ok := g.reserve(n, 0)
	if !ok || len(p) != n || cap(p) != n {
		t.Fatalf("reserve(%d): %d bytes of capacity %d, %v", n, len(p), cap(p), ok)
	}
	return p, i
}

func TestReservationsFollowEachOther(t *testing.T) {
	eachStager(t, func(t *testing.T, g stager) {
		if !g.empty() {
			t.Error("a new one is not empty")
		}
		for i, s := range []string{"one", "two", "three"} {
			p, b := mustReserve(t, g, len(s))
			copy(p, s)
			if g.commit(b, len(s)) {
				t.Errorf("commit %d is the last of a buffer that is not sealed", i)
			}
		}
		if g.empty() {
			t.Error("empty with three reservations")
		}
		i, end := g.swap()
		if !g.settle(i, end) {
			t.Error("not settled, though all is committed")
		}
		if got := string(g.sent(i, end)); got != "onetwothree" {
			t.Errorf("sealed: %q", got)
		}
		if !g.empty() {
			t.Error("not empty after the seal")
		}
	})
}

func TestReservationBeyondTheEndFails(t *testing.T) {
	eachStager(t, func(t *testing.T, g stager) {
		_, b := mustReserve(t, g, stagingSize-1)
		if _, _, ok := g.reserve(2, 0); ok {
			t.Error("2 bytes fit into 1")
		}
		_, b2 := mustReserve(t, g, 1)
		if _, _, ok := g.reserve(1, 0); ok {
			t.Error("1 byte fits into a full buffer")
		}
		g.commit(b, stagingSize-1)
		g.commit(b2, 1)
		i, end := g.swap()
		if end != stagingSize || !g.settle(i, end) {
			t.Errorf("sealed at %d, want %d, and settled", end, stagingSize)
		}
		mustReserve(t, g, stagingSize)
	})
}

// The last one out of a sealed buffer has the flusher's role, and nobody else has.
func TestLastOutOfASealedBufferGetsTheRole(t *testing.T) {
	eachStager(t, func(t *testing.T, g stager) {
		_, b0 := mustReserve(t, g, 10)
		_, b1 := mustReserve(t, g, 20)
		i, end := g.swap()
		if g.settle(i, end) {
			t.Fatal("settled with two copies under way")
		}
		_, late := mustReserve(t, g, 5)
		if late == b0 {
			t.Fatal("a reservation in the sealed buffer")
		}
		if g.commit(late, 5) {
			t.Error("the open buffer gives the role away")
		}
		if g.commit(b1, 20) {
			t.Error("the first out got the role")
		}
		if !g.commit(b0, 10) {
			t.Error("the last out did not get the role")
		}
	})
}

func TestEmptyBufferSettlesAtOnce(t *testing.T) {
	eachStager(t, func(t *testing.T, g stager) {
		for range 5 {
			if i, end := g.swap(); end != 0 || !g.settle(i, end) {
				t.Errorf("an empty buffer sealed at %d is not settled", end)
			}
		}
	})
}

// No carry runs from one part of the word into the next, at either buffer, and none is lost
// where the payload begins a round of 1<<32.
func TestWordHoldsItsPartsAtTheirLimits(t *testing.T) {
	for _, total := range []uint64{0, 1 << 20, 1<<32 - 2, 1<<32 - 1, 1 << 32, 7<<32 - 1} {
		for _, seals := range []uint64{0, 1, 254, 255} {
			for _, leases := range []uint64{0, maxLeases} {
				for _, off := range []uint64{0, 1, stagingSize - 2, stagingSize - 1, stagingSize} {
					checkWord(t, total, seals, leases, off)
				}
			}
		}
	}
}

func checkWord(t *testing.T, total, seals, leases, off uint64) {
	t.Helper()
	g := newLockFree()
	g.counted.Store(total)
	g.word.Store(total<<payloadAt | seals<<sealsAt | leases<<leasesAt | off)
	buffer := int(seals % 2)
	g.done[buffer].Store(int64(off))
	_, i, ok := g.reserve(1, 1)
	if want := off < stagingSize; ok != want {
		t.Errorf("reserve at %d: %v, want %v", off, ok, want)
	}
	now, at := total, off
	if ok {
		now, at = total+1, off+1
		if i != buffer {
			t.Errorf("reserve in buffer %d, want %d", i, buffer)
		}
		g.commit(i, 1)
	}
	if n := g.payload(); n != now {
		t.Errorf("%d bytes of payload, want %d", n, now)
	}
	i, end := g.swap()
	if i != buffer || end != int(at) || g.given[i] != int(leases) || !g.settle(i, end) {
		t.Errorf("sealed buffer %d at %d with %d leases, want %d at %d with %d", i, end, g.given[i], buffer, at, leases)
	}
	if w := g.word.Load(); uint32(w) != uint32(uint8(seals+1))<<sealsAt || g.payload() != now {
		t.Errorf("word after the seal: %#x; %d bytes of payload, want %d", w, g.payload(), now)
	}
}

// Writers and flushers at once: every frame is sent once, whole, those of a writer in
// order, and never do two flush. All payload is counted, and never less than before. (It is
// exaggerated, so that it begins many rounds of 1<<32.)
func TestStagingUnderStress(t *testing.T) {
	frames := 20_000
	if raceEnabled || testing.Short() {
		frames = 3_000
	}
	for _, procs := range []int{1, 2, 4} {
		eachStager(t, func(t *testing.T, g stager) {
			t.Run(fmt.Sprintf("procs %d", procs), func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				st := newStagingStress(t, g, 8)
				var wg sync.WaitGroup
				for w := range st.next {
					wg.Go(func() { st.write(w, frames) })
				}
				written := make(chan struct{})
				var watch sync.WaitGroup
				for range 2 {
					watch.Go(func() { st.watch(written) })
				}
				wg.Wait()
				close(written)
				watch.Wait()
				st.claim(false)
				if n := g.payload(); n != st.payload.Load() {
					t.Errorf("%d bytes of payload, want %d", n, st.payload.Load())
				}
				for w, n := range st.next {
					if n != frames {
						t.Errorf("writer %d: %d frames sent, want %d", w, n, frames)
					}
				}
			})
		})
	}
}

// exaggerated makes a buffer's payload 1<<28.
const exaggerated = 1 << 12

// A stagingStress sends by staging into a check. Frames are: length 2, writer 2,
// number 4, and filling.
type stagingStress struct {
	t        *testing.T
	g        stager
	role     atomic.Uint32 // as writeSide's
	flushers atomic.Int32
	payload  atomic.Uint64 // that has been reserved

	// The flusher's.
	next   []int // per writer, the number expected
	i, end int
}

func newStagingStress(t *testing.T, g stager, writers int) *stagingStress {
	return &stagingStress{t: t, g: g, next: make([]int, writers)}
}

func (st *stagingStress) write(w, frames int) {
	random := rand.New(rand.NewPCG(uint64(w), 1))
	for k := 0; k < frames && !st.t.Failed(); {
		n := 8 + random.IntN(120)
		if random.IntN(50) == 0 {
			n = 8 + random.IntN(stagingSize/2)
		}
		payload := n * exaggerated
		p, i, ok := st.g.reserve(n, payload)
		if !ok {
			st.claim(false)
			runtime.Gosched()
			continue
		}
		st.payload.Add(uint64(payload))
		binary.BigEndian.PutUint16(p, uint16(n))
		binary.BigEndian.PutUint16(p[2:], uint16(w))
		binary.BigEndian.PutUint32(p[4:], uint32(k))
		if random.IntN(8) == 0 {
			runtime.Gosched() // half-way through the copy
		}
		for j := range p[8:] {
			p[8+j] = byte(k + j)
		}
		st.claim(st.g.commit(i, n))
		k++
	}
}

// watch looks at the payload until over.
func (st *stagingStress) watch(over <-chan struct{}) {
	last := uint64(0)
	for i := 1; ; i++ {
		least := st.payload.Load()
		now := st.g.payload()
		if now < last || now < least {
			st.t.Errorf("%d bytes of payload after %d, and %d at least are reserved", now, last, least)
			return
		}
		last = now
		if i%200 != 0 {
			continue
		}
		select {
		case <-over:
			return
		default:
			runtime.Gosched()
		}
	}
}

// claim flushes if nobody does; last: the role is the caller's already.
func (st *stagingStress) claim(last bool) {
	for !last {
		r := st.role.Load()
		if r == flushDirty {
			return
		}
		if st.role.CompareAndSwap(r, r+1) {
			if r == flushBusy {
				return
			}
			break
		}
	}
	for first := last; ; first = false {
		if st.flushers.Add(1) != 1 {
			st.t.Error("two flush at once")
		}
		if first {
			st.check()
		}
		st.role.Store(flushBusy)
		if !st.g.empty() {
			st.i, st.end = st.g.swap()
			st.flushers.Add(-1)
			if !st.g.settle(st.i, st.end) {
				return
			}
			st.flushers.Add(1)
			st.check()
		}
		st.flushers.Add(-1)
		if st.role.CompareAndSwap(flushBusy, flushIdle) {
			return
		}
	}
}

func (st *stagingStress) check() {
	p := st.g.sent(st.i, st.end)
	for len(p) > 0 {
		n, w := int(binary.BigEndian.Uint16(p)), int(binary.BigEndian.Uint16(p[2:]))
		if n < 8 || n > len(p) || w >= len(st.next) {
			st.t.Errorf("frame of %d bytes by writer %d", n, w)
			return
		}
		if k := int(binary.BigEndian.Uint32(p[4:])); k != st.next[w] {
			st.t.Errorf("writer %d: frame %d, want %d", w, k, st.next[w])
		}
		for j, b := range p[8:n] {
			if b != byte(st.next[w]+j) {
				st.t.Errorf("writer %d: byte %d of frame %d is not what was copied", w, j, st.next[w])
				break
			}
		}
		st.next[w]++
		p = p[n:]
	}
	clear(st.g.sent(st.i, st.end)) // a frame that is sent before it is copied shows
}

// The lock-free staging must earn its place against its twin, at -cpu 1,2,4,8.
func BenchmarkStaging(b *testing.B) {
	frame := bytes.Repeat([]byte("x"), 148) // a header and 128 bytes
	for _, s := range stagers {
		b.Run(s.name, func(b *testing.B) {
			g := s.make()
			var role atomic.Uint32
			var at [2]int // of the flusher, for the last one out
			b.SetBytes(int64(len(frame)))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p, i, ok := g.reserve(len(frame), 0)
					last := false
					if ok {
						copy(p, frame)
						last = g.commit(i, len(frame))
					}
					if !last && (ok || !role.CompareAndSwap(flushIdle, flushBusy)) {
						if !ok {
							runtime.Gosched()
						}
						continue
					}
					if !last {
						at[0], at[1] = g.swap()
						if !g.settle(at[0], at[1]) {
							continue
						}
					}
					role.Store(flushIdle) // sent
				}
			})
		})
	}
}
