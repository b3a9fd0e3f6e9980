package scenario

import (
	"net"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// RTT is one lone conversation: 64 bytes there and the same back, nothing else going on. The system may use all cores.
var RTT = rtt("RTT", "64 B ping-pong, all cores", false)

// RTTOneCore is RTT with both processes on one core, where no wake-up crosses cores.
var RTTOneCore = rtt("RTTOneCore", "64 B ping-pong, both processes on one core", true)

const rttBytes = 64

func rtt(name, what string, oneCore bool) Scenario {
	var latencies []time.Duration // kept, so that what is allocated in a Drive is the library's
	return Scenario{
		Name:    name,
		What:    what,
		Streams: 1,
		OpBytes: rttBytes,
		Both:    true,
		Unit:    Messages,
		OneCore: oneCore,
		Task:    adapter.Task{Echo: true, Read: rttBytes},
		Serve:   eachStream(rttBytes, echo),
		Drive: func(streams []net.Conn, b Budget) (Sample, error) {
			if latencies = latencies[:0]; cap(latencies) == 0 {
				latencies = make([]time.Duration, 0, 1<<18)
			}
			s, err := drive(streams, b, func(c net.Conn, q quota) (n int64, err error) {
				t := newTalk(rttBytes)
				for then := time.Now(); q.allows(n); n++ {
					if err := t.turn(c); err != nil {
						return n, err
					}
					now := time.Now()
					latencies = append(latencies, now.Sub(then))
					then = now
				}
				return n, nil
			})
			s.Latencies = latencies
			return s, err
		},
	}
}
