package mux

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// The attacks of TestHostile by frames on connections and on the session.

// Each way to make an end reset is fatal to the session the first time, and not a RESET.
func madeYouReset() (all []hostileAttack) {
	for _, tt := range []struct {
		name string
		line string // for connection 1, ended by the peer; or 2, open
		raw  []byte
		code Code
	}{
		{name: "DATA behind FIN", line: `DATA 1 "x"`, code: CodeProtocol},
		{name: "FIN behind FIN", line: "FIN 1", code: CodeProtocol},
		{name: "RESET behind FIN", line: "RESET 1 9", code: CodeProtocol},
		{name: "OPEN behind FIN", line: "OPEN 1", code: CodeProtocol},
		{name: "OPEN of an open one", line: "OPEN 2", code: CodeProtocol},
		{name: "WINDOW of 2^63", raw: windowFrame(2, 1<<63), code: CodeFlowControl},
		{name: "bad length", raw: oneRaw(3, 0, 7, 2), code: CodeProtocol},
		{name: "DATA above the window", line: "DATA 2 65537*x", code: CodeFlowControl},
	} {
		all = append(all, hostileAttack{"one, " + tt.name, hostileOne(oneListener, func(tc *oneTest, b *bystander) {
			tc.acceptIDs(2)
			tc.sendNow("FIN 1")
			tc.full()
			if tt.raw != nil {
				tc.sendRaw(tt.raw)
			} else {
				tc.peer.say(tt.line)
			}
			tc.wantDeath(tt.name, 2, tt.code)
		})})
	}
	return append(all, hostileAttack{"one, WINDOW of 0", hostileOne(oneListener, func(tc *oneTest, b *bystander) {
		tc.acceptIDs(1)
		tc.full()
		tc.floodOf(1000, "WINDOW 1 0")
		tc.wantAlive("it raises nothing, and costs a token")
		tc.wantNow("no answer")
		tc.peer.say("WINDOW 1 0")
		tc.wantCalm("one more", 1)
	})})
}

// windowFrame is a WINDOW of any limit, on the sender's ID.
func windowFrame(id uint32, limit uint64) []byte {
	b := oneRaw(3, 0, 8, id)
	binary.BigEndian.PutUint64(b[wire.HeaderLen:], limit)
	return b
}

// However many PINGs are not answered yet, an answer is one slot.
func pingFloodUnread(tc *oneTest, b *bystander) {
	tc.deaf(true)
	tc.sendNow("PING 0000000000000000") // starts the helper, which is stuck with the ACK
	n, before := goroutines(), heap()
	tc.flood(999, func(i int) []string { return []string{fmt.Sprintf("PING %016x", i+1)} })
	tc.wantAlive("1,000 PINGs")
	if owes := tc.p.s.owes.Load(); owes != owesPong {
		tc.t.Errorf("the session owes %b, want one ACK", owes)
	}
	tc.wantHolding("and nothing else", holding{})
	wantGoroutines(tc.t, "1,000 PINGs", n)
	wantHeap(tc.t, "1,000 PINGs", before, 64<<10)
	b.want("meanwhile")
	tc.peer.say("PING ffffffffffffffff")
	tc.diesUnheard("one more", CodeCalm)
}

func pingFloodRead(tc *oneTest, b *bystander) {
	for i := range 1000 {
		tc.sendNow(fmt.Sprintf("PING %016x", i))
		tc.wantNow("its ACK", fmt.Sprintf("ACK %016x", i))
	}
	b.want("meanwhile")
	tc.peer.say("PING ffffffffffffffff")
	tc.wantCalm("one more", 0)
}

