package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// data is all that a report is made of.
type data struct {
	Machine  machine
	Settings settings
	Lacks    []lack
	Failures []failure
	Values   []value
}

// A value is what one run gave.
type value struct {
	Scenario, Library string
	Round             int
	Figures           map[figure]float64
}

// A lack is what was not measured, and why. Scenario "": nothing was.
type lack struct{ Scenario, Library, Why string }

// A failure is a run that gave nothing.
type failure struct {
	Scenario, Library string
	Round             int
	Error             string
}

func readData(file string) (*data, error) {
	p, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d := new(data)
	if err := json.Unmarshal(p, d); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// writeData writes d, a value a line.
func writeData(file string, d *data) error {
	head := *d
	head.Values = nil
	p, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return err
	}
	b := bytes.NewBuffer(bytes.TrimSuffix(p, []byte("null\n}")))
	b.WriteString("[")
	for i, v := range d.Values {
		line, err := json.Marshal(v.rounded())
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n")
		b.Write(line)
	}
	b.WriteString("\n]}\n")
	return os.WriteFile(file, b.Bytes(), 0o666)
}

// rounded leaves out digits that mean nothing.
func (v value) rounded() value {
	f := make(map[figure]float64, len(v.Figures))
	for name, x := range v.Figures {
		f[name], _ = strconv.ParseFloat(strconv.FormatFloat(x, 'g', 6, 64), 64)
	}
	v.Figures = f
	return v
}

// A cell is what the runs of one library in one scenario gave of one figure.
type cell struct {
	median float64
	spread float64 // (highest - lowest) / median
	runs   int     // 0: there is no such figure
}

// cell summarizes.
func (d *data) cell(scenario, library string, f figure) cell {
	var all []float64
	for _, v := range d.Values {
		if v.Scenario != scenario || v.Library != library {
			continue
		}
		if x, ok := v.Figures[f]; ok {
			all = append(all, x)
		}
	}
	return summarize(all)
}

func summarize(all []float64) cell {
	if len(all) == 0 {
		return cell{}
	}
	s := slices.Sorted(slices.Values(all))
	c := cell{runs: len(s), median: (s[len(s)/2] + s[(len(s)-1)/2]) / 2}
	if c.median != 0 {
		c.spread = (s[len(s)-1] - s[0]) / math.Abs(c.median)
	}
	return c
}

// has reports whether anything of a scenario was measured.
func (d *data) has(scenario string) bool {
	return slices.ContainsFunc(d.Values, func(v value) bool { return v.Scenario == scenario })
}

// libraries gives those that there are values of, in the adapters' order.
func (d *data) libraries() []string {
	var names []string
	for _, name := range adapter.Names() {
		if slices.ContainsFunc(d.Values, func(v value) bool { return v.Library == name }) {
			names = append(names, name)
		}
	}
	return names
}

// A score is what the row says of one library: its figure, or that in relation to raw TCP's.
func (d *data) score(r row, library string) (score float64, ok bool) {
	c := d.cell(r.scenario, library, r.figure)
	if c.runs == 0 || r.absolute {
		return c.median, c.runs > 0
	}
	raw := d.cell(r.scenario, adapter.TCP.Name, r.figure)
	if raw.runs == 0 || raw.median == 0 {
		return 0, false
	}
	return c.median / raw.median, true
}

// ahead gives the peers that are better than vtmux. What is ours, in part or as a whole, and raw TCP are no peers.
func (d *data) ahead(r row) (peers []string) {
	own, ok := d.score(r, adapter.VTMux.Name)
	if !ok {
		return nil
	}
	for _, name := range d.libraries() {
		if slices.Contains(noPeers, name) {
			continue
		}
		if other, ok := d.score(r, name); ok && r.better(other, own) {
			peers = append(peers, name)
		}
	}
	return peers
}

var noPeers = []string{adapter.TCP.Name, adapter.VTMux.Name, adapter.VTMuxVT.Name, adapter.VTMuxer.Name}

// unread gives what 8 streams do beside 100 that nobody reads, against what they do alone.
func (d *data) unread(library string) (ratio float64, ok bool) {
	alone, beside := d.cell("Bulk8", library, rate), d.cell("Bulk8Unread", library, rate)
	if alone.runs == 0 || beside.runs == 0 {
		return 0, false
	}
	return beside.median / alone.median, true
}

// missed gives the goals that are.
func (d *data) missed() (missed []string) {
	for _, r := range rows {
		if score, ok := d.score(r, adapter.VTMux.Name); ok && !r.met(score) {
			missed = append(missed, fmt.Sprintf("%s: %s, not %s", r.name(), trim(score), r.goalText()))
		}
	}
	if ratio, ok := d.unread(adapter.VTMux.Name); ok && ratio < unreadGoal {
		missed = append(missed, fmt.Sprintf("%s: %s of Bulk8, not at least %s", "Bulk8Unread", trim(ratio), trim(unreadGoal)))
	}
	return missed
}

// name gives the row's title.
func (r row) name() string {
	if r.title != "" {
		return r.title
	}
	s := scenario.Must(r.scenario)
	return s.What + ", " + string(s.Unit)
}

// print shows a scenario's figures as soon as they are there.
func (d *data) print(w io.Writer, name string) {
	if name == idle {
		d.printIdle(w)
		return
	}
	s := scenario.Must(name)
	main, unit := rate, string(s.Unit)
	if s.Streams == 1 && d.has(name) && d.cell(name, d.libraries()[0], p50).runs > 0 {
		main, unit = p50, "p50"
	}
	fmt.Fprintf(w, "\n%s: %s\n", name, s.What)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\t%s\tspread\tof raw\tCPU\tcalls\twaits\tallocs\twire\t\n", unit)
	raw := d.cell(name, adapter.TCP.Name, main)
	for _, library := range d.libraries() {
		c := d.cell(name, library, main)
		if c.runs == 0 {
			continue
		}
		ratio := "-"
		if raw.runs > 0 {
			ratio = trim(c.median / raw.median)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s", library, format(main, c), percent(c.spread), ratio)
		for _, f := range []figure{cpu, calls, switches, allocs, wire} {
			fmt.Fprintf(t, "\t%s", format(f, d.cell(name, library, f)))
		}
		fmt.Fprintln(t, "\t")
	}
	t.Flush()
}

func (d *data) printIdle(w io.Writer) {
	fmt.Fprintln(w, "\nIdle: bytes of heap and stack that a connection costs, both ends")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t")
	for _, n := range idleCounts[2:] {
		fmt.Fprintf(t, "of %d\t", n)
	}
	fmt.Fprintln(t)
	for _, library := range d.libraries() {
		fmt.Fprint(t, library, "\t")
		for _, n := range idleCounts[2:] {
			fmt.Fprintf(t, "%s\t", format(perConn, d.cell(fmt.Sprint(idle, n), library, perConn)))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}
