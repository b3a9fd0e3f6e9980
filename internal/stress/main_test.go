package stress

import (
	"flag"
	"testing"

	"github.com/vtmux/vtmux/internal/leakcheck"
	"github.com/vtmux/vtmux/internal/leakcheck/poolcheck"
)

var (
	flagTime = flag.Duration("stress.time", 0, "how long TestStress runs; 0: one short round for each GOMAXPROCS")
	flagSeed = flag.Uint64("stress.seed", 1, "the seed of TestStress's first round")
)

// TestMain fails the tests if they leave a goroutine, a socket, a slab or a buffer behind. Only a build with the tag
// vtmuxdebug counts slabs and buffers.
func TestMain(m *testing.M) { leakcheck.Main(m, leakcheck.OpenFiles(), poolcheck.Balance) }
