package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// render makes RESULTS.md.
func render(d *data, drawn []plotFile) []byte {
	r := &renderer{d: d, libraries: ranked(d.libraries())}
	r.head()
	r.comparison()
	r.plots(drawn)
	r.warnings()
	r.medians()
	r.costs()
	r.configuration()
	r.leftOut()
	return []byte(r.b.String())
}

// ranked puts vtmux second.
func ranked(names []string) []string {
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(place(a), place(b)) })
	return names
}

func place(name string) int {
	switch name {
	case adapter.TCP.Name:
		return 0
	case adapter.VTMux.Name:
		return 1
	case adapter.VTMuxVT.Name, adapter.VTMuxer.Name:
		return 3
	}
	return 2
}

type renderer struct {
	d         *data
	libraries []string
	b         strings.Builder
}

func (r *renderer) line(format string, args ...any) { fmt.Fprintf(&r.b, format+"\n", args...) }

// row writes a line of a table.
func (r *renderer) row(cells ...string) { r.line("| %s |", strings.Join(cells, " | ")) }

// header writes a table's head: the first column is text, the others are numbers.
func (r *renderer) header(cells ...string) {
	r.row(cells...)
	r.line("|---|%s", strings.Repeat("---:|", len(cells)-1))
}

func (r *renderer) head() {
	m, s := r.d.Machine, r.d.Settings
	r.line("# Results\n")
	r.line("Made by `go run ./report` in this folder. Don't edit: measure again.\n")
	r.line("- Machine: %s", m.line())
	r.line("- Date: %s; vtmux: %s", m.Date, cmp.Or(m.Commit, "unknown commit"))
	var versions []string
	for _, a := range adapter.All {
		if v := m.Versions[a.Name]; v != "" {
			versions = append(versions, a.Name+" "+v)
		}
	}
	if len(versions) > 0 {
		r.line("- Versions: %s", strings.Join(versions, ", "))
	}
	r.line("- Each figure is the median of %s (bulk: %d) of %s s each, after %s s that don't count; %d of half the time where only a plot uses it.",
		plural(s.Rounds, "run"), s.BulkRounds, trim(s.Seconds), trim(s.Warmup), s.PlotRounds)
	r.line("- The runs alternate between the libraries, and each one's with 8 bulk streams with those beside 100 that nobody reads. Each run has two fresh processes, client and server, which talk over the loopback interface.")
	r.line("- Raw TCP has one TCP connection a stream.\n")
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

// comparison is the table of goals.
func (r *renderer) comparison() {
	r.line("## Compared with raw TCP\n")
	r.line("Raw TCP's column has its own figures, the others their ratio to that; for memory and allocations, all have their own figures.")
	r.line("\"Ahead\" names the peers that are better than vtmux, which for a goal to be met must be none.\n")
	others := slices.DeleteFunc(slices.Clone(r.libraries), func(l string) bool { return place(l) < 2 })
	r.header(append([]string{"", "raw TCP", "vtmux", "must be", "goal", "ahead"}, others...)...)
	for _, row := range rows {
		if !r.d.has(row.scenario) {
			continue
		}
		cells := []string{row.name(), r.raw(row)}
		score, ok := r.d.score(row, adapter.VTMux.Name)
		verdict, ahead := none, none
		if ok {
			peers := r.d.ahead(row)
			verdict, ahead = verdictOf(row.met(score) && len(peers) == 0), cmp.Or(strings.Join(peers, ", "), "nobody")
		}
		cells = append(cells, r.score(row, adapter.VTMux.Name, "**%s**"), row.goalText(), verdict, ahead)
		for _, l := range others {
			cells = append(cells, r.score(row, l, "%s"))
		}
		r.row(cells...)
	}
	if ratio, ok := r.d.unread(adapter.VTMux.Name); ok {
		cells := []string{"8 bulk streams beside 100 that nobody reads, against the 8 alone", r.unread(adapter.TCP.Name), "**" + trim(ratio) + "**", "at least " + trim(unreadGoal), verdictOf(ratio >= unreadGoal), none}
		for _, l := range others {
			cells = append(cells, r.unread(l))
		}
		r.row(cells...)
	}
	r.line("")
}

func verdictOf(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

func (r *renderer) raw(row row) string {
	return format(row.figure, r.d.cell(row.scenario, adapter.TCP.Name, row.figure))
}

func (r *renderer) score(row row, library, layout string) string {
	score, ok := r.d.score(row, library)
	switch {
	case !ok:
		return none
	case row.absolute:
		return fmt.Sprintf(layout, format(row.figure, cell{median: score, runs: 1}))
	}
	return fmt.Sprintf(layout, trim(score))
}

func (r *renderer) unread(library string) string {
	if ratio, ok := r.d.unread(library); ok {
		return trim(ratio)
	}
	return none
}

func (r *renderer) plots(drawn []plotFile) {
	if len(drawn) == 0 {
		return
	}
	r.line("## Plots\n")
	for _, p := range drawn {
		r.line("![%s](results/%s)\n", p.title, p.file)
	}
}

// warnings are what a reader must not conclude.
func (r *renderer) warnings() {
	r.line("## What must not be concluded\n")
	for _, w := range []string{
		"**Nothing about networks.** Loopback has no delay, no loss and no limit of its own. With a round trip of milliseconds, windows decide about bulk, and latency is the network's. A lost packet stops all streams of one TCP connection, but only its own of QUIC's.",
		fmt.Sprintf("**Nothing about machines with many cores.** Client, server and kernel share %d here. What is measured is mostly system calls and wake-ups, and a wake-up across cores costs what the machine makes it cost. \"All cores\" of an idle machine and \"one core\" can differ by a factor.", r.d.Machine.Cores),
		"**That a multiplexer is faster than TCP.** Where a ratio is above 1, one TCP connection with many messages in a system call beats many connections with one each. One TCP connection alone, with its writes gathered by the application, would do the same.",
		"**That features cost nothing.** HTTP/2 carries requests with headers, and here a POST a stream. quic-go encrypts everything, always, and does in the program what TCP does in the kernel: compare it with the rows over TLS. yamux, smux and muxado promise less than vtmux about closes and deadlines, and some of that is why they cost what they cost.",
		"**That memory is all the memory.** It is heap and stack of the two processes. The kernel's buffers are not in it, of which raw TCP has a pair a connection, and a multiplexer one.",
		"**Anything from differences within the spread.** Spread is highest minus lowest run, in relation to the median. Bulk varies by a quarter, messages by a sixth, on a machine like this.",
		"**That vt-muxer is slow or fast.** In its column the server is the Rust crate, in a test program that polls every connection at each wake-up to work around lost ones; the client is vtmux.",
		"**Much from system calls alone.** \"Calls\" are those that the kernel counts as reads and writes, also those that find nothing to read. epoll and futex are not among them; \"waits\" tell of these. What is received and sent by recvmsg and sendmsg the kernel does not count: vtmux counts its own, those that find nothing included, and those of quic-go and of the Rust program are not known.",
	} {
		r.line("- %s", w)
	}
	r.line("- **That the peers can't be configured better.** How they are configured is told below, with reasons in [internal/adapter](internal/adapter).\n")
}

// measured gives the scenarios that there are values of, without the idle ones.
func (r *renderer) measured() (names []string) {
	for _, v := range r.d.Values {
		if !strings.HasPrefix(v.Scenario, idle) && !slices.Contains(names, v.Scenario) {
			names = append(names, v.Scenario)
		}
	}
	return names
}

// medians are the figures themselves.
func (r *renderer) medians() {
	r.line("## Medians and spreads\n")
	r.header(append([]string{"scenario"}, r.libraries...)...)
	for _, name := range r.measured() {
		s := scenario.Must(name)
		r.figures(name+", "+string(s.Unit), name, rate, true)
		if strings.HasPrefix(name, "RTT") {
			r.figures(name+", p50", name, p50, true)
			r.figures(name+", p99", name, p99, true)
		}
	}
	for _, n := range idleCounts[2:] {
		if name := fmt.Sprint(idle, n); r.d.has(name) {
			r.figures(name+", B a connection", name, perConn, true)
		}
	}
	r.line("\nIdle counts from the first connection on. What one session costs, with its first connection, in bytes:\n")
	r.header(append([]string{""}, r.libraries...)...)
	r.figures("session, both ends", "Idle1", total, false)
	r.line("")
}

// figures writes a row with a figure of each library.
func (r *renderer) figures(title, scenario string, f figure, spread bool) {
	cells := []string{title}
	for _, l := range r.libraries {
		c := r.d.cell(scenario, l, f)
		text := format(f, c)
		if spread && c.runs > 1 {
			text += " ±" + percent(c.spread/2)
		}
		cells = append(cells, text)
	}
	r.row(cells...)
}

// costs are what an operation costs besides time.
func (r *renderer) costs() {
	r.line("## What an operation costs\n")
	r.line("An operation is a message (there and back, where there is an answer), an open with its close, or 16 MiB of bulk. Both processes together.\n")
	for _, t := range []struct {
		title string
		f     figure
	}{
		{"CPU time, user and system", cpu},
		{"Read and write calls", calls},
		{"Waits: times that a thread gave up its core", switches},
		{"Allocations", allocs},
		{"Bytes on the wire for a byte of payload, without the headers of TCP or UDP and below", wire},
	} {
		r.line("%s:\n", t.title)
		r.header(append([]string{"scenario"}, r.libraries...)...)
		for _, name := range r.measured() {
			r.figures(name, name, t.f, false)
		}
		r.line("")
	}
}

func (r *renderer) configuration() {
	r.line("## Configuration\n")
	for _, a := range adapter.All {
		if slices.Contains(r.libraries, a.Name) {
			r.line("- %s: %s", a.Name, a.Config)
		}
	}
	r.line("")
}

func (r *renderer) leftOut() {
	r.line("## Left out\n")
	r.line("- Sia's mux: the module proxy does not serve it.")
	r.line("- 100,000 connections of raw TCP: a file each at both ends is more than systems allow a process; and of http2: they would take 10 GB.")
	type key struct{ library, why string }
	var keys []key
	scenarios := map[key][]string{}
	for _, l := range r.d.Lacks {
		k := key{l.Library, l.Why}
		if scenarios[k] == nil {
			keys = append(keys, k)
		}
		scenarios[k] = append(scenarios[k], l.Scenario)
	}
	for _, k := range keys {
		what := strings.Join(scenarios[k], ", ")
		if what != "" {
			what = " in " + what
		}
		r.line("- %s%s: %s.", k.library, what, k.why)
	}
	for _, f := range r.d.Failures {
		first, _, _ := strings.Cut(f.Error, "\n")
		r.line("- %s in %s, round %d: it failed: %s", f.Library, f.Scenario, f.Round, first)
	}
}
