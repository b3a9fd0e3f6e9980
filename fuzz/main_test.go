package fuzz

import (
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/vtmux/vtmux/internal/leakcheck"
	"github.com/vtmux/vtmux/pool"
)

// TestMain fails the tests if they leave a goroutine, a socket, a slab or a buffer
// behind.
func TestMain(m *testing.M) {
	// A session begins with 136 KiB that are garbage when it ends, and almost nothing
	// else lives here: collect less often.
	debug.SetGCPercent(2000)
	leakcheck.Main(m, leakcheck.OpenFiles(), poolBalance)
}

func poolBalance() error {
	if slabs, buffers := pool.Outstanding(); slabs != 0 || buffers != 0 {
		return fmt.Errorf("%d slabs and %d buffers were not released:\n%s", slabs, buffers, pool.Leaks())
	}
	return nil
}
