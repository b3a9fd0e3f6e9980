package fuzz

import (
	"runtime/debug"
	"testing"

	"github.com/vtmux/vtmux/internal/leakcheck"
	"github.com/vtmux/vtmux/internal/leakcheck/poolcheck"
)

// TestMain fails the tests if they leave a goroutine, a socket, a slab or a buffer
// behind.
func TestMain(m *testing.M) {
	// A session begins with 136 KiB that are garbage when it ends, and almost nothing
	// else lives here: collect less often.
	debug.SetGCPercent(2000)
	leakcheck.Main(m, leakcheck.OpenFiles(), poolcheck.Balance)
}
