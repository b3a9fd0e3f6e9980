package main

import (
	"fmt"
	"slices"
)

// A row is a line of the comparison: one figure in one scenario.
type row struct {
	scenario string
	figure   figure
	title    string // where it is not the scenario's
	absolute bool   // the goal is for the figure itself, not for its ratio to raw TCP's
	atMost   bool   // less is better
	goal     float64
}

// A figure names a number that a value has.
type figure string

const (
	rate     figure = "rate" // in the scenario's unit
	p50      figure = "p50"  // ns, as are the next three
	p90      figure = "p90"
	p99      figure = "p99"
	p999     figure = "p999"
	cpu      figure = "cpu"      // ns an operation, of both processes
	calls    figure = "calls"    // read and write calls an operation
	switches figure = "switches" // times an operation that a thread waited
	allocs   figure = "allocs"   // an operation
	wire     figure = "wire"     // bytes a byte of payload
	perConn  figure = "perconn"  // bytes of heap and stack that a connection costs
	total    figure = "total"    // bytes of heap and stack
)

// rows are what vtmux has to show.
var rows = []row{
	{scenario: "RTTOneCore", figure: p50, title: "64 B ping-pong, p50, both processes on one core", atMost: true, goal: 1.05},
	{scenario: "RTT", figure: p50, title: "the same, all cores", atMost: true, goal: 1.10},
	{scenario: "Crowd16", figure: rate, goal: 2},
	{scenario: "Crowd128", figure: rate, goal: 5},
	{scenario: "Crowd1000", figure: rate, goal: 8},
	{scenario: "Small1", figure: rate, goal: 30},
	{scenario: "Small128", figure: rate, goal: 3},
	{scenario: "Open64", figure: rate, goal: 8},
	{scenario: "Open1", figure: rate, goal: 4},
	{scenario: "Bulk1", figure: rate, goal: 0.95},
	{scenario: "Bulk8", figure: rate, goal: 0.8},
	{scenario: "TLSBulk1", figure: rate, goal: 0.95},
	{scenario: "TLSCrowd128", figure: rate, goal: 5},
	{scenario: "Idle10000", figure: perConn, title: "10,000 idle streams, B each, both ends", absolute: true, atMost: true, goal: 600},
	{scenario: "Idle100000", figure: perConn, title: "100,000 idle streams, B each, both ends", absolute: true, atMost: true, goal: 600},
	// What a run allocates once, to begin with, must not count: half a hundredth is none.
	{scenario: "Crowd128", figure: allocs, title: "allocations an operation, 128 x 128 B ping-pong", absolute: true, atMost: true, goal: 0.005},
	{scenario: "Small128", figure: allocs, title: "allocations an operation, 128 streams of 100 B writes", absolute: true, atMost: true, goal: 0.005},
	{scenario: "Open64", figure: allocs, title: "allocations per open and close, both ends", absolute: true, atMost: true, goal: 6},
}

// unreadGoal is for what 8 streams do beside 100 that nobody reads, against what they do alone.
const unreadGoal = 0.9

// bulk reports whether a scenario varies more than others.
func bulk(scenario string) bool {
	return slices.Contains([]string{"Bulk1", "Bulk8", "Bulk8Unread", "TLSBulk1"}, scenario)
}

// curves are the scenarios that only plots need: family and numbers.
var curves = []struct {
	family string
	counts []int
}{
	{"Crowd", crowdCounts},
	{"Bulk", bulkCounts},
}

var (
	crowdCounts = []int{1, 10, 100, 1000, 10_000}
	bulkCounts  = []int{1, 2, 4, 8, 16, 32, 64}
	idleCounts  = []int{0, 1, 10, 100, 1000, 10_000, 100_000}
)

// idle stands for all the idle scenarios, which one run measures.
const idle = "Idle"

// tableScenarios gives each scenario of the rows once, and what belongs to them.
func tableScenarios() []string {
	var names []string
	for _, r := range rows {
		if len(r.scenario) > len(idle) && r.scenario[:len(idle)] == idle {
			continue
		}
		if !slices.Contains(names, r.scenario) {
			names = append(names, r.scenario)
		}
		if r.scenario == "Bulk8" {
			names = append(names, "Bulk8Unread")
		}
	}
	return append(names, idle)
}

// curveScenarios gives those that no row has.
func curveScenarios(mostCrowd int) []string {
	var names []string
	for _, c := range curves {
		for _, n := range c.counts {
			name := fmt.Sprint(c.family, n)
			if (c.family != "Crowd" || n <= mostCrowd) && !slices.Contains(tableScenarios(), name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// met reports whether a value of the row's kind, ratio or figure, is good enough.
func (r row) met(v float64) bool {
	if r.atMost {
		return v <= r.goal
	}
	return v >= r.goal
}

// better reports whether a is better than b.
func (r row) better(a, b float64) bool {
	if r.atMost {
		return a < b
	}
	return a > b
}

func (r row) goalText() string {
	bound := "at least "
	if r.atMost {
		bound = "at most "
	}
	if r.figure == allocs && r.goal < 0.01 {
		return "0"
	}
	return bound + trim(r.goal)
}
