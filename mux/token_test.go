package mux

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/internal/xport"
)

// deadlineConn is a transport of which only the read deadline is ever used.
type deadlineConn struct {
	net.Conn
	at  time.Time
	set int
}

func (c *deadlineConn) SetReadDeadline(at time.Time) error {
	c.at = at
	c.set++
	return nil
}
func (c *deadlineConn) SetWriteDeadline(time.Time) error { return nil }

// A tokenTest is a token without a session, in a bubble.
type tokenTest struct {
	*testing.T
	*readToken
	tr   *deadlineConn
	took *waiter // took the token last by enlist
}

func tokenRun(t *testing.T, f func(tt *tokenTest)) {
	synctest.Test(t, func(t *testing.T) {
		tr := new(deadlineConn)
		f(&tokenTest{t, newToken(tr), tr, nil})
	})
}

func newToken(tr net.Conn) *readToken {
	base := time.Now().Add(-time.Microsecond)
	return &readToken{
		counts: new(readCounts),
		t:      xport.New(tr),
		now:    func() int64 { return int64(time.Since(base)) },
		at: func(ns int64) time.Time {
			if ns == 0 {
				return time.Time{}
			}
			return base.Add(time.Duration(ns))
		},
	}
}

func newWaiter(lazy, standby bool) *waiter {
	w := &waiter{lazy: lazy, standby: standby}
	w.Init()
	return w
}

func eager() *waiter { return newWaiter(false, false) }
func lazy() *waiter  { return newWaiter(true, false) }

// queue enlists ws, none of which may get the token.
func (tt *tokenTest) queue(ws ...*waiter) {
	tt.Helper()
	for i, w := range ws {
		if tt.enlist(w) {
			tt.Fatalf("waiter %d got the token at once", i)
		}
	}
}

// lead enlists w, which must get the token at once.
func (tt *tokenTest) lead(w *waiter) {
	tt.Helper()
	if !tt.enlist(w) {
		tt.Fatal("the waiter did not get the token")
	}
	tt.took = w
	tt.wantLeader(w)
}

// arm is readToken.arm for a waiter whose deadline is c's, or with nil none.
func (tt *tokenTest) arm(w *waiter, c *conn) (int64, bool) {
	w.deadline = nil
	if c != nil {
		w.deadline = &c.readDeadline
	}
	return tt.readToken.arm(w)
}

// wantLeader fails the test unless w leads; nil: nobody.
func (tt *tokenTest) wantLeader(w *waiter) {
	tt.Helper()
	if tt.leader != w {
		tt.Fatalf("the leader is %p, want %p", tt.leader, w)
	}
	if w != nil && (w != tt.took && !w.promoted.Load() || w.queued) {
		tt.Fatalf("the leader has promoted %v, queued %v", w.promoted.Load(), w.queued)
	}
	if tt.held() != (w != nil) {
		tt.Fatalf("held is %v", tt.held())
	}
}

// wantWoken fails the test unless a wake is kept for w, or none is.
func (tt *tokenTest) wantWoken(w *waiter, want bool) {
	tt.Helper()
	if got := w.Park(1); got != want { // the bubble's clock stands while a wake is there
		tt.Fatalf("woken: %v, want %v", got, want)
	}
}

// wantEmpty fails the test if the token's lists hold anyone.
func (tt *tokenTest) wantEmpty() {
	tt.Helper()
	if tt.head != nil || tt.tail != nil || tt.readToken.lazy != nil {
		tt.Fatal("the lists are not empty")
	}
}

func TestTokenGoesToWhoWaitsLongest(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, b, c := eager(), eager(), eager()
		tt.lead(a)
		tt.queue(b, c, b) // b a second time changes nothing
		if !tt.enlist(a) {
			tt.Fatal("the leader that enlists again has lost the token")
		}
		for _, next := range []*waiter{b, c} {
			was := tt.leader
			tt.release(was, nil, false, 0)
			if was.promoted.Load() {
				tt.Fatal("who released the token believes that it leads")
			}
			tt.wantLeader(next)
			tt.wantWoken(next, true)
		}
		tt.wantWoken(a, false)
		tt.release(c, nil, false, 0)
		tt.wantLeader(nil)
		tt.wantEmpty()
	})
}