// Each field at its least is legal, and below it fatal; no value is too large.
func badSettings() (all []hostileAttack) {
	o := oneSetup{listen: true, preface: "-", cfg: Config{Protocol: Protocol1}}
	for _, field := range []struct {
		name     string
		at, size int
		least    uint32
	}{{"version", 6, 2, 1}, {"window", 8, 4, 65536}, {"connections", 12, 4, 128}, {"payload", 16, 2, 16384}, {"keep-alive", 20, 4, 0}} {
		values := []uint32{0, 1, field.least, field.least + 1, 1<<(8*field.size) - 1}
		if field.least > 0 {
			values = append(values, field.least-1)
		}
		for _, v := range values {
			name := fmt.Sprintf("one, %s of %d", field.name, v)
			all = append(all, hostileAttack{name, hostileOne(o, func(tc *oneTest, b *bystander) {
				synctest.Wait()
				tc.sendRaw(onePrefaceWith(0, func(body []byte) {
					if field.size == 2 {
						binary.BigEndian.PutUint16(body[field.at:], uint16(v))
					} else {
						binary.BigEndian.PutUint32(body[field.at:], v)
					}
				}))
				if v < field.least {
					tc.wantDeath(name, 0, CodeProtocol, "PREFACE")
					return
				}
				tc.sendNow("PING 0102030405060708")
				tc.wantNow("the session goes on", "PREFACE *", "ACK 0102030405060708")
			})})
		}
	}
	return all
}

// There is one preface: a second one is a frame of type 0.
func secondPreface(tc *oneTest, b *bystander) {
	tc.sendRaw(oneEncode("PREFACE"))
	tc.wantDeath("a second preface", 0, CodeProtocol)
}

// Towards vt-muxer's protocol a preface is data for an address that is not open.
func prefacesAreData(tc *vtTest, b *bystander) {
	tc.sendRaw([]byte(strings.Repeat(string(oneEncode("PREFACE")), 10_000)))
	tc.want("no answer")
	tc.wantHolding("nothing is kept", holding{})
	if n := tc.p.Stats().Discarded; n != 10_000*wire.PrefaceLen {
		tc.t.Errorf("%d bytes were discarded", n)
	}
	tc.wantAlive("10,000 prefaces")
}

// R8: tiny DATA are put together. And the window bounds them.
func dribble(tc *oneTest, b *bystander) {
	c := tc.acceptIDs(1)[0]
	tc.full()
	for range 64 {
		tc.floodOf(1024, `DATA 1 "x"`)
		b.want("meanwhile")
	}
	tc.wantAlive("DATA of a byte each, within the window")
	tc.wantHolding("65,536 bytes", holding{conns: 1, slots: 1, unread: 65536, held: 65536*13/10 + 4<<10})
	tc.peer.say(`DATA 1 "x"`)
	tc.wantDeath("a byte more", 1, CodeFlowControl)
	tc.wantRead("what came before is readable", c, strings.Repeat("x", 65536), ErrProtocol)
}

func vtDribble(tc *vtTest, b *bystander) {
	c := tc.open(vtA)
	tc.want("our open", vtOpen(vtA))
	for n := 0; n < minMaxWindow; n += 1310 {
		tc.peer.queue(vtMany(min(1310, minMaxWindow-n), func(int) []vtFrame { return []vtFrame{vtData(vtA, "x")} }))
		synctest.Wait()
		b.want("meanwhile")
	}
	tc.wantAllTaken("MaxWindow is full")
	full := holding{conns: 1, slots: 1, unread: minMaxWindow, held: minMaxWindow*13/10 + 4<<10}
	tc.wantHolding("all of it", full)
	tc.sendRaw(vtMany(10_000, func(int) []vtFrame { return []vtFrame{vtData(vtA, "y")} }))
	tc.wantHolding("more is not taken", full)
	b.want("the attacker's session alone is held up")
	if tc.peer.left() == 0 {
		tc.t.Error("the session reads on")
	}
	tc.wantRead("all", c, strings.Repeat("x", minMaxWindow)+strings.Repeat("y", 10_000), nil)
}

// echo serves connection c until its end.
func (tc *vtTest) echo(c *Conn) *vtOp {
	return tc.start("echo", func() (int, error) { n, err := io.Copy(c, c); return int(n), err })
}

