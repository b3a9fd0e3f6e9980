// Package scenario has what the libraries are compared by. Each scenario is one file.
package scenario

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// A Scenario is one workload, both ends of it.
type Scenario struct {
	Name    string
	Streams int // that the client opens
	OpBytes int // payload of one operation, in one direction

	// Serve is the server: it deals with all the streams of a session.
	Serve func(adapter.Session) error

	// Drive is the client: it works through a budget on streams that are open. It may be called again on the same
	// streams, so that a first call can warm them up.
	Drive func([]net.Conn, Budget) (Sample, error)

	// DriveSession is the client of a scenario that opens streams as it goes; then Drive is nil.
	DriveSession func(adapter.Session, Budget) (Sample, error)
}

// Timed lists the scenarios that are measured by time.
var Timed = []Scenario{RTT, Crowd128, Bulk, Bulk8, Bulk8Unread, Open}

// Lookup finds a scenario by its name. streams is how many it has, where that is a parameter.
func Lookup(name string, streams int) (Scenario, error) {
	if name == "Idle" {
		return Idle(streams), nil
	}
	for _, s := range Timed {
		if s.Name == name {
			return s, nil
		}
	}
	return Scenario{}, fmt.Errorf("no scenario %q", name)
}

// A Budget bounds a Drive: by operations, shared among the streams, or, if Ops is 0, by time.
type Budget struct {
	Ops  int64
	Time time.Duration
}

// A Sample is what a Drive measured.
type Sample struct {
	Ops       int64
	Elapsed   time.Duration
	Latencies []time.Duration // of each operation, where the scenario takes them
}

// PerSecond gives operations a second.
func (s Sample) PerSecond() float64 { return float64(s.Ops) / s.Elapsed.Seconds() }

// Percentile gives the latency that a share p of the operations did not exceed.
func (s Sample) Percentile(p float64) time.Duration {
	if len(s.Latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.Latencies))
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

// A quota tells one stream whether to go on. In its loop it costs a comparison and the load of a word that changes
// once.
type quota struct {
	ops  int64
	stop *atomic.Bool
}

func (q quota) allows(done int64) bool { return done < q.ops && !q.stop.Load() }

// drive works on all the streams at once and measures from the first one's start to the last one's end.
func drive(streams []net.Conn, b Budget, work func(net.Conn, quota) (int64, error)) (Sample, error) {
	return workers(len(streams), b, func(i int, q quota) (int64, error) { return work(streams[i], q) })
}

// workers is drive for n workers that have no streams of their own.
func workers(n int, b Budget, work func(int, quota) (int64, error)) (Sample, error) {
	var stop atomic.Bool
	share, rest := b.Ops/int64(n), b.Ops%int64(n)
	if b.Ops == 0 {
		share = 1<<63 - 1
		defer time.AfterFunc(b.Time, func() { stop.Store(true) }).Stop()
	}
	var wg sync.WaitGroup
	var total atomic.Int64
	errs := make([]error, n)
	start := time.Now()
	for i := range n {
		q := quota{ops: share, stop: &stop}
		if int64(i) < rest {
			q.ops++
		}
		wg.Go(func() {
			done, err := work(i, q)
			total.Add(done)
			if err != nil {
				errs[i] = err
				stop.Store(true)
			}
		})
	}
	wg.Wait()
	return Sample{Ops: total.Load(), Elapsed: time.Since(start)}, errors.Join(errs...)
}

// eachStream is a server that deals with every stream on a goroutine of its own.
func eachStream(serve func(net.Conn) error) func(adapter.Session) error {
	return func(s adapter.Session) error {
		for {
			c, err := s.Accept()
			if err != nil {
				return err
			}
			go func() {
				defer c.Close()
				serve(c) // its error is the client's to notice
			}()
		}
	}
}