func TestReleaseOfAnothersTokenPanics(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		defer func() {
			if recover() == nil {
				tt.Error("no panic")
			}
		}()
		tt.lead(eager())
		tt.release(eager(), nil, false, 0)
	})
}

func TestTokenPassesOverWhoIsSatisfied(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, b, c, d := eager(), eager(), eager(), eager()
		tt.lead(a)
		tt.queue(b, c, d)
		b.satisfied.Store(true)
		c.satisfied.Store(true)
		tt.release(a, nil, false, 0)
		tt.wantLeader(d)
		tt.wantWoken(b, false) // who satisfied it wakes it
		tt.leave(b)
		tt.leave(c)
		tt.wantLeader(d)
		tt.leave(d)
		tt.wantLeader(nil)
		tt.wantEmpty()
	})
}

func TestPromotedWaiterThatLeavesPassesTheTokenOn(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, b, c, l := eager(), eager(), eager(), lazy()
		tt.lead(a)
		tt.queue(l, b, c)
		tt.release(a, nil, false, 0)
		tt.wantLeader(b)
		b.satisfied.Store(true)
		tt.leave(b)
		if b.promoted.Load() {
			tt.Error("who left believes that it leads")
		}
		tt.wantLeader(c)
		tt.wantWoken(c, true)
		tt.leave(c)
		tt.wantLeader(l)
		tt.wantWoken(l, true)
		tt.leave(l)
		tt.wantLeader(nil)
	})
}

// Whatever the place in the list of who leaves, the others keep theirs.
func TestWhoLeavesIsNotGivenTheToken(t *testing.T) {
	for gone := range 4 {
		for _, isLazy := range []bool{false, true} {
			tokenRun(t, func(tt *tokenTest) {
				a := eager()
				tt.lead(a)
				var ws []*waiter
				for range 4 {
					ws = append(ws, newWaiter(isLazy, false))
				}
				tt.queue(ws...)
				tt.leave(ws[gone])
				tt.leave(ws[gone]) // to leave twice is to leave once
				for range 3 {
					tt.release(tt.leader, nil, false, 0)
					if tt.leader == nil || tt.leader == ws[gone] {
						tt.Fatalf("after %d left the leader is %p", gone, tt.leader)
					}
				}
				tt.release(tt.leader, nil, false, 0)
				tt.wantLeader(nil)
				tt.wantEmpty()
			})
		}
	}
}

func TestEagerWaitersGoBeforeLazyOnesAndTheStandbyIsLast(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, b := eager(), eager()
		standby, old, young := newWaiter(true, true), lazy(), lazy()
		tt.lead(a)
		tt.queue(old, standby, young, b)
		for i, next := range []*waiter{b, young, old, standby} {
			tt.release(tt.leader, nil, false, 0)
			if tt.leader != next {
				tt.Fatalf("turn %d went to another", i)
			}
		}
		// The standby goes behind those who came earlier, too.
		tt.queue(young, old)
		tt.release(standby, nil, false, 0)
		tt.wantLeader(old)
		tt.queue(standby)
		tt.release(old, nil, false, 0)
		tt.wantLeader(young)
		tt.release(young, nil, false, 0)
		tt.wantLeader(standby)
	})
}

func TestLazyWaiterTakesATokenThatNobodyLed(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) { tt.lead(lazy()) })
}

// A lazy waiter leaves the token to the reader that led last, for a millisecond.
func TestLazyWaiterWaitsForTheLastReader(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, l := eager(), lazy()
		start := time.Now()
		tt.lead(a)
		tt.release(a, new(conn), false, 0)
		tt.queue(l)
		tt.wantLeader(nil)
		l.Park(0)
		if d := time.Since(start); d != lazyAfter {
			tt.Errorf("the lazy waiter got the token after %v, want %v", d, lazyAfter)
		}
		tt.wantLeader(l)
	})
}

func TestLazyWaiterTakesATokenThatWasLeftLongAgo(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a := eager()
		tt.lead(a)
		tt.release(a, new(conn), false, 0)
		<-time.After(lazyAfter)
		tt.lead(lazy())
	})
}

