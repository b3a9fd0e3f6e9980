//go:build race

package mux

// raceEnabled reports whether the race detector is on. Then sync.Pool drops some of
// what it is given, on purpose, so no count of allocations holds.
const raceEnabled = true
