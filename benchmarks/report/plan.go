package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/harness"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// A step is one run of one library.
type step struct {
	scenario string
	library  adapter.Adapter
	round    int // from 1
	rounds   int
	seconds  float64
	estimate time.Duration // corrected by what the steps before took
}

func (s step) String() string {
	return fmt.Sprintf("%s/%s, round %d of %d", s.scenario, s.library.Name, s.round, s.rounds)
}

// A plan is all that is going to be measured, in order.
type plan struct {
	steps     []step
	libraries []adapter.Adapter
	lacks     []lack
}

func (p plan) total() (d time.Duration) {
	for _, s := range p.steps {
		d += s.estimate
	}
	return d
}

func makePlan(o options) (p plan, err error) {
	if p.libraries, err = chooseLibraries(o.libraries); err != nil {
		return p, err
	}
	scenarios, err := chooseScenarios(o)
	if err != nil {
		return p, err
	}
	p.dropUnready()
	for _, name := range scenarios {
		p.add(name, o.settings)
	}
	if len(p.steps) == 0 {
		return p, errors.New("none of these libraries can do any of these scenarios")
	}
	return p, nil
}

// dropUnready leaves out the libraries that this machine can't run, and says so.
func (p *plan) dropUnready() {
	p.libraries = slices.DeleteFunc(p.libraries, func(a adapter.Adapter) bool {
		if a.Ready == nil {
			return false
		}
		err := a.Ready()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s is left out: %v\n", a.Name, err)
			p.lacks = append(p.lacks, lack{Library: a.Name, Why: err.Error()})
		}
		return err != nil
	})
}

// add plans one scenario, round by round, the libraries in turn.
func (p *plan) add(name string, o settings) {
	rounds, seconds := o.Rounds, o.Seconds
	switch {
	case bulk(name):
		rounds = o.BulkRounds
	case !slices.Contains(tableScenarios(), name):
		rounds, seconds = o.PlotRounds, seconds/2
	}
	var able []adapter.Adapter
	for _, a := range p.libraries {
		why := a.Can(name, strings.HasPrefix(name, "TLS"))
		if why == "" {
			able = append(able, a)
			continue
		}
		p.lacks = append(p.lacks, lack{name, a.Name, why})
	}
	for round := range rounds {
		for _, a := range able {
			s := step{scenario: name, library: a, round: round + 1, rounds: rounds, seconds: seconds}
			s.estimate = time.Duration((s.seconds + o.Warmup + 0.1) * float64(time.Second))
			if name == idle {
				s.estimate = 300*time.Millisecond + time.Duration(o.MostIdle)*80*time.Microsecond
			}
			p.steps = append(p.steps, s)
		}
	}
}

func chooseLibraries(names string) ([]adapter.Adapter, error) {
	if names == "" {
		return slices.Clone(adapter.All), nil
	}
	var chosen []adapter.Adapter
	for name := range strings.SplitSeq(names, ",") {
		a, err := adapter.Lookup(name)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, a)
	}
	return chosen, nil
}

func chooseScenarios(o options) ([]string, error) {
	if o.only == "" {
		return append(tableScenarios(), curveScenarios(o.MostCrowd)...), nil
	}
	var chosen []string
	for name := range strings.SplitSeq(o.only, ",") {
		if _, err := scenario.Lookup(name); err != nil && name != idle {
			return nil, err
		}
		chosen = append(chosen, name)
	}
	return chosen, nil
}

// take measures.
func (s step) take(o options) ([]value, error) {
	if s.scenario == idle {
		return s.takeIdle(o.MostIdle)
	}
	sc, err := scenario.Lookup(s.scenario)
	if err != nil {
		return nil, err
	}
	var profiles harness.Profiles
	if s.library.Name == adapter.VTMux.Name && s.round == s.rounds {
		profiles = o.profiles.For(s.scenario)
	}
	m, err := s.run(sc, o.Warmup, profiles)
	if err != nil {
		return nil, err
	}
	return []value{s.value(sc, m)}, nil
}

// run does one run with fresh processes. Of its profiles, the server's has the warm-up in it.
func (s step) run(sc scenario.Scenario, warmup float64, p harness.Profiles) (m harness.Measurement, err error) {
	run, err := harness.Start(s.library, sc, p)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	if err := run.Open(); err != nil {
		return m, err
	}
	if _, err := run.Drive(scenario.Budget{Time: seconds(warmup)}); err != nil {
		return m, err
	}
	runtime.GC() // the last run's garbage is not this one's
	stop, err := p.Client()
	if err != nil {
		return m, err
	}
	if m, err = run.Measure(scenario.Budget{Time: seconds(s.seconds)}); err != nil {
		return m, err
	}
	return m, stop()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// value turns a measurement into figures. What nobody counted is not among them.
func (s step) value(sc scenario.Scenario, m harness.Measurement) value {
	n := float64(m.Ops)
	f := map[figure]float64{rate: sc.Rate(m.Sample)}
	if m.Usage.CPU > 0 {
		f[cpu] = float64(m.Usage.CPU) / n
		f[switches] = float64(m.Usage.Switches) / n
	}
	if m.Usage.IO && !s.library.UDP {
		f[calls] = float64(m.Usage.Calls) / n
	}
	if m.Usage.Go {
		f[allocs] = float64(m.Usage.Mallocs) / n
	}
	if m.Wire > 0 {
		f[wire] = float64(m.Wire) / float64(sc.Carried(m.Ops))
	}
	if p := m.Percentiles(0.50, 0.90, 0.99, 0.999); p != nil {
		for i, name := range []figure{p50, p90, p99, p999} {
			f[name] = float64(p[i])
		}
	}
	return value{Scenario: s.scenario, Library: s.library.Name, Round: s.round, Figures: f}
}

// Limits of the idle scenario, for the machine's sake.
const (
	// mostFiles is what raw TCP may have, which needs a file a connection at either end: systems often allow 20,000.
	mostFiles = 10_000
	// mostHeavy is for a library that needs a hundred times the memory of others.
	mostHeavy = 10_000
)

// takeIdle measures all the idle scenarios, up to so many connections.
func (s step) takeIdle(most int) ([]value, error) {
	switch s.library.Name {
	case adapter.TCP.Name:
		most = min(most, mostFiles)
	case adapter.HTTP2.Name:
		most = min(most, mostHeavy)
	}
	var counts []int
	for _, n := range idleCounts {
		if n <= most {
			counts = append(counts, n)
		}
	}
	steps, err := harness.Idle(s.library, counts)
	var values []value
	for i, st := range steps {
		f := map[figure]float64{total: float64(st.Total()) - float64(steps[0].Total())}
		if i > 1 {
			f[perConn] = st.PerConn(steps[1])
		}
		if i > 0 {
			values = append(values, value{Scenario: fmt.Sprint(idle, st.Conns), Library: s.library.Name, Round: s.round, Figures: f})
		}
	}
	return values, err
}
