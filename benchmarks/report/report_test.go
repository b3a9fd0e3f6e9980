package main

import (
	"bytes"
	"encoding/xml"
	"flag"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/harness"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestMain(m *testing.M) {
	harness.Main()
	stepMain()
	os.Exit(m.Run())
}

// fixed is data that no machine has measured. Each library is a little slower than the one before, vtmux the fastest but
// for one row.
func fixed() *data {
	d := &data{
		Machine: machine{
			CPU: "Imaginary 9000", Kernel: "6.1.0", OS: "linux", Arch: "amd64", Go: "go1.26.0", Cores: 2, Date: "2026-01-02",
			Commit: "0123456789ab", Versions: map[string]string{"yamux": "v0.1.2", "quic-go": "v0.65.0"},
		},
		Settings: full,
		Lacks: []lack{
			{"Bulk8Unread", "smux", "it can't"}, {"Crowd1000", "vt-muxer", "it can't either"}, {"Small1", "vt-muxer", "it can't either"},
		},
		Failures: []failure{{"Open1", "muxado", 2, "it hung, and was ended: EOF\nand more"}},
	}
	libraries := []string{"tcp", "vtmux", "vtmux-vt", "vt-muxer", "yamux", "smux", "muxado", "quic-go"}
	for round := range 3 {
		wobble := 1 + float64(round-1)/50
		for _, name := range append(tableScenarios(), curveScenarios(full.MostCrowd)...) {
			for i, library := range libraries {
				if slices.ContainsFunc(d.Lacks, func(l lack) bool { return l.Scenario == name && l.Library == library }) {
					continue
				}
				d.Values = append(d.Values, fixedValues(name, library, i, round, wobble)...)
			}
		}
	}
	return d
}

func fixedValues(name, library string, i, round int, wobble float64) (values []value) {
	x := float64(i+1) * wobble
	if name == idle {
		for _, n := range idleCounts[1:] {
			f := map[figure]float64{total: 10000*x + 500*x*float64(n)}
			if n > 1 {
				f[perConn] = 500 * x
			}
			values = append(values, value{fmt.Sprint(idle, n), library, round + 1, f})
		}
		return values
	}
	f := map[figure]float64{
		rate: 1e6 / x, p50: 20000 * x, p90: 30000 * x, p99: 90000 * x, p999: 300000 * x,
		cpu: 5000 * x, switches: x, calls: 4 * x, allocs: float64(i), wire: 1 + x/100,
	}
	switch {
	case library == "vtmux":
		f[rate], f[p50], f[allocs] = 9e6*wobble, 20500*wobble, 0.001
	case library == "quic-go" && name == "Crowd16":
		f[rate] = 1e7
	}
	if library == "quic-go" {
		delete(f, calls)
	}
	return []value{{name, library, round + 1, f}}
}

// TestDocument compares with testdata/RESULTS.md, which `go test ./report -update` writes.
func TestDocument(t *testing.T) {
	got := render(fixed(), plots)
	golden := filepath.Join("testdata", "RESULTS.md")
	if *update {
		if err := os.WriteFile(golden, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("line %d:\ngot  %q\nwant %q", i+1, gotLines[min(i, len(gotLines)-1)], wantLines[min(i, len(wantLines)-1)])
		}
	}
}

// TestTablesAreEven: every line of a table has as many cells as its head.
func TestTablesAreEven(t *testing.T) {
	cells := 0
	for i, line := range strings.Split(string(render(fixed(), plots)), "\n") {
		switch n := strings.Count(line, "|"); {
		case n == 0:
			cells = 0
		case cells == 0:
			cells = n
		case n != cells:
			t.Errorf("line %d has %d bars, the head %d: %s", i+1, n, cells, line)
		}
	}
}

func TestMissedGoals(t *testing.T) {
	d := fixed()
	missed := strings.Join(d.missed(), "\n")
	for _, want := range []string{"Crowd16", "Bulk1", "10,000 idle"} {
		if got := strings.Contains(missed, want); got != (want == "10,000 idle") {
			t.Errorf("missed %q: %v, in\n%s", want, got, missed)
		}
	}
	document := string(render(d, nil))
	for line, want := range map[string]string{
		"| 16 x 128 B":       "| **missed** | quic-go |", // good enough, but a peer is better
		"| 128 x 128 B ping": "| met | nobody |",
		"| 10,000 idle":      "| **missed** |",
	} {
		at := strings.Index(document, line)
		if text, _, _ := strings.Cut(document[at:], "\n"); at < 0 || !strings.Contains(text, want) {
			t.Errorf("%q does not have %q", text, want)
		}
	}
}

