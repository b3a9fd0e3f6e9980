package mux

import (
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// turns is a connection whose write lock the test holds, in a bubble. Nothing is written,
// but for its END.
type turns struct {
	*testing.T
	b *bare
	c *conn
}

func inTurns(t *testing.T, f func(turns)) {
	inBubbles(t, func(t *testing.T, pr Protocol) {
		b := newBareOf(t, pr, false)
		h := b.open(1)
		if err := h.c.lockWrite(); err != nil {
			t.Fatal(err)
		}
		f(turns{t, b, h.c})
		runtime.KeepAlive(h)
	})
}

// waits makes a Write wait for the lock, behind those that do. What it returns has a value
// when the Write has locked, or can't.
func (t turns) waits() <-chan error {
	t.Helper()
	locked := async(t.c.lockWrite)
	synctest.Wait()
	return locked
}

// retake unlocks, and locks again before those that wait can. It reports whether it could:
// else the lock was handed over.
func (t turns) retake() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.c.passLockLocked()
	return t.c.wlock.tryLock(0)
}

// passOver makes the first that waits find the lock taken again.
func (t turns) passOver() {
	t.Helper()
	if !t.retake() {
		t.Fatal("the lock was handed over")
	}
	synctest.Wait()
}

// has says that one of the Writes that waited has returned from lockWrite, with target.
func (t turns) has(what string, locked <-chan error, target error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-locked:
		wantErr(t, what, err, target)
	default:
		t.Fatalf("%s still waits", what)
	}
}

func (t turns) hasNot(what string, locked <-chan error) {
	t.Helper()
	synctest.Wait()
	if len(locked) > 0 {
		t.Fatalf("%s has the lock, or gave up: %v", what, <-locked)
	}
}

func (t turns) isFree(free bool) {
	t.Helper()
	synctest.Wait()
	if free != !t.c.wlock.held() {
		t.Fatalf("the lock is free: %v, want %v", !free, free)
	}
}

// A Write whose turn another took is handed the lock by the next unlock. Those that wait have
// it in their order.
// To see it fail: in lockWriteSlow, leave passedOver unset.
func TestWriteThatWasPassedOverIsHandedTheLock(t *testing.T) {
	inTurns(t, func(t turns) {
		first, second := t.waits(), t.waits()
		t.passOver()
		t.hasNot("the first", first)
		third := t.waits()
		if t.retake() {
			t.Fatal("who comes now is before the one that was passed over")
		}
		t.has("the first", first, nil)
		t.c.unlockWrite()
		t.has("the second", second, nil)
		t.hasNot("the third", third)
		t.c.unlockWrite()
		t.has("the third", third, nil)
		t.c.unlockWrite()
		t.isFree(true)
	})
}

// Until the one that was woken has tried to lock, no other is woken, however often the lock
// is free meanwhile.
// To see it fail: in passLockLocked, take the first from the list when it is woken.
func TestOneWriteAtATimeIsWoken(t *testing.T) {
	inTurns(t, func(t turns) {
		var all []<-chan error
		for range 8 {
			all = append(all, t.waits())
		}
		t.c.mu.Lock()
		for range all { // none can move without mu
			t.c.passLockLocked()
			if !t.c.wlock.tryLock(0) {
				t.Error("the lock was handed over")
			}
		}
		t.c.mu.Unlock()
		for i, w := range all {
			for _, later := range all[i:] {
				t.hasNot("a later Write", later)
			}
			t.c.unlockWrite()
			t.has("the first that waits", w, nil)
		}
		t.c.unlockWrite()
		t.isFree(true)
	})
}

// A Write that is handed the lock when it can use it no more passes it on.
func TestLockIsPassedOnByAWriteThatCannotUseIt(t *testing.T) {
	inTurns(t, func(t turns) {
		late, next := t.waits(), t.waits()
		t.passOver()
		t.c.mu.Lock()
		t.c.writeDeadline.Store(t.c.deadline(time.Unix(1, 0)))
		t.c.passLockLocked() // it is handed to late
		t.c.mu.Unlock()
		t.has("the late one", late, os.ErrDeadlineExceeded)
		t.has("the next", next, os.ErrDeadlineExceeded)
		t.isFree(true)
	})
}

