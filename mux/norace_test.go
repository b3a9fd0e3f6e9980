//go:build !race

package mux

// raceEnabled reports whether the race detector is on.
const raceEnabled = false
