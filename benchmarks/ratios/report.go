package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A Report is what -json prints.
type Report struct {
	Go, OS, Arch string
	Cores        int
	Protocol     string
	Rounds       int
	Seconds      float64
	Figures      []Figure
}

// A Figure is one comparison: the values of each round, and what follows from them.
type Figure struct {
	Name, What, Unit   string
	Base               string // what vtmux is compared with: the values called Raw
	Raw, Mux           []float64
	RawMedian          float64
	MuxMedian          float64
	RawSpread          float64 // (highest - lowest) / median
	MuxSpread          float64
	Ratio              float64 // of the medians
	LowRatio, TopRatio float64 // of the rounds
	Goal               string
	Met                bool
}

func (f *Figure) summarize(g goal) {
	f.RawMedian, f.RawSpread = median(f.Raw)
	f.MuxMedian, f.MuxSpread = median(f.Mux)
	f.Ratio = f.MuxMedian / f.RawMedian
	ratios := f.ratios()
	f.LowRatio, f.TopRatio = slices.Min(ratios), slices.Max(ratios)
	f.Met = g.met(f.Ratio)
}

// ratios gives each round's.
func (f *Figure) ratios() []float64 {
	ratios := make([]float64, len(f.Raw))
	for i := range ratios {
		ratios[i] = f.Mux[i] / f.Raw[i]
	}
	return ratios
}

func median(values []float64) (median, spread float64) {
	s := slices.Sorted(slices.Values(values))
	median = (s[len(s)/2] + s[(len(s)-1)/2]) / 2
	return median, (s[len(s)-1] - s[0]) / median
}

// A textPrinter prints for people, each figure as soon as it is there.
type textPrinter struct{ w io.Writer }

func (p textPrinter) head(r Report) {
	fmt.Fprintf(p.w, "%s %s/%s, %d cores; protocol %s; %d rounds of %v s; client and server in two processes\n",
		r.Go, r.OS, r.Arch, r.Cores, r.Protocol, r.Rounds, r.Seconds)
}

func (p textPrinter) figure(f Figure) {
	fmt.Fprintf(p.w, "\n%s: %s, %s\n", f.Name, f.What, f.Unit)
	t := tabwriter.NewWriter(p.w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "round\t%s\tvtmux\tratio\t\n", f.Base)
	for i, ratio := range f.ratios() {
		fmt.Fprintf(t, "%d\t%.1f\t%.1f\t%.2f\t\n", i+1, f.Raw[i], f.Mux[i], ratio)
	}
	fmt.Fprintf(t, "median\t%.1f\t%.1f\t%.2f\t\n", f.RawMedian, f.MuxMedian, f.Ratio)
	fmt.Fprintf(t, "spread\t%.0f%%\t%.0f%%\t%.2f-%.2f\t\n", 100*f.RawSpread, 100*f.MuxSpread, f.LowRatio, f.TopRatio)
	t.Flush()
	verdict := "met"
	if !f.Met {
		verdict = "NOT MET"
	}
	fmt.Fprintf(p.w, "goal %s: %s\n", f.Goal, verdict)
}
