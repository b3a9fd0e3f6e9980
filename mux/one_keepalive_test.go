package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// oneAlive is a session that keeps alive: after 15 s, for 30 s. WriteTimeout has tests of
// its own.
func oneAlive(listen bool) oneSetup {
	return oneSetup{listen: listen, cfg: Config{KeepAliveInterval: 15 * time.Second, KeepAliveTimeout: 30 * time.Second, WriteTimeout: -1}}
}

// takePings leaves the answers to the session's PINGs to the test.
func (tc *oneTest) takePings() {
	tc.peer.mu.Lock()
	tc.peer.pings = true
	tc.peer.mu.Unlock()
}

// aliveRun runs f with the PINGs in the test's hands, for both kinds of session.
func aliveRun(t *testing.T, f func(*oneTest)) {
	for _, side := range vtSides {
		t.Run(side.name, func(t *testing.T) {
			oneRun(t, oneAlive(side.listen), func(tc *oneTest) {
				tc.takePings()
				f(tc)
			})
		})
	}
}

// TestPingAfterSilence: exactly when nothing has come for KeepAliveInterval, a PING is
// sent, and when nothing comes for KeepAliveTimeout after it the session is over, with
// code 8.
func TestPingAfterSilence(t *testing.T) {
	aliveRun(t, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.wantSoon("an OPEN", "OPEN 1")
		tc.passUntil(15*time.Second - time.Nanosecond)
		tc.wantNow("a moment before KeepAliveInterval")
		tc.pass(time.Nanosecond)
		tc.wantPing("at KeepAliveInterval")
		tc.passUntil(45*time.Second - time.Nanosecond)
		tc.wantNow("one PING is enough")
		tc.wantAlive("a moment before KeepAliveTimeout")
		tc.pass(time.Nanosecond)
		tc.wantNow("at KeepAliveTimeout", "GOAWAY 0 8 *")
		tc.wantDeadAt(45 * time.Second)
		tc.wantFails("silence", isSilence)
		wantErrAs(tc.t, "Read", second(c.Read(make([]byte, 1))), isSilence)
		wantErrAs(tc.t, "Write", writeErr(c), isSilence)
	})
}

// wantDeadAt fails the test unless the transport has ended for the peer, when the
// session was d old.
func (tc *oneTest) wantDeadAt(d time.Duration) {
	tc.t.Helper()
	synctest.Wait()
	at, err := tc.peer.ended()
	if err == nil {
		tc.t.Fatalf("the transport is open after %v", tc.age())
	}
	if got := at.Sub(tc.began); got != d {
		tc.t.Errorf("the transport ended after %v, want %v", got, d)
	}
}

// TestAnsweredPingsGoOn: each silence has its PING, one KeepAliveInterval after the last
// byte came.
func TestAnsweredPingsGoOn(t *testing.T) {
	aliveRun(t, func(tc *oneTest) {
		last := time.Duration(0)
		for i := range 5 {
			tc.passUntil(last + 15*time.Second - 1)
			tc.wantNow("a moment before KeepAliveInterval")
			tc.pass(1)
			ack := tc.wantPing("at KeepAliveInterval")
			tc.pass(time.Duration(i) * 7 * time.Second) // less than KeepAliveTimeout
			tc.sendNow(ack)
			last = tc.age()
		}
		tc.wantAlive("all PINGs are answered")
	})
}

// TestAnyByteIsASignOfLife: not only an ACK, and not only a whole frame.
func TestAnyByteIsASignOfLife(t *testing.T) {
	frame := oneEncode(`UNKNOWN 200 0 "12345678"`)
	aliveRun(t, func(tc *oneTest) {
		for _, b := range frame {
			tc.pass(15*time.Second - 1)
			tc.sendRaw([]byte{b})
		}
		tc.wantNow("a byte each 15 s: no PING")
		tc.pass(15 * time.Second)
		tc.wantPing("then none for 15 s")
		tc.pass(30*time.Second - 1)
		tc.sendRaw(frame[:1])
		tc.pass(1)
		tc.wantAlive("a byte came in the last moment, the ACK did not")
		tc.pass(15*time.Second - 1)
		tc.wantNow("the PING is outstanding still, and the next silence is only beginning")
		tc.wantAlive("a new silence has a new KeepAliveTimeout")
	})
}

