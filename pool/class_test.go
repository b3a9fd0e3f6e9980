package pool

import "testing"

func TestClasses(t *testing.T) {
	const bits = 4
	for n := range 300 {
		// Up: the first class that holds n.
		want := 0
		for 1<<(bits+want) < n {
			want++
		}
		if got := classUp(n, bits); got != want {
			t.Errorf("classUp(%d) = %d, want %d", n, got, want)
		}
		// Down: the last class that n holds.
		want = -1
		for 1<<(bits+want+1) <= n {
			want++
		}
		if got := classDown(n, bits); got != want {
			t.Errorf("classDown(%d) = %d, want %d", n, got, want)
		}
	}
}
