package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A oneCost is a row of the table of PROTOCOL.md, 2.13: a frame that brings nothing
// forward, and what it costs.
type oneCost struct {
	name   string
	setup  oneSetup
	before func(*oneTest)
	lines  func(i int) []string // the i-th time; the last line is the one that costs
	tokens int
	free   int // times that cost nothing, at first
}

var oneCosts = []oneCost{
	{"DATA, empty", oneListener, func(tc *oneTest) { tc.acceptIDs(1) },
		func(int) []string { return []string{`DATA 1 ""`} }, 1, 0},
	{"DATA, empty, behind STOP", oneListener, func(tc *oneTest) { tc.acceptIDs(1)[0].CloseRead() },
		func(int) []string { return []string{`DATA 1 ""`} }, 1, 0},
	{"WINDOW that raises nothing", oneListener, func(tc *oneTest) { tc.acceptIDs(1) },
		func(int) []string { return []string{"WINDOW 1 65536"} }, 1, 0},
	{"WINDOW that raises by 4,095", oneListener, func(tc *oneTest) { tc.acceptIDs(1) },
		func(i int) []string { return []string{fmt.Sprintf("WINDOW 1 %d", 65536+4095*(i+1))} }, 1, 0},
	{"WINDOW for a half that has ended", onePipe, func(tc *oneTest) { tc.openIDs(1)[0].CloseWrite() },
		func(int) []string { return []string{"WINDOW YOURS 1 65536"} }, 1, 0},
	{"PING", onePipe, nil,
		func(i int) []string { return []string{fmt.Sprintf("PING %016x", i)} }, 1, 0},
	{"ACK", onePipe, nil,
		func(i int) []string { return []string{fmt.Sprintf("ACK %016x", i+1<<20)} }, 1, 0},
	{"STOP for a half that has ended", onePipe, func(tc *oneTest) { tc.openIDs(1)[0].CloseWrite() },
		func(int) []string { return []string{"STOP YOURS 1 9"} }, 1, 1},
	{"STOP that repeats one", oneListener, func(tc *oneTest) { tc.acceptIDs(1); tc.send("STOP 1 9") },
		func(int) []string { return []string{"STOP 1 9"} }, 1, 0},
	{"stray DATA", onePipe, closedConn,
		func(int) []string { return []string{`DATA YOURS 1 "x"`} }, 1, 0},
	{"stray FIN", onePipe, closedConn,
		func(int) []string { return []string{"FIN YOURS 1"} }, 1, 0},
	{"stray WINDOW", onePipe, closedConn,
		func(int) []string { return []string{"WINDOW YOURS 1 1000000"} }, 1, 6},
	{"stray RESET", onePipe, closedConn,
		func(int) []string { return []string{"RESET YOURS 1 9"} }, 1, 6},
	{"stray REFUSED", onePipe, closedConn,
		func(int) []string { return []string{"REFUSED 1 9"} }, 1, 6},
	{"stray STOP", onePipe, closedConn,
		func(int) []string { return []string{"STOP YOURS 1 9"} }, 1, 6},
	{"DATA in a gap", oneListener, func(tc *oneTest) { tc.send("OPEN 9"); tc.accept(vtA) },
		func(i int) []string { return []string{fmt.Sprintf(`DATA %d "x"`, 1+i%8)} }, 1, 0},
	{"a frame of unknown type", onePipe, nil,
		func(i int) []string { return []string{fmt.Sprintf(`UNKNOWN %d %d "x"`, 8+i%248, i)} }, 1, 0},
	{"RESET of what nobody has taken", oneListener, nil,
		func(i int) []string { return []string{fmt.Sprintf("OPEN %d", i+1), fmt.Sprintf("RESET %d 9", i+1)} }, 4, 0},
	{"RESET of what nobody has taken, stopped before", oneListener, nil,
		func(i int) []string {
			return []string{fmt.Sprintf("OPEN %d", i+1), fmt.Sprintf("STOP %d 9", i+1), fmt.Sprintf("RESET %d 9", i+1)}
		}, 4, 0},
	{"GOAWAY after the first ten", onePipe, nil,
		func(int) []string { return []string{"GOAWAY 7 0"} }, 1, 10},
	{"GOAWAY after the first ten, ever lower", onePipe, nil,
		func(i int) []string { return []string{fmt.Sprintf("GOAWAY %d 0", 1<<20-i)} }, 1, 10},
	{"OPEN beyond MaxConns", oneSetup{listen: true, cfg: Config{MaxConns: 1}}, func(tc *oneTest) { tc.acceptIDs(1) },
		opens(2, 64), 1, 0},
	{"OPEN beyond the backlog", oneSetup{listen: true, cfg: Config{AcceptBacklog: 1}}, func(tc *oneTest) { tc.send("OPEN 1") },
		opens(2, 128), 1, 0},
	{"OPEN towards a Pipe", onePipe, nil,
		opens(1, 128), 1, 0},
	{"OPEN towards a Pipe with a large MaxConns", oneSetup{cfg: Config{MaxConns: 1 << 17}}, nil,
		opens(1, 256), 1, 0},
	{"OPEN above the last ID", oneListener, func(tc *oneTest) { tc.draining() },
		opens(2, 128), 1, 0},
}

