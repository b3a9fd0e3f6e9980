package sim

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	flagSeeds = flag.Int("sim.seeds", 0, "run so many seeds; 0: as many as the ordinary tests do")
	flagFrom  = flag.Uint64("sim.from", 1, "the first of them")
	flagSeed  = flag.Uint64("sim.seed", 0, "run this one alone; with -v tell everything")
)

// A life is what came of a seed.
type life struct {
	setup    string
	failures []string
	frames   []Frame
	trace    []string
	digest   uint32
	steps    int
}

// live lets a seed's world live, without the steps that skip names.
func live(t *testing.T, seed uint64, skip func(int) bool, verbose bool) (l life) {
	var w *world
	defer func() {
		if w != nil {
			l.take(w)
		}
		if p := recover(); p != nil {
			l.failures = append(l.failures, fmt.Sprint(p))
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(seed, verbose)
		if err := w.start(); err != nil {
			w.fail("%v", err)
			return
		}
		for i, after := 0, 0; i < w.steps && after < 10 && len(w.failures) == 0; i++ {
			if !skip(i) {
				w.step(dice(seed, 100+uint64(i)))
			}
			if !w.alive(w.ends[0]) && !w.alive(w.ends[1]) {
				after++ // there is not much more to see
			}
		}
		w.finish(dice(seed, 2))
	})
	return l
}

func (l *life) take(w *world) {
	l.setup, l.failures, l.frames, l.trace = w.setup.String(), w.failures, w.model.Log, w.trace
	l.digest, l.steps = w.digest, w.steps
}

func none(int) bool { return false }

// alone makes the runtime's scheduler follow from the seed, as far as it can.
func alone(t *testing.T) {
	procs := runtime.GOMAXPROCS(1)
	gc := debug.SetGCPercent(-1)
	t.Cleanup(func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(gc)
	})
}

func TestSeeds(t *testing.T) {
	alone(t)
	if *flagSeed != 0 {
		l := live(t, *flagSeed, none, testing.Verbose())
		t.Logf("seed %d: %s", *flagSeed, l.setup)
		for _, f := range l.frames {
			l.trace = append(l.trace, f.String())
		}
		slices.SortStableFunc(l.trace, func(a, b string) int { return strings.Compare(a[:14], b[:14]) })
		t.Log(strings.Join(l.trace, "\n"))
		for _, f := range l.failures {
			t.Error(f)
		}
		return
	}
	n := *flagSeeds
	if n == 0 {
		n = 200
	}
	began := time.Now()
	bad := 0
	for i := range uint64(n) {
		seed := *flagFrom + i
		l := live(t, seed, none, false)
		if i%64 == 63 {
			runtime.GC()
		}
		if len(l.failures) > 0 {
			bad++
			t.Errorf("seed %d: %s\n%s", seed, l.setup, strings.Join(l.failures, "\n"))
			if bad > 20 {
				break
			}
		}
	}
	t.Logf("%d seeds in %v", n, time.Since(began))
}
