// Package scenario has what the libraries are compared by. Each scenario is one file.
//
// What is sent is checked where it arrives: an answer is compared with the question, byte by byte, and what is only taken
// is looked at wherever a message or block begins. A library that loses, repeats or mixes up bytes fails.
package scenario

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// A Scenario is one workload, both ends of it.
type Scenario struct {
	Name    string
	What    string // for a table
	Streams int    // that the client opens
	OpBytes int    // payload of one operation, in one direction
	Both    bool   // as much goes the other way
	Unit    Unit   // what a rate counts

	TLS     bool // over TLS 1.3
	OneCore bool // both processes on the same core

	// Task tells an adapter whose server is not this program what Serve does.
	Task adapter.Task

	// Serve is the server: it deals with all the streams of a session.
	Serve func(adapter.Session) error

	// Drive is the client: it works through a budget on streams that are open. It may be called again on the same
	// streams, so that a first call can warm them up.
	Drive func([]net.Conn, Budget) (Sample, error)

	// DriveSession is the client of a scenario that opens streams as it goes; then Drive is nil.
	DriveSession func(adapter.Session, Budget) (Sample, error)
}

// A Unit is what is counted in a second.
type Unit string

const (
	Messages    Unit = "msgs/s"
	Connections Unit = "conns/s"
	Megabytes   Unit = "MB/s" // of 10^6 bytes
)

// Options are what an adapter must know of the scenario.
func (s Scenario) Options() adapter.Options { return adapter.Options{TLS: s.TLS, Task: s.Task} }

// Carried gives the payload bytes of n operations, both directions together.
func (s Scenario) Carried(n int64) int64 {
	if s.Both {
		n *= 2
	}
	return n * int64(s.OpBytes)
}

// Rate gives what a sample did in a second, in the scenario's unit.
func (s Scenario) Rate(sample Sample) float64 {
	if s.Unit == Megabytes {
		return sample.PerSecond() * float64(s.OpBytes) / 1e6
	}
	return sample.PerSecond()
}

// families are the scenarios that come in sizes.
var families = map[string]func(n int) Scenario{
	"Crowd": Crowd,
	"Small": Small,
	"Open":  Open,
	"Bulk":  Bulk,
	"Idle":  Idle,
}

// Lookup finds a scenario by its name: RTT, RTTOneCore, Bulk8Unread, or a family's and its number, as in Crowd128. TLS in
// front makes it one over TLS.
func Lookup(name string) (Scenario, error) {
	rest, overTLS := strings.CutPrefix(name, "TLS")
	s, ok := lookup(rest)
	if !ok {
		return Scenario{}, fmt.Errorf("no scenario %q", name)
	}
	if overTLS {
		s.Name, s.TLS = name, true
		s.What += ", over TLS 1.3"
	}
	return s, nil
}

func lookup(name string) (Scenario, bool) {
	for _, s := range []Scenario{RTT, RTTOneCore, Bulk8Unread} {
		if s.Name == name {
			return s, true
		}
	}
	i := strings.IndexAny(name, "0123456789")
	if i < 0 {
		return Scenario{}, false
	}
	n, err := strconv.Atoi(name[i:])
	family := families[name[:i]]
	if err != nil || n < 1 || family == nil {
		return Scenario{}, false
	}
	return family(n), true
}

// Must is Lookup for a name in the program's text.
func Must(name string) Scenario {
	s, err := Lookup(name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return s
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
	Latencies []time.Duration // of the operations that were timed, where the scenario does that; good until the next Drive
}

// PerSecond gives operations a second.
func (s Sample) PerSecond() float64 { return float64(s.Ops) / s.Elapsed.Seconds() }

// Percentiles gives for each share in ps the latency that so many of the operations did not exceed, or nothing where none
// was timed.
func (s Sample) Percentiles(ps ...float64) []time.Duration {
	if len(s.Latencies) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(s.Latencies))
	at := make([]time.Duration, len(ps))
	for i, p := range ps {
		at[i] = sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
	}
	return at
}

// A quota tells one stream whether to go on. In its loop it costs a comparison and the load of a word that changes
// once.
type quota struct {
	ops  int64
	stop *atomic.Bool
}

func (q quota) allows(done int64) bool { return done < q.ops && !q.stop.Load() }

// last reports whether the operation after so many is the last one that q.ops allows.
func (q quota) last(done int64) bool { return done == q.ops-1 }

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