// opens are n OPENs, as many as cost a token where they get no place, the first for ID first.
func opens(first, n int) func(int) []string {
	return func(i int) []string {
		lines := make([]string, n)
		for j := range lines {
			lines[j] = fmt.Sprintf("OPEN %d", first+n*i+j)
		}
		return lines
	}
}

// closedConn opens a connection that both ends end.
func closedConn(tc *oneTest) {
	tc.openIDs(1)[0].CloseWrite()
	tc.send("FIN YOURS 1")
	tc.want("closed", "FIN 1")
}

// draining takes both steps of a Shutdown, with connection 1 open.
func (tc *oneTest) draining() *vtOp {
	tc.t.Helper()
	tc.acceptIDs(1)
	op := tc.shutdown(context.Background())
	tc.sendNow(tc.wantPing("the first step", "GOAWAY 4294967295 0"))
	tc.want("the second step", "GOAWAY 1 0")
	return op
}

// full gets ready for the counting of tokens: the bucket is full, nothing unlooked at.
func (tc *oneTest) full() {
	tc.pass(20 * time.Second)
	tc.sent()
}

// TestFramesWithoutProgressCost: each kind costs what the table says. A thousand tokens
// are there, and the frame that finds none ends the session.
func TestFramesWithoutProgressCost(t *testing.T) {
	for _, row := range oneCosts {
		t.Run(row.name, func(t *testing.T) {
			oneRun(t, row.setup, func(tc *oneTest) {
				if row.before != nil {
					row.before(tc)
				}
				tc.full()
				left := 1000
				if len(row.lines(0)) > 10 { // OPENs by the dozen
					left = 20
					tc.drain(1000 - left)
				}
				n := row.free + left/row.tokens
				var b []byte
				for i := range n {
					lines := row.lines(i)
					b = append(b, oneBytes(lines...)...)
					for _, l := range lines {
						tc.peer.mu.Lock()
						tc.peer.hears(l)
						tc.peer.mu.Unlock()
					}
				}
				tc.sendRaw(b)
				tc.wantAlive(fmt.Sprintf("%d frames", n))
				lines := row.lines(n)
				tc.sendNow(lines...)
				tc.settle()
				if err := tc.p.Err(); !isProtocolError(err, CodeCalm) {
					tc.t.Fatalf("after %d frames: %v, want code 7", n+1, err)
				}
				frames := tc.sent()
				if last := oneLines(frames[len(frames)-1:]); !oneMatch(last, []string{fmt.Sprintf("GOAWAY %d 7 *", tc.goneTo())}) {
					tc.t.Errorf("the last frame is%s", oneShort(last))
				}
				tc.wantGone("the transport is closed")
			})
		})
	}
}

// goneTo returns what the last GOAWAY of the session said, which oneLaw has checked.
func (tc *oneTest) goneTo() uint64 {
	tc.peer.mu.Lock()
	defer tc.peer.mu.Unlock()
	return tc.peer.law.goAway
}