// TestBytesCountForWhoWaitsForTheAck: the ACK may stand behind much data.
func TestBytesCountForWhoWaitsForTheAck(t *testing.T) {
	aliveRun(t, func(tc *oneTest) {
		tc.open(vtA)
		tc.passUntil(15 * time.Second)
		tc.wantNow("an OPEN, and a PING", "OPEN 1", "PING *")
		for range 20 {
			tc.pass(14 * time.Second)
			tc.sendNow(`DATA YOURS 1 "x"`)
		}
		tc.wantAlive("the ACK has not come for minutes, but bytes have")
		tc.wantNow("and no second PING is sent while one is out")
	})
}

// TestTransportThatTakesBytesIsAlive: what counts is silence both ways. The peer says
// nothing, and reads 64 KiB of what is written each 20 s.
func TestTransportThatTakesBytesIsAlive(t *testing.T) {
	aliveRun(t, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.wantSoon("an OPEN", "OPEN 1")
		tc.sendNow("WINDOW YOURS 1 2000000")
		tc.pace(64<<10, 20*time.Second)
		w := tc.startWrite(c, strings.Repeat("x", 1_100_000))
		tc.pass(5 * time.Minute)
		tc.wantAlive("the peer says nothing, and takes what is sent")
		w.wantBlocked("it takes it slowly")
		tc.pace(0, 0)
		tc.pass(20 * time.Second)
	})
}

// TestTransportThatTakesNothingIsDead: what waits to be sent is no sign of life. The
// GOAWAY then has a second.
func TestTransportThatTakesNothingIsDead(t *testing.T) {
	aliveRun(t, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.wantSoon("an OPEN", "OPEN 1")
		tc.deaf(true)
		w := tc.startWrite(c, strings.Repeat("x", 65536))
		tc.passUntil(45*time.Second - 1)
		tc.wantAlive("a moment before KeepAliveTimeout")
		w.wantBlocked("the transport takes nothing")
		tc.pass(1)
		select {
		case <-w.done:
		default:
			tc.t.Fatal("Write goes on after KeepAliveTimeout")
		}
		wantErrAs(tc.t, "Write", w.err, isSilence)
		tc.pass(time.Second)
		select {
		case <-tc.p.Done():
		default:
			tc.t.Fatal("a second for the GOAWAY has passed")
		}
		tc.wantFails("silence", isSilence)
		tc.deaf(false)
		tc.wantGone("the transport is closed")
	})
}

// TestOwnBytesAskAsWell: a session that sends without end, and gets nothing, still
// asks.
func TestOwnBytesAskAsWell(t *testing.T) {
	aliveRun(t, func(tc *oneTest) {
		c := tc.open(vtA)
		tc.wantSoon("an OPEN", "OPEN 1")
		for range 14 {
			tc.pass(time.Second)
			tc.write(c, "x")
		}
		tc.wantNow("14 s", `DATA 1 "xxxxxxxxxxxxxx"`)
		tc.passUntil(15 * time.Second)
		tc.wantPing("nothing has come for 15 s")
	})
}

// TestNoKeepAlive: with an interval below zero nothing is sent, and silence is no end.
// The peer's PINGs are answered.
func TestNoKeepAlive(t *testing.T) {
	for _, listen := range []bool{true, false} {
		oneRun(t, oneSetup{listen: listen, cfg: Config{KeepAliveInterval: -1}}, func(tc *oneTest) {
			tc.peer.pings = true
			c := tc.open(vtA)
			tc.wantSoon("an OPEN", "OPEN 1")
			tc.pass(1000 * time.Hour)
			tc.wantNow("no PING")
			tc.wantAlive("silence is no end")
			tc.sendNow("PING 0102030405060708", `DATA YOURS 1 "hi"`)
			tc.want("the peer's PING is answered", "ACK 0102030405060708")
			tc.wantRead("and the connection goes on", c, "hi", nil)
		})
	}
}

// TestPingIsAnsweredAtOnce: with the same 8 bytes, each, whether anybody reads or not.
func TestPingIsAnsweredAtOnce(t *testing.T) {
	for _, o := range []oneSetup{onePipe, oneListener} {
		oneRun(t, o, func(tc *oneTest) {
			for _, opaque := range []string{"0000000000000000", "ffffffffffffffff", "0102030405060708", "0102030405060708"} {
				tc.sendNow("PING " + opaque)
				tc.wantNow("the answer, in no time", "ACK "+opaque)
			}
		})
	}
}

