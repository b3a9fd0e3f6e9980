package mux

import (
	"fmt"
	"testing"

	"github.com/vtmux/vtmux/internal/leakcheck"
	"github.com/vtmux/vtmux/pool"
)

// TestMain fails the tests if they leave a goroutine, a socket, a slab or a buffer
// behind. Only a build with the tag vtmuxdebug counts slabs and buffers.
func TestMain(m *testing.M) {
	leakcheck.Main(m, leakcheck.OpenFiles(), poolBalance)
}

func poolBalance() error {
	if slabs, buffers := pool.Outstanding(); slabs != 0 || buffers != 0 {
		return fmt.Errorf("%d slabs and %d buffers were not released:\n%s", slabs, buffers, pool.Leaks())
	}
	return nil
}
