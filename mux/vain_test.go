package mux

import (
	"testing"
	"testing/synctest"
)

// TestLeaderThatReadsInVainLooksAround: each few reads that did nothing for anybody, and never
// in between.
func TestLeaderThatReadsInVainLooksAround(t *testing.T) {
	looks := 0
	r := readSide{poke: func() { looks++ }}
	for round := range 3 {
		for n := range longVain - 1 {
			r.lookAround(false)
			if looks != 2*round {
				t.Fatalf("looked around after %d reads in vain", n+1)
			}
		}
		for range longVain + 1 {
			r.lookAround(false)
		}
		if looks != 2*(round+1) {
			t.Fatalf("looked around %d times in 2 * %d reads in vain, want twice", looks-2*round, longVain)
		}
		r.lookAround(true)
	}
}

// TestReadsInVain: a read is in vain if it neither had to wait nor brought anybody what he
// waits for.
func TestReadsInVain(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		want := func(sentence string, n int) {
			t.Helper()
			synctest.Wait()
			if got := tc.p.s.in.vain; got != n {
				t.Errorf("%s: %d reads in vain, want %d", sentence, got, n)
			}
		}
		c := tc.acceptIDs(1)[0]
		awaited := func() {
			read := async(func() error { _, err := c.Read(make([]byte, 1)); return err })
			synctest.Wait()
			tc.send(`DATA 1 "x"`)
			if err := <-read; err != nil {
				t.Fatal(err)
			}
		}
		awaited()
		want("a byte that was waited for", 0)
		for range 3 {
			tc.send("PING 0102030405060708")
		}
		want("three PINGs", 3)
		awaited()
		want("another byte", 0)
		tc.send(`DATA 1 "x"`)
		want("a byte that nobody waits for", 1)
	})
}
