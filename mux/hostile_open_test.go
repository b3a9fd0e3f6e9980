package mux

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// The attacks of TestHostile that open connections.

func openReset(i int) []string {
	return []string{fmt.Sprintf("OPEN %d", i+1), fmt.Sprintf("RESET %d 9", i+1)}
}

// A RESET takes a connection that nobody has accepted from the queue, for 4 tokens.
func rapidResetUnaccepted(tc *oneTest, b *bystander) {
	tc.flood(250, openReset)
	tc.wantAlive("250 pairs, 1,000 tokens")
	tc.wantHolding("nothing is left of them", holding{})
	b.want("meanwhile")
	tc.peer.say(openReset(250)...)
	// The end is found before the last answer, which waits for all that came with it, is sent.
	if n := tc.wantCalm("the next pair", 251, "RESET YOURS ")["RESET YOURS "]; n != 250 {
		tc.t.Errorf("%d RESETs answered 251 pairs, want 250", n)
	}
	tc.wantNoAcceptOf("a connection that its opener has reset")
}

// wantNoAcceptOf is wantNoAccept for a session that has ended.
func (tc *oneTest) wantNoAcceptOf(sentence string) {
	tc.t.Helper()
	if c, err := tc.l.AcceptConn(context.Background()); err == nil {
		tc.conns = append(tc.conns, c)
		tc.t.Errorf("%s: accepted %v", sentence, c.Addr())
	}
}

// R3: a connection's place is free when its handler has let go of it.
func rapidResetAccepted(tc *oneTest, b *bystander) {
	app := tc.serve()
	defer app.release()
	for i := range 8 {
		for _, line := range openReset(i) {
			tc.send(line)
		}
	}
	tc.wantNow("RESET of what was accepted has no answer")
	if now, _ := app.handlers(); now != 8 {
		tc.t.Fatalf("%d handlers work, want 8", now)
	}
	tc.wantHolding("eight handlers", holding{conns: 8, slots: 8})
	tc.full()
	tc.drain(1000 - 20)
	const most = 20*64 + 63
	tc.flood(most, func(i int) []string { return openReset(i + 8) })
	tc.wantAlive("1,343 OPENs beyond MaxConns")
	tc.wantHolding("and no more than before", holding{conns: 8, slots: 8})
	b.want("meanwhile")
	const last = 8 + most + 1
	tc.peer.say(fmt.Sprintf("OPEN %d", last))
	refused := tc.wantCalm("one more", last, "REFUSED ")["REFUSED "]
	if _, peak := app.handlers(); refused != most || peak != 8 {
		tc.t.Errorf("%d OPENs were refused, want 1,343; %d handlers at once, want 8", refused, peak)
	}
}

// With vt-muxer's protocol three frames of length 0 open, end and free an address: the
// third could only be the peer's end of a connection that it had opened at the same time.
func crossing(i int) []vtFrame { return []vtFrame{vtOpen(vtA), vtEnd(vtA), vtEnd(vtA)} }

func rapidCrossUnaccepted(tc *vtTest, b *bystander) {
	tc.sendRaw(vtMany(8, crossing))
	tc.wantHolding("they wait to be accepted, and count", holding{slots: 8, queued: 8})
	b.want("meanwhile")
	c := tc.accept(vtA)
	if _, err := c.Write([]byte("x")); err == nil {
		tc.t.Error("a connection that is no more takes a Write")
	}
	c.Close()
	tc.wantHolding("one is let go of", holding{slots: 7, queued: 7})
	tc.sendRaw(vtMany(1000, crossing))
	tc.wantHolding("there was one place", holding{slots: 8, queued: 8})
	tc.want("nothing is answered")
	tc.send(vtOpen(vtB))
	tc.want("an OPEN beyond MaxConns is refused", vtEnd(vtB))
	tc.wantAlive("the peer can't know what the application holds")
}

func rapidCrossAccepted(tc *vtTest, b *bystander) {
	app := tc.serve()
	defer app.release()
	for range 8 {
		tc.sendRaw(vtMany(1, crossing))
	}
	tc.wantHolding("eight handlers", holding{slots: 8})
	b.want("meanwhile")
	tc.sendRaw(vtMany(1000, crossing))
	tc.wantHolding("and no more", holding{slots: 8})
	if _, peak := app.handlers(); peak != 8 {
		tc.t.Errorf("%d handlers at once, want 8", peak)
	}
	app.release()
	tc.wantHolding("they have let go", holding{})
}