// TestOnlyTheLatestPingIsAnswered while the transport takes nothing, so that an answer
// takes one slot.
func TestOnlyTheLatestPingIsAnswered(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		tc.deaf(true)
		tc.startWrite(c, strings.Repeat("x", 65536)) // fills what the transport takes
		for i := range 500 {
			tc.sendNow(fmt.Sprintf("PING %016x", i))
		}
		tc.deaf(false)
		tc.settle()
		var acks []string
		for _, l := range oneLines(tc.sent()) {
			if strings.HasPrefix(l, "ACK") {
				acks = append(acks, l)
			}
		}
		// One may have been on its way out when the next PING came.
		if len(acks) == 0 || len(acks) > 2 || acks[len(acks)-1] != fmt.Sprintf("ACK %016x", 499) {
			tc.t.Errorf("500 PINGs while the transport took nothing were answered by:%s", oneShort(acks))
		}
	})
}

// TestPingsShareOne: one PING is out at a time, and serves all callers.
func TestPingsShareOne(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.peer.pings = true
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		type result struct {
			rtt time.Duration
			err error
		}
		results := make(chan result, 10)
		ping := func(ctx context.Context) {
			rtt, err := tc.p.Ping(ctx)
			results <- result{rtt, err}
		}
		go ping(context.Background())
		ack := tc.wantPing("the first caller")
		tc.pass(10 * time.Millisecond)
		for range 5 {
			go ping(context.Background())
		}
		go ping(ctx)
		tc.wantNow("the others share it")
		cancel()
		synctest.Wait()
		if r := <-results; !errors.Is(r.err, context.Canceled) {
			tc.t.Errorf("Ping whose context ended: %v, %v", r.rtt, r.err)
		}
		tc.pass(30 * time.Millisecond)
		tc.sendNow(ack)
		for range 6 {
			if r := <-results; r.err != nil || r.rtt < 30*time.Millisecond || r.rtt > 40*time.Millisecond {
				tc.t.Errorf("Ping: %v, %v; want 40 ms, or 30 for who came later", r.rtt, r.err)
			}
		}
		if rtt := tc.p.Stats().RTT; rtt != 40*time.Millisecond {
			tc.t.Errorf("Stats.RTT is %v, want 40 ms", rtt)
		}
		for range 2 {
			go ping(context.Background())
		}
		tc.pass(59 * time.Millisecond)
		tc.wantNow("99 ms after the first, it is too early for the next")
		tc.pass(time.Millisecond)
		tc.sendNow(tc.wantPing("later callers have a PING of their own"))
		for range 2 {
			if r := <-results; r.err != nil || r.rtt > time.Millisecond {
				tc.t.Errorf("Ping: %v, %v", r.rtt, r.err)
			}
		}
	})
}

// TestPingsInARow: however often Ping is called, the peer has a token for each PING.
func TestPingsInARow(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.peer.pings = true
		began := time.Now()
		for i := range 100 {
			ping := tc.startErr("Ping", func() error { _, err := tc.p.Ping(context.Background()); return err })
			if i > 0 {
				tc.wantNow("not yet")
				tc.pass(callEvery)
			}
			tc.sendNow(tc.wantPing("the next"))
			ping.want("Ping", 0, nil)
		}
		if took := time.Since(began); took != 99*callEvery {
			tc.t.Errorf("100 Pings in a row took %v, want %v", took, 99*callEvery)
		}
		tc.wantAlive("they earned no tokens, and cost none here")

		ctx, cancel := context.WithTimeout(context.Background(), callEvery/2)
		defer cancel()
		if _, err := tc.p.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			tc.t.Errorf("Ping whose context ends before it is time: %v", err)
		}
		tc.wantNow("and nothing was sent for it")
		tc.pass(callEvery)
		first := tc.startErr("Ping", func() error { _, err := tc.p.Ping(context.Background()); return err })
		tc.sendNow(tc.wantPing("a last one"))
		first.want("Ping", 0, nil)
		late := tc.startErr("Ping", func() error { _, err := tc.p.Ping(context.Background()); return err })
		late.wantBlocked("it is too early")
		tc.p.Close()
		late.want("Ping", 0, net.ErrClosed)
	})
}

// TestAckOfAnotherPing is ignored, and does not answer the one that is out.
func TestAckOfAnotherPing(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.peer.pings = true
		ping := tc.startErr("Ping", func() error { _, err := tc.p.Ping(context.Background()); return err })
		ack := tc.wantPing("Ping")
		tc.sendNow("ACK 7777777777777777")
		ping.wantBlocked("that was another's ACK")
		tc.sendNow(ack)
		ping.want("Ping", 0, nil)
		tc.sendNow(ack)
		tc.wantAlive("an ACK that nobody waits for costs a token")
	})
}

