package pool

import (
	"fmt"
	"testing"

	"github.com/vtmux/vtmux/internal/leakcheck"
)

// TestMain fails the tests if they leave a goroutine, an open file, a slab or a
// buffer behind. Only a build with the tag vtmuxdebug counts slabs and buffers.
func TestMain(m *testing.M) { leakcheck.Main(m, leakcheck.OpenFiles(), balance) }

func balance() error {
	if slabs, buffers := Outstanding(); slabs != 0 || buffers != 0 {
		return fmt.Errorf("%d slabs and %d buffers were not released:\n%s", slabs, buffers, Leaks())
	}
	return nil
}