// A Write that is woken when it can lock no more leaves the next its turn: at once where the
// lock is free, else when it is unlocked.
func TestTurnOfAWriteThatCannotUseIt(t *testing.T) {
	for _, free := range []bool{true, false} {
		inTurns(t, func(t turns) {
			late, next := t.waits(), t.waits()
			t.c.mu.Lock()
			t.c.writeDeadline.Store(t.c.deadline(time.Unix(1, 0)))
			t.c.passLockLocked()
			if !free {
				t.c.wlock.tryLock(0)
			}
			t.c.mu.Unlock()
			t.has("the late one", late, os.ErrDeadlineExceeded)
			if !free {
				t.hasNot("the next", next) // it has not been told of the deadline
				t.c.unlockWrite()
			}
			t.has("the next", next, os.ErrDeadlineExceeded)
			t.isFree(true)
		})
	}
}

// A wait that looks at its deadline keeps its place.
func TestWaitingWriteKeepsItsPlace(t *testing.T) {
	inTurns(t, func(t turns) {
		first, second := t.waits(), t.waits()
		for range 3 {
			wantErr(t, "SetWriteDeadline", t.c.setWriteDeadline(time.Now().Add(time.Hour)), nil)
			synctest.Wait()
		}
		t.c.unlockWrite()
		t.has("the first", first, nil)
		t.hasNot("the second", second)
		t.c.unlockWrite()
		t.has("the second", second, nil)
	})
}

// CloseWrite fails all that wait, also the one that is handed the lock, and our END goes
// out once.
func TestCloseWriteWhileTheLockIsHandedOver(t *testing.T) {
	for _, closedFirst := range []bool{false, true} {
		inTurns(t, func(t turns) {
			first, second := t.waits(), t.waits()
			t.passOver()
			t.c.mu.Lock()
			if !closedFirst {
				t.c.passLockLocked()
			}
			t.c.writeErr = reason(syscall.EPIPE) // as closeWrite does
			t.c.flags.Or(flagWriteShut)
			t.c.mu.Unlock()
			t.c.endWrite(owesEnd)
			if closedFirst {
				t.has("the first", first, syscall.EPIPE)
				t.c.unlockWrite()
			} else {
				t.has("the first", first, syscall.EPIPE)
			}
			t.has("the second", second, syscall.EPIPE)
			t.isFree(true)
			t.b.frame(1, nil)
			t.b.open(2).Close() // the next thing that is sent
			t.b.frame(2, nil)
		})
	}
}

// Many lock and unlock, some with no time for it, until the half is closed. No two hold the
// lock at once, all return, and the lock is free in the end.
func TestWriteLockHasOneHolder(t *testing.T) {
	for _, procs := range []int{1, 2, 8} {
		inTurns(t, func(t turns) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			c := t.c
			c.unlockWrite()
			const writers, each = 8, 400
			var inside, had atomic.Int32
			var wg sync.WaitGroup
			for i := range writers {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(i), 7))
					for range each {
						switch err := c.lockWrite(); {
						case err == nil:
							if inside.Add(1) != 1 {
								t.Error("two hold the lock")
							}
							if rng.IntN(3) == 0 {
								runtime.Gosched()
							}
							inside.Add(-1)
							c.unlockWrite()
							if had.Add(1) == writers*each/4 {
								wantErr(t, "CloseWrite", c.closeWrite(), nil)
							}
						case errors.Is(err, os.ErrDeadlineExceeded):
							c.setWriteDeadline(time.Time{})
						case errors.Is(err, syscall.EPIPE):
							return
						default:
							t.Errorf("lockWrite: %v", err)
							return
						}
						switch rng.IntN(20) {
						case 0:
							c.setWriteDeadline(time.Unix(1, 0))
						case 1:
							c.setWriteDeadline(time.Time{})
						}
					}
				})
			}
			wg.Wait()
			if had.Load() == 0 {
				t.Error("nobody had the lock")
			}
			wantErr(t, "CloseWrite", c.closeWrite(), nil)
			t.isFree(true)
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.writers.last != nil {
				t.Error("a waiter is left")
			}
		})
	}
}

// A waiting Write gets its turn beside a loop of Writes on the only processor, which it can
// have only while the loop holds the lock.
// To see it fail: in lockWriteSlow, leave passedOver unset.
func TestLoopOfWritesKeepsNoOtherAway(t *testing.T) {
	inTurns(t, func(t turns) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		waiting := t.waits()
		for range 1000 {
			t.c.unlockWrite()
			if len(waiting) > 0 {
				break
			}
			if t.c.wlock.tryLock(0) {
				runtime.Gosched()
				continue
			}
			again := async(t.c.lockWrite) // it is handed over
			wantErr(t, "the Write", <-waiting, nil)
			t.c.unlockWrite()
			wantErr(t, "the loop's next", <-again, nil)
			return
		}
		wantErr(t, "the Write", <-waiting, nil)
		t.Log("it was fast")
	})
}
