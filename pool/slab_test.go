package pool

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// checkBalance fails the test if it releases less or more than it gets. It sees that
// in a debug build.
func checkBalance(t *testing.T) {
	t.Helper()
	slabs, buffers := Outstanding()
	t.Cleanup(func() {
		if s, b := Outstanding(); s != slabs || b != buffers {
			t.Errorf("%d slabs and %d buffers outstanding, %d and %d before\n%s", s, b, slabs, buffers, Leaks())
		}
	})
}

// wantBug calls f and wants it to panic with a text that begins with "BUG: pool: "
// and the given one.
func wantBug(t *testing.T, what, text string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		r := recover()
		if s, ok := r.(string); !ok || !strings.HasPrefix(s, "BUG: pool: "+text) {
			t.Errorf("%s: panic %v, want BUG: pool: %s...", what, r, text)
		}
	}()
	f()
}

func TestSlabSizes(t *testing.T) {
	checkBalance(t)
	for _, tt := range []struct{ n, want int }{
		{0, 4 << 10},
		{1, 4 << 10},
		{4 << 10, 4 << 10},
		{4<<10 + 1, 8 << 10},
		{8 << 10, 8 << 10},
		{64 << 10, 64 << 10},
		{20 + 65535, 128 << 10},
		{1<<20 - 1, 1 << 20},
		{1 << 20, 1 << 20},
	} {
		s := GetSlab(tt.n)
		if b := s.Bytes(); len(b) != tt.want || cap(b) != tt.want {
			t.Errorf("GetSlab(%d) has length %d and capacity %d, want %d", tt.n, len(b), cap(b), tt.want)
		}
		s.Release()
	}
}

func TestSlabOfABadSizePanics(t *testing.T) {
	for _, n := range []int{-1, MaxSlab + 1, -1 << 31, 1<<31 - 1} {
		wantBug(t, "GetSlab", fmt.Sprintf("slab of %d bytes, want 0 to 1048576", n), func() { GetSlab(n) })
	}
}

func TestSlabUniqueFollowsTheCount(t *testing.T) {
	checkBalance(t)
	s := GetSlab(1)
	if !s.Unique() {
		t.Error("a new slab is not unique")
	}
	s.Retain()
	s.Retain()
	if s.Unique() {
		t.Error("unique with three references")
	}
	s.Release()
	if s.Unique() {
		t.Error("unique with two references")
	}
	s.Release()
	if !s.Unique() {
		t.Error("not unique with one reference")
	}
	s.Release()
}

func TestSlabWithoutReferencePanics(t *testing.T) {
	checkBalance(t)
	// Each on a slab of its own: in a build without debug the misused slab is back in
	// the pool, where GetSlab sets its count.
	s := GetSlab(1)
	s.Release()
	wantBug(t, "second Release", "slab released without a reference, -1 now", s.Release)

	s = GetSlab(1)
	s.Release()
	wantBug(t, "Retain after Release", "slab retained without a reference, 0 now", s.Retain)

	s = GetSlab(1)
	s.Retain()
	s.Release()
	if !s.Unique() {
		t.Error("not unique after misuse of other slabs")
	}
	s.Release()
}

// TestRetainRevivesNoReleasedSlab: where the panic is recovered, as net/http does, what
// follows panics as well, and the array has one owner. To see it fail: in badRetain, leave
// refs as it is.
func TestRetainRevivesNoReleasedSlab(t *testing.T) {
	checkBalance(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that a pool gives back what it got
	s := GetSlab(MaxSlab)
	s.Release()
	wantBug(t, "Retain", "slab retained without a reference, 0 now", s.Retain)
	if Debug {
		wantBug(t, "Bytes", "slab used without a reference, 0 now", func() { s.Bytes() })
	}
	wantBug(t, "Release", "slab released without a reference, -1 now", s.Release)
	a, b := GetSlab(MaxSlab), GetSlab(MaxSlab)
	if &a.b[0] == &b.b[0] {
		t.Fatal("one array has two owners")
	}
	a.Release()
	b.Release()
}

// TestSlabsAreNotShared has every slab hold a pattern that only its owner knows, while
// many goroutines get, retain and release. The race detector sees the rest.
func TestSlabsAreNotShared(t *testing.T) {
	checkBalance(t)
	const workers, rounds = 8, 300
	type lent struct {
		s    *Slab
		fill byte
		n    int
	}
	// Each slab is lent to three readers, which are any of the workers.
	loans := make(chan lent, workers*3)
	read := func(l lent) {
		if b := l.s.Bytes()[:l.n]; bytes.Count(b, []byte{l.fill}) != l.n {
			t.Errorf("slab of %d bytes does not hold %#02x only", len(l.s.Bytes()), l.fill)
		}
		l.s.Release()
	}
	var wg sync.WaitGroup
	for w := range workers {
		rng := rand.New(rand.NewPCG(7, uint64(w)))
		wg.Go(func() {
			for range rounds {
				l := lent{n: 1 + rng.IntN(2*MinSlab), fill: byte(rng.Uint32())}
				l.s = GetSlab(l.n)
				b := l.s.Bytes()[:l.n]
				for i := range b {
					b[i] = l.fill
				}
				for range 3 {
					l.s.Retain()
					select {
					case loans <- l:
					default:
						read(l)
					}
				}
				read(l)
				for range 3 {
					select {
					case l := <-loans:
						read(l)
					default:
					}
				}
			}
		})
	}
	wg.Wait()
	close(loans)
	for l := range loans {
		read(l)
	}
}

// TestUniqueSlabMayBeWritten has the readers' reads ordered before the writer's write by
// nothing but Release and Unique.
func TestUniqueSlabMayBeWritten(t *testing.T) {
	checkBalance(t)
	s := GetSlab(1)
	clear(s.Bytes())
	for round := range 100 {
		for range 3 {
			s.Retain()
			go func() {
				if got := s.Bytes()[0]; got != byte(round) {
					t.Errorf("read %d in round %d", got, round)
				}
				s.Release()
			}()
		}
		for !s.Unique() {
			runtime.Gosched()
		}
		s.Bytes()[0] = byte(round + 1)
	}
	s.Release()
}

func BenchmarkSlab(b *testing.B) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s := GetSlab(64 << 10)
			s.Retain()
			s.Release()
			s.Release()
		}
	})
}