// A peer that asks and never reads is cut off at WriteTimeout. Until then its connections
// hold their windows at most, and each Write its own caller.
func asksAndNeverReads(tc *oneTest, b *bystander) {
	cs := tc.acceptIDs(3)
	tc.full()
	tc.deaf(true)
	echoes := []*vtOp{tc.echo(cs[0]), tc.echo(cs[1])}
	other := tc.reading(cs[2])
	tc.sendNow("DATA 1 65536*x", "DATA 2 65536*x")
	start := time.Now()
	for range 29 {
		tc.sendNow("PING 0102030405060708", `DATA 3 "more"`)
		tc.pass(time.Second)
		if got := holdingOf(tc.p.s); got.unread > 2*65536 || got.held > 6*65536 {
			tc.t.Fatalf("the session holds %+v", got)
		}
		b.want("meanwhile")
	}
	tc.wantAlive("29 s")
	for _, e := range echoes {
		e.wantBlocked("the peer does not read")
	}
	tc.wantDone("the end", 10*time.Minute)
	if d := time.Since(start); d < 30*time.Second || d > 31*time.Second {
		tc.t.Errorf("the session ended after %v, want 30 s", d)
	}
	tc.wantFails("the peer does not read", isWriteTimeout)
	other.want("who only reads is not held up", strings.Repeat("more", 29), ErrWriteTimeout)
	for _, e := range echoes {
		<-e.done
		wantErrAs(tc.t, "echo", e.err, isWriteTimeout)
	}
	tc.deaf(false)
	synctest.Wait()
	tc.sent()
}

// Who reads a little is not cut off: a slow link looks like that.
func asksAndReadsLittle(tc *oneTest, b *bystander) {
	c := tc.acceptIDs(1)[0]
	tc.full()
	tc.pace(1, 20*time.Second)
	e := tc.echo(c)
	tc.sendNow("DATA 1 65536*x")
	tc.pass(10 * time.Minute)
	tc.wantAlive("a byte each 20 s")
	if got := holdingOf(tc.p.s); got.unread > 65536 {
		tc.t.Errorf("the session holds %+v", got)
	}
	b.want("meanwhile")
	tc.pace(0, 0)
	tc.pass(time.Minute)
	c.Close()
	<-e.done
	tc.sent()
}

func vtAsksAndNeverReads(tc *vtTest, b *bystander) {
	c := tc.open(vtA)
	tc.want("our open", vtOpen(vtA))
	tc.peer.setDeaf(true)
	e := tc.echo(c)
	start := time.Now()
	for range 59 {
		tc.peer.queue(vtBytes(vtData(vtA, strings.Repeat("x", 10_000))))
		<-time.After(5 * time.Second)
		if got := holdingOf(tc.s); got.unread > 600_000 {
			tc.t.Fatalf("the session holds %+v", got)
		}
		b.want("meanwhile")
	}
	e.wantBlocked("the peer does not read")
	tc.wantDone("the end", 10*time.Minute)
	if d := time.Since(start); d < 5*time.Minute || d > 5*time.Minute+time.Second {
		tc.t.Errorf("the session ended after %v, want 5 min", d)
	}
	wantErrAs(tc.t, "Err", tc.p.Err(), isWriteTimeout)
	<-e.done
	tc.peer.setDeaf(false)
}

