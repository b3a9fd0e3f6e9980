package mux

import (
	"bytes"
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/vtmux/vtmux/pool"
)

// queueSizes are the sizes of pieces at which recvQueue changes its mind.
var queueSizes = []int{1, 10, 100, 4096, lendSlabFrom - 1, lendSlabFrom, lendSlabFrom + 1,
	maxOwnSegment - 1, maxOwnSegment, maxOwnSegment + 1, 65535}

// A queueModel is a recvQueue and the plain bytes that must be in it.
type queueModel struct {
	t      *testing.T
	q      recvQueue
	want   []byte
	slabs  []*pool.Slab // of which the test holds a reference
	random *rand.Rand
	fill   byte
}

func (m *queueModel) add(n int, inSlab bool) {
	p := make([]byte, n)
	var slab *pool.Slab
	if inSlab {
		slab = pool.GetSlab(n)
		m.slabs = append(m.slabs, slab)
		p = slab.Bytes()[:n]
	}
	for i := range p {
		m.fill++
		p[i] = m.fill ^ byte(i>>8)
	}
	m.want = append(m.want, p...)
	m.q.add(p, slab)
	if slab == nil {
		clear(p) // what was given by slice alone is the caller's again
	}
}

func (m *queueModel) read(n int) {
	p := make([]byte, n)
	got := m.q.read(p)
	if want := min(n, len(m.want)); got != want {
		m.t.Fatalf("read of %d gave %d bytes, with %d unread", n, got, len(m.want))
	}
	if !bytes.Equal(p[:got], m.want[:got]) {
		wantBytes(m.t, "read", p[:got], m.want[:got])
		m.t.FailNow()
	}
	m.want = m.want[got:]
}

func (m *queueModel) takeAll() {
	list := m.q.takeAll()
	var got []byte
	for g := list; g != nil; g = g.next {
		got = append(got, g.b[g.r:]...)
	}
	wantBytes(m.t, "takeAll", got, m.want)
	m.want = nil
	releaseAll(list)
}

// check looks at what must hold after every step.
func (m *queueModel) check() {
	m.t.Helper()
	if m.q.n != len(m.want) {
		m.t.Fatalf("the queue counts %d bytes, want %d", m.q.n, len(m.want))
	}
	if (m.q.last == nil) != (len(m.want) == 0) {
		m.t.Fatalf("with %d bytes unread, last is %p", len(m.want), m.q.last)
	}
	n := 0
	for g := range m.q.all() {
		n += len(g.b) - g.r
	}
	if n != len(m.want) {
		m.t.Fatalf("the segments hold %d bytes, want %d", n, len(m.want))
	}
}

// finish empties the queue and looks for references that are left.
func (m *queueModel) finish() {
	m.t.Helper()
	m.read(len(m.want) + 1)
	m.check()
	for _, s := range m.slabs {
		if !s.Unique() {
			m.t.Fatal("a slab is still referred to by an empty queue")
		}
		s.Release()
	}
	m.slabs = nil
}

