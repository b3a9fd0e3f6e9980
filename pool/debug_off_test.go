//go:build !vtmuxdebug

package pool

import "testing"

func TestWithoutDebugNothingIsCounted(t *testing.T) {
	s, b := GetSlab(1), GetBuffer()
	defer s.Release()
	defer b.Release()
	if slabs, buffers := Outstanding(); Debug || slabs != 0 || buffers != 0 || Leaks() != "" {
		t.Errorf("Debug %v, %d slabs and %d buffers outstanding, leaks %q", Debug, slabs, buffers, Leaks())
	}
}
