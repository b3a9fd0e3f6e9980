// Command report compares the libraries in alternating runs (A B C A B C), each with fresh processes, so that a change of
// the machine's mood hits all of them; and writes RESULTS.md with plots.
//
//	go run ./report                                     everything; an hour, on a machine that does nothing else
//	go run ./report -quick                              a little of everything, to see that it works
//	go run ./report -only RTT,Open1 -libraries tcp,vtmux
//	go run ./report -from results/data.json             the same document again, without measuring
//
// A run that leaves something out writes to a temporary folder, unless -out names another.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/harness"
)

// options are the command's flags.
type options struct {
	settings
	quick     bool
	only      string
	libraries string
	out       string
	from      string
	check     bool
	profiles  harness.Profiles
}

// settings are what the measurements were taken with.
type settings struct {
	Rounds     int     // of a row of the table
	BulkRounds int     // of a row of the table that is about bulk, which varies more
	Seconds    float64 // that a run of the table lasts
	Warmup     float64 // before it
	PlotRounds int     // of what only the plots need
	MostIdle   int     // idle connections
	MostCrowd  int     // connections that talk
}

var (
	full  = settings{Rounds: 5, BulkRounds: 9, Seconds: 2, Warmup: 0.3, PlotRounds: 3, MostIdle: 100_000, MostCrowd: 10_000}
	quick = settings{Rounds: 1, BulkRounds: 1, Seconds: 0.15, Warmup: 0.05, PlotRounds: 1, MostIdle: 1000, MostCrowd: 1000}
)

func main() {
	harness.Main()
	stepMain()
	log.SetFlags(0)
	log.SetPrefix("report: ")
	o, err := parse(os.Args[1:])
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(2)
		}
		log.Fatal(err)
	}
	missed, err := run(o)
	if err != nil {
		log.Fatal(err)
	}
	if o.check && len(missed) > 0 {
		log.Fatal("goals missed: ", strings.Join(missed, "; "))
	}
}

func parse(args []string) (o options, err error) {
	fs := flag.NewFlagSet("report", flag.ContinueOnError)
	rounds := fs.Int("rounds", 0, "runs of each library in each scenario; otherwise 5, 9 for bulk and 3 for what only plots need")
	seconds := fs.Float64("seconds", 0, "length of a run, half of it for what only plots need; otherwise 2")
	fs.BoolVar(&o.quick, "quick", false, "a little of everything: for testing this program, the figures count for nothing")
	fs.StringVar(&o.only, "only", "", "only these scenarios, with commas between: "+strings.Join(tableScenarios(), ","))
	fs.StringVar(&o.libraries, "libraries", "", "only these libraries, with commas between: "+strings.Join(adapter.Names(), ","))
	fs.StringVar(&o.out, "out", "", "write to this `folder`; otherwise to this one, or to a temporary one with -quick, -only or -libraries")
	fs.StringVar(&o.from, "from", "", "don't measure: take the values from this `file`")
	fs.BoolVar(&o.check, "check", false, "exit with status 1 if a goal is missed")
	fs.StringVar(&o.profiles.CPU, "cpuprofile", "", "write CPU profiles of vtmux's last run of each scenario to `prefix`-scenario-{client,server}.pprof")
	fs.StringVar(&o.profiles.Mem, "memprofile", "", "the same with allocation profiles")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("what is %q?", fs.Arg(0))
	}
	if *rounds < 0 || *seconds < 0 {
		return o, errors.New("-rounds and -seconds must be positive")
	}
	o.settings = full
	if o.quick {
		o.settings = quick
	}
	if *rounds > 0 {
		o.Rounds, o.BulkRounds, o.PlotRounds = *rounds, *rounds, *rounds
	}
	if *seconds > 0 {
		o.Seconds, o.Warmup = *seconds, min(o.Warmup, *seconds/2)
	}
	return o, nil
}

// run measures and writes what o asks for, and returns the goals that are missed.
func run(o options) (missed []string, err error) {
	d := new(data)
	if o.from != "" {
		if d, err = readData(o.from); err != nil {
			return nil, err
		}
	} else if err = measure(o, d); err != nil {
		return nil, err
	}
	dir, err := folder(o)
	if err != nil {
		return nil, err
	}
	if err := write(dir, d); err != nil {
		return nil, err
	}
	fmt.Println("written:", filepath.Join(dir, "RESULTS.md"))
	return d.missed(), nil
}

// folder gives the folder to write to. What is not the whole must not take the place of it.
func folder(o options) (string, error) {
	switch {
	case o.out != "":
		return o.out, os.MkdirAll(o.out, 0o777)
	case o.quick || o.only != "" || o.libraries != "":
		return os.MkdirTemp("", "vtmux-report-")
	}
	return ".", nil
}

// measure takes all the values. An interrupt ends it early, and loses what there is.
func measure(o options, d *data) error {
	p, err := makePlan(o)
	if err != nil {
		return err
	}
	d.Machine = thisMachine(p.libraries)
	d.Settings = o.settings
	d.Lacks = p.lacks
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)

	fmt.Println(d.Machine.line())
	progress := newProgress(os.Stdout, p.total(), time.Now)
	for i, s := range p.steps {
		select {
		case <-interrupted:
			progress.clear()
			return errors.New("interrupted; nothing is written")
		default:
		}
		progress.show(s.String())
		values, err := s.take(o.profiles)
		d.Values = append(d.Values, values...)
		if err != nil {
			d.Failures = append(d.Failures, failure{s.scenario, s.library.Name, s.round, err.Error()})
			progress.clear()
			fmt.Printf("%v: %v\n", s, err)
		}
		progress.done(s.estimate)
		if p.isLast(i) {
			progress.clear()
			d.print(os.Stdout, s.scenario)
		}
	}
	return nil
}

// write writes the document, the plots and the values.
func write(dir string, d *data) error {
	results := filepath.Join(dir, "results")
	if err := os.MkdirAll(results, 0o777); err != nil {
		return err
	}
	if err := writeData(filepath.Join(results, "data.json"), d); err != nil {
		return err
	}
	var drawn []plotFile
	for _, p := range plots {
		svg, err := p.draw(d)
		if err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
		if svg == nil {
			continue // nothing of it was measured
		}
		if err := os.WriteFile(filepath.Join(results, p.file), svg, 0o666); err != nil {
			return err
		}
		drawn = append(drawn, p)
	}
	return os.WriteFile(filepath.Join(dir, "RESULTS.md"), render(d, drawn), 0o666)
}
