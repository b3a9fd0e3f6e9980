package fuzz

import (
	"runtime/debug"
	"testing"

	"github.com/vtmux/vtmux/internal/leakcheck"
	"github.com/vtmux/vtmux/internal/leakcheck/poolcheck"
	"github.com/vtmux/vtmux/mux"
)

// TestMain fails the tests if they leave a goroutine, a socket, a slab or a buffer
// behind.
func TestMain(m *testing.M) {
	// A session begins with 136 KiB that are garbage when it ends, and almost nothing
	// else lives here: collect less often, within reason.
	debug.SetGCPercent(2000)
	debug.SetMemoryLimit(1 << 30)
	leakcheck.Main(m, leakcheck.OpenFiles(), poolcheck.Balance)
}

// A keeper holds on to connections until a story is over, so that none is closed by the
// garbage collector, whose finalizers run outside the bubble.
type keeper []any // *mux.Conn and *mux.PendingConn

// letGo closes them all. What has a finalizer lives for a collection longer, and with it
// the sessions. As twenty times what lives is allocated between two collections, the heap
// would never stop growing.
func (k keeper) letGo() {
	for _, c := range k {
		switch c := c.(type) {
		case *mux.Conn:
			c.Close()
		case *mux.PendingConn:
			c.Reject(0, "")
		}
	}
}
