package pool

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
)

var _ io.Writer = (*Buffer)(nil)

// pattern returns n bytes, in which a shift shows.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func TestNewBufferIsEmpty(t *testing.T) {
	checkBalance(t)
	for range 3 {
		b := GetBuffer()
		if b.Len() != 0 || len(b.B) != 0 || cap(b.B) < MinBuffer {
			t.Errorf("a new buffer has length %d and capacity %d", b.Len(), cap(b.B))
		}
		b.Append(pattern(2 * MinBuffer))
		b.Release()
	}
}

func TestBufferKeepsItsContentsAsItGrows(t *testing.T) {
	checkBalance(t)
	want := pattern(2*MaxBuffer + 100)
	for _, step := range []int{1, 100, MinBuffer, MinBuffer + 1, 20_000, MaxBuffer, MaxBuffer + 1, len(want)} {
		if step == 1 && Debug {
			continue // too slow with its checks
		}
		b := GetBuffer()
		b.Append(nil)
		for rest := want; len(rest) > 0; {
			n := min(step, len(rest))
			if got, err := b.Write(rest[:n]); got != n || err != nil {
				t.Fatalf("step %d: Write returns %d, %v", step, got, err)
			}
			rest = rest[n:]
		}
		if !bytes.Equal(b.B, want) || b.Len() != len(want) {
			t.Errorf("step %d: the contents are not what was written", step)
		}
		b.Release()
	}
}

// TestBufferAppendsOfItself, as append does. A debug build poisons the array that the bytes
// come from, once it is given away. To see it fail with the tag vtmuxdebug: in Append, swap
// before p is appended.
func TestBufferAppendsOfItself(t *testing.T) {
	checkBalance(t)
	for _, n := range []int{1, MinBuffer, 20_000, MaxBuffer, MaxBuffer + 1} {
		b := GetBuffer()
		b.Append(pattern(n))
		want := append(pattern(n), pattern(n)[n/2:]...)
		if b.Append(b.B[n/2:]); !bytes.Equal(b.B, want) {
			t.Errorf("half of %d bytes is appended as something else", n)
		}
		want = append(want, want...)
		if b.Append(b.B); !bytes.Equal(b.B, want) {
			t.Errorf("all of %d bytes is appended as something else", len(want)/2)
		}
		b.Release()
	}
}

func TestBufferGrowMakesRoom(t *testing.T) {
	checkBalance(t)
	for _, n := range []int{0, 1, MinBuffer - 3, MinBuffer - 2, 1000, MaxBuffer - 3, MaxBuffer, 3 * MaxBuffer} {
		b := GetBuffer()
		b.Append([]byte("abc"))
		b.Grow(n)
		if got := cap(b.B) - len(b.B); got < n || string(b.B) != "abc" {
			t.Errorf("Grow(%d): room for %d after %q", n, got, b.B)
		}
		b.Release()
	}
	b := GetBuffer()
	wantBug(t, "Grow(-1)", "buffer grown by -1 bytes", func() { b.Grow(-1) })
	b.Append([]byte("x"))
	wantBug(t, "Grow(MaxInt)", "buffer grown by", func() { b.Grow(math.MaxInt) })
	b.Release()
}

func TestBufferResetKeepsTheCapacity(t *testing.T) {
	checkBalance(t)
	b := GetBuffer()
	b.Append(pattern(5000))
	c := cap(b.B)
	b.Reset()
	if b.Len() != 0 || cap(b.B) != c {
		t.Errorf("length %d and capacity %d, want 0 and %d", b.Len(), cap(b.B), c)
	}
	b.Release()
}

// TestBufferTakesAnyB has the owner leave B in every state that he may.
func TestBufferTakesAnyB(t *testing.T) {
	checkBalance(t)
	for name, f := range map[string]func(b *Buffer){
		"nil":              func(b *Buffer) { b.B = nil },
		"resliced":         func(b *Buffer) { b.B = b.B[:cap(b.B)][cap(b.B)-1:] },
		"someone's":        func(b *Buffer) { b.B = make([]byte, 3, 5000) },
		"large":            func(b *Buffer) { b.B = make([]byte, MaxBuffer+1) },
		"class and a half": func(b *Buffer) { b.B = make([]byte, 0, MinBuffer*3/2) },
		"appended":         func(b *Buffer) { b.B = append(b.B, pattern(3000)...) },
	} {
		for range 3 {
			b := GetBuffer()
			f(b)
			before := bytes.Clone(b.B)
			b.Append([]byte("tail"))
			if want := append(before, "tail"...); !bytes.Equal(b.B, want) {
				t.Errorf("%s: %d bytes, want %d", name, len(b.B), len(want))
			}
			f(b)
			b.Release()
		}
	}
	for class := range buffers {
		b := getBuffer(class)
		if want := 1 << (minBufferBits + class); cap(b.B) < want || len(b.B) != 0 {
			t.Errorf("class %d holds a buffer of length %d and capacity %d, want 0 and %d", class, len(b.B), cap(b.B), want)
		}
	}
}

// TestBufferAboveMaxIsNotPooled though it would fit the last class. To see it fail: let
// putBuffer look at the class alone.
func TestBufferAboveMaxIsNotPooled(t *testing.T) {
	checkBalance(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that a pool gives back what it got
	for _, size := range []int{MaxBuffer + 1, 2*MaxBuffer - 1} {
		for range 50 { // a race build drops every fourth of what is pooled
			b := GetBuffer()
			b.Grow(size)
			array := &b.B[:1][0]
			b.Release()
			if next := getBuffer(len(buffers) - 1); &next.B[:1][0] == array {
				t.Fatalf("an array of %d bytes was pooled", size)
			}
		}
	}
}

// TestBuffersAreNotShared has every buffer hold what only its owner knows.
func TestBuffersAreNotShared(t *testing.T) {
	checkBalance(t)
	var wg sync.WaitGroup
	for w := range 8 {
		rng := rand.New(rand.NewPCG(8, uint64(w)))
		wg.Go(func() {
			for range 300 {
				b := GetBuffer()
				fill := bytes.Repeat([]byte{byte(w)}, 1+rng.IntN(4*MinBuffer))
				n := 0
				for range rng.IntN(6) {
					b.Append(fill)
					n += len(fill)
				}
				if bytes.Count(b.B, fill[:1]) != n || b.Len() != n {
					t.Errorf("buffer does not hold %d times %d", n, w)
				}
				b.Release()
			}
		})
	}
	wg.Wait()
}

func BenchmarkBuffer(b *testing.B) {
	p := pattern(4000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			buf := GetBuffer()
			buf.Append(p[:100])
			buf.Append(p)
			buf.Release()
		}
	})
}
