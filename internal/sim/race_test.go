//go:build race

package sim

// ordinary is how many seeds the ordinary tests run.
const ordinary = 1000
