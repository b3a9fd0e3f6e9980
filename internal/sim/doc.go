// Package sim is the seeded simulation's world: a transport whose every move is the
// test's, and a plain model of both protocols that reads along. The tests of this package
// let two sessions of package mux live in that world, and let one seed decide everything:
// what both applications do, what the transport does, and when.
//
// It is for tests alone.
//
//	go test ./internal/sim                                 some seeds
//	go test ./internal/sim -run Seeds -sim.seeds 10000     so many, on all cores
//	go test ./internal/sim -run Seeds -sim.seeds 10000 -sim.from 50000
//	go test ./internal/sim -run Seeds -v -sim.seed 4711    one, with what both ends did and said
//	go test ./internal/sim -run SameSeed -sim.seeds 1000   so many, each twice
//
// A seed that fails prints the command that shows it again, with all steps skipped that the
// failure does not need.
package sim
