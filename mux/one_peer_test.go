package mux

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/pool"
	"github.com/vtmux/vtmux/wire"
)

// A onePeer is the other end of a session's transport, in a test's hands, like a
// vtPeer. What the session sends is decoded when it comes, and held against oneLaw.
type onePeer struct {
	*vtPeer

	mu       sync.Mutex
	dec      oneDecoder
	law      oneLaw
	frames   []oneFrame // that nobody has looked at
	breaches []string
	endedAt  time.Time // when the transport's end came
	endErr   error
	pings    bool          // PINGs are the test's: else they are answered at once, and not recorded
	ackAfter time.Duration // how long after the PING its ACK is sent, if pings is not set
	bytes    int           // that the session has sent
	onFrame  func(oneFrame)

	paceMost  int // bytes that one read takes; behind paceEvery
	paceEvery time.Duration
}

// A oneTap is the peer's end of the transport, which tells the peer what is read from it.
type oneTap struct {
	net.Conn
	p *onePeer
}

func (c oneTap) Read(b []byte) (int, error) {
	c.p.mu.Lock()
	most, every := c.p.paceMost, c.p.paceEvery
	c.p.mu.Unlock()
	if every > 0 {
		<-time.After(every)
		b = b[:most]
	}
	n, err := c.Conn.Read(b)
	c.p.heard(b[:n], err)
	return n, err
}

func newOnePeer(conn net.Conn) *onePeer {
	p := &onePeer{}
	p.law.init()
	p.mu.Lock() // until vtPeer is set, that its reading goroutine uses
	defer p.mu.Unlock()
	p.vtPeer = newVTPeer(oneTap{conn, p})
	return p
}

// heard takes what the session wrote. It runs in the peer's reading goroutine.
func (p *onePeer) heard(b []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vtPeer.take() // the writes themselves don't matter here
	p.bytes += len(b)
	if derr := p.dec.feed(b, p.record); derr != nil {
		p.breaches = append(p.breaches, derr.Error())
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		p.endedAt, p.endErr = time.Now(), err
	}
}

func (p *onePeer) record(f oneFrame) {
	f.at = time.Now()
	if breach := p.law.says(&f); breach != "" {
		p.breaches = append(p.breaches, fmt.Sprintf("%s: %s", f.text(), breach))
	}
	if p.onFrame != nil {
		p.onFrame(f)
	}
	if f.preface == nil && f.vt == nil && f.t == wire.TypePing && f.flags == 0 && !p.pings {
		ack := "ACK" + strings.TrimPrefix(f.text(), "PING")
		if p.ackAfter > 0 {
			time.AfterFunc(p.ackAfter, func() { p.say(ack) })
			return
		}
		p.law.pinging = false
		p.queue(oneEncode(ack))
		return
	}
	p.frames = append(p.frames, f)
}

// say sends frames by one write.
func (p *onePeer) say(lines ...string) {
	p.mu.Lock()
	for _, line := range lines {
		p.hears(line)
	}
	p.mu.Unlock()
	p.queue(oneBytes(lines...))
}

// hears tells the law what the peer says.
func (p *onePeer) hears(line string) {
	d := oneDecoder{vt: strings.HasPrefix(line, "VT"), prefaced: !strings.HasPrefix(line, "PREFACE")}
	d.feed(oneEncode(line), func(f oneFrame) { p.law.hears(&f) })
}

// takeFrames returns what the session has sent since the last look.
func (p *onePeer) takeFrames() (frames []oneFrame, breaches []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	frames, p.frames = p.frames, nil
	breaches, p.breaches = p.breaches, nil
	return frames, breaches
}

// ended returns when and how the transport ended, for the peer.
func (p *onePeer) ended() (time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endedAt, p.endErr
}

