package hostile

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// table makes the attack table, in Markdown.
func table(all []*outcome) string {
	var b strings.Builder
	var quiet []time.Duration // of all victims: one has too few for a quantile that means much
	for _, o := range all {
		quiet = append(quiet, o.quiet...)
	}
	slices.Sort(quiet)
	var busy time.Duration // beside a victim that computes, without vtmux
	for _, o := range all {
		if o.attack.app == appHash {
			busy = quantile(o.under, 0.99)
		}
	}
	fmt.Fprintf(&b, "Honest answers, p50, p99 and worst in ms, of %d while nobody attacked: %s.\n\n", len(quiet), times(quiet))
	b.WriteString("| attack | frames | sessions | held, KiB | bound | goroutines | handlers | CPU a frame, µs: sent, looked at | ended, after frames | honest p50, p99, worst, ms | p99 to quiet, to hashed control | peak RSS, MiB | missed |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, o := range all {
		b.WriteString(o.row(quantile(quiet, 0.99), busy))
	}
	return b.String()
}

// row is a line of the table. quiet is the p99 while nobody attacked, busy that of the control.
func (o *outcome) row(quiet, busy time.Duration) string {
	a, r := o.attack, o.report
	var missed []string
	if o.grown() > int64(deadCost[form()]+o.held.Peak*peakCost[form()]) && o.held.Open == 0 {
		missed = append(missed, "heap")
	}
	if o.after.Library > o.base.Library {
		missed = append(missed, "goroutines")
	}
	if o.cost(r.Sent) > 1 && !a.each && !a.serves {
		missed = append(missed, "CPU")
	}
	cost := fmt.Sprintf("%.2f, %.2f", o.cost(r.Sent), o.cost(int(o.held.Frames)))
	switch {
	case a.each:
		cost = fmt.Sprintf("%.0f a session", o.cost(r.Sessions))
	case a.serves:
		cost = "(" + cost + ")"
	}
	p99 := "-" // too few
	if len(o.under) >= 100 {
		under := float64(quantile(o.under, 0.99))
		ratio := under / float64(max(quiet, 1))
		p99 = fmt.Sprintf("%.1f, %.1f", ratio, under/float64(max(busy, 1)))
		if ratio > 3 {
			missed = append(missed, "p99")
		}
	}
	return fmt.Sprintf("| %s | %d | %d | %+d | %d | %+d | %d | %s | %s | %s | %s | %d | %s |\n",
		a.name, r.Sent, r.Sessions, o.grown()>>10, a.holds[form()].bound(o.held.Open, o.held.Handlers, o.held.Peak)>>10,
		o.held.Library-o.base.Library, o.held.Peak, cost, o.end(), times(o.under), p99, o.held.RSS>>10, strings.Join(missed, ", "))
}

// cost is the victim's CPU time for each of n, in microseconds.
func (o *outcome) cost(n int) float64 {
	return float64(o.work) / float64(time.Microsecond) / float64(max(n, 1))
}

func (o *outcome) end() string {
	if len(o.held.Ended) == 0 {
		return "no"
	}
	var hows []string
	for how, n := range o.held.Ended {
		hows = append(hows, fmt.Sprintf("%s: %d", how, n))
	}
	return fmt.Sprintf("%s; %d to %d", strings.Join(hows, ", "), o.held.Least, o.held.Most)
}

func times(took []time.Duration) string {
	if len(took) == 0 {
		return "-"
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf("%.2f, %.2f, %.2f", ms(quantile(took, 0.5)), ms(quantile(took, 0.99)), ms(quantile(took, 1)))
}
