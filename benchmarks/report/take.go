package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/harness"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// stepEnvironment names the variable that makes a process a step's client, and holds its order.
const stepEnvironment = "VTMUX_REPORT_STEP"

// An order is a step as its process gets it.
type order struct {
	Scenario, Library string
	Round             int
	Seconds, Warmup   float64
	MostIdle          int
	Profiles          harness.Profiles
}

// stepPatience is what a step may take beyond its estimate. A hang is found earlier, by the harness, which says more.
const stepPatience = 6 * time.Minute

// take measures, in a process of its own: so no library's garbage, pools or threads are there when the next one runs.
func (s step) take(p harness.Profiles) ([]value, error) {
	o := order{
		Scenario: s.scenario, Library: s.library.Name, Round: s.round,
		Seconds: s.seconds, Warmup: s.warmup, MostIdle: s.mostIdle,
	}
	if s.library.Name == adapter.VTMux.Name && s.round == s.rounds {
		o.Profiles = p.For(s.scenario)
	}
	encoded, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), stepEnvironment+"="+string(encoded))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer time.AfterFunc(s.estimate+stepPatience, func() { cmd.Process.Kill() }).Stop()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s (%w)", strings.TrimSpace(stderr.String()), err)
	}
	os.Stderr.Write(stderr.Bytes()) // the server's words
	var values []value
	return values, json.Unmarshal(stdout.Bytes(), &values)
}

// stepMain does not return in a process that was started as a step's client.
func stepMain() {
	encoded, ok := os.LookupEnv(stepEnvironment)
	if !ok {
		return
	}
	os.Unsetenv(stepEnvironment) // the server is no step
	values, err := obey(encoded)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(values)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// obey measures in this process.
func obey(encoded string) ([]value, error) {
	var o order
	if err := json.Unmarshal([]byte(encoded), &o); err != nil {
		return nil, err
	}
	library, err := adapter.Lookup(o.Library)
	if err != nil {
		return nil, err
	}
	s := step{
		scenario: o.Scenario, library: library, round: o.Round,
		seconds: o.Seconds, warmup: o.Warmup, mostIdle: o.MostIdle,
	}
	if s.scenario == idle {
		return s.takeIdle()
	}
	sc, err := scenario.Lookup(s.scenario)
	if err != nil {
		return nil, err
	}
	m, err := s.run(sc, o.Profiles)
	if err != nil {
		return nil, err
	}
	return []value{s.value(sc, m)}, nil
}

// run does one run. Of its profiles, the server's has the warm-up in it.
func (s step) run(sc scenario.Scenario, p harness.Profiles) (m harness.Measurement, err error) {
	run, err := harness.Start(s.library, sc, p)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	if err := run.Open(); err != nil {
		return m, err
	}
	if _, err := run.Drive(scenario.Budget{Time: seconds(s.warmup)}); err != nil {
		return m, err
	}
	stop, err := p.Client()
	if err != nil {
		return m, err
	}
	if m, err = run.Measure(scenario.Budget{Time: seconds(s.seconds)}); err != nil {
		return m, err
	}
	return m, stop()
}

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
func (s step) takeIdle() ([]value, error) {
	most := s.mostIdle
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