// A oneTest is a session of protocol 1 whose peer and clock are the test. It lives in a
// synctest bubble. Of vtTest it has what deals with the application's side.
type oneTest struct {
	vtTest
	peer    *onePeer
	began   time.Time
	handles []*PendingConn // all, so that none is closed by the garbage collector
}

// A oneSetup is how a test begins.
type oneSetup struct {
	listen  bool
	cfg     Config // keep-alive is off unless it is set
	preface string // the peer's; "": PREFACE; "-": none, and nobody waits for the session's
	wrap    func(net.Conn) net.Conn
}

var (
	onePipe     = oneSetup{}
	oneListener = oneSetup{listen: true}
)

// oneRun runs f in a bubble, behind the two prefaces.
func oneRun(t *testing.T, o oneSetup, f func(*oneTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		if o.wrap != nil {
			near = o.wrap(near)
		}
		if o.cfg.KeepAliveInterval == 0 {
			o.cfg.KeepAliveInterval = -1
		}
		tc := &oneTest{began: time.Now()}
		tc.t = t
		tc.slabs, tc.buffers = pool.Outstanding()
		var err error
		if o.listen {
			tc.l, err = NewListener(near, &o.cfg)
			if err == nil {
				tc.p = tc.l.Pipe()
			}
		} else {
			tc.p, err = NewPipe(near, &o.cfg)
		}
		if err != nil {
			t.Fatal(err)
		}
		tc.peer = newOnePeer(far)
		tc.vtTest.peer = tc.peer.vtPeer
		t.Cleanup(tc.finish)
		if o.preface != "-" {
			if o.preface == "" {
				o.preface = "PREFACE"
			}
			tc.peer.say(o.preface)
			tc.wantNow("each end begins with a preface", "PREFACE *")
		}
		f(tc)
	})
}

// finish ends the session and looks for what it has left behind. Goroutines are
// the bubble's business: it fails where one is left.
func (tc *oneTest) finish() {
	tc.t.Helper()
	if _, breaches := tc.peer.takeFrames(); len(breaches) > 0 {
		tc.t.Errorf("the session must not send:%s", oneShort(breaches))
	}
	tc.p.Close() // what that sends is TestCloseOfASession's matter
	tc.peer.close()
	for _, c := range tc.conns {
		c.Close()
	}
	synctest.Wait()
	runtime.KeepAlive(tc.conns)
	runtime.KeepAlive(tc.handles)
	if slabs, buffers := pool.Outstanding(); slabs != tc.slabs || buffers != tc.buffers {
		tc.t.Errorf("%d slabs and %d buffers are left, want %d and %d\n%s", slabs, buffers, tc.slabs, tc.buffers, pool.Leaks())
	}
}

// sent returns what the session has sent since the last look.
func (tc *oneTest) sent() []oneFrame {
	tc.t.Helper()
	frames, breaches := tc.peer.takeFrames()
	if len(breaches) > 0 {
		tc.t.Fatalf("the session must not send:%s\nall that it has sent:%s", oneShort(breaches), oneShort(oneLines(frames)))
	}
	return frames
}

// want fails the test unless the session has sent exactly these frames, in this order,
// since the last want, when all that can happen has happened. See oneLines.
func (tc *oneTest) want(sentence string, lines ...string) {
	tc.t.Helper()
	tc.settle()
	tc.wantNow(sentence, lines...)
}

// wantNow is want without a moment for what takes time.
func (tc *oneTest) wantNow(sentence string, lines ...string) {
	tc.t.Helper()
	synctest.Wait()
	lines = oneCanonical(lines)
	if got := oneLines(tc.sent()); !oneMatch(got, lines) {
		tc.t.Fatalf("%s. The session has sent:%s\nwant:%s%s", sentence, oneShort(got), oneShort(lines), tc.why())
	}
}

// wantSoon is wantNow for frames that wait for others to go along with: see flushLater.
func (tc *oneTest) wantSoon(sentence string, lines ...string) {
	tc.t.Helper()
	tc.pass(flushWithin)
	tc.wantNow(sentence, lines...)
}

