package mux

import (
	"math"
	"sync"
	"testing"
)

func newExpectation() *expectation {
	e := new(expectation)
	e.init()
	return e
}

// startAt makes r the current round, in which left writers are expected.
func (e *expectation) startAt(r round, left uint32) { e.word.Store(uint64(r)<<32 | uint64(left)) }

func wantLeft(t *testing.T, sentence string, e *expectation, left int) {
	t.Helper()
	if got := e.left(); got != left {
		t.Errorf("%s: %d are expected, want %d", sentence, got, left)
	}
}

func TestExpectationCountsWhoIsLeft(t *testing.T) {
	e := newExpectation()
	wantLeft(t, "at first", e, 0)
	r := e.add()
	if r == 0 {
		t.Fatal("the first round is 0, which means none")
	}
	if again := e.add(); again != r {
		t.Errorf("the second is expected in round %d, the first in %d", again, r)
	}
	wantLeft(t, "two were added", e, 2)
	e.done(r)
	wantLeft(t, "one is done", e, 1)
	e.done(r)
	wantLeft(t, "both are done", e, 0)
	e.done(r)
	wantLeft(t, "one too many", e, 0)
	e.giveUp()
	if next := e.add(); next != r {
		t.Errorf("giving up on nobody started round %d after %d", next, r)
	}
}

func TestLateWriterDoesNotCount(t *testing.T) {
	e := newExpectation()
	late := e.add()
	e.add()
	e.giveUp()
	wantLeft(t, "after giving up", e, 0)
	e.done(late)
	wantLeft(t, "one came late, to nobody", e, 0)
	r := e.add()
	if r == late {
		t.Fatalf("round %d goes on after giving up on it", r)
	}
	e.done(late)
	wantLeft(t, "one came late, in another's round", e, 1)
	e.done(0)
	wantLeft(t, "round 0 is none", e, 1)
	e.done(r)
	wantLeft(t, "the one of this round came", e, 0)
}

func TestRoundIsNeverZero(t *testing.T) {
	e := newExpectation()
	e.startAt(math.MaxUint32-1, 0)
	for _, want := range []round{math.MaxUint32 - 1, math.MaxUint32, 1, 2} {
		r := e.add()
		if r != want {
			t.Fatalf("round %d, want %d", r, want)
		}
		wantLeft(t, "in the new round", e, 1)
		e.giveUp()
		e.done(r)
		wantLeft(t, "after it", e, 0)
	}
}

// TestExpectationEndsAtZero: whoever is expected comes forward or is given up on,
// so nobody is expected in the end, and never more than there are.
func TestExpectationEndsAtZero(t *testing.T) {
	for _, first := range []round{1, math.MaxUint32 - 100} { // the latter wraps on the way
		e := newExpectation()
		e.startAt(first, 0)
		const writers, each = 8, 5000
		var wg, flusher sync.WaitGroup
		stop := make(chan struct{})
		flusher.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if n := e.left(); n > writers {
					t.Errorf("%d are expected of %d", n, writers)
					return
				}
				e.giveUp()
			}
		})
		for range writers {
			wg.Go(func() {
				for range each {
					r := e.add()
					if r == 0 {
						t.Error("round 0")
					}
					e.done(r)
				}
			})
		}
		wg.Wait()
		close(stop)
		flusher.Wait()
		wantLeft(t, "all have come", e, 0)
	}
}

// TestExpectationWithoutGivingUpLosesNobody counts exactly while many come and go.
func TestExpectationWithoutGivingUpLosesNobody(t *testing.T) {
	e := newExpectation()
	const writers, each = 8, 5000
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				e.done(e.add())
				e.add()
			}
		})
	}
	wg.Wait()
	wantLeft(t, "half of them came", e, writers*each)
}