// R5: no arithmetic on a peer's limit wraps. Nothing is sent beyond what is granted.
func windowOverflows() (all []hostileAttack) {
	for _, tt := range []struct {
		name   string
		limits []uint64
		code   Code // that ends the session; 0: it goes on
		sends  int  // of 200,000 bytes, if it goes on
	}{
		{"one byte", []uint64{65537}, 0, 65537},
		{"lower", []uint64{5, 65535, 65536}, 0, 65536},
		{"0", []uint64{0}, 0, 65536},
		{"2^31 and 2^32", []uint64{1 << 31, 1<<32 - 1, 1 << 32}, 0, 200_000},
		{"2^32-1 twice", []uint64{1<<32 - 1, 1<<32 - 1}, 0, 200_000},
		{"the greatest", []uint64{1<<63 - 1}, 0, 200_000},
		{"the greatest and then none", []uint64{1<<63 - 1, 0, 1}, 0, 200_000},
		{"2^63", []uint64{1 << 63}, CodeFlowControl, 0},
		{"2^64-1", []uint64{1<<64 - 1}, CodeFlowControl, 0},
		{"the greatest and 2^63", []uint64{1<<63 - 1, 1 << 63}, CodeFlowControl, 0},
	} {
		all = append(all, hostileAttack{"one, " + tt.name, hostileOne(oneListener, func(tc *oneTest, b *bystander) {
			c := tc.acceptIDs(1)[0]
			for _, limit := range tt.limits {
				if limit <= wire.MaxLimit {
					tc.peer.say(fmt.Sprintf("WINDOW 1 %d", limit))
				} else {
					tc.sendRaw(windowFrame(1, limit))
				}
			}
			if tt.code != 0 {
				tc.wantDeath(tt.name, 1, tt.code)
				return
			}
			w := tc.startWrite(c, strings.Repeat("x", 200_000))
			tc.want("what is granted, and no more", fmt.Sprintf("DATA YOURS 1 %d*x", tt.sends))
			c.SetWriteDeadline(time.Now())
			<-w.done
			if w.n != tt.sends {
				tc.t.Errorf("Write counts %d bytes, want %d", w.n, tt.sends)
			}
		})})
	}
	for _, tt := range []struct {
		name string
		raw  []byte
		last wire.ID
	}{{"on ID 0", windowFrame(0, 1<<20), 0}, {"on one that was never opened", windowFrame(7, 1<<20), 0}} {
		all = append(all, hostileAttack{"one, " + tt.name, hostileOne(oneListener, func(tc *oneTest, b *bystander) {
			tc.sendRaw(tt.raw)
			tc.wantDeath(tt.name, tt.last, CodeProtocol)
		})})
	}
	return all
}

// The three crash inputs of rust-yamux's advisories, in our frames: the first frame of a
// connection goes beyond the window, and the checks come before the state (R4).
func firstDataAboveTheWindow(tc *oneTest, b *bystander) {
	p := oneBytes("OPEN 1", "DATA 1 65535*x")
	tc.peer.mu.Lock()
	tc.peer.hears("OPEN 1")
	tc.peer.mu.Unlock()
	tc.sendRaw(append(p, oneRaw(2, 0, 2, 1)...))
	tc.wantDeath("65,537 bytes behind OPEN", 1, CodeFlowControl)
	tc.wantRead("the DATA within the window", tc.conns[0], strings.Repeat("x", 65535), ErrProtocol)
}

func firstWindowIsTheGreatest(tc *oneTest, b *bystander) {
	tc.peer.say("OPEN 1", "WINDOW 1 9223372036854775807", "WINDOW 1 9223372036854775807")
	c := tc.accept(vtA)
	w := tc.startWrite(c, strings.Repeat("x", 1<<20))
	tc.want("all of it", "DATA YOURS 1 1048576*x")
	w.want("Write", 1<<20, nil)
	tc.sendRaw(windowFrame(1, 1<<63))
	tc.wantDeath("one more than the greatest", 1, CodeFlowControl)
}

func openTooLong(tc *oneTest, b *bystander) {
	before := heap()
	tc.sendRaw(oneRaw(1, 0, 1<<16-1, 1)[:wire.HeaderLen])
	tc.wantDeath("at the header", 0, CodeProtocol)
	wantHeap(tc.t, "no memory by a length", before, 64<<10)
}

func dataAboveTheWindow(tc *oneTest, b *bystander) {
	c := tc.acceptIDs(1)[0]
	tc.sendNow("DATA 1 65536*x")
	tc.wantHolding("the window", holding{conns: 1, slots: 1, unread: 65536, held: 5 * 65536})
	b.want("meanwhile")
	tc.peer.say("DATA 1 65535*y")
	tc.wantDeath("more", 1, CodeFlowControl)
	tc.wantRead("none of it is kept", c, strings.Repeat("x", 65536), ErrProtocol)
}

