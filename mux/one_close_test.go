package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// TestWhatEachCallSends is the table of PROTOCOL.md, 2.7: what a call sends, in which
// order, by the state of the two halves.
func TestWhatEachCallSends(t *testing.T) {
	type step = oneStep
	closeIs := func(want ...string) step { return step{do: func(c *Conn) { c.Close() }, want: want} }
	resetIs := func(want ...string) step { return step{do: func(c *Conn) { c.Reset(300) }, want: want} }
	closeRead := func(want ...string) step { return step{do: func(c *Conn) { c.CloseRead() }, want: want} }
	closeWrite := func(want ...string) step { return step{do: func(c *Conn) { c.CloseWrite() }, want: want} }
	write := step{do: func(c *Conn) { c.Write([]byte("hi")) }, want: []string{`DATA ID "hi"`}}
	empty := step{do: func(c *Conn) { c.Write(nil); c.Write([]byte{}) }}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"Close", []step{closeIs("STOP ID 9", "FIN ID"), closeIs(), resetIs(), closeRead(), closeWrite()}},
		{"Close after Write", []step{write, closeIs("STOP ID 9", "FIN ID")}},
		{"Write of nothing", []step{empty, closeIs("STOP ID 9", "FIN ID")}},
		{"Close, the peer's FIN before", []step{stepFin, closeIs("FIN ID"), closeIs()}},
		{"Close, the peer's RESET before", []step{stepReset, closeIs("FIN ID")}},
		{"Close, the peer's STOP before", []step{stepStop, closeIs("STOP ID 9")}},
		{"Close, all ended by the peer", []step{stepStop, stepFin, closeIs()}},
		{"CloseWrite", []step{write, closeWrite("FIN ID"), closeWrite(), closeIs("STOP ID 9")}},
		{"CloseWrite, the peer's FIN before", []step{stepFin, closeWrite("FIN ID"), closeIs()}},
		{"CloseWrite, the peer's STOP before", []step{stepStop, closeWrite(), closeIs("STOP ID 9")}},
		{"CloseRead", []step{closeRead("STOP ID 9"), closeRead(), write, closeIs("FIN ID")}},
		{"CloseRead, then Reset", []step{closeRead("STOP ID 9"), resetIs("RESET ID 300")}},
		{"CloseRead, the peer's FIN before", []step{stepFin, closeRead(), closeIs("FIN ID")}},
		{"CloseRead, CloseWrite", []step{closeRead("STOP ID 9"), closeWrite("FIN ID"), closeIs()}},
		{"Reset", []step{write, resetIs("STOP ID 300", "RESET ID 300"), resetIs(), closeIs()}},
		{"Reset, the peer's FIN before", []step{stepFin, resetIs("RESET ID 300")}},
		{"Reset after CloseWrite", []step{closeWrite("FIN ID"), resetIs("STOP ID 300"), closeIs()}},
		{"Reset, the peer's STOP before", []step{stepStop, resetIs("STOP ID 300")}},
		{"Reset, all ended", []step{closeWrite("FIN ID"), stepFin, resetIs()}},
	} {
		for _, ours := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/ours %v", tt.name, ours), func(t *testing.T) {
				oneRun(t, oneListener, func(tc *oneTest) {
					open := func(tc *oneTest, _ *oneState) *Conn { return tc.acceptIDs(1)[0] }
					if ours {
						open = func(tc *oneTest, _ *oneState) *Conn { return tc.openIDs(1)[0] }
					}
					st := oneState{name: tt.name, ours: ours, enter: open}.after("", "", tt.steps...)
					st.enter(tc, &st)
					tc.wantAlive("nothing is a violation")
				})
			})
		}
	}
}

