package interop

import (
	"testing"

	"github.com/vtmux/vtmux/internal/leakcheck"
	"github.com/vtmux/vtmux/internal/leakcheck/poolcheck"
)

// TestMain fails the tests if they leave a goroutine, a socket, a slab or a buffer behind. Only a build with the tag
// vtmuxdebug counts slabs and buffers.
func TestMain(m *testing.M) { leakcheck.Main(m, leakcheck.OpenFiles(), poolcheck.Balance) }
