package fuzz

import (
	"flag"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

var (
	scripts = flag.Int("scripts", 150, "how many random scripts TestRandomSessions and TestRandomHostiles play, each")
	seed    = flag.Uint64("seed", 1, "of the first random script")
	verbose = flag.Bool("steps", false, "log each step")
)

// randomScript returns the words of a script. Half of the setups have bits cleared: no
// fault then, mostly.
func randomScript(seed uint64, most int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	words := []uint64{rng.Uint64()}
	if rng.IntN(2) == 0 {
		words[0] |= 0xff << 17
	}
	for range 1 + rng.IntN(1+rng.IntN(most)) {
		words = append(words, rng.Uint64())
	}
	return scriptBytes(words...)
}

// TestRandomSessions plays random scripts, each from its own seed: what a fuzzer does
// without its guidance, and several times as fast.
func TestRandomSessions(t *testing.T) {
	eachRandom(t, 200, func(t *testing.T, script []byte) {
		s, steps := scripted(script, 200, setupOf, sessionStepOf)
		playSession(t, &s, steps)
	})
}

// TestRandomHostiles is TestRandomSessions for FuzzHostile's scripts.
func TestRandomHostiles(t *testing.T) {
	eachRandom(t, 100, func(t *testing.T, script []byte) {
		s, steps := scripted(script, 100, hostileSetupOf, hostileStepOf)
		playHostile(t, &s, steps)
	})
}

// eachRandom plays the random scripts, of at most so many steps, each in a bubble. It tells the seed that fails.
func eachRandom(t *testing.T, most int, play func(*testing.T, []byte)) {
	var at uint64
	defer func() {
		if t.Failed() {
			t.Logf("-seed=%d", at)
		}
	}()
	for i := range uint64(*scripts) {
		at = *seed + i
		synctest.Test(t, func(t *testing.T) { play(t, randomScript(at, most)) })
	}
}