// TestPingWithoutAnswer ends with its context, or with the session.
func TestPingWithoutAnswer(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.peer.pings = true
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := tc.p.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			tc.t.Errorf("Ping: %v", err)
		}
		ping := tc.startErr("Ping", func() error { _, err := tc.p.Ping(context.Background()); return err })
		tc.wantPing("one PING for both")
		tc.p.Close()
		ping.want("Ping", 0, net.ErrClosed)
	})
}

// TestKeepAlivePingServesCallers: a PING of keep-alive is out, so Ping sends none.
func TestKeepAlivePingServesCallers(t *testing.T) {
	aliveRun(t, func(tc *oneTest) {
		tc.passUntil(15 * time.Second)
		ack := tc.wantPing("keep-alive")
		ping := tc.startErr("Ping", func() error { _, err := tc.p.Ping(context.Background()); return err })
		tc.wantNow("one is out")
		tc.sendNow(ack)
		ping.want("Ping", 0, nil)
	})
}

// TestKeepAliveWaitsForThePreface: before the peer's preface has come PrefaceTimeout
// and SilenceTimeout count, and nothing is sent.
func TestKeepAliveWaitsForThePreface(t *testing.T) {
	o := oneAlive(true)
	o.preface = "-"
	oneRun(t, o, func(tc *oneTest) {
		tc.peer.pings = true
		tc.passUntil(4 * time.Minute)
		tc.wantNow("a Listener on Auto keeps silent")
		tc.sendNow("PREFACE")
		tc.wantNow("its preface", "PREFACE *")
		tc.pass(15*time.Second - 1)
		tc.wantNow("a moment before KeepAliveInterval")
		tc.pass(1)
		tc.wantPing("at KeepAliveInterval")
	})
}

// TestPrefaceBeforeItIsAwaited: a preface that has come is awaited no more.
func TestPrefaceBeforeItIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := sessionPair(t, overPipe)
		synctest.Wait()
		<-time.After(time.Second) // the standby's timer
		for _, s := range []*session{p.s, l.s} {
			if !s.isSettled() {
				t.Fatal("the preface has not come")
			}
			s.awaitPeer()
		}
		<-time.After(time.Hour)
		for _, err := range []error{p.Err(), l.Err()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// TestTwoIdleSessions stay alive for a day.
func TestTwoIdleSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := sessionPair(t, overPipe)
		x, y := connPair(t, p, l, 1)
		<-time.After(24 * time.Hour)
		for _, err := range []error{p.Err(), l.Err()} {
			if err != nil {
				t.Fatal(err)
			}
		}
		x.Write([]byte("hello"))
		b := make([]byte, 5)
		if _, err := io.ReadFull(y, b); string(b) != "hello" || err != nil {
			t.Errorf("after a day: %q, %v", b, err)
		}
	})
}

// TestAnswerThatNobodyReadIsLookedFor: a steady reader has made the lazy timer slow, and gives up
// between the PING and its ACK.
// To see it fail: in lookAliveLocked, take the case with nudge away.
func TestAnswerThatNobodyReadIsLookedFor(t *testing.T) {
	setup := oneSetup{cfg: Config{KeepAliveInterval: 100 * time.Millisecond, KeepAliveTimeout: 300 * time.Millisecond}}
	for _, messages := range []int{300, 310, 330, 350} { // the timer was set at another time in each
		oneRun(t, setup, func(tc *oneTest) {
			tc.peer.mu.Lock()
			tc.peer.ackAfter = 30 * time.Millisecond
			tc.peer.mu.Unlock()
			c := tc.openIDs(1)[0]
			b := make([]byte, 1)
			readFor := func(d time.Duration) {
				c.SetReadDeadline(time.Now().Add(d))
				if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
					tc.t.Fatal(err)
				}
			}
			for range messages {
				c.SetReadDeadline(time.Time{})
				tc.peer.say(`DATA YOURS 1 "x"`)
				if n, err := c.Read(b); n != 1 || err != nil {
					tc.t.Fatal(n, err)
				}
				readFor(10 * time.Millisecond)
			}
			readFor(120 * time.Millisecond)
			tc.pass(2 * time.Second)
			if err := tc.p.Err(); err != nil {
				tc.t.Errorf("after %d messages, the session has ended: %v", messages, err)
			}
			tc.sent()
		})
	}
}
