// Command ratios measures vtmux against raw TCP: the latency of a lone conversation, the rate of a crowd, the throughput
// of one stream, and short connections; and against itself: what streams cost the others that nobody reads. The runs alternate (raw, vtmux, raw, ...), each with fresh processes, and
// the medians are compared, so that a change of the machine's mood hits both.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/harness"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// A figure is what is compared in one scenario.
type figure struct {
	name     string // as -only calls it
	what     string
	unit     string
	scenario scenario.Scenario
	value    func(scenario.Sample) float64
	goal     goal
	alone    *scenario.Scenario // vtmux's own scenario to compare with; nil: raw TCP in the same one
}

var figures = []figure{
	{
		name: "rtt", what: "lone 64 B ping-pong, p50", unit: "µs",
		scenario: scenario.RTT,
		value:    func(s scenario.Sample) float64 { return float64(s.Percentile(0.5)) / float64(time.Microsecond) },
		goal:     goal{"<=", 1.10},
	},
	{
		name: "crowd", what: "128 ping-pongs of 128 B at once", unit: "1,000/s",
		scenario: scenario.Crowd128,
		value:    func(s scenario.Sample) float64 { return s.PerSecond() / 1000 },
		goal:     goal{">=", 4},
	},
	{
		name: "bulk", what: "one stream of 64 KiB writes", unit: "MB/s",
		scenario: scenario.Bulk,
		value:    megabytes,
		goal:     goal{">=", 0.95},
	},
	{
		name: "open", what: "open, 64 B there and back, close, by 64 workers", unit: "1,000/s",
		scenario: scenario.Open,
		value:    func(s scenario.Sample) float64 { return s.PerSecond() / 1000 },
		goal:     goal{">=", 2},
	},
	{
		name: "unread", what: "8 streams of 64 KiB writes beside 100 that nobody reads, against the 8 alone", unit: "MB/s",
		scenario: scenario.Bulk8Unread,
		value:    megabytes,
		goal:     goal{">=", 0.9},
		alone:    &scenario.Bulk8,
	},
}

func megabytes(s scenario.Sample) float64 {
	return s.PerSecond() * float64(scenario.Bulk.OpBytes) / 1e6
}

// A goal bounds the ratio of vtmux to raw TCP.
type goal struct {
	op    string
	bound float64
}

func (g goal) met(ratio float64) bool {
	if g.op == "<=" {
		return ratio <= g.bound
	}
	return ratio >= g.bound
}

func (g goal) String() string { return fmt.Sprintf("%s %.2f", g.op, g.bound) }

// options are the command's flags.
type options struct {
	rounds   int
	seconds  float64
	warmup   float64
	only     string
	protocol string
	profiles harness.Profiles
	json     bool
	check    bool
}

func main() {
	harness.Main()
	log.SetFlags(0)
	log.SetPrefix("ratios: ")
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "runs of either side")
	flag.Float64Var(&o.seconds, "seconds", 2, "length of a run")
	flag.Float64Var(&o.warmup, "warmup", 0.3, "seconds before a run that do not count")
	flag.StringVar(&o.only, "only", "", "measure only these, with commas between: rtt, crowd, bulk, open, unread")
	flag.StringVar(&o.protocol, "protocol", "1", "vtmux's wire protocol: 1, vt")
	flag.StringVar(&o.profiles.CPU, "cpuprofile", "", "write CPU profiles of vtmux's last run of each figure to `prefix`-figure-{client,server}.pprof")
	flag.StringVar(&o.profiles.Mem, "memprofile", "", "the same with allocation profiles")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.BoolVar(&o.check, "check", false, "exit with status 1 if a goal is not met")
	flag.Parse()

	met, err := compare(o)
	if err != nil {
		log.Fatal(err)
	}
	if o.check && !met {
		os.Exit(1)
	}
}