// The limit that was granted holds behind STOP as well.
func dataAboveTheWindowBehindStop(tc *oneTest, b *bystander) {
	tc.acceptIDs(1)[0].CloseRead()
	tc.want("STOP", "STOP YOURS 1 9")
	tc.sendNow("DATA 1 65536*x")
	tc.wantAlive("what was granted")
	tc.wantHolding("discarded", holding{conns: 1, slots: 1})
	tc.peer.say(`DATA 1 "y"`)
	tc.wantDeath("more", 1, CodeFlowControl)
}

// R1: whatever is owed to a peer that never reads, it is bits on connections and on the
// session, not frames in a queue.
func pendingFrames(tc *oneTest, b *bystander) {
	cs := tc.acceptIDs(8)
	tc.full()
	tc.deaf(true)
	w := tc.startWrite(cs[0], strings.Repeat("x", 65536))
	w.wantBlocked("the peer reads nothing")
	n, before := goroutines(), heap()
	for i := range 400 {
		id := 2 + i%7
		tc.sendNow(fmt.Sprintf("PING %016x", i), fmt.Sprintf("STOP %d 9", id), fmt.Sprintf(`DATA %d "x"`, id))
		cs[id-1].Read(make([]byte, 1)) // some day a WINDOW is owed
		tc.pass(100 * time.Millisecond)
	}
	tc.wantAlive("4 s within the bucket")
	if got := holdingOf(tc.p.s); got.owing > 8 || got.unread != 0 || got.refusals != 0 {
		tc.t.Errorf("the session holds %+v", got)
	}
	wantGoroutines(tc.t, "afterwards", n)
	wantHeap(tc.t, "what is owed", before, 256<<10)
	b.want("meanwhile")
	tc.deaf(false)
	tc.settle()
	counts := tc.count("what was owed", oneLines(tc.sent()), "DATA YOURS 1 ", "RESET YOURS ", "ACK ", "WINDOW ")
	if counts["RESET YOURS "] != 7 || counts["ACK "] > 2 {
		tc.t.Errorf("the session has sent %v, want 7 RESETs and one or two ACKs", counts)
	}
}

// A header may claim what it likes: nothing is made ready for it, and nobody waits for
// it without end.
func lengthLies() (all []hostileAttack) {
	for _, tt := range []struct {
		name string
		b    []byte
		dies bool
	}{
		{"DATA", oneRaw(2, 0, 65000, 1)[:wire.HeaderLen], false},
		{"an unknown type", oneRaw(99, 0, 65535, 1)[:wire.HeaderLen], false},
		{"PING", oneRaw(6, 0, 65535, 0)[:wire.HeaderLen], true},
		{"RESET", oneRaw(4, 0, 65535, 1)[:wire.HeaderLen], true},
		{"GOAWAY", oneRaw(7, 0, 65535, 0)[:wire.HeaderLen], true},
		{"half a header", []byte{2, 0, 0xff}, false},
	} {
		all = append(all, hostileAttack{"one, " + tt.name, hostileOne(oneAlive(true), func(tc *oneTest, b *bystander) {
			tc.takePings()
			tc.peer.say("OPEN 1", `DATA 1 "hi"`)
			c := tc.accept(vtA)
			tc.sent()
			before := heap()
			tc.sendRaw(tt.b)
			start := time.Now()
			if tt.dies {
				tc.wantDeath(tt.name, 1, CodeProtocol)
				return
			}
			wantHeap(tc.t, "nothing is made ready but what every read goes to", before, 256<<10)
			tc.wantHolding("only what came", holding{conns: 1, slots: 1, unread: 2, held: 1 << 10})
			c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			tc.wantRead("a deadline in the middle of a frame", c, "hi", nil)
			b.want("meanwhile")
			tc.write(c, "x")
			tc.wantNow("the other direction", `DATA YOURS 1 "x"`)
			tc.wantDone("the end", 10*time.Minute)
			if d := time.Since(start); d > 45*time.Second {
				tc.t.Errorf("the rest was awaited for %v, want 45 s", d)
			}
			wantErrAs(tc.t, "Read", tc.readErr(c), isSilence)
			tc.sent()
		})})
	}
	return append(all, hostileAttack{"vt", hostileVT(true, nil, func(tc *vtTest, b *bystander) {
		c := tc.open(vtA)
		tc.want("our open", vtOpen(vtA))
		before := heap()
		tc.sendRaw(vtBytes(vtData(vtA, strings.Repeat("x", 65535)))[:22])
		wantHeap(tc.t, "nothing is made ready but what every read goes to", before, 256<<10)
		tc.wantHolding("only what came", holding{conns: 1, slots: 1, unread: 2, held: 1 << 10})
		tc.wantRead("what came", c, "xx", nil)
		c.SetReadDeadline(time.Now().Add(time.Second))
		wantErrAs(tc.t, "Read", second(c.Read(make([]byte, 1))), is(os.ErrDeadlineExceeded))
		tc.write(c, "y")
		tc.want("the other direction", vtData(vtA, "y"))
		b.want("meanwhile")
	})})
}