// TestStopGoesAheadOfFin looks at the frames of one Close that must wait for the
// transport: STOP may pass DATA, FIN may not, and STOP is ahead of it.
func TestStopGoesAheadOfFin(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		tc.deaf(true)
		w := tc.startWrite(c, strings.Repeat("x", 60000))
		c.Close()
		tc.deaf(false)
		tc.settle()
		var order []string
		sent := 0
		for _, f := range tc.sent() {
			if f.isData() && f.len() > 0 {
				sent += f.len()
			}
			if line := oneLines([]oneFrame{f}); !strings.HasPrefix(line[0], "DATA") || len(line) > 1 {
				order = append(order, line[len(line)-1])
			}
		}
		if !oneMatch(order, []string{"STOP 1 9", "FIN 1"}) {
			tc.t.Errorf("the order is%s", oneShort(order))
		}
		<-w.done
		if w.n != sent {
			tc.t.Errorf("Write says %d, %v; the peer has got %d", w.n, w.err, sent)
		}
	})
}

// TestCloseDeliversWhatWasWritten: also where the credit for it comes after Close.
func TestCloseDeliversWhatWasWritten(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		for range 100 {
			tc.write(c, strings.Repeat("x", 655))
		}
		c.Close()
		tc.wantAnyOrder("all that Write has taken", "STOP 1 9", "DATA 1 65500*x", "FIN 1")
		tc.send("WINDOW YOURS 1 100000", "FIN YOURS 1")
		tc.wantIdle("the end")
		if n := tc.p.Stats().Conns; n != 0 {
			tc.t.Errorf("%d connections are left", n)
		}
	})
}

// TestResetDropsWhatIsNotSent: Reset does not wait for a transport that takes nothing,
// and what the peer then gets is a RESET and no FIN.
func TestResetDropsWhatIsNotSent(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		tc.send(`DATA 1 "unread"`)
		tc.deaf(true)
		w := tc.startWrite(c, strings.Repeat("x", 65536))
		c.Reset(300)
		synctest.Wait()
		select {
		case <-w.done:
		default:
			tc.t.Fatal("Write goes on after Reset")
		}
		wantErrAs(tc.t, "Write", w.err, isReset(300, false))
		wantErrAs(tc.t, "Read", second(c.Read(make([]byte, 10))), isReset(300, false))
		wantErrAs(tc.t, "Write", writeErr(c), isReset(300, false))
		tc.deaf(false)
		tc.settle()
		lines := oneLines(tc.sent())
		stop, reset := false, false
		for _, l := range lines {
			stop = stop || l == "STOP YOURS 1 300"
			reset = l == "RESET YOURS 1 300"
		}
		if !stop || !reset {
			tc.t.Errorf("want STOP, and RESET at the end:%s", oneShort(lines))
		}
	})
}

// TestPeersCodesArePassedOn: codes of RESET and STOP get to the application unchanged,
// those that the protocol does not know as well.
func TestPeersCodesArePassedOn(t *testing.T) {
	for _, code := range []Code{0, 1, 2, 9, 99, 255, 256, 1<<32 - 1} {
		oneRun(t, onePipe, func(tc *oneTest) {
			c := tc.openIDs(1)[0]
			tc.send(fmt.Sprintf("STOP YOURS 1 %d", code))
			tc.want("the answer has the same code", fmt.Sprintf("RESET 1 %d", code))
			wantErrAs(tc.t, "Write", writeErr(c), all(isStopped(code), is(syscall.EPIPE)))
			tc.send(fmt.Sprintf("RESET YOURS 1 %d", code))
			wantErrAs(tc.t, "Read", tc.readErr(c), all(isReset(code, true), is(syscall.ECONNRESET)))
			d := tc.open(vtB)
			tc.send(fmt.Sprintf(`REFUSED 2 %d "so \xff\x00it is"`, code))
			refused := isRefused(code, "so \uFFFD\x00it is")
			wantErrAs(tc.t, "Read", tc.readErr(d), refused)
			wantErrAs(tc.t, "Write", writeErr(d), refused)
		})
	}
}