// Each time the timer finds the reader back it waits twice as long, up to a bound;
// it starts anew when the reader stays away.
func TestLazyTimerBacksOffWhileTheReaderComesBack(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, l, c := eager(), lazy(), new(conn)
		tt.lead(a)
		for i := range maxAcceptBackoff + 3 {
			want := lazyAfter << min(i, maxAcceptBackoff)
			tt.release(a, c, false, 0)
			if i == 0 {
				tt.queue(l)
			}
			tt.wantLeader(nil)
			tt.lead(a)
			start := time.Now()
			for range want / lazyAfter { // comes and goes meanwhile
				tt.release(a, c, false, 0)
				tt.lead(a)
				<-time.After(lazyAfter)
			}
			synctest.Wait()
			if tt.armed {
				tt.Fatalf("turn %d: after %v the timer has not fired", i, time.Since(start))
			}
			if want := min(i+1, maxStandbyBackoff); tt.backs != want {
				tt.Fatalf("turn %d: the timer fired in vain %d times, want %d", i, tt.backs, want)
			}
			tt.wantLeader(a)
		}
		tt.release(a, c, false, 0)
		start := time.Now()
		l.Park(0)
		if d := time.Since(start); d != lazyAfter<<maxAcceptBackoff {
			tt.Errorf("the lazy waiter got the token after %v, want %v", d, lazyAfter<<maxAcceptBackoff)
		}
		tt.wantLeader(l)
		if tt.backs != 0 {
			tt.Errorf("the reader stayed away, and the timer backs off by %d", tt.backs)
		}
	})
}

func TestLazyWaiterTakesOverWhenTheLastReaderIsClosed(t *testing.T) {
	for _, early := range []bool{false, true} {
		tokenRun(t, func(tt *tokenTest) {
			a, l, c, other := eager(), lazy(), new(conn), new(conn)
			tt.lead(a)
			tt.release(a, c, false, 0)
			if early {
				c.flags.Or(flagClosed)
				tt.lead(l)
				return
			}
			tt.queue(l)
			tt.closedConn(other)
			tt.wantLeader(nil)
			c.flags.Or(flagClosed)
			tt.closedConn(c)
			tt.wantLeader(l)
			tt.wantWoken(l, true)
		})
	}
}

// TestWhoHasReadAllDoesNotComeBack: the token is left for the handler of the connection that
// was opened behind the end of the leader's own, and the standby does not come in between.
func TestWhoHasReadAllDoesNotComeBack(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		read := func() (int, error) { return c.Read(make([]byte, 1)) }
		r := tc.start("Read", read)
		tc.sendNow(`DATA 1 "x"`) // the standby has led, and leaves that to the reader
		r.want("Read", 1, nil)
		r = tc.start("Read", read)
		tc.sendNow("FIN 1", "OPEN 2", `DATA 2 "y"`)
		r.want("Read", 0, io.EOF)
		next := tc.accept(vtA)
		c.Close()
		synctest.Wait()
		if tok := &tc.p.s.token; tok.last != next.c || tok.held() {
			tc.t.Errorf("the token is held: %v, or left for another than connection 2", tok.held())
		}
		tc.wantNow("the end of the first", "FIN YOURS 1")
	})
}

// TestAcceptDoesNotWaitForTheStandbysTimer, which may be set for long.
func TestAcceptDoesNotWaitForTheStandbysTimer(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, s, l := eager(), newWaiter(true, true), lazy()
		tt.lead(a)
		tt.queue(s)
		tt.backs = maxStandbyBackoff
		tt.release(a, new(conn), false, 0)
		start := time.Now()
		tt.queue(l)
		l.Park(0)
		if d := time.Since(start); d != lazyAfter<<maxAcceptBackoff {
			tt.Errorf("Accept got the token after %v, want %v", d, lazyAfter<<maxAcceptBackoff)
		}
	})
}

// untilRead returns how long it takes until somebody reads what the peer says now.
func (tc *oneTest) untilRead() time.Duration {
	tc.t.Helper()
	synctest.Wait()
	tc.sent()
	began := time.Now()
	tc.peer.say("PING 0102030405060708")
	for range 3000 {
		tc.pass(time.Millisecond)
		if sent := tc.sent(); len(sent) > 0 {
			return sent[0].at.Sub(began)
		}
	}
	tc.t.Fatal("the PING was not answered")
	return 0
}