// compare measures and prints what o asks for, and reports whether all the goals are met.
func compare(o options) (met bool, err error) {
	if o.rounds < 1 || o.seconds <= 0 {
		return false, errors.New("-rounds and -seconds must be positive")
	}
	subject, err := subjectOf(o.protocol)
	if err != nil {
		return false, err
	}
	chosen, err := choose(o.only, o.protocol)
	if err != nil {
		return false, err
	}
	report := Report{
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(),
		Protocol: o.protocol, Rounds: o.rounds, Seconds: o.seconds,
	}
	out := textPrinter{os.Stdout}
	if !o.json {
		out.head(report)
	}
	met = true
	for _, f := range chosen {
		r, err := f.measure(o, subject)
		if err != nil {
			return false, fmt.Errorf("%s: %w", f.name, err)
		}
		report.Figures = append(report.Figures, r)
		met = met && r.Met
		if !o.json {
			out.figure(r)
		}
	}
	if o.json {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return met, encoder.Encode(report)
	}
	return met, nil
}

// subjectOf gives the adapter that speaks a protocol.
func subjectOf(protocol string) (adapter.Adapter, error) {
	switch protocol {
	case "1":
		return adapter.VTMux, nil
	case "vt":
		return adapter.VTMuxVT, nil
	}
	return adapter.Adapter{}, fmt.Errorf("-protocol %q: unknown; use 1 or vt", protocol)
}

// choose gives the figures of a list of names, or all that a protocol has.
func choose(only, protocol string) ([]figure, error) {
	if only == "" {
		return slices.DeleteFunc(slices.Clone(figures), func(f figure) bool { return f.lacks(protocol) }), nil
	}
	var chosen []figure
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(figures, func(f figure) bool { return f.name == name })
		switch {
		case i < 0:
			return nil, fmt.Errorf("-only %q: unknown", name)
		case figures[i].lacks(protocol):
			return nil, fmt.Errorf("-only %q: needs -protocol 1: without flow control, streams that nobody reads stop all others", name)
		}
		chosen = append(chosen, figures[i])
	}
	return chosen, nil
}

// lacks reports whether a protocol can't do the figure's scenario.
func (f figure) lacks(protocol string) bool { return protocol == "vt" && f.name == "unread" }

// measure does the rounds of one figure.
func (f figure) measure(o options, subject adapter.Adapter) (Figure, error) {
	base, sc, what := adapter.TCP, f.scenario, "raw TCP"
	if f.alone != nil {
		base, sc, what = subject, *f.alone, "alone"
	}
	r := Figure{Name: f.name, What: f.what, Unit: f.unit, Base: what, Goal: f.goal.String()}
	for round := range o.rounds {
		raw, err := f.run(o, base, sc, harness.Profiles{})
		if err != nil {
			return r, fmt.Errorf("%s: %w", what, err)
		}
		var profiles harness.Profiles
		if round == o.rounds-1 {
			profiles = o.profiles.For(f.name)
		}
		mux, err := f.run(o, subject, f.scenario, profiles)
		if err != nil {
			return r, fmt.Errorf("vtmux: %w", err)
		}
		r.Raw = append(r.Raw, raw)
		r.Mux = append(r.Mux, mux)
	}
	r.summarize(f.goal)
	return r, nil
}

// run does one run of one side. Of its profiles, the server's has the warm-up in it.
func (f figure) run(o options, a adapter.Adapter, sc scenario.Scenario, p harness.Profiles) (value float64, err error) {
	run, err := harness.Start(a, sc, p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	if err := run.Open(); err != nil {
		return 0, err
	}
	if _, err := run.Drive(scenario.Budget{Time: seconds(o.warmup)}); err != nil {
		return 0, err
	}
	runtime.GC() // the last run's garbage is not this one's
	stop, err := p.Client()
	if err != nil {
		return 0, err
	}
	sample, err := run.Drive(scenario.Budget{Time: seconds(o.seconds)})
	if err != nil {
		return 0, err
	}
	return f.value(sample), stop()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
