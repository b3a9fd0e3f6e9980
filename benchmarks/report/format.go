package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// none stands where there is no figure.
const none = "-"

// format writes a figure with its unit.
func format(f figure, c cell) string {
	if c.runs == 0 {
		return none
	}
	switch f {
	case p50, p90, p99, p999, cpu:
		return trim(c.median/1e3) + " µs"
	case perConn, total:
		return group(c.median)
	case rate:
		return si(c.median)
	}
	return trim(c.median)
}

// trim writes three digits or so.
func trim(x float64) string {
	decimals := 2
	switch abs := math.Abs(x); {
	case abs >= 1000:
		return group(x)
	case abs >= 100:
		decimals = 0
	case abs >= 10:
		decimals = 1
	}
	s := strconv.FormatFloat(x, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" {
		s = "0"
	}
	return s
}

// si writes thousands and millions short.
func si(x float64) string {
	switch {
	case x >= 1e6:
		return trim(x/1e6) + " M"
	case x >= 1e4:
		return trim(x/1e3) + " k"
	}
	return trim(x)
}

// group writes an integer with commas.
func group(x float64) string {
	s := strconv.FormatInt(int64(math.Round(math.Abs(x))), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if x <= -0.5 {
		s = "-" + s
	}
	return s
}

func percent(x float64) string { return fmt.Sprintf("%.0f%%", 100*x) }