// TestShortConnectionsDoNotBlindTheStandby: after many of them one stays open, whose owner
// does not read. The timer that fires at each end is no sign of a steady reader.
func TestShortConnectionsDoNotBlindTheStandby(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		const n, each = 40, 500 * time.Microsecond
		for i := range n {
			c := tc.open(vtA)
			tc.write(c, "question")
			r := tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) })
			tc.pass(each)
			tc.sendNow(fmt.Sprintf(`DATA YOURS %d "a"`, 1+i))
			r.want("Read", 1, nil)
			if i < n-1 {
				tc.sendNow(fmt.Sprintf("FIN YOURS %d", 1+i))
				c.Close()
				synctest.Wait()
			}
		}
		if d := tc.untilRead(); d > n*each {
			tc.t.Errorf("after %v of short connections nobody read the transport for %v", n*each, d)
		}
	})
}

// talk has the peer write to c, and c's reader answer, in a steady conversation of a second.
func (tc *oneTest) talk(c *Conn, data string) {
	tc.t.Helper()
	for range 3000 {
		r := tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) })
		tc.pass(400 * time.Microsecond)
		tc.sendNow(data)
		r.want("Read", 1, nil)
		tc.write(c, "y")
	}
	if got := tc.p.s.token.backs; got < maxAcceptBackoff {
		tc.t.Fatalf("the timer has backed off by %d doublings only", got)
	}
}

// TestLongTimerIsTheSteadyReadersAlone: what its conversation has earned holds for nobody
// else, and not for it when it has come to the end.
func TestLongTimerIsTheSteadyReadersAlone(t *testing.T) {
	soon := func(tc *oneTest) {
		tc.t.Helper()
		if d := tc.untilRead(); d > 2*lazyAfter {
			tc.t.Errorf("nobody read the transport for %v", d)
		}
	}
	ended := func(tc *oneTest, c *Conn, frames ...string) {
		tc.t.Helper()
		r := tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) })
		tc.pass(400 * time.Microsecond)
		tc.sendNow(frames...)
		r.want("Read", 0, io.EOF)
	}
	t.Run("one that has not led", func(t *testing.T) { // its handler may have other things to do
		oneRun(t, oneListener, func(tc *oneTest) {
			c := tc.acceptIDs(1)[0]
			tc.talk(c, `DATA 1 "x"`)
			ended(tc, c, "FIN 1", "OPEN 2", `DATA 2 "z"`)
			c.Close()
			next := tc.accept(vtA)
			if _, err := next.Read(make([]byte, 1)); err != nil { // is there: it does not lead
				tc.t.Fatal(err)
			}
			soon(tc)
		})
	})
	t.Run("at its end, not closed", func(t *testing.T) {
		oneRun(t, onePipe, func(tc *oneTest) {
			c := tc.open(vtA)
			tc.talk(c, `DATA YOURS 1 "x"`)
			ended(tc, c, "FIN YOURS 1")
			soon(tc)
		})
	})
	t.Run("the next, after a while", func(t *testing.T) {
		oneRun(t, onePipe, func(tc *oneTest) {
			c := tc.open(vtA)
			tc.talk(c, `DATA YOURS 1 "x"`)
			tc.sendNow("FIN YOURS 1")
			c.Close()
			tc.pass(5 * time.Second)
			next := tc.open(vtA)
			tc.write(next, "question")
			r := tc.start("Read", func() (int, error) { return next.Read(make([]byte, 1)) })
			tc.pass(10 * time.Millisecond)
			tc.sendNow(`DATA YOURS 2 "a"`)
			r.want("Read", 1, nil)
			soon(tc)
		})
	})
}

// TestStandbyWaitsForWhoMayOpenAnother: who opened the connection that it has closed may be
// back soon. An acceptor does not wait for that, and the standby not for long.
func TestStandbyWaitsForWhoMayOpenAnother(t *testing.T) {
	opened := func() *conn { return &conn{opener: true} }
	tokenRun(t, func(tt *tokenTest) {
		a, s, l, c := eager(), newWaiter(true, true), lazy(), opened()
		tt.lead(a)
		tt.queue(s)
		tt.release(a, c, false, 0)
		c.flags.Or(flagClosed)
		tt.closedConn(c)
		tt.wantLeader(nil)
		tt.lead(a) // it is back
		c = opened()
		tt.release(a, c, false, 0)
		c.flags.Or(flagClosed)
		tt.closedConn(c)
		tt.wantLeader(nil)
		tt.lead(l)
		tt.wantWoken(s, false)
	})
	for _, far := range []bool{false, true} { // whether the timer had been set for later
		tokenRun(t, func(tt *tokenTest) {
			a, s, c := eager(), newWaiter(true, true), opened()
			tt.lead(a)
			tt.queue(s)
			if far {
				tt.backs = maxStandbyBackoff
			}
			tt.release(a, c, false, 0)
			c.flags.Or(flagClosed)
			start := time.Now()
			tt.closedConn(c)
			s.Park(0)
			if d := time.Since(start); d != lazyAfter {
				tt.Errorf("timer set for later: %v; the standby got the token after %v, want %v", far, d, lazyAfter)
			}
			tt.wantLeader(s)
		})
	}
}

