//go:build vtmuxdebug

package pool

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

func TestDebugIsOn(t *testing.T) {
	if !Debug {
		t.Error("Debug is false in a debug build")
	}
}

func TestNewMemoryIsPoisoned(t *testing.T) {
	checkBalance(t)
	for range 3 {
		s := GetSlab(MinSlab)
		if bytes.Count(s.Bytes(), []byte{poison}) != MinSlab {
			t.Error("a new slab is not poisoned")
		}
		s.Bytes()[0] = 0
		s.Release()

		b := GetBuffer()
		if all := b.B[:cap(b.B)]; bytes.Count(all, []byte{poison}) != len(all) {
			t.Error("a new buffer is not poisoned")
		}
		b.Append([]byte("x"))
		b.Release()
	}
}

// TestNewMemoryAboveMaxIsPoisoned though no pool has a part in it. To see it fail: in
// larger, take debugPoison away.
func TestNewMemoryAboveMaxIsPoisoned(t *testing.T) {
	checkBalance(t)
	b := GetBuffer()
	defer b.Release()
	b.Append([]byte("x"))
	b.Grow(2 * MaxBuffer)
	if room := b.B[1:cap(b.B)]; bytes.Count(room, []byte{poison}) != len(room) {
		t.Error("the room above MaxBuffer is not poisoned")
	}
}

func TestReleasedMemoryIsPoisoned(t *testing.T) {
	checkBalance(t)
	s := GetSlab(MinSlab)
	s.Retain()
	stale := s.Bytes()
	clear(stale)
	s.Release()
	if stale[0] == poison {
		t.Error("a slab is poisoned that has a reference")
	}
	s.Release()
	if bytes.Count(stale, []byte{poison}) != len(stale) {
		t.Error("a released slab is not poisoned")
	}

	b := GetBuffer()
	b.Append(pattern(300))
	stale = b.B
	b.Grow(MinBuffer)
	if bytes.Count(stale, []byte{poison}) != len(stale) {
		t.Error("the array that a buffer grew out of is not poisoned")
	}
	stale = b.B
	b.Release()
	if bytes.Count(stale, []byte{poison}) != len(stale) {
		t.Error("a released buffer is not poisoned")
	}
	if b.B != nil {
		t.Error("a released buffer still has its array")
	}
}

func TestUseAfterTheLastReleasePanics(t *testing.T) {
	checkBalance(t)
	s := GetSlab(1)
	s.Release()
	others := []*Slab{GetSlab(1), GetSlab(1)} // would be s, were objects used again
	wantBug(t, "Bytes", "slab used without a reference, 0 now", func() { s.Bytes() })
	wantBug(t, "Unique", "slab used without a reference, 0 now", func() { s.Unique() })
	wantBug(t, "Release", "slab released without a reference, -1 now", s.Release)
	wantBug(t, "Release", "slab released without a reference, -2 now", s.Release)
	for _, s := range others {
		s.Release()
	}

	b := GetBuffer()
	b.Release()
	other := GetBuffer()
	for name, f := range map[string]func(){
		"Len":     func() { b.Len() },
		"Append":  func() { b.Append(nil) },
		"Write":   func() { _, _ = b.Write([]byte("x")) },
		"Grow":    func() { b.Grow(1) },
		"Reset":   b.Reset,
		"Release": b.Release,
	} {
		wantBug(t, name, "buffer used after its release", f)
	}
	other.Release()
}

func TestWriteAfterReleaseIsFound(t *testing.T) {
	checkBalance(t)
	found := func(what string, misuse func(), get func() (release func())) {
		t.Helper()
		var releases []func()
		defer func() {
			for _, f := range releases {
				f()
			}
		}()
		// A race build drops every fourth slab that is pooled.
		for range 50 {
			misuse()
			panicked := func() (did bool) {
				defer func() {
					r := recover()
					s, _ := r.(string)
					did = strings.HasPrefix(s, "BUG: pool: write after release, 0x01 at offset 17 of ")
					if r != nil && !did {
						panic(r)
					}
				}()
				releases = append(releases, get())
				return false
			}()
			if panicked {
				return
			}
		}
		t.Errorf("%s: a write after release is not found", what)
	}
	found("slab",
		func() {
			s := GetSlab(MinSlab)
			stale := s.Bytes()
			s.Release()
			stale[17] = 1
		},
		func() func() { return GetSlab(MinSlab).Release })
	found("buffer",
		func() {
			b := GetBuffer()
			stale := b.B[:cap(b.B)]
			b.Release()
			stale[17] = 1
		},
		func() func() { return GetBuffer().Release })
}

func TestBufferOfZerosIsTakenForNew(t *testing.T) {
	// What a bytebufferpool.Pool allocates itself, when it has learned a size.
	b := &Buffer{B: make([]byte, 0, MinBuffer)}
	debugTookBuffer(b)
	if all := b.B[:MinBuffer]; bytes.Count(all, []byte{poison}) != MinBuffer {
		t.Error("it is not poisoned")
	}
	b = &Buffer{B: make([]byte, 0, MinBuffer)}
	b.B[:MinBuffer][17] = 1
	wantBug(t, "not all zeros", "write after release, 0x01 at offset 17", func() { debugTookBuffer(b) })
}

func TestOutstandingIsExact(t *testing.T) {
	checkBalance(t)
	slabs0, buffers0 := Outstanding()
	want := func(slabs, buffers int) {
		t.Helper()
		if s, b := Outstanding(); s-slabs0 != slabs || b-buffers0 != buffers {
			t.Errorf("%d slabs and %d buffers outstanding, want %d and %d", s-slabs0, b-buffers0, slabs, buffers)
		}
	}
	s := GetSlab(1)
	want(1, 0)
	s.Retain()
	want(1, 0)
	b := GetBuffer()
	b.Append(pattern(MaxBuffer))
	want(1, 1)
	s.Release()
	want(1, 1)
	s.Release()
	want(0, 1)
	b.Append(pattern(MaxBuffer))
	want(0, 1)
	b.Release()
	want(0, 0)

	var wg sync.WaitGroup
	kept := make(chan *Slab, 8)
	for range cap(kept) {
		wg.Go(func() {
			for range 200 {
				GetSlab(1).Release()
				GetBuffer().Release()
			}
			kept <- GetSlab(1)
		})
	}
	wg.Wait()
	want(cap(kept), 0)
	for range cap(kept) {
		(<-kept).Release()
	}
}

func TestLeaksTellsWhoGotIt(t *testing.T) {
	checkBalance(t)
	if got := Leaks(); got != "" {
		t.Fatalf("before: %s", got)
	}
	var slabs []*Slab
	for range 2 {
		slabs = append(slabs, GetSlab(1))
	}
	b := GetBuffer()
	got := Leaks()
	for _, want := range []string{
		"2 slab(s) not released, got by\n\tgithub.com/vtmux/vtmux/pool.TestLeaksTellsWhoGotIt\n\t\t",
		"1 buffer(s) not released, got by\n\tgithub.com/vtmux/vtmux/pool.TestLeaksTellsWhoGotIt\n\t\t",
		"debug_test.go:",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks %q:\n%s", want, got)
		}
	}
	for _, s := range slabs {
		s.Release()
	}
	b.Release()
	if got := Leaks(); got != "" {
		t.Errorf("after: %s", got)
	}
}
