package scenario

import (
	"fmt"
	"sync"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// Open is short connections by n workers: open, 64 bytes there and back, close.
func Open(n int) Scenario {
	what := fmt.Sprintf("open, 64 B both ways, close; %d workers", n)
	if n == 1 {
		what = "open, 64 B both ways, close; one worker"
	}
	return Scenario{
		Name:    fmt.Sprintf("Open%d", n),
		What:    what,
		OpBytes: rttBytes,
		Both:    true,
		Unit:    Connections,
		Task:    adapter.Task{Echo: true, Read: rttBytes},
		Serve:   eachStream(rttBytes, echo),
		DriveSession: func(s adapter.Session, b Budget) (Sample, error) {
			return workers(n, b, func(_ int, q quota) (n int64, err error) {
				t := talks.Get().(*talk)
				defer talks.Put(t)
				for ; q.allows(n); n++ {
					c, err := s.Open()
					if err != nil {
						return n, err
					}
					err = t.turn(c)
					c.Close()
					if err != nil {
						return n, err
					}
				}
				return n, nil
			})
		},
	}
}

var talks = sync.Pool{New: func() any { return newTalk(rttBytes) }}
