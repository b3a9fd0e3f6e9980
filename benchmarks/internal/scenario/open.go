package scenario

import (
	"io"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// Open is short connections, by 64 workers: open, 64 bytes there and back, close.
var Open = Scenario{
	Name:    "Open",
	OpBytes: rttBytes,
	Serve:   eachStream(echo(rttBytes)),
	DriveSession: func(s adapter.Session, b Budget) (Sample, error) {
		return workers(openWorkers, b, func(_ int, q quota) (n int64, err error) {
			p := make([]byte, rttBytes)
			for ; q.allows(n); n++ {
				c, err := s.Open()
				if err != nil {
					return n, err
				}
				_, err = c.Write(p)
				if err == nil {
					_, err = io.ReadFull(c, p)
				}
				c.Close()
				if err != nil {
					return n, err
				}
			}
			return n, nil
		})
	},
}

const openWorkers = 64