// wantAnyOrder is want for frames that owe each other no order.
func (tc *oneTest) wantAnyOrder(sentence string, lines ...string) {
	tc.t.Helper()
	tc.settle()
	frames := tc.sent()
	slices.SortStableFunc(frames, func(a, b oneFrame) int { // a connection's DATA may be apart
		return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.id, b.id), cmp.Compare(a.flags&wire.FlagYours, b.flags&wire.FlagYours))
	})
	got := oneLines(frames)
	left := oneCanonical(lines)
	for _, g := range got {
		for i, w := range left {
			if oneMatch([]string{g}, []string{w}) {
				left = append(left[:i:i], left[i+1:]...)
				break
			}
		}
	}
	if len(left) > 0 || len(got) != len(oneCanonical(lines)) {
		tc.t.Fatalf("%s. The session has sent:%s\nwant, in any order:%s%s", sentence, oneShort(got), oneShort(lines), tc.why())
	}
}

// wantPing is wantNow for lines and then a PING. It returns the ACK for it.
func (tc *oneTest) wantPing(sentence string, lines ...string) (ack string) {
	tc.t.Helper()
	synctest.Wait()
	got := oneLines(tc.sent())
	if !oneMatch(got, append(oneCanonical(lines), "PING *")) {
		tc.t.Fatalf("%s. The session has sent:%s\nwant:%s\n  PING *%s", sentence, oneShort(got), oneShort(lines), tc.why())
	}
	return "ACK" + strings.TrimPrefix(got[len(got)-1], "PING")
}

// why tells why the session has ended, if it has.
func (tc *oneTest) why() string {
	if err := tc.p.Err(); err != nil {
		return fmt.Sprintf("\nthe session has ended: %v", err)
	}
	return ""
}

// wantIdle fails the test if the session has sent anything since the last want.
func (tc *oneTest) wantIdle(sentence string) {
	tc.t.Helper()
	tc.want(sentence)
}

// send sends frames, by one write, and waits until they have had their effect.
func (tc *oneTest) send(lines ...string) {
	tc.peer.say(lines...)
	tc.settle()
}

// sendNow is send without a moment for what takes time.
func (tc *oneTest) sendNow(lines ...string) {
	tc.peer.say(lines...)
	synctest.Wait()
}

// sendRaw sends bytes, by one write.
func (tc *oneTest) sendRaw(b []byte) {
	tc.peer.queue(b)
	synctest.Wait()
}

// deaf makes the peer stop reading, or go on.
func (tc *oneTest) deaf(deaf bool) {
	tc.peer.setDeaf(deaf)
	synctest.Wait()
}

// pace makes the peer read no more than most bytes, every so often. Zeros: all, at once.
func (tc *oneTest) pace(most int, every time.Duration) {
	tc.peer.mu.Lock()
	tc.peer.paceMost, tc.peer.paceEvery = most, every
	tc.peer.mu.Unlock()
}

// pass lets time pass.
func (tc *oneTest) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// passUntil lets time pass until the session is d old.
func (tc *oneTest) passUntil(d time.Duration) {
	tc.t.Helper()
	if d < tc.age() {
		tc.t.Fatalf("the session is %v old already, and should get %v", tc.age(), d)
	}
	tc.pass(d - tc.age())
}

// age returns how long ago the session began.
func (tc *oneTest) age() time.Duration { return time.Since(tc.began) }

// wantAlive fails the test if the session has ended.
func (tc *oneTest) wantAlive(sentence string) {
	tc.t.Helper()
	synctest.Wait()
	if err := tc.p.Err(); err != nil {
		tc.t.Fatalf("%s: the session has ended: %v", sentence, err)
	}
	select {
	case <-tc.p.Done():
		tc.t.Fatalf("%s: Done is closed, and Err is nil", sentence)
	default:
	}
}

