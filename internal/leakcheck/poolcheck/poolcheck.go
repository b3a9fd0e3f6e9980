// Package poolcheck is leakcheck's check of package pool. It is apart because pool's own tests use leakcheck.
package poolcheck

import (
	"fmt"

	"github.com/vtmux/vtmux/pool"
)

// Balance reports, as an error, the slabs and buffers that are not released. Only a build with the tag vtmuxdebug counts
// them; in any other it is always nil.
func Balance() error {
	if slabs, buffers := pool.Outstanding(); slabs != 0 || buffers != 0 {
		return fmt.Errorf("%d slabs and %d buffers were not released:\n%s", slabs, buffers, pool.Leaks())
	}
	return nil
}
