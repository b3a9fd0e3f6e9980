package pool

import "math/bits"

// classUp returns the index of the smallest size class that holds n bytes, where
// class i holds 1<<(minBits+i).
func classUp(n, minBits int) int {
	if n <= 1<<minBits {
		return 0
	}
	return bits.Len(uint(n-1)) - minBits
}

// classDown returns the index of the largest size class that n bytes hold, or -1 if
// they hold none.
func classDown(n, minBits int) int { return max(bits.Len(uint(n))-1-minBits, -1) }
