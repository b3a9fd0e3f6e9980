package scenario

import (
	"fmt"
	"net"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

const (
	crowdBytes = 128
	// timedTurn is which turns of a stream are timed. All of them would cost a crowd that is fast some of its rate.
	timedTurn = 16
)

// Crowd is n conversations at once, each waiting for its own answer before it goes on.
func Crowd(n int) Scenario {
	var speakers []*speaker // kept, so that what is allocated in a Drive is the library's
	var latencies []time.Duration
	for range n {
		speakers = append(speakers, &speaker{talk: newTalk(crowdBytes)})
	}
	return Scenario{
		Name:    fmt.Sprintf("Crowd%d", n),
		What:    fmt.Sprintf("%d x 128 B ping-pong", n),
		Streams: n,
		OpBytes: crowdBytes,
		Both:    true,
		Unit:    Messages,
		Task:    adapter.Task{Echo: true, Read: crowdBytes},
		Serve:   eachStream(crowdBytes, echo),
		Drive: func(streams []net.Conn, b Budget) (Sample, error) {
			s, err := workers(len(streams), b, func(i int, q quota) (n int64, err error) {
				return speakers[i].converse(streams[i], q)
			})
			latencies = latencies[:0]
			for _, sp := range speakers {
				latencies = append(latencies, sp.latencies...)
			}
			s.Latencies = latencies
			return s, err
		},
	}
}

// A speaker is one of the crowd.
type speaker struct {
	*talk
	latencies []time.Duration
}

func (s *speaker) converse(c net.Conn, q quota) (n int64, err error) {
	s.latencies = s.latencies[:0]
	for ; q.allows(n); n++ {
		if n%timedTurn != 0 {
			if err := s.turn(c); err != nil {
				return n, err
			}
			continue
		}
		start := time.Now()
		if err := s.turn(c); err != nil {
			return n, err
		}
		s.latencies = append(s.latencies, time.Since(start))
	}
	return n, nil
}