// TestStopIsAnsweredAtOnce: the session answers STOP while the application's Write waits
// for credit, for the transport, and while nobody uses the connection at all.
func TestStopIsAnsweredAtOnce(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		w := tc.startWrite(c, strings.Repeat("x", 100_000))
		tc.want("the Write waits for credit", "DATA 1 65536*x")
		tc.sendNow("STOP YOURS 1 300")
		tc.wantNow("the answer", "RESET 1 300")
		w.want("Write", 65536, syscall.EPIPE)
		tc.send(`DATA YOURS 1 "still"`, "FIN YOURS 1")
		tc.wantRead("the peer's half goes on", c, "still", io.EOF)
	})
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		tc.deaf(true)
		w := tc.startWrite(c, strings.Repeat("x", 65536))
		tc.sendNow("STOP YOURS 1 300")
		select {
		case <-w.done:
		default:
			tc.t.Fatal("Write goes on after STOP, while the transport takes nothing")
		}
		wantErrAs(tc.t, "Write", w.err, isStopped(300))
		tc.deaf(false)
		tc.settle()
		sent := 0
		lines := oneLines(tc.sent())
		for _, l := range lines {
			if n := 0; strings.HasPrefix(l, "DATA 1 ") {
				fmt.Sscanf(l, "DATA 1 %d*x", &n)
				sent += n
			}
		}
		if lines[len(lines)-1] != "RESET 1 300" || sent != w.n {
			tc.t.Errorf("Write says %d. The session has sent:%s", w.n, oneShort(lines))
		}
	})
}

// TestDroppedConnIsClosed: as by Close, when the garbage collector finds it.
func TestDroppedOneConnIsClosed(t *testing.T) {
	near, far := net.Pipe() // not in a bubble: finalizers run outside
	p, err := NewPipe(near, &Config{KeepAliveInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	peer := newOnePeer(far)
	defer peer.close()
	defer p.Close()
	peer.say("PREFACE")
	func() {
		c, err := p.Open(bounded(t), vtA)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("hello"))
	}()
	var got []string
	waitUntil(t, "the runtime's finalizer", func() bool {
		runtime.GC()
		frames, breaches := peer.takeFrames()
		if len(breaches) > 0 {
			t.Fatal(breaches)
		}
		got = append(got, oneLines(frames)...)
		return p.Stats().Dropped == 1 && len(got) >= 5
	})
	if want := oneCanonical([]string{"PREFACE *", "OPEN 1", `DATA 1 "hello"`, "STOP 1 9", "FIN 1"}); !oneMatch(got, want) {
		t.Errorf("the session has sent:%s\nwant:%s", oneShort(got), oneShort(want))
	}
}

// TestRejectRefuses: the peer is told code and reason, the application's handle is of
// no more use, and nothing else is said on the connection.
func TestRejectRefuses(t *testing.T) {
	long := strings.Repeat("ä", 200)
	for _, tt := range []struct {
		code         Code
		reason, want string
	}{
		{300, "busy", `REFUSED 1 300 "busy"`},
		{0, "", "REFUSED 1 0"},
		{CodeBacklog, "\xff", "REFUSED 1 5 \"\uFFFD\""},
		{9, long, `REFUSED 1 9 "` + long[:256] + `"`},
	} {
		oneRun(t, oneListener, func(tc *oneTest) {
			tc.send("OPEN 1", `DATA 1 "early"`)
			p := tc.pending()
			if p.Addr() != vtA {
				tc.t.Errorf("Addr is %v", p.Addr())
			}
			if err := p.Reject(tt.code, tt.reason); err != nil {
				tc.t.Fatal(err)
			}
			tc.want("Reject", tt.want)
			if _, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
				tc.t.Errorf("Accept after Reject: %v", err)
			}
			p.Reject(301, "again")
			tc.send(`DATA 1 "late" FIN`)
			tc.wantIdle("once, and what crosses it is discarded")
			tc.wantAlive("what crosses it is no violation")
			if st := tc.p.Stats(); st.Conns != 0 || st.Refused != 1 {
				tc.t.Errorf("%d connections, %d refused", st.Conns, st.Refused)
			}
		})
	}
}