func TestNobodyLeadsDuringAStall(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, b, l := eager(), eager(), lazy()
		c, other := new(conn), new(conn)
		tt.lead(a)
		tt.queue(b)
		tt.stall(a, c)
		if a.promoted.Load() {
			tt.Error("who stalled believes that it leads")
		}
		tt.wantLeader(nil)
		tt.queue(a, l)
		tt.wantLeader(nil)
		<-time.After(time.Second) // no timer helps
		if lasted := tt.unstall(other); lasted != 0 {
			tt.Errorf("the end of another's stall lasted %v", time.Duration(lasted))
		}
		tt.closedConn(other)
		tt.wantLeader(nil)
		if lasted := tt.unstall(c); time.Duration(lasted) != time.Second {
			tt.Errorf("the stall lasted %v, want 1s", time.Duration(lasted))
		}
		tt.wantLeader(b)
		tt.wantWoken(b, true)
		if lasted := tt.unstall(c); lasted != 0 {
			tt.Errorf("a stall that is over lasted %v", time.Duration(lasted))
		}
		tt.wantLeader(b)
		tt.release(b, nil, false, 0)
		tt.wantLeader(a)
	})
}

// The reader that led last may be the one that waits now, so a lazy waiter does not
// leave it the token after a stall.
func TestLazyWaiterLeadsAtOnceAfterAStall(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, l, c := eager(), lazy(), new(conn)
		tt.lead(a)
		tt.release(a, c, false, 0)
		tt.lead(a)
		tt.stall(a, c)
		tt.queue(l)
		tt.unstall(c)
		tt.wantLeader(l)
	})
}

func TestRouseInterruptsTheLeaderAlone(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, b := eager(), eager()
		tt.lead(a)
		tt.queue(b)
		tt.arm(a, nil)
		tt.rouse(b)
		tt.wantWoken(b, true)
		if !tt.tr.at.IsZero() {
			tt.Fatal("a waiter's interrupt hit the leader")
		}
		tt.rouse(a)
		tt.wantWoken(a, true)
		if !tt.tr.at.Equal(longAgo) {
			tt.Fatal("the leader was not interrupted")
		}
		set := tt.tr.set
		tt.rouse(a)
		if tt.tr.set != set {
			tt.Error("a second interrupt disturbs the transport again")
		}

		// The next leader does not see it.
		tt.release(a, nil, false, 0)
		tt.wantLeader(b)
		if _, roused := tt.arm(b, nil); !roused {
			tt.Error("b was roused before it led, and does not know")
		}
		if !tt.tr.at.IsZero() {
			tt.Error("the next leader meets the interrupt")
		}
		if _, roused := tt.arm(b, nil); roused {
			tt.Error("b was roused once, and hears it twice")
		}
		// Nor does a late one hit it.
		tt.rouse(a)
		if !tt.tr.at.IsZero() {
			tt.Error("an interrupt hit a leader that came later")
		}
	})
}