// A5: what is refused is owed one REFUSED, of 8 bytes when it is sent, and never more than
// there are tokens or places in the queue. IDs that follow each other share a place.
func refusalsUnread(tc *oneTest, b *bystander) {
	tc.flood(4, func(i int) []string { return []string{fmt.Sprintf("OPEN %d", i+1)} })
	before := heap()
	tc.drain(1000 - 20)
	tc.deaf(true)
	const most = 20*64 + 63 // refusals; 64 cost a token
	tc.flood(most, func(i int) []string { return []string{fmt.Sprintf("OPEN %d", i+5)} })
	tc.wantAlive("1,343 OPENs beyond MaxConns")
	got := holdingOf(tc.p.s)
	if got.refusals > 2 || got.conns != 4 || got.owing != 0 {
		tc.t.Errorf("the session holds %+v", got)
	}
	wantHeap(tc.t, "1,343 refusals", before, 256<<10) // the peer's own bytes included
	b.want("meanwhile")
	tc.peer.say(fmt.Sprintf("OPEN %d", most+5))
	tc.diesUnheard("one more", CodeCalm)
}

// diesUnheard fails the test unless the session dies with code within a second though the
// peer reads nothing, and then lets it read.
func (tc *oneTest) diesUnheard(sentence string, code Code) {
	tc.t.Helper()
	tc.wantDone(sentence, failLinger+1)
	tc.wantFails(sentence, func(err error) bool { return isProtocolError(err, code) })
	tc.deaf(false)
	synctest.Wait()
	tc.sent()
}

// An OPEN that is taken in between needs no more room for the refusals.
func refusalsWithGaps(tc *oneTest, b *bystander) {
	const n = 3072 // more than there are places
	tc.deaf(true)
	tc.flood(n, func(i int) []string { return []string{fmt.Sprintf("OPEN %d", 2*i+1)} })
	tc.wantAlive("3,072 OPENs that are refused, their IDs not in a row")
	if got := holdingOf(tc.p.s); got.refusals > 2*n/refusalLen {
		tc.t.Errorf("the session holds %+v", got)
	}
	b.want("meanwhile")
	tc.deaf(false)
	synctest.Wait()
	if got := len(tc.sent()); got != n {
		tc.t.Errorf("%d were refused, want %d", got, n)
	}
}

// R1: the queue of refusals has a bound of its own, for who leaves wide gaps between the IDs.
func refusalsUnreadByAPipe(tc *oneTest, b *bystander) { refusalsUnreadBy(tc, b, 2048) }

// It rises with MaxConns.
func refusalsUnreadByALargePipe(tc *oneTest, b *bystander) { refusalsUnreadBy(tc, b, 4096) }

func refusalsUnreadBy(tc *oneTest, b *bystander, places int) {
	tc.deaf(true)
	sent, most := 0, 0
	for tc.p.Err() == nil && sent < 5*places {
		tc.flood(200, func(i int) []string { return []string{fmt.Sprintf("OPEN %d", refusalLen*(sent+i)+1)} })
		sent += 200
		most = max(most, holdingOf(tc.p.s).refusals)
		b.want("meanwhile")
		tc.pass(2 * time.Second)
	}
	if most > places || most < places-200 {
		tc.t.Errorf("%d places were taken, want %d", most, places)
	}
	tc.diesUnheard("the queue is full", CodeCalm)
}

// With vt-muxer's protocol a refusal is an END, owed by the connection.
func endsUnread(tc *vtTest, b *bystander) {
	tc.peer.setDeaf(true)
	open := func(i int) []vtFrame { return []vtFrame{vtOpen(testAddr(i))} }
	tc.sendRaw(vtMany(64, open))
	tc.wantAlive("as many as MaxConns")
	got := holdingOf(tc.s)
	if got.conns != 64 || got.queued != 4 || got.owing > 60 || got.held != 0 {
		tc.t.Errorf("the session holds %+v", got)
	}
	b.want("meanwhile")
	tc.sendRaw(vtMany(1, func(int) []vtFrame { return open(64) }))
	tc.wantTooMany("one more")
	tc.peer.setDeaf(false)
}

