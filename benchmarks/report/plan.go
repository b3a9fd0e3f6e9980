package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// A step is one run of one library.
type step struct {
	scenario string
	library  adapter.Adapter
	round    int // from 1
	rounds   int
	seconds  float64
	warmup   float64
	mostIdle int
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

// isLast reports whether step i is the last of its scenario.
func (p plan) isLast(i int) bool {
	return !slices.ContainsFunc(p.steps[i+1:], func(s step) bool { return s.scenario == p.steps[i].scenario })
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
	for _, names := range together(scenarios) {
		p.add(names, o.settings)
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

// together puts scenarios into one group that are compared with each other, and so have to alternate.
func together(scenarios []string) (groups [][]string) {
	pair := []string{"Bulk8", "Bulk8Unread"}
	both := slices.Contains(scenarios, pair[0]) && slices.Contains(scenarios, pair[1])
	for _, name := range scenarios {
		switch {
		case both && name == pair[0]:
			groups = append(groups, pair)
		case both && name == pair[1]:
		default:
			groups = append(groups, []string{name})
		}
	}
	return groups
}

// add plans scenarios, round by round, the libraries in turn, and each library's scenarios one behind the other.
func (p *plan) add(names []string, o settings) {
	first := len(p.steps)
	for _, name := range names {
		p.addOne(name, o)
	}
	order := func(s step) [3]int {
		library := slices.IndexFunc(p.libraries, func(a adapter.Adapter) bool { return a.Name == s.library.Name })
		return [3]int{s.round, library, slices.Index(names, s.scenario)}
	}
	slices.SortStableFunc(p.steps[first:], func(a, b step) int {
		x, y := order(a), order(b)
		return slices.Compare(x[:], y[:])
	})
}

func (p *plan) addOne(name string, o settings) {
	rounds, seconds := o.Rounds, o.Seconds
	switch {
	case bulk(name):
		rounds = o.BulkRounds
	case !slices.Contains(tableScenarios(), name):
		rounds, seconds = o.PlotRounds, seconds/2
	}
	for _, a := range p.libraries {
		if why := a.Can(name, strings.HasPrefix(name, "TLS")); why != "" {
			p.lacks = append(p.lacks, lack{name, a.Name, why})
			continue
		}
		for round := range rounds {
			s := step{
				scenario: name, library: a, round: round + 1, rounds: rounds,
				seconds: seconds, warmup: o.Warmup, mostIdle: o.MostIdle,
			}
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

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