// The transport's deadline is moved only where it is too late, has passed, or was
// an interrupt.
func TestArmMovesTheTransportsDeadlineWhenItMust(t *testing.T) {
	const sec = int64(time.Second)
	for _, f := range []struct {
		name      string
		was, want int64 // now is 10 s
		is        int64
	}{
		{"none wanted, none set", 0, 0, 0},
		{"none wanted, a later one set", 20 * sec, 0, 20 * sec},
		{"none wanted, a passed one set", 5 * sec, 0, 0},
		{"none wanted, interrupted", 1, 0, 0},
		{"one wanted, none set", 0, 20 * sec, 20 * sec},
		{"one wanted, interrupted", 1, 20 * sec, 20 * sec},
		{"one wanted, a passed one set", 5 * sec, 20 * sec, 20 * sec},
		{"one wanted, an earlier one set", 15 * sec, 20 * sec, 15 * sec},
		{"one wanted, the same set", 20 * sec, 20 * sec, 20 * sec},
		{"one wanted, a later one set", 25 * sec, 20 * sec, 20 * sec},
	} {
		t.Run(f.name, func(t *testing.T) {
			tokenRun(t, func(tt *tokenTest) {
				a, c := eager(), new(conn)
				tt.lead(a)
				<-time.After(10 * time.Second)
				tt.armedAt = f.was
				set := tt.tr.set
				c.readDeadline.Store(f.want)
				if want, roused := tt.arm(a, c); want != f.want || roused {
					tt.Errorf("arm: %d, %v", want, roused)
				}
				if tt.armedAt != f.is {
					tt.Errorf("the transport's deadline is %d, want %d", tt.armedAt, f.is)
				}
				if moved := tt.tr.set != set; moved != (f.is != f.was) {
					tt.Errorf("the transport's deadline was set: %v", moved)
				} else if moved && !tt.tr.at.Equal(tt.at(f.is)) {
					tt.Errorf("the transport was given %v", tt.tr.at)
				}
			})
		})
	}
}

// A timeout is the token's own where its deadline has passed, and no other error is.
func TestTimeoutBeforeTheDeadlineIsTheTransportsOwn(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		timeout := &net.DNSError{IsTimeout: true}
		a, c := eager(), new(conn)
		tt.lead(a)
		tt.arm(a, c)
		if tt.timedOut(timeout) {
			tt.Error("without a deadline")
		}
		c.readDeadline.Store(tt.now() + int64(time.Second))
		tt.arm(a, c)
		if tt.timedOut(timeout) {
			tt.Error("before the deadline")
		}
		<-time.After(time.Second)
		if !tt.timedOut(timeout) {
			tt.Error("not at the deadline")
		}
		c.readDeadline.Store(0)
		tt.arm(a, c)
		tt.rouse(a)
		if !tt.timedOut(timeout) {
			tt.Error("not after an interrupt")
		}
		if tt.timedOut(net.ErrClosed) {
			tt.Error("what is no timeout")
		}
	})
}

func TestPermanentTokenIsTheStandbysAlone(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		tt.permanent = true
		a, l, standby := eager(), lazy(), newWaiter(true, true)
		tt.queue(a, l)
		tt.wantEmpty()
		tt.lead(standby)
		c := new(conn)
		tt.release(standby, c, false, 0)
		tt.wantLeader(nil)
		tt.lead(standby) // at once, whoever was delivered to
		tt.stall(standby, c)
		tt.queue(standby)
		tt.unstall(c)
		tt.wantLeader(standby)
		tt.leave(a)
		tt.leave(l)
		tt.wantLeader(standby)
	})
}

func TestClosedTokenIsGivenToNobody(t *testing.T) {
	tokenRun(t, func(tt *tokenTest) {
		a, b, l, c := eager(), eager(), lazy(), new(conn)
		tt.lead(a)
		tt.release(a, c, false, 0)
		tt.queue(l) // starts the timer
		tt.lead(a)
		tt.queue(b)
		tt.close()
		set := tt.tr.set
		tt.arm(a, c)
		if tt.tr.set != set {
			tt.Error("arm sets deadlines of a closed transport")
		}
		tt.release(a, c, false, 0)
		tt.wantLeader(nil)
		<-time.After(time.Second)
		tt.closedConn(c)
		tt.queue(eager(), lazy())
		tt.wantLeader(nil)
		tt.wantWoken(b, false)
		tt.wantWoken(l, false)
	})
}

// A tokenStress has readers that wait for messages, which the leader hands out to
// any of them. Some lose patience; some leads end in a stall.
type tokenStress struct {
	*readToken
	t       *testing.T
	leading atomic.Int32
	readers []*tokenReader
	stalls  chan *conn
	over    atomic.Bool
}

type tokenReader struct {
	c       conn
	mu      sync.Mutex
	n       int // messages that wait to be taken
	need    int // messages that may still be sent
	waiters waitList
}