func openFlood(backlog int) func(*oneTest, *bystander) {
	return func(tc *oneTest, b *bystander) {
		n := goroutines()
		tc.drain(1000 - 10)
		const most = 10*128 + 127
		tc.flood(backlog+most, func(i int) []string { return []string{fmt.Sprintf("OPEN %d", i+1)} })
		tc.wantAlive("1,407 OPENs beyond the limit")
		tc.wantHolding("the limit", holding{conns: backlog, slots: backlog, queued: backlog})
		wantGoroutines(tc.t, "nothing runs for a connection", n+1) // the helper
		b.want("meanwhile")
		last := backlog + most + 1
		tc.peer.say(fmt.Sprintf("OPEN %d", last))
		refused := tc.wantCalm("one more", wire.ID(last), "REFUSED ")["REFUSED "]
		if refused != most {
			tc.t.Errorf("%d OPENs were refused, want 1,407", refused)
		}
	}
}

func openFloodAccepted(tc *oneTest, b *bystander) {
	app := tc.serve()
	defer app.release()
	tc.flood(16, func(i int) []string { return []string{fmt.Sprintf("OPEN %d", i+1)} })
	if now, _ := app.handlers(); now != 16 {
		tc.t.Fatalf("%d handlers, want 16", now)
	}
	tc.full()
	tc.sendNow("OPEN 17")
	tc.wantNow("beyond MaxConns", "REFUSED 17 4 *")
	b.want("meanwhile")
	app.release()
	tc.settle()
	tc.sent() // STOP and FIN of each
	tc.send("FIN 1")
	tc.send("OPEN 18")
	tc.wantNow("a place is free, when both ends have let go", "STOP YOURS 18 9", "FIN YOURS 18")
	if now, peak := app.handlers(); peak != 16 {
		tc.t.Errorf("%d handlers, %d at once", now, peak)
	}
}

func vtOpenFlood(tc *vtTest, b *bystander) {
	open := func(i int) []vtFrame { return []vtFrame{vtOpen(testAddr(i))} }
	n := goroutines()
	tc.sendRaw(vtMany(64, open))
	tc.wantAlive("as many as MaxConns")
	tc.wantHolding("they wait to be accepted", holding{conns: 64, slots: 64, queued: 64})
	wantGoroutines(tc.t, "nothing runs for a connection", n)
	b.want("meanwhile")
	tc.sendRaw(vtMany(1000, func(i int) []vtFrame { return open(i + 64) }))
	tc.wantTooMany("one more ends the session, for a refusal would need state")
	tc.want("without a word")
}

func emptyFrames(tc *oneTest, b *bystander) {
	tc.acceptIDs(1)
	tc.full()
	tc.floodOf(1000, `DATA 1 ""`)
	tc.wantAlive("1,000 empty DATA")
	tc.wantHolding("none is queued", holding{conns: 1, slots: 1})
	tc.wantNow("none is answered")
	b.want("meanwhile")
	tc.peer.say(`DATA 1 ""`)
	tc.wantCalm("one more", 1)
}

// Frames of length 0 open and end. A Pipe answers each second one, so they are never
// answered by more than they are, and leave nothing.
func vtEmptyFrames(tc *vtTest, b *bystander) {
	n := goroutines()
	for range 10 {
		tc.sendRaw(vtMany(500, func(int) []vtFrame { return []vtFrame{vtOpen(vtA)} }))
		if ends := len(tc.frames()); ends > 250 {
			tc.t.Fatalf("500 frames of length 0 were answered by %d", ends)
		}
		b.want("meanwhile")
	}
	tc.wantAlive("5,000 frames of length 0")
	if got := holdingOf(tc.s); got.conns > 1 || got.queued != 0 || got.slots > 1 {
		tc.t.Errorf("the session holds %+v", got)
	}
	wantGoroutines(tc.t, "afterwards", n+1) // the helper
}