// An OPEN is one frame, with 1,024 bytes of metadata at most, and one header tells more.
func endlessMetadata(tc *oneTest, b *bystander) {
	tc.peer.mu.Lock()
	tc.peer.law.peerOpened = 2
	tc.peer.mu.Unlock()
	tc.sendRaw(append(oneRaw(1, 0, 18+1024, 1), oneRaw(1, 0, 18, 2)...))
	tc.wantAlive("the longest metadata")
	tc.wantHolding("two connections", holding{conns: 2, slots: 2, queued: 2})
	tc.sendRaw(oneRaw(1, 0, 18+1025, 3)[:wire.HeaderLen])
	tc.wantDeath("a byte more", 2, CodeProtocol)
}

func endlessPreface(tc *oneTest, b *bystander) {
	synctest.Wait()
	b16 := onePrefaceWith(1024, nil)
	binary.BigEndian.PutUint16(b16[18:], 1025)
	tc.sendRaw(b16[:wire.VTHeaderLen])
	tc.wantNow("its own preface, and no word more", "PREFACE *")
	tc.wantGone("at the header")
}

func undefinedFlags() (all []hostileAttack) {
	for _, r := range []struct {
		t  byte
		n  int
		id uint32
	}{{1, 18, 1}, {2, 1, 1}, {3, 8, 1}, {4, 4, 1}, {5, 4, 1}, {6, 8, 0}, {7, 8, 0}} {
		for flag := byte(0x10); flag != 0; flag <<= 1 {
			name := fmt.Sprintf("one, %v with flag %#x", wire.FrameType(r.t), flag)
			all = append(all, hostileAttack{name, hostileOne(oneListener, func(tc *oneTest, b *bystander) {
				tc.sendRaw(oneRaw(r.t, flag, r.n, r.id))
				tc.wantDeath(name, 0, CodeProtocol)
			})})
		}
	}
	return all
}

// Every type has its place: 0 is malformed, 1 to 7 are known, and the others are skipped
// for a token.
func allUnknownTypes(tc *oneTest, b *bystander) {
	for typ := 8; typ < 256; typ++ {
		for _, n := range []int{0, 1, 8, 65535} {
			tc.sendRaw(oneRaw(byte(typ), byte(typ)*7, n, uint32(typ)))
		}
	}
	tc.wantHolding("nothing is kept", holding{})
	tc.wantNow("no answer")
	b.want("meanwhile")
	tc.wantTokens("992 tokens are gone", 1000-992)
}

func goAwayRises(tc *oneTest, b *bystander) {
	tc.peer.say("GOAWAY 7 0", "GOAWAY 6 0", "GOAWAY 7 0")
	tc.wantDeath("a last ID that rises", 0, CodeProtocol)
}

func goAwayFlood(tc *oneTest, b *bystander) {
	tc.floodOf(1010, "GOAWAY 7 0")
	tc.wantAlive("ten are free")
	tc.peer.say("GOAWAY 7 0")
	tc.wantCalm("one more", 0)
}