// TestRejectAfterTheHalfHasEnded: REFUSED is not possible behind the RESET that a STOP
// is answered with. Then Reject sends STOP with its code.
func TestRejectAfterTheHalfHasEnded(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.send("OPEN 1", "STOP 1 300")
		tc.want("the answer, before anybody accepts", "RESET YOURS 1 300")
		tc.pending().Reject(301, "no")
		tc.want("STOP in place of REFUSED", "STOP YOURS 1 301")
		tc.send("RESET 1 301")
		tc.send("OPEN 3", "STOP 3 300", "FIN 3")
		tc.want("the answer", "RESET YOURS 3 300")
		tc.pending().Reject(302, "no")
		tc.wantIdle("both halves have ended")
	})
}

// TestRejectBehindFIN: an opener may open, send, finish, and be refused.
func TestRejectBehindFIN(t *testing.T) {
	oneRun(t, oneSetup{listen: true, cfg: Config{MaxConns: 1}}, func(tc *oneTest) {
		for id := 1; id <= 2; id++ {
			tc.send(fmt.Sprintf(`OPEN %d`, id), fmt.Sprintf(`DATA %d "request" FIN`, id))
			tc.pending().Reject(300, "no")
			tc.want("Reject, and the place is free again", fmt.Sprintf(`REFUSED %d 300 "no"`, id))
		}
		if n := tc.p.Stats().Conns; n != 0 {
			tc.t.Errorf("%d connections are left", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p, l := sessionPair(t, overPipe)
		x, err := p.Open(t.Context(), vtA)
		if err != nil {
			t.Fatal(err)
		}
		x.Write([]byte("request"))
		x.CloseWrite()
		pending, err := l.AcceptPending(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pending.Reject(300, "no")
		x.SetReadDeadline(time.Now().Add(time.Second))
		wantErrAs(t, "Read", second(x.Read(make([]byte, 1))), isRefused(300, "no"))
		x.Close()
	})
}

// TestRefusals: what a session refuses by itself, at once, with the code for it.
func TestRefusals(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.sendNow("OPEN 1", "OPEN 7")
		tc.wantNow("a Pipe accepts nothing", "REFUSED 1 11 *", "REFUSED 7 11 *")
	})
	oneRun(t, oneSetup{listen: true, cfg: Config{AcceptBacklog: 2}}, func(tc *oneTest) {
		tc.sendNow("OPEN 1", "OPEN 2", "OPEN 3", `DATA 3 "x" FIN`, "OPEN 4")
		tc.wantNow("a backlog of two", "REFUSED 3 5 *", "REFUSED 4 5 *")
		tc.accept(vtA)
		tc.send("OPEN 5", "OPEN 6")
		tc.want("one was accepted", "REFUSED 6 5 *")
	})
	oneRun(t, oneSetup{listen: true, cfg: Config{MaxConns: 2}}, func(tc *oneTest) {
		cs := tc.acceptIDs(2)
		tc.open(vtB)
		tc.want("the limit is the peer's alone", "OPEN 1 *")
		tc.send("OPEN 3")
		tc.want("two are open", "REFUSED 3 4 *")
		tc.send("FIN 1", "RESET 2 300")
		cs[0].CloseWrite()
		cs[1].CloseWrite()
		tc.want("both have ended", "FIN YOURS 1", "FIN YOURS 2")
		tc.send("OPEN 4")
		tc.want("the application has closed none", "REFUSED 4 4 *")
		cs[0].Close()
		tc.send("OPEN 5", "OPEN 6")
		tc.want("it has closed one", "REFUSED 6 4 *")
		cs[1].Reset(300)
		tc.send("OPEN 7", "OPEN 8")
		tc.want("and the other one", "REFUSED 8 4 *")
	})
}

// TestSlotIsFreeWhenBothHaveEnded: an application that has closed frees the place only
// when the halves have ended too, and a rejected connection with its refusal.
func TestSlotIsFreeWhenBothHaveEnded(t *testing.T) {
	oneRun(t, oneSetup{listen: true, cfg: Config{MaxConns: 1}}, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		c.Close()
		tc.want("Close", "STOP YOURS 1 9", "FIN YOURS 1")
		tc.send("OPEN 2")
		tc.want("the peer has not ended its half", "REFUSED 2 4 *")
		tc.send("RESET 1 9", "OPEN 3")
		tc.want("it has")
		tc.pending().Reject(300, "no")
		tc.want("Reject", `REFUSED 3 300 "no"`)
		tc.send("OPEN 4")
		tc.want("a place is free again")
		tc.send("RESET 4 300", "OPEN 5")
		tc.want("and by what the peer takes back", "RESET YOURS 4 300")
		tc.accept(vtA)
	})
}