// TestNothingMeasured: a document can be made of any part.
func TestNothingMeasured(t *testing.T) {
	all := fixed()
	for _, keep := range []string{"", "tcp", "vtmux", "yamux"} {
		d := *all
		d.Values = slices.DeleteFunc(slices.Clone(all.Values), func(v value) bool { return v.Library != keep })
		if text := string(render(&d, nil)); strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
			t.Errorf("with %q alone:\n%s", keep, text)
		}
		d.missed()
		for _, p := range plots {
			if svg, err := p.draw(&d); err != nil || (svg == nil) != (keep == "") {
				t.Errorf("%s with %q alone: %d bytes, %v", p.file, keep, len(svg), err)
			}
		}
	}
}

func TestSummary(t *testing.T) {
	for _, tt := range []struct {
		all  []float64
		want cell
	}{
		{nil, cell{}},
		{[]float64{7}, cell{7, 0, 1}},
		{[]float64{10, 30, 20}, cell{20, 1, 3}},
		{[]float64{4, 1, 3, 2}, cell{2.5, 1.2, 4}},
		{[]float64{0, 0}, cell{0, 0, 2}},
	} {
		if got := summarize(tt.all); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.all, got, tt.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for x, want := range map[float64]string{0: "0", -0.001: "0", 0.004: "0", 0.8: "0.8", 1.049: "1.05", 9.999: "10", 30: "30", 99.96: "100", 123.4: "123", 1234.5: "1,235", 1234567: "1,234,567"} {
		if got := trim(x); got != want {
			t.Errorf("trim(%v) = %q, want %q", x, got, want)
		}
	}
	for x, want := range map[float64]string{900: "900", 9999: "9,999", 12345: "12.3 k", 206_000: "206 k", 7_070_000: "7.07 M"} {
		if got := si(x); got != want {
			t.Errorf("si(%v) = %q, want %q", x, got, want)
		}
	}
	if got := group(-1234); got != "-1,234" {
		t.Errorf("group(-1234) = %q", got)
	}
}

func TestDataIsWrittenAndRead(t *testing.T) {
	d, file := fixed(), filepath.Join(t.TempDir(), "data.json")
	if err := writeData(file, d); err != nil {
		t.Fatal(err)
	}
	again, err := readData(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(render(d, plots), render(again, plots)) {
		t.Error("the document is another one after writing and reading the values")
	}
	if err := writeData(file, new(data)); err != nil {
		t.Fatal(err)
	}
	if _, err := readData(file); err != nil {
		t.Errorf("without values: %v", err)
	}
}

// TestPlots: they are XML, the same each time, with a line of each library, and follow the reader's colours.
func TestPlots(t *testing.T) {
	for _, p := range plots {
		svg, err := p.draw(fixed())
		if err != nil {
			t.Fatalf("%s: %v", p.file, err)
		}
		for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", p.file, err)
			}
		}
		if again, _ := p.draw(fixed()); !bytes.Equal(svg, again) {
			t.Errorf("%s is not the same twice", p.file)
		}
		for _, want := range []string{"prefers-color-scheme: dark", ">vtmux<", ">tcp<", ">quic-go<", p.title, inkLight + ";", "stroke:" + inkLight} {
			if !bytes.Contains(svg, []byte(want)) {
				t.Errorf("%s has no %q", p.file, want)
			}
		}
		for _, bad := range []string{"NaN", "Inf", "#FFFFFF"} {
			if bytes.Contains(svg, []byte(bad)) {
				t.Errorf("%s has %q", p.file, bad)
			}
		}
	}
}

// TestColoursAreReadable: each has a contrast of 3 at least, on white and on a dark page, as WCAG asks of graphics.
func TestColoursAreReadable(t *testing.T) {
	white, dark := color.RGBA{0xff, 0xff, 0xff, 0xff}, color.RGBA{0x0d, 0x11, 0x17, 0xff}
	for _, name := range adapter.Names() {
		look, ok := looks[name]
		if !ok {
			t.Errorf("%s has no look", name)
			continue
		}
		for _, page := range []color.RGBA{white, dark} {
			if c := contrast(look.colour, page); c < 3 {
				t.Errorf("%s: contrast %.2f on %v", name, c, page)
			}
		}
	}
}

func contrast(a, b color.RGBA) float64 {
	x, y := luminance(a)+0.05, luminance(b)+0.05
	return max(x, y) / min(x, y)
}

func luminance(c color.RGBA) float64 {
	linear := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.03928 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}

