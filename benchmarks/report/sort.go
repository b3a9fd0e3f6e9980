package main

import (
	"slices"
)

// sorted gives the numbers in order, each once.
func sorted(n []int) []int { return slices.Compact(slices.Sorted(slices.Values(n))) }