// wantEnd fails the test unless the session has sent lines, then a GOAWAY with the last
// ID and the code, has then ended the transport, and fails with a *ProtocolError of
// that code.
func (tc *oneTest) wantEnd(sentence string, last wire.ID, code Code, lines ...string) {
	tc.t.Helper()
	tc.want(sentence, append(lines, fmt.Sprintf("GOAWAY %d %d *", last, code))...)
	tc.wantGone(sentence)
	tc.wantFails(sentence, func(err error) bool { return isProtocolError(err, code) })
}

// wantGone fails the test unless the transport has ended for the peer.
func (tc *oneTest) wantGone(sentence string) {
	tc.t.Helper()
	tc.settle()
	if _, err := tc.peer.ended(); err != io.EOF {
		tc.t.Fatalf("%s: the transport's end is %v at the peer, want io.EOF", sentence, err)
	}
}

// wantFails fails the test unless the session is over and its calls return errors that
// ok takes. What waits to be accepted still can be.
func (tc *oneTest) wantFails(sentence string, ok func(error) bool) {
	tc.t.Helper()
	select {
	case <-tc.p.Done():
	default:
		tc.t.Fatalf("%s: the session goes on", sentence)
	}
	check := func(call string, err error) {
		tc.t.Helper()
		if err == nil || !ok(err) {
			tc.t.Errorf("%s: %s returned %T %v", sentence, call, err, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	check("Err", tc.p.Err())
	_, err := tc.p.Open(ctx, vtC)
	check("Open", err)
	_, err = tc.p.OpenWith(ctx, OpenOptions{Addr: vtC, Metadata: []byte("m")})
	check("OpenWith", err)
	_, err = tc.p.Ping(ctx)
	check("Ping", err)
	for tc.l != nil {
		c, err := tc.l.AcceptConn(ctx)
		if err != nil {
			check("AcceptConn", err)
			break
		}
		tc.conns = append(tc.conns, c)
	}
}

// openIDs opens n connections, and takes their OPENs.
func (tc *oneTest) openIDs(n int) (conns []*Conn) {
	tc.t.Helper()
	var lines []string
	for i := range n {
		conns = append(conns, tc.open(vtA))
		lines = append(lines, fmt.Sprintf("OPEN %d", i+1))
	}
	tc.want("each Open is an OPEN, with the next ID", lines...)
	return conns
}

// acceptIDs lets the peer open connections, and accepts them.
func (tc *oneTest) acceptIDs(n int) (conns []*Conn) {
	tc.t.Helper()
	for i := range n {
		tc.send(fmt.Sprintf("OPEN %d", i+1))
		conns = append(conns, tc.accept(vtA))
	}
	tc.want("an OPEN is not answered")
	return conns
}

// wantOpenErr fails the test unless opening fails with target, and sends nothing.
func (tc *oneTest) wantOpenErr(sentence string, target error) {
	tc.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := tc.p.Open(ctx, vtA)
	if c != nil {
		tc.conns = append(tc.conns, c)
	}
	if !errors.Is(err, target) {
		tc.t.Fatalf("%s: Open returned %v, want %v", sentence, err, target)
	}
	tc.want(sentence)
}

// pending takes the next connection before it is accepted.
func (tc *oneTest) pending() *PendingConn {
	tc.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p, err := tc.l.AcceptPending(ctx)
	if err != nil {
		tc.t.Fatalf("AcceptPending: %v", err)
	}
	tc.handles = append(tc.handles, p)
	return p
}

// readErr returns what Read says when there is nothing more to read.
func (tc *oneTest) readErr(c *Conn) error {
	tc.t.Helper()
	tc.settle()
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	defer c.SetReadDeadline(time.Time{})
	_, err := io.Copy(io.Discard, eofKeeper{c})
	return err
}

// writeErr returns what Write of one byte says.
func writeErr(c *Conn) error {
	_, err := c.Write([]byte("w"))
	return err
}