func churn(tc *oneTest, b *bystander) {
	const rounds, each = 40, 50
	id := 0
	round := func() {
		tc.flood(each, func(i int) []string {
			return []string{fmt.Sprintf("OPEN %d", id+i+1), fmt.Sprintf(`DATA %d "hi" FIN`, id+i+1)}
		})
		id += each
		for range each {
			c, err := tc.l.AcceptConn(context.Background())
			if err != nil {
				tc.t.Fatal(err)
			}
			c.Close()
		}
		synctest.Wait()
		tc.peer.mu.Lock()
		clear(tc.peer.law.conns)
		tc.peer.mu.Unlock()
		tc.sent()
	}
	afterRounds(tc.t, rounds, round, func() {
		tc.wantAlive("connections that are accepted and closed cost nothing")
		tc.wantHolding("closed connections leave nothing", holding{})
	})
	b.want("meanwhile")
}

// afterRounds does all rounds and calls look. The first round may cost memory, the others not.
func afterRounds(t *testing.T, rounds int, round, look func()) {
	t.Helper()
	round()
	before := heap()
	for range rounds {
		round()
	}
	look()
	wantHeap(t, "2,000 connections later", before, 64<<10)
}

func vtChurn(tc *vtTest, b *bystander) {
	const rounds, each = 40, 50
	at := 0
	round := func() {
		tc.peer.queue(vtMany(each, func(i int) []vtFrame {
			a := testAddr(at + i)
			return []vtFrame{vtOpen(a), vtData(a, "hi"), vtEnd(a)}
		}))
		synctest.Wait()
		at += each
		for range each {
			c, err := tc.l.AcceptConn(context.Background())
			if err != nil {
				tc.t.Fatal(err)
			}
			c.Close()
		}
		synctest.Wait()
		tc.peer.take()
	}
	afterRounds(tc.t, rounds, round, func() {
		tc.wantAlive("connections that are accepted and closed")
		tc.wantHolding("closed connections leave nothing", holding{})
	})
	b.want("meanwhile")
}

func noGoroutines(tc *oneTest, b *bystander) {
	tc.sendNow("PING 0000000000000001") // the helper is started, and stays
	tc.sent()
	n := goroutines()
	tc.flood(500, func(i int) []string {
		return []string{fmt.Sprintf("OPEN %d", i+1), fmt.Sprintf(`DATA %d "hello"`, i+1), fmt.Sprintf("STOP %d 9", i+1),
			fmt.Sprintf("PING %016x", i), `UNKNOWN 99 1 "x"`}[:3+i%3]
	})
	tc.wantAlive("all within the bucket")
	wantGoroutines(tc.t, "500 connections, with unread bytes", n)
	tc.sent()
	b.want("meanwhile")
}

func vtNoGoroutines(tc *vtTest, b *bystander) {
	n := goroutines()
	tc.sendRaw(vtMany(500, func(i int) []vtFrame { return []vtFrame{vtOpen(testAddr(i)), vtData(testAddr(i), "hello")} }))
	tc.wantAlive("500 connections")
	wantGoroutines(tc.t, "500 connections, with unread bytes", n)
	b.want("meanwhile")
}

// Silence ends a session, its connections with it: at 45 s.
func opensAndIsSilent(tc *oneTest, b *bystander) {
	tc.takePings()
	tc.flood(256, func(i int) []string { return []string{fmt.Sprintf("OPEN %d", i+1)} })
	start := time.Now()
	tc.wantHolding("256 connections, and no byte", holding{conns: 256, slots: 256, queued: 256})
	tc.wantDone("the end", 10*time.Minute)
	if d := time.Since(start); d > 45*time.Second {
		tc.t.Errorf("the session ended after %v, want 45 s", d)
	}
	wantErrAs(tc.t, "Err", tc.p.Err(), isSilence)
	tc.sent()
}

// Who keeps the transport alive may keep connections open. They hold no buffer.
func opensAndAnswersPings(tc *oneTest, b *bystander) {
	tc.flood(256, func(i int) []string { return []string{fmt.Sprintf("OPEN %d", i+1)} })
	n := goroutines()
	tc.pass(time.Hour)
	tc.wantAlive("the peer answers")
	tc.wantHolding("256 connections, and no byte", holding{conns: 256, slots: 256, queued: 256})
	wantGoroutines(tc.t, "an hour later", n+3) // its helper, and the bystander's
}

