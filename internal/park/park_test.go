package park

import (
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/internal/leakcheck"
)

// TestMain fails the tests if they leave a goroutine or an open file behind.
func TestMain(m *testing.M) { leakcheck.Main(m, leakcheck.OpenFiles()) }

const limit = time.Minute // of fake time

func newSpot() *Spot {
	s := new(Spot)
	s.Init()
	return s
}

// wantPark fails the test unless Park with limit returns woken after exactly took.
func wantPark(t *testing.T, sentence string, s *Spot, limit time.Duration, woken bool, took time.Duration) {
	t.Helper()
	start := time.Now()
	if got := s.Park(limit); got != woken {
		t.Errorf("%s: Park reports %v, want %v", sentence, got, woken)
	}
	if got := time.Since(start); got != took {
		t.Errorf("%s: Park took %v, want %v", sentence, got, took)
	}
}

func TestWakeBeforeParkIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpot()
		s.Wake()
		wantPark(t, "without a limit", s, 0, true, 0)
		s.Wake()
		wantPark(t, "with a limit", s, limit, true, 0)
		wantPark(t, "the wake is used up", s, limit, false, limit)
	})
}

func TestSeveralWakesCountAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpot()
		for range 3 {
			s.Wake()
		}
		wantPark(t, "after three wakes", s, limit, true, 0)
		wantPark(t, "once more", s, limit, false, limit)
	})
}

func TestDrainTakesTheKeptWakeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpot()
		s.Drain() // there is none, which must not block
		s.Wake()
		s.Drain()
		wantPark(t, "after Drain", s, limit, false, limit)
		s.Wake()
		wantPark(t, "woken after Drain", s, limit, true, 0)
	})
}

func TestWakeEndsPark(t *testing.T) {
	for _, l := range []time.Duration{-1, 0, limit} {
		synctest.Test(t, func(t *testing.T) {
			s := newSpot()
			time.AfterFunc(limit/2, s.Wake)
			wantPark(t, "woken half-way", s, l, true, limit/2)
		})
	}
}

func TestParkWithoutLimitHasNone(t *testing.T) {
	for _, l := range []time.Duration{math.MinInt64, -1, 0} {
		synctest.Test(t, func(t *testing.T) {
			s := newSpot()
			wantPark(t, "a timer that a later Park must not see", s, limit, false, limit)
			time.AfterFunc(1000*time.Hour, s.Wake)
			wantPark(t, "without a limit", s, l, true, 1000*time.Hour)
		})
	}
}

// TestTimerIsOfOneParkAlone: the timer is used again and again, and what is left of
// an earlier Park's limit ends no later Park.
func TestTimerIsOfOneParkAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpot()
		for range 3 {
			time.AfterFunc(limit/2, s.Wake)
			wantPark(t, "woken half-way", s, limit, true, limit/2)
			wantPark(t, "the next limit counts from its own start", s, limit, false, limit)
			wantPark(t, "a shorter one after a longer one", s, 1, false, 1)
		}
		// The wake and the limit come at once: either is right, but just one.
		for range 100 {
			time.AfterFunc(limit, s.Wake)
			woken := s.Park(limit)
			synctest.Wait()
			if woken {
				wantPark(t, "the limit was beaten by the wake", s, limit, false, limit)
			} else {
				wantPark(t, "the wake came too late and is kept", s, limit, true, 0)
			}
		}
	})
}

// TestParkReportsAWakeWhoseLimitHasPassed: the wake comes before the Park, which begins
// with a limit that is over at once. A bubble's clock would stand meanwhile. To see it fail:
// where the limit has passed, report false.
func TestParkReportsAWakeWhoseLimitHasPassed(t *testing.T) {
	s := newSpot()
	for range 10_000 {
		s.Wake()
		if !s.Park(1) {
			t.Fatal("Park reports that it was not woken")
		}
	}
}

func TestUntil(t *testing.T) {
	for _, tt := range []struct {
		name    string
		at, now int64
		want    time.Duration
	}{
		{"no deadline", 0, 5, 0},
		{"no deadline at the clock's start", 0, 0, 0},
		{"to come", 15, 5, 10},
		{"just now", 5, 5, 1},
		{"past", 5, 1000, 1},
		{"the least", 6, 5, 1},
		{"the last", math.MaxInt64, 1, math.MaxInt64 - 1},
	} {
		if got := Until(tt.at, tt.now); got != tt.want {
			t.Errorf("%s: Until(%d, %d) is %d, want %d", tt.name, tt.at, tt.now, got, tt.want)
		}
	}
}

// TestNoWakeIsLost has two goroutines wake each other in turn: a lost wake would
// leave both asleep.
func TestNoWakeIsLost(t *testing.T) {
	const turns = 20000
	a, b := newSpot(), newSpot()
	var wg sync.WaitGroup
	play := func(own, other *Spot) {
		for range turns {
			if !own.Park(time.Minute) {
				t.Error("a wake was lost")
				return
			}
			other.Wake()
		}
	}
	wg.Go(func() { play(a, b) })
	wg.Go(func() { play(b, a) })
	a.Wake()
	wg.Wait()
}

func TestParkAllocatesNothing(t *testing.T) {
	s := newSpot()
	if n := testing.AllocsPerRun(1000, func() {
		s.Wake()
		s.Park(time.Hour)
		s.Wake()
		s.Park(0)
		s.Wake()
		s.Drain()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
