package main

import (
	"os"
	"testing"

	"github.com/vtmux/vtmux/benchmarks/internal/harness"
)

func TestMain(m *testing.M) {
	harness.Main()
	os.Exit(m.Run())
}

func TestRatioIsThatOfTheMedians(t *testing.T) {
	f := Figure{Raw: []float64{10, 30, 20}, Mux: []float64{22, 20, 60}}
	f.summarize(goal{"<=", 1.1})
	if f.RawMedian != 20 || f.MuxMedian != 22 || f.Ratio != 1.1 || !f.Met {
		t.Errorf("%+v, want medians 20 and 22, ratio 1.1, goal met", f)
	}
	if f.LowRatio != 20.0/30 || f.TopRatio != 3 || f.RawSpread != 1 {
		t.Errorf("%+v, want the rounds' ratios from 0.67 to 3, and a spread of 1", f)
	}
}

func TestMedianOfAnEvenNumber(t *testing.T) {
	if m, spread := median([]float64{4, 1, 3, 2}); m != 2.5 || spread != 1.2 {
		t.Errorf("median %v, spread %v, want 2.5 and 1.2", m, spread)
	}
}

func TestGoals(t *testing.T) {
	for _, tt := range []struct {
		goal  goal
		ratio float64
		met   bool
	}{
		{goal{"<=", 1.1}, 1.1, true},
		{goal{"<=", 1.1}, 1.11, false},
		{goal{">=", 4}, 4, true},
		{goal{">=", 4}, 3.99, false},
	} {
		if got := tt.goal.met(tt.ratio); got != tt.met {
			t.Errorf("%v met by %v: %v, want %v", tt.goal, tt.ratio, got, tt.met)
		}
	}
}

func TestChoose(t *testing.T) {
	if chosen, err := choose("bulk,rtt", "vt"); err != nil || len(chosen) != 2 || chosen[0].name != "bulk" {
		t.Errorf("chose %v and %v, want bulk and rtt", chosen, err)
	}
	if _, err := choose("rtt,nonsense", "1"); err == nil {
		t.Error("an unknown figure was chosen")
	}
	if _, err := choose("unread", "vt"); err == nil {
		t.Error("a figure was chosen that the protocol lacks")
	}
	if all, err := choose("", "vt"); err != nil || len(all) != len(figures)-1 {
		t.Errorf("chose %v and %v, want all but one", all, err)
	}
}

// TestFiguresAreMeasured does all of it, quickly, with profiles.
func TestFiguresAreMeasured(t *testing.T) {
	prefix := t.TempDir() + "/p"
	o := options{rounds: 1, seconds: 0.02, warmup: 0.01, profiles: harness.Profiles{CPU: prefix + "cpu", Mem: prefix + "mem"}}
	subject, err := subjectOf("1")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		r, err := f.measure(o, subject)
		if err != nil {
			t.Fatal(err)
		}
		if r.RawMedian <= 0 || r.MuxMedian <= 0 {
			t.Errorf("%s: %+v", f.name, r)
		}
		for _, file := range []string{"cpu-" + f.name + "-client", "cpu-" + f.name + "-server", "mem-" + f.name + "-server"} {
			if _, err := os.Stat(prefix + file + ".pprof"); err != nil {
				t.Error(err)
			}
		}
	}
}