// TestFramesThatAreFree: what brings something forward costs nothing, and what only a
// session's own doings lead to.
func TestFramesThatAreFree(t *testing.T) {
	for _, row := range []oneCost{
		{"DATA", oneListener, func(tc *oneTest) { tc.acceptIDs(1) },
			func(int) []string { return []string{`DATA 1 "x"`} }, 0, 0},
		{"DATA behind STOP", oneListener, func(tc *oneTest) { tc.acceptIDs(1)[0].CloseRead() },
			func(int) []string { return []string{`DATA 1 "x"`} }, 0, 0},
		{"WINDOW that rises", oneListener, func(tc *oneTest) { tc.acceptIDs(1) },
			func(i int) []string { return []string{fmt.Sprintf("WINDOW 1 %d", 65536+4096*(i+1))} }, 0, 0},
		{"WINDOW that rises for a half that has ended", onePipe, func(tc *oneTest) { tc.openIDs(1)[0].CloseWrite() },
			func(i int) []string { return []string{fmt.Sprintf("WINDOW YOURS 1 %d", 65536+4096*(i+1))} }, 0, 0},
		{"OPEN", oneSetup{listen: true, cfg: Config{AcceptBacklog: 5000}}, nil,
			func(i int) []string { return []string{fmt.Sprintf("OPEN %d", i+1)} }, 0, 0},
		{"OPEN, STOP", oneSetup{listen: true, cfg: Config{AcceptBacklog: 5000}}, nil,
			func(i int) []string { return []string{fmt.Sprintf("OPEN %d", i+1), fmt.Sprintf("STOP %d 9", i+1)} }, 0, 0},
		{"OPEN, FIN", oneSetup{listen: true, cfg: Config{AcceptBacklog: 5000}}, nil,
			func(i int) []string { return []string{fmt.Sprintf(`OPEN %d`, i+1), fmt.Sprintf("FIN %d", i+1)} }, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			oneRun(t, row.setup, func(tc *oneTest) {
				if row.before != nil {
					row.before(tc)
				}
				tc.full()
				tc.drain(1000)
				var b []byte
				for i := range 3000 {
					b = append(b, oneBytes(row.lines(i)...)...)
				}
				tc.peer.mu.Lock()
				tc.peer.law.peerOpened = 1 << 31
				tc.peer.mu.Unlock()
				tc.sendRaw(b)
				tc.wantAlive("3,000 frames with an empty bucket")
			})
		})
	}
}

// drain takes n tokens, that must be there.
func (tc *oneTest) drain(n int) {
	tc.t.Helper()
	tc.sendRaw([]byte(strings.Repeat(string(oneEncode(`UNKNOWN 200 0 ""`)), n)))
	tc.wantAlive(fmt.Sprintf("%d tokens", n))
}

// TestBucketFillsWithTime: 100 a second, up to 1,000.
func TestBucketFillsWithTime(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration
		n     int
	}{{0, 0}, {time.Second, 100}, {3 * time.Second, 300}, {10 * time.Second, 1000}, {time.Hour, 1000}} {
		oneRun(t, onePipe, func(tc *oneTest) {
			tc.full()
			tc.drain(1000)
			tc.pass(tt.after)
			tc.wantTokens(fmt.Sprintf("%v later", tt.after), tt.n)
		})
	}
}

// TestBucketIsFullAtFirst: a thousand in the very first moment.
func TestBucketIsFullAtFirst(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) { tc.wantTokens("at the start", 1000) })
}