// promptPipe is a socket that takes all at once.
type promptPipe struct {
	vecPipe
	tries int
}

func (p *promptPipe) TryWrite(b []byte) (int, error) { p.tries++; return p.Conn.Write(b) }

// TestAnswersToOneReadGoTogether: what the peer takes back frees its place at once, by one
// write, and does not make a write of each refusal that follows.
func TestAnswersToOneReadGoTogether(t *testing.T) {
	var pipe *promptPipe
	wrap := func(c net.Conn) net.Conn {
		pipe = &promptPipe{vecPipe: vecPipe{Conn: c}}
		return pipe
	}
	oneRun(t, oneSetup{listen: true, cfg: Config{MaxConns: 2}, wrap: wrap}, func(tc *oneTest) {
		before := pipe.tries
		lines := []string{"OPEN 1", "RESET 1 300", "OPEN 2", "RESET 2 301", "OPEN 3", "OPEN 4"}
		want := []string{"RESET YOURS 1 300", "RESET YOURS 2 301"}
		for id := 5; id < 50; id++ {
			lines = append(lines, fmt.Sprintf("OPEN %d", id))
			want = append(want, fmt.Sprintf("REFUSED %d 4 *", id))
		}
		tc.sendNow(lines...)
		tc.wantNow("two are open", want...)
		if n := pipe.tries - before; n != 2 {
			t.Errorf("%d writes, want one for the places and one for the refusals", n)
		}
	})
}

// TestResetTakesBackWhatNobodyHasAccepted: the connection leaves the queue, and its own
// half is reset with the same code. FIN does not do that.
func TestResetTakesBackWhatNobodyHasAccepted(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.send("OPEN 1", "OPEN 2", "OPEN 3", `DATA 2 "x"`, "RESET 2 300", "FIN 3", "RESET 1 301")
		tc.wantAnyOrder("both are answered", "RESET YOURS 2 300", "RESET YOURS 1 301")
		c := tc.accept(vtA)
		tc.wantRead("the one that is left", c, "", io.EOF)
		tc.write(c, "hi")
		tc.want("it can be served", `DATA YOURS 3 "hi"`)
		tc.wantNoAccept("the others are gone")
	})
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.send("OPEN 1", "STOP 1 300")
		tc.want("STOP is answered", "RESET YOURS 1 300")
		tc.send("RESET 1 301")
		tc.want("the own half has ended before")
		tc.wantNoAccept("it is gone")
	})
}

// TestFINBehindUnreadBytes: after FIN, and all bytes before it, the application reads a
// clean end, though the connection is long forgotten and the session over.
func TestFINBehindUnreadBytes(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		c := tc.acceptIDs(1)[0]
		c.CloseWrite()
		tc.send("DATA 1 1000*x FIN")
		tc.want("our end", "FIN YOURS 1")
		tc.peer.conn.Close()
		tc.settle()
		tc.wantRead("all of it", c, strings.Repeat("x", 1000), io.EOF)
		<-tc.l.Done()
		if err := tc.l.Err(); !errors.Is(err, io.EOF) {
			tc.t.Errorf("the transport's end is clean, Err says %v", err)
		}
	})
	oneRun(t, oneListener, func(tc *oneTest) {
		cs := tc.acceptIDs(2)
		tc.send("DATA 1 1000*x FIN", "DATA 2 1000*y")
		tc.peer.conn.Close()
		tc.pass(time.Second)
		tc.wantRead("ended before", cs[0], strings.Repeat("x", 1000), io.EOF)
		wantErrAs(tc.t, "Write where the own half was open", writeErr(cs[0]), is(io.ErrUnexpectedEOF))
		tc.wantRead("cut", cs[1], strings.Repeat("y", 1000), io.ErrUnexpectedEOF)
	})
}

