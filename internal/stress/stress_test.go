package stress

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtmux/vtmux/internal/leakcheck"
	"github.com/vtmux/vtmux/internal/leakcheck/poolcheck"
)

const (
	sessions = 64
	// hang is how long nothing may happen at all. It is far more than a busy machine needs.
	hang = 3 * time.Minute
	// maxFailures is how many are told of a round.
	maxFailures = 20
)

// A round is one life of all sessions.
type round struct {
	t     *testing.T
	seed  uint64
	conns int           // that a session opens
	gate  chan struct{} // lets through, each millisecond, what waits at it

	ops, bytes, opened atomic.Int64
	drops              atomic.Bool // Conns were dropped, so that the garbage collector has something to find
	failures           atomic.Int64
}

func (r *round) fails(format string, args ...any) {
	if n := r.failures.Add(1); n <= maxFailures {
		r.t.Errorf(format, args...)
	}
}

// pause waits for the gate.
func (r *round) pause() { <-r.gate }

// TestStress is what the package's comment says.
func TestStress(t *testing.T) {
	conns := 12
	if raceEnabled {
		conns = 10
	}
	if *flagTime > 0 {
		conns = 40 // thousands at a time
	}
	began, shown := time.Now(), time.Now()
	var all total
	for i := 0; i == 0 || time.Since(began) < *flagTime && !t.Failed(); i++ {
		for _, procs := range []int{1, 2, 4} {
			seed := *flagSeed + uint64(i)
			t.Run(fmt.Sprintf("seed %d procs %d", seed, procs), func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				r := &round{t: t, seed: seed, conns: conns, gate: make(chan struct{})}
				r.do()
				all.add(r)
				t.Logf("%v: seed %d, GOMAXPROCS %d: %d connections, %d operations, %d MB", time.Since(began), seed, procs, r.opened.Load(), r.ops.Load(), r.bytes.Load()>>20)
			})
			if *flagTime > 0 && time.Since(shown) > 5*time.Second {
				shown = time.Now()
				all.show(time.Since(began), seed)
			}
		}
	}
	if *flagTime > 0 {
		all.show(time.Since(began), *flagSeed)
	}
}

// A total sums up rounds.
type total struct{ rounds, ops, bytes, conns int64 }

func (a *total) add(r *round) {
	a.rounds++
	a.ops += r.ops.Load()
	a.bytes += r.bytes.Load()
	a.conns += r.opened.Load()
}

func (a *total) show(took time.Duration, seed uint64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("%v: seed %d; %d rounds, %d sessions, %d connections, %d operations, %d MB; heap %d KB, %d goroutines\n", took.Round(time.Second), seed,
		a.rounds, a.rounds*sessions, a.conns, a.ops, a.bytes>>20, m.HeapAlloc>>10, runtime.NumGoroutine())
}

// do runs all sessions at once, and looks whether anything is left when they have ended.
func (r *round) do() {
	goroutines, files := leakcheck.Goroutines(), leakcheck.OpenFiles()
	over := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { r.openGate(over) })
	helpers.Go(func() { r.watch(over) })

	random := rand.New(rand.NewPCG(r.seed, 0))
	all := make([]*session, sessions)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = newSession(r, i, random.Uint64())
		wg.Go(all[i].do)
	}
	wg.Wait()
	close(over)
	helpers.Wait()
	if r.t.Failed() {
		return // what failed may well leave something behind
	}
	counted := func() error {
		runtime.GC()
		var errs []error
		for _, s := range all {
			errs = append(errs, s.counted())
		}
		return errors.Join(errs...)
	}
	if err := leakcheck.Settle(counted, goroutines, files, poolcheck.Balance); err != nil {
		r.t.Errorf("seed %d: something is left: %v", r.seed, err)
	}
}

// openGate lets through, each millisecond, whoever waits at the gate.
func (r *round) openGate(over <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		for some := true; some; {
			select {
			case r.gate <- struct{}{}:
			default:
				some = false
			}
		}
	}
}

// watch looks for dropped Conns, whose peers wait, and ends the test, with all stacks, if nothing happens any more.
func (r *round) watch(over <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, since := int64(-1), time.Now()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		if r.drops.Load() {
			runtime.GC()
		}
		if ops := r.ops.Load(); ops != last {
			last, since = ops, time.Now()
		} else if time.Since(since) > hang {
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
			panic(fmt.Sprintf("seed %d: nothing has happened for %v", r.seed, hang))
		}
	}
}