// TestProgressEarnsTokens: payload on known connections, received or sent, one each
// 4 KiB; what the application accepts or opens, two. Nothing else.
func TestProgressEarnsTokens(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(*oneTest)
		do     func(*oneTest)
		earns  int
	}{
		{"4,095 bytes received", nil, func(tc *oneTest) { tc.sendNow("DATA 1 4095*x") }, 0},
		{"4,096 bytes received", nil, func(tc *oneTest) { tc.sendNow("DATA 1 4096*x") }, 1},
		{"40,960 bytes received, in pieces", nil, func(tc *oneTest) {
			for range 40 {
				tc.sendNow("DATA 1 1024*x")
			}
		}, 10},
		{"65,536 bytes received and discarded behind STOP", func(tc *oneTest) { tc.conns[0].CloseRead() },
			func(tc *oneTest) { tc.sendNow("DATA 1 65536*x") }, 16},
		{"8,192 bytes sent", nil, func(tc *oneTest) { tc.write(tc.conns[0], strings.Repeat("x", 8192)) }, 2},
		{"65,536 bytes sent", nil, func(tc *oneTest) { tc.write(tc.conns[0], strings.Repeat("x", 65536)) }, 16},
		{"2,048 bytes each way", nil, func(tc *oneTest) {
			tc.write(tc.conns[0], strings.Repeat("x", 2048))
			tc.sendNow("DATA 1 2048*x")
		}, 1},
		{"an OPEN", nil, func(tc *oneTest) { tc.sendNow("OPEN 2") }, 0},
		{"three accepted", func(tc *oneTest) { tc.send("OPEN 2", "OPEN 3", "OPEN 4", "OPEN 5") }, func(tc *oneTest) {
			for range 3 {
				tc.accept(vtA)
			}
		}, 6},
		{"three opened", nil, func(tc *oneTest) {
			for range 3 {
				tc.open(vtB)
			}
		}, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			oneRun(t, oneListener, func(tc *oneTest) {
				tc.acceptIDs(1)
				if tt.before != nil {
					tt.before(tc)
				}
				tc.full()
				tc.drain(1000)
				tt.do(tc)
				synctest.Wait()
				tc.sent()
				tc.wantTokens("earned", tt.earns)
			})
		})
	}
}

// TestProgressDoesNotFillBeyondAThousand: what is earned with a full bucket is lost.
func TestProgressDoesNotFillBeyondAThousand(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.acceptIDs(1)
		tc.full()
		tc.sendNow("DATA 1 65536*x")
		tc.drain(1000)
		tc.wantTokens("none is left", 0)
	})
}

// TestAllowanceForWhatCrossesARefusal: each refusal, whoever decided it, makes DATA for
// closed connections free, up to the initial window and a FIN, whatever its size.
func TestAllowanceForWhatCrossesARefusal(t *testing.T) {
	byBacklog := oneSetup{listen: true, cfg: Config{AcceptBacklog: 1}}
	refuse := func(tc *oneTest) { tc.sendNow("OPEN 1", "OPEN 3"); tc.wantNow("refused", "REFUSED 3 5 *") }
	for _, tt := range []struct {
		name   string
		setup  oneSetup
		refuse func(*oneTest)
		send   string
		times  int
		cost   int // of all, with the refusal
	}{
		{"small DATA", byBacklog, refuse, `DATA 3 "x"`, 65537, 0},
		{"small DATA, too many", byBacklog, refuse, `DATA 3 "x"`, 65547, 10},
		{"empty DATA", byBacklog, refuse, `DATA 3 ""`, 5, 5},
		{"FIN", byBacklog, refuse, "FIN 3", 65539, 2},
		{"large DATA", byBacklog, refuse, "DATA 3 16384*x", 4, 0},
		{"large DATA, too much", byBacklog, refuse, "DATA 3 16384*x", 6, 2},
		{"DATA to the last byte", byBacklog, refuse, "DATA 3 32768*x", 2, 0},
		{"DATA of one byte too much", byBacklog, refuse, "DATA 3 32769*x", 2, 1},
		{"DATA of another size", byBacklog, refuse, "DATA 3 300*x", 219, 1}, // 218 × 300 = 65,400
		{"WINDOW", byBacklog, refuse, "WINDOW 3 1000000", 7, 1},
		{"STOP", byBacklog, refuse, "STOP 3 9", 7, 1},
		{"DATA of an earlier connection", byBacklog, func(tc *oneTest) { tc.sendNow("OPEN 4", "OPEN 5"); tc.wantNow("refused", "REFUSED 5 5 *") },
			`DATA 3 "x"`, 65538, 1},
		{"by a Pipe", onePipe, func(tc *oneTest) {
			tc.sendNow("OPEN 1", "OPEN 3")
			tc.wantNow("refused", "REFUSED 1 11 *", "REFUSED 3 11 *")
		},
			`DATA 3 "x"`, 131075, 1},
		{"by the application", oneListener, func(tc *oneTest) {
			tc.sendNow("OPEN 3")
			tc.pending().Reject(300, "")
			tc.wantNow("refused", "REFUSED 3 300")
		}, `DATA 3 "x"`, 65538, 1},
		{"with a window of 131,072", oneSetup{listen: true, cfg: Config{AcceptBacklog: 1, InitialWindow: 131072}}, refuse, `DATA 3 "x"`, 131074, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			oneRun(t, tt.setup, func(tc *oneTest) {
				tc.full()
				tt.refuse(tc)
				tc.sendRaw([]byte(strings.Repeat(string(oneEncode(tt.send)), tt.times)))
				tc.wantTokens("behind the refusal", 1000-tt.cost)
			})
		})
	}
}