func TestRecvQueueKeepsEveryByteInOrder(t *testing.T) {
	for seed := range uint64(200) {
		m := &queueModel{t: t, random: rand.New(rand.NewPCG(seed, 1))}
		size := func() int { return queueSizes[m.random.IntN(len(queueSizes))] }
		for range 60 {
			switch k := m.random.IntN(20); {
			case k < 10:
				m.add(size(), m.random.IntN(2) == 0)
			case k < 19:
				m.read(size())
			default:
				m.takeAll()
			}
			m.check()
		}
		m.finish()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestPiecesOfOneSlabShareIt: a slab holds the pieces of several adds, as it does
// after one transport read.
func TestPiecesOfOneSlabShareIt(t *testing.T) {
	slab := pool.GetSlab(64 << 10)
	b := slab.Bytes()
	copy(b, testBytes(len(b), 1))
	want := bytes.Clone(b)
	var q recvQueue
	for at := 0; at < len(b); at += lendSlabFrom {
		q.add(b[at:at+lendSlabFrom], slab)
	}
	slab.Release() // the queue's own references keep the bytes
	got := make([]byte, len(want))
	half := len(got)/2 + 100 // in the middle of a piece
	if n := q.read(got[:half]); n != half {
		t.Fatalf("read %d bytes, want %d", n, half)
	}
	n := half
	list := q.takeAll() // its first piece is read in part
	for g := list; g != nil; g = g.next {
		n += copy(got[n:], g.b[g.r:])
	}
	wantBytes(t, "the slab's bytes", got[:n], want)
	releaseAll(list)
}

// TestSmallPiecePinsNoSlab: from lendSlabFrom on a reference is kept, below it a copy.
func TestSmallPiecePinsNoSlab(t *testing.T) {
	for _, tt := range []struct {
		n    int
		pins bool
	}{{1, false}, {lendSlabFrom - 1, false}, {lendSlabFrom, true}, {64 << 10, true}} {
		slab := pool.GetSlab(tt.n)
		var q recvQueue
		q.add(slab.Bytes()[:tt.n], slab)
		if pins := !slab.Unique(); pins != tt.pins {
			t.Errorf("%d bytes: the queue refers to the slab: %v, want %v", tt.n, pins, tt.pins)
		}
		p := make([]byte, tt.n)
		q.read(p[1:])
		if pins := !slab.Unique(); pins != tt.pins {
			t.Errorf("%d bytes, one unread: the queue refers to the slab: %v, want %v", tt.n, pins, tt.pins)
		}
		q.read(p[:1])
		if !slab.Unique() {
			t.Errorf("%d bytes: the queue refers to the slab after the last byte was read", tt.n)
		}
		slab.Release()
	}
}

// TestCopiedBytesAreGivenBackEarly: no segment of copies is larger than maxOwnSegment, so
// that what is read is freed before everything is. Each but the last is full.
func TestCopiedBytesAreGivenBackEarly(t *testing.T) {
	var q recvQueue
	p := make([]byte, 1000)
	for range 1000 {
		q.add(p, nil)
	}
	segments := 0
	for g := range q.all() {
		segments++
		if cap(g.own.B) > maxOwnSegment || g != q.last && len(g.b) < cap(g.own.B) {
			t.Errorf("a segment of %d bytes, with room for %d", len(g.b), cap(g.own.B))
		}
	}
	if want := 1000 * len(p) / maxOwnSegment; segments < want || segments > want+30 {
		t.Errorf("%d segments, want %d and the small ones at the beginning", segments, want)
	}
	first := q.first()
	q.read(make([]byte, len(first.b)))
	if q.first() == first {
		t.Error("a segment is kept after its last byte was read")
	}
	releaseAll(q.takeAll())
}

// all returns the segments in order.
func (q *recvQueue) all() iter.Seq[*segment] {
	return func(yield func(*segment) bool) {
		for g := q.first(); g != nil && yield(g) && g != q.last; {
			g = g.next
		}
	}
}

// queueHolds returns how many bytes q keeps from others: its buffers and slabs whole, and
// what describes them.
func queueHolds(q *recvQueue) (n int) {
	const segmentSize, bufferSize, slabSize = 80, 32, 40 // on 64 bits, as allocated
	var last *pool.Slab
	for g := range q.all() {
		n += segmentSize
		switch {
		case g.own != nil:
			n += bufferSize + cap(g.own.B)
		case g.slab != last: // those of one slab follow each other
			n += slabSize + len(g.slab.Bytes())
			last = g.slab
		}
	}
	return n
}

// TestTinyPiecesAreHeldTogether (R8): a byte costs 1.3 bytes and the connection 4 KiB at
// most, however many there are, and whatever small pieces they come in.
func TestTinyPiecesAreHeldTogether(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 100, 255, 256, 511, 513, 1000} {
		var q recvQueue
		p := testBytes(size, 1)
		for q.n+size <= 300_000 {
			q.add(p, nil)
			if n := queueHolds(&q); n > q.n*13/10+4<<10 {
				t.Fatalf("pieces of %d: %d bytes are held for %d", size, n, q.n)
			}
		}
		releaseAll(q.takeAll())
	}
	// A single piece of any size, and any size behind another.
	for size := 1; size < lendSlabFrom; size += 61 {
		var q recvQueue
		for range 3 {
			q.add(make([]byte, size), nil)
			if n := queueHolds(&q); n > q.n*13/10+5<<10 {
				t.Fatalf("pieces of %d: %d bytes are held for %d", size, n, q.n)
			}
		}
		releaseAll(q.takeAll())
	}
}

// TestCopyAfterAReferenceKeepsOrder: what is copied never goes into a segment in
// front of a referred one.
func TestCopyAfterAReferenceKeepsOrder(t *testing.T) {
	m := &queueModel{t: t}
	m.add(10, true)
	m.add(lendSlabFrom, true)
	m.add(10, true)
	m.add(maxOwnSegment+5, false)
	m.add(10, false)
	m.check()
	m.finish()
}

func TestRecvQueueAllocatesNothing(t *testing.T) {
	exactAllocs(t)
	slab := pool.GetSlab(64 << 10)
	defer slab.Release()
	b := slab.Bytes()
	p := make([]byte, 8<<10)
	for _, size := range []int{100, 8 << 10, lendSlabFrom} {
		var q recvQueue
		const ops = 1000
		wantAllocs(t, "add and read", 0, ops, func() {
			for range ops {
				q.add(b[:size], slab)
				q.add(b[:size], slab)
				for q.read(p) > 0 {
				}
				q.add(b[:size], slab)
				releaseAll(q.takeAll())
			}
		})
	}
}