func closeAfterGoAway(tc *oneTest, b *bystander) {
	cs := tc.openIDs(3)
	tc.sendNow("GOAWAY 1 0", "GOAWAY 0 0")
	for _, c := range cs {
		wantErrAs(tc.t, "Write", writeErr(c), is(ErrRefused))
	}
	tc.wantHolding("what the peer has not served is gone", holding{})
	tc.wantOpenErr("nothing new", ErrDraining)
	tc.deaf(true)
	start := time.Now()
	tc.p.Close()
	if d := time.Since(start); d > 5*time.Second {
		tc.t.Errorf("Close took %v", d)
	}
	tc.deaf(false)
}

// panicInputs are random bytes behind a good beginning, cut anywhere.
func panicInputs(p Protocol) func(*testing.T) {
	return func(t *testing.T) {
		for seed := range uint64(60) {
			random := rand.New(rand.NewPCG(seed, 27))
			if p == ProtocolVT {
				vtRun(t, seed%2 == 0, &Config{MaxConns: 50, MaxWindow: minMaxWindow}, func(tc *vtTest) {
					b := vtBytes(vtOpen(vtA), vtData(vtA, "hello"))
					tc.pieces(random, append(b, randomBytes(random, 2000)...))
				})
				continue
			}
			oneRun(t, oneSetup{listen: seed%2 == 0}, func(tc *oneTest) {
				tc.open(vtB)
				tc.peer.law.peerOpened, tc.peer.law.acks = maxID, 1<<30 // the law does not know what the peer says
				b := oneBytes("OPEN 1", `DATA 1 "hello"`, "PING 0102030405060708", "WINDOW YOURS 1 70000", "STOP 1 9", "GOAWAY 9 0", `UNKNOWN 9 9 "x"`)
				for range 1 + random.IntN(3) {
					b[random.IntN(len(b))] = byte(random.Uint32())
				}
				tc.pieces(random, append(b, randomBytes(random, random.IntN(200))...))
				if err := tc.p.Err(); err != nil && !isProtocolError(err, CodeProtocol) && !isProtocolError(err, CodeFlowControl) {
					var ga *GoAwayError
					if ga, _ = err.(*GoAwayError); ga == nil {
						tc.t.Errorf("seed %d: %T %v", seed, err, err)
					}
				}
			})
		}
	}
}

func randomBytes(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32() >> (random.Uint32() & 31)) // small ones more often
	}
	return b
}

// pieces sends b in random pieces.
func (tc *vtTest) pieces(random *rand.Rand, b []byte) {
	for len(b) > 0 {
		n := min(len(b), 1+random.IntN(50))
		tc.peer.queue(b[:n])
		synctest.Wait()
		b = b[n:]
	}
	tc.settle()
}

