package mux

import "sync/atomic"

// An expectation counts the writers that are about to publish: the readers that
// the leader has woken and that have neither written nor read again since. A
// flusher lets them run first, for one flush then carries what all of them write;
// without it, a crowd of 128 pays a system call for almost every message.
//
// It is a hint, made of evidence and not of time, and may be wrong: whoever waits
// for it gives up when nobody comes forward, and that starts a new round, in which
// those who come late no longer count.
//
//	bits 0-31   how many are expected
//	bits 32-63  the round, never 0
type expectation struct{ word atomic.Uint64 }

// A round names a round of an expectation; 0 none.
type round = uint32

func (e *expectation) init() { e.word.Store(1 << 32) }

// left returns how many are still expected.
func (e *expectation) left() int { return int(uint32(e.word.Load())) }

// add expects one more writer, and returns the round to give to done.
func (e *expectation) add() round { return round(e.word.Add(1) >> 32) }

// done tells that a writer that was expected in round r has published, or will not,
// and reports whether the round still counted on it.
func (e *expectation) done(r round) bool {
	for {
		w := e.word.Load()
		if round(w>>32) != r || uint32(w) == 0 {
			return false
		}
		if e.word.CompareAndSwap(w, w-1) {
			return true
		}
	}
}

// giveUp expects nobody any more.
func (e *expectation) giveUp() {
	for {
		w := e.word.Load()
		if uint32(w) == 0 {
			return
		}
		next := max(round(w>>32)+1, 1)
		if e.word.CompareAndSwap(w, uint64(next)<<32) {
			return
		}
	}
}