func TestPlan(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{
			"-only Bulk1,RTT -libraries tcp,vtmux,yamux",
			"Bulk1 tcp, Bulk1 vtmux, Bulk1 yamux, Bulk1 tcp, Bulk1 vtmux, Bulk1 yamux, RTT tcp, RTT vtmux, RTT yamux, RTT tcp, RTT vtmux, RTT yamux",
		},
		{ // these two are compared with each other
			"-only Bulk8Unread,RTT,Bulk8 -libraries vtmux,smux",
			"RTT vtmux, RTT smux, RTT vtmux, RTT smux, Bulk8 vtmux, Bulk8Unread vtmux, Bulk8 smux, Bulk8 vtmux, Bulk8Unread vtmux, Bulk8 smux",
		},
	} {
		o, err := parse(append(strings.Fields(c.args), "-rounds", "2"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := makePlan(o)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		last := map[string]int{}
		for i, s := range p.steps {
			got = append(got, s.scenario+" "+s.library.Name)
			if p.isLast(i) {
				last[s.scenario]++
			} else if last[s.scenario] > 0 {
				t.Errorf("%s: step %d of %s is behind its last", c.args, i, s.scenario)
			}
		}
		for _, name := range strings.Split(strings.Fields(c.args)[1], ",") {
			if last[name] != 1 {
				t.Errorf("%s: %s ends %d times", c.args, name, last[name])
			}
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %v, want %v", c.args, got, c.want)
		}
	}
}

// TestFullPlan: what must be the median of five runs has five, bulk nine, and every row and plot is measured.
func TestFullPlan(t *testing.T) {
	o, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := makePlan(o)
	if err != nil {
		t.Fatal(err)
	}
	rounds := map[string]int{}
	for _, s := range p.steps {
		if s.library.Name == adapter.VTMux.Name {
			rounds[s.scenario]++
		}
	}
	for _, name := range tableScenarios() {
		want := 5
		if bulk(name) {
			want = 9
		}
		if rounds[name] != want {
			t.Errorf("%s: %d rounds, want %d", name, rounds[name], want)
		}
		if _, err := scenario.Lookup(name); err != nil && name != idle {
			t.Error(err)
		}
	}
	for _, name := range curveScenarios(o.MostCrowd) {
		if rounds[name] != 3 {
			t.Errorf("%s: %d rounds, want 3", name, rounds[name])
		}
	}
	if total := p.total(); total > 90*time.Minute {
		t.Errorf("it would take %v", total)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range []string{"-rounds -1", "-seconds -1", "-nonsense", "something"} {
		if _, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%s was taken", args)
		}
	}
	for _, args := range []string{"-only Nonsense", "-libraries nonsense", "-only Bulk8Unread -libraries smux"} {
		o, err := parse(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := makePlan(o); err == nil {
			t.Errorf("%s was planned", args)
		}
	}
}

func TestPartDoesNotOverwriteTheWhole(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, args := range []string{"-quick", "-only RTT", "-libraries tcp"} {
		o, err := parse(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		if dir, err := folder(o); err != nil || dir == "." {
			t.Errorf("%s: %q, %v", args, dir, err)
		}
	}
}

// TestStepThatFails: its words come with the error, and the others go on.
func TestStepThatFails(t *testing.T) {
	s := step{scenario: "Nonsense1", library: adapter.TCP, round: 1, rounds: 1}
	if _, err := s.take(harness.Profiles{}); err == nil || !strings.Contains(err.Error(), `no scenario "Nonsense1"`) {
		t.Errorf("%v", err)
	}
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	p := &progress{w: &b, terminal: true, now: func() time.Time { return now }, begun: now, total: 10 * time.Minute}
	want := func(text string) {
		t.Helper()
		p.show("RTT/tcp")
		if !strings.Contains(b.String(), text) {
			t.Errorf("%q, want %q", b.String(), text)
		}
		b.Reset()
	}
	want("[........................]   0%  10 min left  RTT/tcp")
	now = now.Add(6 * time.Minute) // a quarter is done, in twice the time
	p.done(150 * time.Second)
	want("[######..................]  25%  18 min left")
	p.done(7*time.Minute + 29*time.Second)
	want(" 1 s left")
	p.clear()
	want("\r\x1b[K")
	p.terminal = false
	p.show("x")
	p.clear()
	if b.Len() > 0 {
		t.Errorf("%q, where nobody looks", b.String())
	}
}

// TestMeasured does all of it, quickly, with profiles.
func TestMeasured(t *testing.T) {
	dir := t.TempDir()
	o, err := parse([]string{"-only", "RTT,Open4,Idle", "-libraries", "tcp,vtmux", "-out", dir, "-cpuprofile", dir + "/cpu", "-memprofile", dir + "/mem"})
	if err != nil {
		t.Fatal(err)
	}
	o.settings = settings{Rounds: 1, BulkRounds: 1, PlotRounds: 1, Seconds: 0.02, Warmup: 0.01, MostIdle: 10, MostCrowd: 1}
	if _, err := run(o); err != nil {
		t.Fatal(err)
	}
	d, err := readData(filepath.Join(dir, "results", "data.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range []string{"tcp", "vtmux"} {
		for name, figures := range map[string][]figure{"RTT": {rate, p50, p999, allocs}, "Open4": {rate, allocs}, "Idle10": {perConn, total}} {
			for _, f := range figures {
				if c := d.cell(name, library, f); c.runs != 1 {
					t.Errorf("%s, %s: no %s", name, library, f)
				}
			}
		}
	}
	if len(d.Failures) > 0 {
		t.Error(d.Failures)
	}
	for _, file := range []string{"RESULTS.md", "results/latency.svg", "cpu-RTT-client.pprof", "cpu-Open4-server.pprof", "mem-RTT-server.pprof"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
}