// The flusher closes a connection when it has built its REFUSED, while the leader may have
// a frame in hand that the peer sent before it knew: a stray, and no violation.
// To see it fail: in onData, load the halves once more for the second look.
func TestFrameForAConnectionThatIsRefusedMeanwhile(t *testing.T) {
	var data, reset [wire.HeaderLen + wire.CodeBodyLen]byte
	synctest.Test(t, func(t *testing.T) {
		b := newBareOf(t, Protocol1, false) // nothing comes: the test is the leader
		s := b.s
		for i := range 2000 {
			c := s.newState(testAddr(i), false)
			c.id = wire.ID(i + 1)
			c.recv.init(math.MaxUint32)
			tb := &s.table
			tb.mu.Lock()
			tb.seen = c.id
			tb.slots++
			c.slot = true
			c.halves.Store(uint32(recvOpen | sendOpen))
			tb.byID[c.key()] = c
			tb.mu.Unlock()

			wire.PutDataHeader(data[:], 0, c.id, 1)
			h := wire.View[wire.Header](data[:])
			refuse := func() {
				tb.mu.Lock()
				tb.setLocked(c, 0)
				tb.mu.Unlock()
			}
			fine := func(what string, err *ProtocolError) {
				if err != nil && err.Code != CodeCalm {
					t.Fatalf("connection %d, %s: %v", c.id, what, err)
				}
			}
			fine("DATA", s.onData(h))
			go refuse()
			for s.in.cur == c {
				fine("DATA", s.onData(h))
			}
			wire.PutReset(reset[:], 0, c.id, 9)
			fine("RESET", s.onReset(c, wire.View[wire.Header](reset[:]), reset[wire.HeaderLen:]))
		}
		s.in.cur = nil
	})
}

// What an opener has in flight when it is refused costs it nothing, from the moment at which
// the REFUSED can be built.
// To see it fail: in closeWith, call refused at the end.
func TestRefusalAllowsForWhatIsInFlightFirst(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		tc.send("OPEN 1")
		pending, err := tc.l.AcceptPending(context.Background())
		if err != nil {
			tc.t.Fatal(err)
		}
		s := tc.l.s
		c, _ := s.table.find(1, false)
		if !s.out.claim() { // nobody builds
			tc.t.Fatal("somebody flushes")
		}
		s.table.mu.Lock() // nor gets past the debt
		rejected := async(func() error { return pending.Reject(300, "no") })
		for c.owes.Load() == 0 {
			runtime.Gosched()
		}
		allowed := s.in.calm.allowance.Load()
		s.table.mu.Unlock()
		s.runFlusher(nil, nil)
		wantErr(tc.t, "Reject", <-rejected, nil)
		if want := int64(s.cfg.InitialWindow) + 1; allowed != want {
			tc.t.Errorf("%d frames in flight are free when the refusal is owed, want %d", allowed, want)
		}
		tc.want("the refusal", `REFUSED 1 300 "no"`)
	})
}

// TestNothingFollowsAWriteThatCloseFailed: Close has begun, and not come to the connection
// yet. A Write may be sent and fail all the same. The next must not be sent: the peer would
// read it behind the other, which the caller takes for lost.
// To see it fail: in lost, leave out abort.
func TestNothingFollowsAWriteThatCloseFailed(t *testing.T) {
	for _, lending := range []bool{false, true} {
		oneRun(t, onePipe, func(tc *oneTest) {
			tc.p.s.lending = lending
			c := tc.openIDs(1)[0]
			tc.p.s.closing.Store(true) // as Close begins
			op := tc.startWrite(c, "perhaps")
			op.want("the first Write", 0, net.ErrClosed)
			tc.want("it is sent all the same", `DATA 1 "perhaps"`)
			for _, n := range []int{1, lendFrom} {
				op := tc.start("Write", func() (int, error) { return c.Write(make([]byte, n)) })
				op.want("a Write after that", 0, net.ErrClosed)
				tc.want("it is not sent")
			}
			tc.p.s.abortAll(net.ErrClosed) // as Close goes on
			tc.p.s.end(net.ErrClosed)
		})
	}
}
