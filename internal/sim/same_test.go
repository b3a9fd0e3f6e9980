//go:build !race

package sim

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
)

// ordinary is how many seeds the ordinary tests run.
const ordinary = 3000

// TestTheSameSeedHasTheSameLog: a seed decides every frame of both directions, with its
// fake time and a sum of all bytes before it, and what every call returns.
//
// Why it does: there is one processor, so goroutines take turns, and who is next follows
// from who woke whom. The bubble's clock moves only when all of them wait. The driver does
// one thing at a time, and no two at the same fake time. The library asks for no random
// number, and orders nothing by a map's order where it shows. What is left is the runtime
// taking the processor away from a goroutine that has had it for 10 ms. A step takes
// some microseconds, and begins with a new slice of time; but the machine may be that
// busy. So a seed that has two logs gets another chance: it must then have the same one
// several times in a row. (A race build throws dice over who is next.)
func TestTheSameSeedHasTheSameLog(t *testing.T) {
	n := *flagSeeds
	if n == 0 {
		n = 200
	}
	alone(t)
	for seed := *flagFrom; seed < *flagFrom+uint64(n); seed++ {
		a, b := live(t, seed, nil, false), live(t, seed, nil, false)
		if difference(a, b) != "" {
			t.Logf("seed %d had two logs%s", seed, difference(a, b))
			a = live(t, seed, nil, false)
			for range 5 {
				if d := difference(a, live(t, seed, nil, false)); d != "" {
					t.Errorf("seed %d has two logs%s", seed, d)
					break
				}
			}
		}
		if seed%32 == 0 {
			runtime.GC()
		}
	}
}

// difference tells where two lives part, or "".
func difference(a, b life) string {
	if slices.Equal(a.frames, b.frames) && a.digest == b.digest {
		return ""
	}
	for i := range min(len(a.frames), len(b.frames)) {
		if a.frames[i] != b.frames[i] {
			return fmt.Sprintf(", from frame %d on:\n%v\n%v", i, a.frames[i:min(i+3, len(a.frames))], b.frames[i:min(i+3, len(b.frames))])
		}
	}
	return fmt.Sprintf(": %d and %d frames, results %#x and %#x", len(a.frames), len(b.frames), a.digest, b.digest)
}

func TestAnotherSeedHasAnotherLog(t *testing.T) {
	alone(t)
	if d := difference(live(t, 1, nil, false), live(t, 2, nil, false)); d == "" {
		t.Error("seeds 1 and 2 have the same log")
	}
}