// TestCloseChargesNothing: what an honest peer has in flight when Close begins is stray, in
// whatever pieces, for a connection that Close has cut and for one whose OPEN comes later.
// Close says that it closes, and nothing else.
func TestCloseChargesNothing(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		tc.full()
		tc.deaf(true)
		w := tc.startWrite(c, strings.Repeat("x", 65536)) // Close waits for it
		w.wantBlocked("the transport takes nothing")
		op := tc.startErr("Close", tc.p.Close)
		tc.pass(10 * time.Millisecond)
		tc.sendNow("OPEN 5")
		for _, id := range []int{1, 5} {
			tc.sendRaw([]byte(strings.Repeat(string(oneEncode(fmt.Sprintf(`DATA %d "x"`, id))), 2000)))
		}
		op.wantBlocked("the transport takes nothing")
		tc.deaf(false)
		tc.want("the session ends", "DATA YOURS 1 32748*x", "GOAWAY 5 9 *")
		tc.wantGone("and nothing more is said")
		op.want("Close", 0, nil)
	})
}

// TestAllowanceIsLeftAsItIs by a DATA that it is too small for.
func TestAllowanceIsLeftAsItIs(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.full()
		tc.sendNow("OPEN 1", "DATA 1 65000*x", "DATA 1 538*x", "DATA 1 530*x", "DATA 1 8*x")
		tc.wantNow("refused", "REFUSED 1 11 *")
		// 65,537 - 65,000 = 537; 538 costs a token; 537 - 530 = 7; 8 costs a token.
		tc.wantTokens("two DATA", 1000-2)
	})
}

// TestDataAboveTheLastIDIsFree: as a refused connection's.
func TestDataAboveTheLastIDIsFree(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.draining()
		tc.full()
		tc.sendNow("OPEN 2", "DATA 2 1000*x", "DATA 2 1000*x FIN")
		tc.wantNow("no answer")
		tc.wantTokens("an OPEN, with what follows it", 1000)
	})
}

// TestRefusalsThatCantBeSent end the session when they take more than 2,048 places, so that a
// peer that reads nothing costs no memory.
func TestRefusalsThatCantBeSent(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.full()
		tc.deaf(true)
		sent := 0
		for ; sent < 40_000 && tc.p.Err() == nil; sent += 400 {
			var b []byte
			for i := range 400 {
				b = append(b, oneEncode(fmt.Sprintf("OPEN %d", refusalLen*(sent+i)+1))...)
			}
			tc.sendRaw(b)
			if tc.p.Err() == nil {
				tc.pass(4 * time.Second) // for the tokens
			}
		}
		// What the transport is busy with counts as sent.
		if sent <= maxRefusals || sent > 12_000 {
			tc.t.Errorf("%d OPENs were refused while the peer read nothing", sent)
		}
		if err := tc.p.Err(); !isProtocolError(err, CodeCalm) {
			tc.t.Errorf("the session ended with %v", err)
		}
	})
}

