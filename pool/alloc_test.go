package pool

import "testing"

func TestAllocs(t *testing.T) {
	if raceEnabled || Debug {
		t.Skip("race builds drop what is pooled, debug builds keep accounts")
	}
	large := pattern(MaxBuffer)
	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"slab", func() {
			s := GetSlab(64 << 10)
			s.Retain()
			s.Bytes()[0] = 1
			s.Release()
			_ = s.Unique()
			s.Release()
		}},
		{"slabs of every class", func() {
			for n := MinSlab; n <= MaxSlab; n *= 2 {
				GetSlab(n).Release()
			}
		}},
		{"buffer", func() {
			b := GetBuffer()
			b.Append(large[:100])
			b.Reset()
			b.Release()
		}},
		{"buffer that grows", func() {
			b := GetBuffer()
			for p := large; len(p) > 0; p = p[1<<10:] {
				_, _ = b.Write(p[:1<<10])
			}
			b.Release()
		}},
		{"two buffers that grow at once", func() {
			a, b := GetBuffer(), GetBuffer()
			a.Append(large)
			b.Append(large)
			a.Release()
			b.Release()
		}},
	} {
		if got := testing.AllocsPerRun(1000, tt.f); got != 0 {
			t.Errorf("%s: %v allocations", tt.name, got)
		}
	}
}

// TestRareLargeBuffersStayPooled uses 999 small buffers for one large, until
// bytebufferpool has thrice learned from it what sizes to keep.
func TestRareLargeBuffersStayPooled(t *testing.T) {
	if raceEnabled || Debug {
		t.Skip("race builds drop what is pooled, debug builds keep accounts")
	}
	large := pattern(MaxBuffer)
	use := func() {
		for i := range 1000 {
			b := GetBuffer()
			if i == 0 {
				b.Append(large)
			}
			b.Release()
		}
	}
	for range 150 {
		use()
	}
	if got := testing.AllocsPerRun(100, use); got != 0 {
		t.Errorf("%v allocations for a large buffer and 999 small ones", got)
	}
}

// TestBufferOfOddCapacityStaysPooled gives back what a plain append leaves: a capacity
// between two classes.
func TestBufferOfOddCapacityStaysPooled(t *testing.T) {
	if raceEnabled || Debug {
		t.Skip("race builds drop what is pooled, debug builds keep accounts")
	}
	odd := make([]byte, 0, MinBuffer*3/2)
	b := GetBuffer()
	use := func() {
		b.B = odd
		b.Release()
		b = GetBuffer()
	}
	for range 150_000 {
		use()
	}
	if got := testing.AllocsPerRun(1000, use); got != 0 {
		t.Errorf("%v allocations", got)
	}
	b.Release()
}
