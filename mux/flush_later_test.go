package mux

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// wantWrites fails the test unless f makes the session write to its transport n times.
func (tc *vtTest) wantWrites(sentence string, n uint64, f func()) {
	tc.t.Helper()
	before := tc.p.Stats().Writes
	f()
	synctest.Wait()
	if got := tc.p.Stats().Writes - before; got != n {
		tc.t.Fatalf("%s: the session has written %d times, want %d", sentence, got, n)
	}
}

func TestOpenGoesWithTheFirstWrite(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		var c *Conn
		tc.wantWrites("Open", 0, func() { c = tc.open(vtA) })
		tc.wantWrites("Write", 1, func() { tc.write(c, "hi") })
		tc.wantNow("both", "OPEN 1", `DATA 1 "hi"`)
		tc.pass(time.Second)
		tc.wantNow("each once")
	})
	vtRun(t, false, nil, func(tc *vtTest) {
		var c *Conn
		tc.wantWrites("Open", 0, func() { c = tc.open(vtA) })
		tc.wantWrites("Write", 1, func() { tc.write(c, "hi") })
		tc.want("both", vtFrame{vtA, ""}, vtFrame{vtA, "hi"})
	})
}

func TestReadSendsTheOpen(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) })
		tc.wantNow("at once", "OPEN 1")
		other := tc.open(vtA)
		tc.start("WriteTo", func() (int, error) { n, err := other.WriteTo(io.Discard); return int(n), err })
		tc.wantNow("who writes to a file reads as well", "OPEN 2")
	})
}

// TestOpenGoesOutByItself: a server may speak first, to a client that does nothing yet.
// The first time makes the timer, later ones set it.
func TestOpenGoesOutByItself(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		for _, open := range []string{"OPEN 1", "OPEN 2", "OPEN 3"} {
			tc.open(vtA)
			tc.pass(flushWithin - time.Nanosecond)
			tc.wantNow("a moment before")
			tc.pass(time.Nanosecond)
			tc.wantNow("then", open)
			tc.pass(time.Second)
		}
	})
}

// TestOpensBehindAFlushGoOutInTime: the timer that the first of them has set may fire early
// for the second, but never too late.
func TestOpensBehindAFlushGoOutInTime(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.pass(flushWithin / 2)
		tc.write(c, "x")
		tc.wantNow("the Write", "OPEN 1", `DATA 1 "x"`)
		tc.open(vtA)
		tc.pass(flushWithin)
		tc.wantNow("the second", "OPEN 2")
	})
}

// TestAnswersToStopsGoTogether: what one read brings is answered by one write.
func TestAnswersToStopsGoTogether(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		both := tc.acceptIDs(2)
		tc.wantWrites("two STOPs", 1, func() { tc.sendNow("STOP 1 9", "STOP 2 9") })
		tc.wantNow("both", "RESET YOURS 1 9", "RESET YOURS 2 9")
		wantErr(tc.t, "Write", writeErr(both[0]), errStopped)
	})
}

// TestCloseGoesOutInOneWrite: the OPEN too, where nothing has sent it yet.
func TestCloseGoesOutInOneWrite(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.wantWrites("Close", 1, func() { c.Close() })
		tc.wantNow("all of it", "OPEN 1", "STOP 1 9", "FIN 1")
	})
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.write(c, "x")
		tc.want("the question", "OPEN 1", `DATA 1 "x"`)
		tc.sendNow("FIN YOURS 1")
		tc.wantWrites("Close", 1, func() { c.Close() })
		tc.wantNow("no STOP to who has ended", "FIN 1")
	})
}

// TestPlaceIsFreeWhenBothHalvesHaveEnded: who has read io.EOF, or the peer's code, and has
// closed the connection, may open another, whatever else the leader has to hand out and to flush.
func TestPlaceIsFreeWhenBothHalvesHaveEnded(t *testing.T) {
	for _, end := range []string{"FIN YOURS 1", "RESET YOURS 1 9"} {
		for range 50 {
			oneRun(t, oneSetup{cfg: Config{MaxConns: 3}}, func(tc *oneTest) {
				c, leads, reads := tc.open(vtA), tc.open(vtA), tc.open(vtA)
				tc.wantSoon("all", "OPEN 1", "OPEN 2", "OPEN 3")
				for _, other := range []*Conn{leads, reads} {
					tc.start("Read", func() (int, error) { return other.Read(make([]byte, 100)) })
					synctest.Wait()
				}
				opened := async(func() error {
					if _, err := c.Read(make([]byte, 1)); err == nil {
						return errors.New("Read returned no error")
					}
					c.Close()
					c, err := tc.p.Open(context.Background(), vtA)
					if err == nil {
						c.Close()
					}
					return err
				})
				synctest.Wait()
				tc.peer.say("STOP YOURS 1 9", end, `DATA YOURS 3 "x"`) // the flusher lets the third's reader run first
				wantErr(tc.t, "Open", <-opened, nil)
			})
		}
	}
}
