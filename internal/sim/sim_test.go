package sim

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/vtmux/vtmux/internal/leakcheck"
	"github.com/vtmux/vtmux/internal/leakcheck/poolcheck"
)

var (
	flagSeeds  = flag.Int("sim.seeds", 0, "run so many seeds; 0: as many as the ordinary tests do")
	flagFrom   = flag.Uint64("sim.from", 1, "the first of them")
	flagSeed   = flag.Uint64("sim.seed", 0, "run this one alone; with -v tell what both ends did and said")
	flagSkip   = flag.String("sim.skip", "", "with -sim.seed: the steps to leave out, such as 0-4,7")
	flagShrink = flag.Bool("sim.shrink", true, "leave out what a failure does not need")
	flagWorker = flag.Bool("sim.worker", false, "run all seeds in this process")
)

func TestMain(m *testing.M) { leakcheck.Main(m, poolcheck.Balance) }

// A life is what came of a seed.
type life struct {
	setup    string
	failures []string
	frames   []Frame
	trace    []string
	digest   uint32 // of all that calls have returned
	steps    int
}

// live lets a seed's world live, without the steps that skip names.
func live(t *testing.T, seed uint64, skip []bool, verbose bool) (l life) {
	var w *world
	defer func() {
		if w != nil {
			l = life{w.setup.String(), w.failures, w.model.Log, w.trace, w.digest, w.steps}
		}
		if p := recover(); p != nil { // a bubble that is left with goroutines in it
			l.failures = append(l.failures, fmt.Sprint(p))
		} else if err := poolcheck.Balance(); err != nil {
			l.failures = append(l.failures, err.Error())
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(seed, verbose)
		if err := w.start(); err != nil {
			w.fail("%v", err)
			return
		}
		for i, after := 0, 0; i < w.steps && after < 10 && len(w.failures) == 0; i++ {
			if i >= len(skip) || !skip[i] {
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

// alone leaves to the runtime's scheduler as little to decide as can be: there is one
// processor, and nobody collects garbage meanwhile.
func alone(t *testing.T) {
	procs := runtime.GOMAXPROCS(1)
	gc := debug.SetGCPercent(-1)
	debug.SetTraceback("all") // a panic tells the seed: it is an argument of live
	t.Cleanup(func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(gc)
	})
}

// TestSeeds: whatever both applications and the transport do, each end says only what
// the protocol allows; each byte arrives once and in order, or the reader is told;
// no call waits without a reason, or for ever; and nothing is left behind.
func TestSeeds(t *testing.T) {
	n, from := *flagSeeds, *flagFrom
	switch {
	case *flagSeed != 0:
		alone(t)
		replay(t, *flagSeed)
	case n > ordinary && !*flagWorker:
		workers(t, n, from)
	case n == 0:
		n = ordinary
		fallthrough
	default:
		alone(t)
		several(t, n, from)
	}
}

// several runs n seeds in this process.
func several(t *testing.T, n int, from uint64) {
	const most = 10 // that are told of
	bad := 0
	for seed := from; seed < from+uint64(n); seed++ {
		l := live(t, seed, nil, false)
		if len(l.failures) > 0 {
			if bad++; bad <= most {
				t.Errorf("seed %d: %s%s\n%s", seed, l.setup, strings.Join(l.failures, "\n"), shrink(t, seed, l.steps))
			}
		}
		if seed%64 == 0 {
			runtime.GC()
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d seeds failed", bad, n)
	}
	t.Logf("%d seeds, from %d on", n, from)
}

// workers spreads n seeds over processes, for each has one processor.
func workers(t *testing.T, n int, from uint64) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k := runtime.NumCPU()
	var all sync.WaitGroup
	for i := range k {
		first, past := n*i/k, n*(i+1)/k
		all.Go(func() {
			cmd := exec.Command(self, "-test.run=^TestSeeds$", "-test.timeout=0", "-sim.worker",
				"-sim.seeds="+strconv.Itoa(past-first), "-sim.from="+strconv.FormatUint(from+uint64(first), 10))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("seeds %d to %d: %v\n%s", from+uint64(first), from+uint64(past)-1, err, out)
			}
		})
	}
	all.Wait()
}

// shrink leaves out as many steps of a seed as it can while it still fails, and returns
// the command that shows the rest.
func shrink(t *testing.T, seed uint64, steps int) string {
	skip := make([]bool, steps)
	tries := 0
	for size := steps / 2; size > 0 && *flagShrink; size /= 2 {
		for at := 0; at < steps && tries < 300; at += size {
			less := slices.Clone(skip)
			for i := at; i < min(at+size, steps); i++ {
				less[i] = true
			}
			if slices.Equal(less, skip) {
				continue
			}
			tries++
			if len(live(t, seed, less, false).failures) > 0 {
				skip = less
			}
		}
	}
	runtime.GC()
	return fmt.Sprintf("go test ./internal/sim -run Seeds -v -sim.seed %d -sim.skip %s", seed, spans(skip))
}

// spans writes which of skip are true, such as 0-4,7; parseSpans reads it.
func spans(skip []bool) string {
	var b strings.Builder
	for i := 0; i < len(skip); i++ {
		if !skip[i] {
			continue
		}
		from := i
		for i+1 < len(skip) && skip[i+1] {
			i++
		}
		fmt.Fprintf(&b, ",%d-%d", from, i)
	}
	return strings.TrimPrefix(b.String(), ",")
}

func parseSpans(text string) (skip []bool, err error) {
	for _, span := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		from, to, ok := strings.Cut(span, "-")
		if !ok {
			to = from
		}
		a, err := strconv.Atoi(from)
		if err != nil {
			return nil, err
		}
		b, err := strconv.Atoi(to)
		if err != nil {
			return nil, err
		}
		for len(skip) <= b {
			skip = append(skip, false)
		}
		for i := a; i <= b; i++ {
			skip[i] = true
		}
	}
	return skip, nil
}

// replay runs one seed, and tells all of it.
func replay(t *testing.T, seed uint64) {
	skip, err := parseSpans(*flagSkip)
	if err != nil {
		t.Fatal(err)
	}
	l := live(t, seed, skip, testing.Verbose())
	t.Logf("seed %d: %s", seed, l.setup)
	if testing.Verbose() {
		for _, f := range l.frames {
			l.trace = append(l.trace, f.String())
		}
		slices.SortStableFunc(l.trace, func(a, b string) int { return strings.Compare(a[:14], b[:14]) })
		t.Log(strings.Join(l.trace, "\n"))
	}
	for _, f := range l.failures {
		t.Error(f)
	}
}

func TestSpansAreReadAsWritten(t *testing.T) {
	for _, text := range []string{"", "0-0", "3-3,5-9", "0-4,7-7"} {
		skip, err := parseSpans(text)
		if got := spans(skip); got != text || err != nil {
			t.Errorf("%q is read as %q, %v", text, got, err)
		}
	}
	if skip, err := parseSpans("2,4"); err != nil || spans(skip) != "2-2,4-4" {
		t.Errorf("2,4 is read as %q, %v", spans(skip), err)
	}
}