// deliver gives a reader a message. It reports false where it needs none.
func (r *tokenReader) deliver() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.need == 0 {
		return false
	}
	r.need--
	r.n++
	if w := r.waiters.pop(); w != nil {
		w.Wake()
	}
	return true
}

func (st *tokenStress) enter() {
	if n := st.leading.Add(1); n != 1 {
		st.t.Errorf("%d lead at once", n)
	}
}

// lead hands out messages until w's wait is over. The session's order of steps.
func (st *tokenStress) lead(w *waiter, c *conn, rnd *rand.Rand) {
	st.enter()
	for !w.satisfied.Load() && !st.over.Load() {
		w.deadline = nil
		if c != nil {
			w.deadline = &c.readDeadline
		}
		_, roused := st.arm(w)
		if w.satisfied.Load() || roused {
			break
		}
		st.readers[rnd.IntN(len(st.readers))].deliver()
		if rnd.IntN(50) == 0 {
			stalled := &st.readers[rnd.IntN(len(st.readers))].c
			st.leading.Add(-1)
			st.stall(w, stalled)
			st.stalls <- stalled
			return
		}
		if w.lazy && rnd.IntN(4) == 0 {
			break
		}
	}
	st.leading.Add(-1)
	st.release(w, c, false, 0)
}

func (st *tokenStress) read(r *tokenReader, rnd *rand.Rand) {
	w := eager()
	r.mu.Lock()
	if r.n > 0 {
		r.n--
		r.mu.Unlock()
		return
	}
	r.waiters.push(w)
	r.mu.Unlock()
	leads, enlisted := st.enlist(w), true
	impatient := rnd.IntN(4) == 0
	for !w.satisfied.Load() {
		switch {
		case leads || w.promoted.Load():
			st.lead(w, &r.c, rnd)
			leads, enlisted = false, false
		case !enlisted:
			leads, enlisted = st.enlist(w), true
		case impatient:
			impatient = w.Park(time.Duration(1 + rnd.IntN(20_000)))
			if impatient {
				continue
			}
			st.leave(w)
			enlisted = false
			r.mu.Lock()
			if !w.satisfied.Load() {
				r.waiters.remove(w)
				r.mu.Unlock()
				st.read(r, rnd) // and comes again
				return
			}
			r.mu.Unlock()
		default:
			w.Park(0)
		}
	}
	if enlisted {
		st.leave(w)
	}
	r.mu.Lock()
	r.n--
	r.mu.Unlock()
}

// Never do two lead, and whoever has what it waits for returns.
func TestTokenUnderStress(t *testing.T) {
	const readers, turns = 16, 1000
	st := &tokenStress{t: t, readToken: newToken(idleConn{}), stalls: make(chan *conn, readers)}
	for range readers {
		st.readers = append(st.readers, &tokenReader{need: turns})
	}
	done := async(func() error {
		var wg, others, stalls sync.WaitGroup
		stalls.Go(func() {
			for c := range st.stalls {
				st.unstall(c)
			}
		})
		var lazies []*waiter
		for i := range 3 {
			w := newWaiter(true, i == 0)
			lazies = append(lazies, w)
			others.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 2))
				for leads := st.enlist(w); !st.over.Load(); leads = st.enlist(w) {
					if leads {
						st.lead(w, nil, rnd)
					} else {
						w.Park(0)
					}
				}
				st.leave(w)
			})
		}
		for i, r := range st.readers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 1))
				for range turns {
					st.read(r, rnd)
					if rnd.IntN(8) == 0 {
						st.rouse(lazies[rnd.IntN(len(lazies))])
					}
				}
				st.closedConn(&r.c)
			})
		}
		wg.Wait()
		st.over.Store(true)
		for _, w := range lazies {
			st.rouse(w)
		}
		others.Wait()
		close(st.stalls)
		stalls.Wait()
		return nil
	})
	wait(t, "the stress", done)
	st.readToken.close()
	if st.leader != nil || st.head != nil || st.tail != nil || st.lazy != nil {
		t.Error("somebody is left in the token")
	}
}

// idleConn is a transport whose deadlines do nothing.
type idleConn struct{ net.Conn }

func (idleConn) SetReadDeadline(time.Time) error  { return nil }
func (idleConn) SetWriteDeadline(time.Time) error { return nil }