// Other protocols on the port, other versions, and nothing at all.
func foreignPrefaces() (all []hostileAttack) {
	hello := append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 500)...)
	auto, strict := Config{}, Config{Protocol: Protocol1}
	for _, first := range []struct {
		name string
		b    []byte
	}{
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: a\r\n\r\n")},
		{"HTTP2", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
		{"TLS", hello},
		{"SSH", []byte("SSH-2.0-OpenSSH_9.9p1 Debian\r\n")},
	} {
		all = append(all, hostileAttack{"one, " + first.name, hostileOne(oneSetup{listen: true, preface: "-", cfg: strict}, func(tc *oneTest, b *bystander) {
			synctest.Wait()
			tc.sendRaw(first.b)
			tc.wantNow("no word but the preface", "PREFACE *")
			tc.wantGone(first.name)
			tc.wantFails(first.name, is(ErrNoPreface))
		})})
		// On Auto it passes for vt-muxer's protocol: data for nobody.
		all = append(all, hostileAttack{"vt, " + first.name, hostileOne(oneSetup{listen: true, preface: "-", cfg: auto}, func(tc *oneTest, b *bystander) {
			tc.sendRaw(first.b)
			tc.wantAlive(first.name)
			tc.wantNow("no word")
			if got := holdingOf(tc.p.s); got.conns > 2 || got.held != 0 {
				tc.t.Errorf("the session holds %+v", got)
			}
			b.want("meanwhile")
			tc.peer.close()
			tc.wantDone("the end", 10*time.Minute)
		})})
	}
	silence := func(o oneSetup, ends time.Duration, first string) func(*testing.T) {
		return hostileOne(o, func(tc *oneTest, b *bystander) {
			start := time.Now()
			for at := range first { // a byte each second
				tc.sendRaw([]byte(first[at : at+1]))
				tc.pass(time.Second)
				if tc.p.Err() != nil {
					break
				}
			}
			tc.wantDone("the end", 10*time.Minute)
			if d := time.Since(start); d != ends {
				tc.t.Errorf("the session ended after %v, want %v", d, ends)
			}
			tc.wantFails("nothing came", is(ErrNoPreface))
			tc.sent()
		})
	}
	preface := string(oneEncode("PREFACE"))
	return append(all,
		hostileAttack{"one, nothing", silence(oneSetup{listen: true, preface: "-", cfg: strict}, 10*time.Second, "")},
		hostileAttack{"one, nothing towards Auto", silence(oneSetup{listen: true, preface: "-", cfg: auto}, 5*time.Minute, "")},
		hostileAttack{"one, a byte each second", silence(oneSetup{listen: true, preface: "-", cfg: strict}, 10*time.Second, preface)},
		hostileAttack{"one, a byte each second towards Auto", silence(oneSetup{listen: true, preface: "-", cfg: auto}, 10*time.Second, preface)},
		hostileAttack{"one, another version", hostileOne(oneSetup{listen: true, preface: "-"}, func(tc *oneTest, b *bystander) {
			tc.sendNow("PREFACE v=9", "PING 0102030405060708")
			tc.wantNow("ours is spoken", "PREFACE v=1 *", "ACK 0102030405060708")
		})})
}

// STOP: the Write that waits for credit, or for the transport, fails at once.
func writerIsTold(tc *oneTest, b *bystander) {
	c := tc.acceptIDs(1)[0]
	tc.full()
	w := tc.startWrite(c, strings.Repeat("x", 100_000))
	tc.wantNow("the window", "DATA YOURS 1 65536*x")
	start := time.Now()
	tc.sendNow("STOP 1 9")
	tc.wantNow("the answer", "RESET YOURS 1 9")
	w.want("Write", 65536, syscall.EPIPE)
	if d := time.Since(start); d != 0 {
		tc.t.Errorf("the writer was told after %v", d)
	}
}

// Close with unread bytes, and with bytes to come, says STOP at once.
func weTellTheWriter(tc *oneTest, b *bystander) {
	c := tc.acceptIDs(1)[0]
	tc.full()
	tc.sendNow("DATA 1 1000*x")
	wantNoDelay(tc.t, "Close", func() { c.Close() })
	tc.wantNow("the peer's writer is told", "STOP YOURS 1 9", "FIN YOURS 1")
	tc.wantHolding("nothing is kept", holding{conns: 1, slots: 1})
	tc.sendNow("RESET 1 9")
	tc.wantHolding("and the place is free", holding{})
}

// An ACK is the PING's 8 bytes, and nothing depends on what they are.
func answersAreTheQuestions(tc *oneTest, b *bystander) {
	for _, opaque := range []string{"0000000000000000", "ffffffffffffffff", "0600000800000000", "767464756d780a00"} {
		before := tc.peerBytes()
		tc.sendNow("PING " + opaque)
		tc.wantNow("the same 8 bytes", "ACK "+opaque)
		if n := tc.peerBytes() - before; n != wire.PingLen {
			tc.t.Errorf("the answer has %d bytes, the question %d", n, wire.PingLen)
		}
	}
}

func (tc *oneTest) peerBytes() int {
	tc.peer.mu.Lock()
	defer tc.peer.mu.Unlock()
	return tc.peer.bytes
}
