package demo

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Print prints what was measured as a table.
func (r *Report) Print(w io.Writer) error {
	if r.Mux == nil {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	if r.Direct == nil {
		fmt.Fprint(t, "\tvtmux\t\n")
	} else {
		fmt.Fprint(t, "\tvtmux\twithout\t\n")
	}
	r.row(t, "files", func(run *Run) string { return fmt.Sprint(run.Files) })
	r.row(t, "bytes", func(run *Run) string { return fmt.Sprint(run.Bytes) })
	r.row(t, "seconds", func(run *Run) string { return fmt.Sprintf("%.2f", run.Elapsed.Seconds()) })
	r.row(t, "requests/s", func(run *Run) string { return fmt.Sprintf("%.0f", run.perSecond(float64(run.Files))) })
	r.row(t, "MB/s", func(run *Run) string { return fmt.Sprintf("%.1f", run.perSecond(float64(run.Bytes)/1e6)) })
	r.row(t, "latency p50", func(run *Run) string { return milliseconds(run.P50) })
	r.row(t, "latency p99", func(run *Run) string { return milliseconds(run.P99) })
	r.row(t, "transport connections", func(run *Run) string { return fmt.Sprint(run.Transports) })
	r.row(t, "client addresses at the backend", func(run *Run) string { return fmt.Sprint(run.Clients) })
	r.row(t, "allocations a request, whole process", func(run *Run) string { return fmt.Sprintf("%.2f", run.mallocsPerRequest()) })
	if r.Direct != nil {
		fmt.Fprintf(t, "added by the mux\t%+.2f\t\t\n", r.Mux.mallocsPerRequest()-r.Direct.mallocsPerRequest())
	}
	return t.Flush()
}

func (r *Report) row(w io.Writer, name string, value func(*Run) string) {
	fmt.Fprintf(w, "%s\t%s\t", name, value(r.Mux))
	if r.Direct != nil {
		fmt.Fprintf(w, "%s\t", value(r.Direct))
	}
	fmt.Fprintln(w)
}

func (r *Run) perSecond(n float64) float64 { return n / r.Elapsed.Seconds() }

func (r *Run) mallocsPerRequest() float64 { return float64(r.Mallocs) / float64(r.Files) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