func vtOpensAndIsSilent(tc *vtTest, b *bystander) {
	tc.sendRaw(vtMany(256, func(i int) []vtFrame { return []vtFrame{vtOpen(testAddr(i))} }))
	n := goroutines()
	<-time.After(24 * time.Hour)
	tc.wantAlive("the protocol has no keep-alive: TCP's is the transport's matter")
	tc.wantHolding("256 connections, and no byte", holding{conns: 256, slots: 256, queued: 256})
	wantGoroutines(tc.t, "a day later", n+2) // the bystander's helpers
}

func badIDs() (all []hostileAttack) {
	for _, tt := range []struct {
		name  string
		lines []string
		raw   []byte
		last  wire.ID
	}{
		{"reuse", []string{"OPEN 1", "OPEN 1"}, nil, 1},
		{"reuse of a closed one", []string{"OPEN 1", "FIN 1", "STOP 1 9", "OPEN 1"}, nil, 1},
		{"backwards", []string{"OPEN 5", "OPEN 4"}, nil, 5},
		{"0", nil, oneRaw(1, 0, 18, 0), 0},
		{"of the other space", nil, oneRaw(1, 1, 18, 1), 0},
		{"DATA of 0", nil, oneRaw(2, 0, 1, 0), 0},
	} {
		all = append(all, hostileAttack{"one, " + tt.name, hostileOne(oneListener, func(tc *oneTest, b *bystander) {
			if tt.raw != nil {
				tc.sendRaw(tt.raw)
			} else {
				tc.peer.say(tt.lines...)
			}
			tc.wantDeath(tt.name, tt.last, CodeProtocol, "RESET YOURS 1")
		})})
	}
	return all
}

// R11: IDs never wrap, at either end.
func lastIDs(tc *oneTest, b *bystander) {
	t := &tc.p.s.table
	t.mu.Lock()
	t.allotted = maxID - 2
	t.mu.Unlock()
	tc.peer.mu.Lock()
	tc.peer.law.opened = maxID - 2
	tc.peer.mu.Unlock()
	tc.open(vtA)
	tc.open(vtA)
	tc.wantSoon("the last two", "OPEN 4294967294", "OPEN 4294967295")
	tc.wantOpenErr("the IDs are used up", ErrExhausted)
	tc.sendNow(`DATA YOURS 4294967295 "hi"`, "OPEN 4294967295", `DATA 4294967295 "hello"`)
	tc.wantAlive("the peer's last ID")
	tc.wantRead("ours", tc.conns[1], "hi", nil)
	tc.wantRead("the peer's", tc.accept(vtA), "hello", nil)
	b.want("meanwhile")
	tc.peer.say("OPEN 1")
	tc.wantDeath("none is above the last", maxID, CodeProtocol)
}

func neverOpened() (all []hostileAttack) {
	for _, frame := range []string{`DATA 9 "x"`, `DATA YOURS 9 "x"`, "FIN 9", "WINDOW 9 1000000", "RESET 9 300", "REFUSED 9 4", "STOP 9 300", `DATA 2 ""`} {
		all = append(all, hostileAttack{"one, never opened, " + frame, hostileOne(oneListener, func(tc *oneTest, b *bystander) {
			tc.acceptIDs(1)
			tc.full()
			tc.peer.say(frame)
			tc.wantDeath(frame, 1, CodeProtocol)
		})})
	}
	return all
}

// What comes for closed connections is discarded, for a token each, and takes nothing
// from the credit of those that are open.
func closedIDs(tc *oneTest, b *bystander) {
	open := tc.acceptIDs(1)[0]
	tc.sendNow("OPEN 2", "FIN 2")
	tc.accept(vtA).Close()
	tc.wantNow("closed", "FIN YOURS 2")
	tc.full()
	frames := []string{`DATA 2 65535*x`, "FIN 2", "WINDOW 2 1000000", "RESET 2 9", "STOP 2 9"}
	tc.flood(1006, func(i int) []string { return frames[i%5 : i%5+1] }) // six are free
	tc.wantAlive("1,006 frames for a closed connection")
	tc.wantNow("no answer")
	tc.wantHolding("and nothing is kept", holding{conns: 1, slots: 1})
	b.want("meanwhile")
	if v := &open.c.recv; v.granted.Load() != 65536 || v.received != 0 || v.consumed != 0 {
		tc.t.Errorf("the open connection's limit is %d, with %d received and %d consumed", v.granted.Load(), v.received, v.consumed)
	}
	if n := tc.p.Stats().Discarded; n < 200*65535 {
		tc.t.Errorf("%d bytes were discarded", n)
	}
	// What was discarded has earned nothing.
	tc.peer.say("FIN 2")
	tc.wantCalm("one more", 2)
}