// TestPeerThatReadsNothing: a session whose peer takes nothing goes on reading, whatever
// it owes, and holds little.
func TestOnePeerThatReadsNothing(t *testing.T) {
	cfg := fixed
	cfg.WriteTimeout = -1
	oneRun(t, oneSetup{listen: true, cfg: cfg}, func(tc *oneTest) {
		cs := tc.acceptIDs(2)
		tc.full()
		tc.deaf(true)
		w := tc.startWrite(cs[0], strings.Repeat("x", 65536))
		w.wantBlocked("the transport takes nothing")
		r := tc.reading(cs[1])
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		const rounds = 300
		for i := range rounds {
			id := 3 + i
			tc.sendNow(
				fmt.Sprintf("OPEN %d", id), fmt.Sprintf("STOP %d 9", id), fmt.Sprintf("RESET %d 9", id), // owes RESET
				fmt.Sprintf("PING %016x", i),
				`DATA 2 "0123456789"`)
			tc.pass(100 * time.Millisecond)
			w.wantBlocked("the transport takes nothing")
		}
		tc.wantAlive("all within the bucket")
		tc.wantAllTaken("the session goes on reading")
		r.want("and delivers", strings.Repeat("0123456789", rounds), nil)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
			tc.t.Errorf("the heap has grown by %d bytes", grown)
		}
		tc.deaf(false)
		tc.settle()
		resets := 0
		for _, l := range oneLines(tc.sent()) {
			if strings.HasPrefix(l, "RESET YOURS ") {
				resets++
			}
		}
		if resets != rounds {
			tc.t.Errorf("%d of %d STOPs were answered", resets, rounds)
		}
		w.want("the Write", 65536, nil)
	})
}

// TestBothEndsBlockedWriting: two sessions whose applications write and don't read get
// all they write through as soon as somebody reads, over a transport that holds nothing.
func TestBothEndsBlockedWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := sessionPair(t, overPipe)
		x, y := connPair(t, p, l, 1)
		const size = 1 << 20
		writes := []<-chan error{
			async(func() error { _, err := x.Write(make([]byte, size)); return err }),
			async(func() error { _, err := y.Write(make([]byte, size)); return err }),
		}
		synctest.Wait()
		for _, c := range []*Conn{x, y} {
			if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		for _, w := range writes {
			if err := <-w; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestViolationIsTheLastWord: nothing is sent behind the GOAWAY of a violation, whatever
// was owed when it was noticed, and what is received behind it does nothing.
func TestViolationIsTheLastWord(t *testing.T) {
	oneRun(t, oneSetup{listen: true, cfg: Config{AcceptBacklog: 1}}, func(tc *oneTest) {
		cs := tc.acceptIDs(2)
		w := tc.startWrite(cs[0], strings.Repeat("x", 70000))
		tc.want("credit is used up", "DATA YOURS 1 65536*x")
		tc.sendNow("OPEN 3", "OPEN 4", "PING 0102030405060708", "STOP 2 9", "FIN 9",
			"PING 0102030405060709", "OPEN 5", `DATA 1 "late"`)
		tc.settle()
		lines := oneLines(tc.sent()) // oneLaw has looked at what is behind GOAWAY
		tc.t.Log(oneShort(lines))
		if len(lines) == 0 || !oneMatch(lines[len(lines)-1:], []string{"GOAWAY 4 2 *"}) {
			tc.t.Errorf("the last is not GOAWAY:%s", oneShort(lines))
		}
		tc.wantGone("the transport is closed")
		<-w.done
		wantErrAs(tc.t, "Write", w.err, is(ErrProtocol))
		tc.wantRead("what came behind the violation is not delivered", cs[0], "", ErrProtocol)
	})
}

// TestGoAwayThatCantBeSent: a violation by a peer that reads nothing ends the session
// all the same, after a second.
func TestGoAwayThatCantBeSent(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		tc.deaf(true)
		w := tc.startWrite(c, strings.Repeat("x", 65536))
		start := time.Now()
		tc.sendNow("FIN 9")
		select {
		case <-w.done:
		default:
			tc.t.Error("Write goes on behind a violation")
		}
		<-tc.l.Done()
		if d := time.Since(start); d > time.Second {
			tc.t.Errorf("the session ended %v after the violation, want 1 s at most", d)
		}
		if err := tc.l.Err(); !errors.Is(err, ErrProtocol) {
			tc.t.Errorf("Err: %v", err)
		}
	})
}