func vtUnknownAddresses(tc *vtTest, b *bystander) {
	open := tc.open(vtC)
	tc.want("our open", vtOpen(vtC))
	before := heap()
	junk := string(make([]byte, 10_000))
	for i := range 20 {
		tc.peer.queue(vtMany(100, func(j int) []vtFrame { return []vtFrame{vtData(testAddr(100*i+j), junk)} }))
		synctest.Wait()
		b.want("meanwhile")
	}
	tc.send(vtData(vtC, "hello"))
	tc.wantRead("what is known goes on", open, "hello", nil)
	tc.want("no answer")
	tc.wantHolding("nothing is kept", holding{conns: 1, slots: 1})
	wantHeap(tc.t, "2,000 unknown addresses", before, 256<<10)
	if n := tc.p.Stats().Discarded; n != 20_000_000 {
		tc.t.Errorf("%d bytes were discarded", n)
	}
}

// Close returns within half a second, a connection's at once, though the peer never reads.
func closeTowardsWhoNeverReads(tc *oneTest, b *bystander) {
	cs := tc.acceptIDs(3)
	tc.full()
	tc.deaf(true)
	w := tc.startWrite(cs[0], string(make([]byte, 65536)))
	w.wantBlocked("the peer reads nothing")
	closeBounded(&tc.vtTest, cs, w)
}

func vtCloseTowardsWhoNeverReads(tc *vtTest, b *bystander) {
	cs := []*Conn{tc.open(vtA), tc.open(vtB), tc.open(vtC)}
	tc.frames()
	tc.peer.setDeaf(true)
	w := tc.startWrite(cs[0], string(make([]byte, 200_000)))
	w.wantBlocked("the peer reads nothing")
	closeBounded(tc, cs, w)
}

func closeBounded(tc *vtTest, cs []*Conn, w *vtOp) {
	tc.t.Helper()
	blocked := []*vtOp{
		w, tc.startWrite(cs[0], "waits for its turn"),
		tc.start("Read", func() (int, error) { return cs[1].Read(make([]byte, 1)) }),
	}
	wantNoDelay(tc.t, "Close of a connection", func() { cs[2].Close() })
	wantNoDelay(tc.t, "CloseWrite of a connection with a Write", func() { cs[0].CloseWrite() })
	wantNoDelay(tc.t, "Reset of a connection with a Read", func() { cs[1].Reset(9) })
	start := time.Now()
	tc.p.Close()
	if d := time.Since(start); d > closeLinger {
		tc.t.Errorf("Close took %v, want %v at most", d, closeLinger)
	}
	synctest.Wait()
	for _, op := range blocked {
		select {
		case <-op.done:
		default:
			tc.t.Errorf("%s waits behind Close", op.name)
		}
	}
	if err := tc.p.Err(); !isClosedErr(err) {
		tc.t.Errorf("Err: %v", err)
	}
	tc.peer.setDeaf(false)
}

// TestOpenWaitsForNoAnswer (R9): there is none to an OPEN. Open returns at once, the
// calls of the connection have their deadlines, and silence ends the session.
func TestOpenWaitsForNoAnswer(t *testing.T) {
	oneRun(t, oneAlive(false), func(tc *oneTest) {
		tc.takePings()
		var c *Conn
		wantNoDelay(tc.t, "Open", func() { c = tc.open(vtA) })
		c.SetReadDeadline(time.Now().Add(time.Second))
		tc.wantRead("nothing", c, "", nil)
		r := tc.start("Read", func() (int, error) { return c.Read(make([]byte, 1)) })
		<-r.done
		wantErrAs(tc.t, "Read", r.err, isSilence)
		if d := tc.age(); d > 45*time.Second {
			tc.t.Errorf("an OPEN without answer lasted %v", d)
		}
	})
}
