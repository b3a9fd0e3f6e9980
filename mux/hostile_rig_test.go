package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/pool"
	"github.com/vtmux/vtmux/wire"
)

// What the tests of hostile peers share.

// A holding is what a session holds for its peer's doings. It is exact when nothing
// moves: behind synctest.Wait.
type holding struct {
	conns    int // in the table
	slots    int // that count against MaxConns: the peer's, with the vt-muxer protocol ours too
	queued   int // not accepted
	refusals int // of OPENs that got no place, not sent
	owing    int // connections that owe frames
	unread   int // payload bytes
	held     int // of buffers and slabs that hold those
}

func holdingOf(s *session) (h holding) {
	all := make(map[*conn]bool)
	s.accept.mu.Lock()
	for o := s.accept.head; o != nil; o = o.next {
		h.queued++
		all[o.c] = true
	}
	s.accept.mu.Unlock()
	s.table.mu.Lock()
	h.conns, h.slots = s.table.lenLocked(), s.table.slots
	for _, c := range s.table.allLocked() {
		all[c] = true
	}
	s.table.mu.Unlock()
	for c := range all {
		c.mu.Lock()
		h.unread += c.in.n
		h.held += queueHolds(&c.in)
		c.mu.Unlock()
		if c.owes.Load() != 0 {
			h.owing++
		}
	}
	s.refusals.mu.Lock()
	h.refusals = len(s.refusals.list)
	s.refusals.mu.Unlock()
	return h
}

// wantHolding fails the test unless the session holds exactly h; held may be less.
func (tc *vtTest) wantHolding(sentence string, h holding) {
	tc.t.Helper()
	synctest.Wait()
	got := holdingOf(tc.p.s)
	if got.held <= h.held {
		got.held = h.held
	}
	if got != h {
		tc.t.Fatalf("%s: the session holds %+v, want %+v", sentence, got, h)
	}
}

// A bystander is a session with a connection that has nothing to do with the attack.
type bystander struct {
	t    *testing.T
	x, y *Conn
	n    int
}

func newBystander(t *testing.T) *bystander {
	p, l := sessionPair(t, overPipe)
	x, y := connPair(t, p, l, 1)
	return &bystander{t: t, x: x, y: y}
}

// want fails the test unless the bystander's round trip takes no time.
func (b *bystander) want(sentence string) {
	b.t.Helper()
	start := time.Now()
	b.n++
	msg := fmt.Sprintf("message %d", b.n)
	buf := make([]byte, len(msg))
	for _, way := range [][2]*Conn{{b.x, b.y}, {b.y, b.x}} {
		wrote := async(func() error { _, err := way[0].Write([]byte(msg)); return err })
		if _, err := io.ReadFull(way[1], buf); err != nil || string(buf) != msg {
			b.t.Fatalf("%s: the bystander read %q, %v", sentence, buf, err)
		}
		if err := <-wrote; err != nil {
			b.t.Fatalf("%s: the bystander's Write: %v", sentence, err)
		}
	}
	if d := time.Since(start); d != 0 {
		b.t.Errorf("%s: the bystander's round trip took %v", sentence, d)
	}
}

// A hostileApp accepts every connection and lets a handler work on it until release.
type hostileApp struct {
	mu        sync.Mutex
	now, peak int
	done      chan struct{}
	wg        sync.WaitGroup
}

func (tc *vtTest) serve() *hostileApp {
	app := &hostileApp{done: make(chan struct{})}
	app.wg.Go(func() {
		for {
			c, err := tc.l.AcceptConn(context.Background())
			if err != nil {
				return
			}
			app.mu.Lock()
			app.now++
			app.peak = max(app.peak, app.now)
			app.mu.Unlock()
			app.wg.Go(func() {
				<-app.done
				c.Close()
				app.mu.Lock()
				app.now--
				app.mu.Unlock()
			})
		}
	})
	return app
}

// handlers returns how many work, and the most that have at once.
func (app *hostileApp) handlers() (now, peak int) {
	synctest.Wait()
	app.mu.Lock()
	defer app.mu.Unlock()
	return app.now, app.peak
}

func (app *hostileApp) release() {
	select {
	case <-app.done:
	default:
		close(app.done)
	}
}

// hostileOne runs an attack on a session of protocol 1, whose bucket is full, beside a
// bystander. f returns with the session alive or dead.
func hostileOne(o oneSetup, f func(*oneTest, *bystander)) func(*testing.T) {
	return func(t *testing.T) {
		oneRun(t, o, func(tc *oneTest) {
			b := newBystander(tc.t)
			b.want("before")
			if o.preface != "-" {
				tc.full()
			}
			f(tc, b)
			b.want("after")
		})
	}
}

// hostileVT is hostileOne with the vt-muxer protocol.
func hostileVT(listen bool, cfg *Config, f func(*vtTest, *bystander)) func(*testing.T) {
	return func(t *testing.T) {
		vtRun(t, listen, cfg, func(tc *vtTest) {
			b := newBystander(tc.t)
			b.want("before")
			f(tc, b)
			b.want("after")
		})
	}
}

// flood sends n times lines, by one write.
func (tc *oneTest) flood(n int, lines func(i int) []string) {
	tc.t.Helper()
	var b []byte
	tc.peer.mu.Lock()
	for i := range n {
		for _, l := range lines(i) {
			tc.peer.hears(l)
			b = append(b, oneEncode(l)...)
		}
	}
	tc.peer.mu.Unlock()
	tc.sendRaw(b)
}

// lines is flood's for what does not depend on i.
func (tc *oneTest) floodOf(n int, lines ...string) {
	tc.t.Helper()
	tc.flood(n, func(int) []string { return lines })
}

// wantCalm fails the test unless the session has ended because of too many frames
// without progress, and says so last, behind frames that all begin with one of only.
func (tc *oneTest) wantCalm(sentence string, last wire.ID, only ...string) (counts map[string]int) {
	tc.t.Helper()
	return tc.wantDeath(sentence, last, CodeCalm, only...)
}

func (tc *oneTest) wantDeath(sentence string, last wire.ID, code Code, only ...string) (counts map[string]int) {
	tc.t.Helper()
	select {
	case <-tc.p.Done():
	case <-time.After(failLinger + time.Millisecond):
		tc.t.Fatalf("%s: the session goes on (%v), and has sent%s", sentence, tc.p.Err(), oneShort(oneLines(tc.sent())))
	}
	tc.wantFails(sentence, func(err error) bool { return isProtocolError(err, code) })
	synctest.Wait()
	lines := oneLines(tc.sent())
	counts = tc.count(sentence, lines[:max(len(lines)-1, 0)], only...)
	if n := len(lines); n == 0 || !oneMatch(lines[n-1:], []string{fmt.Sprintf("GOAWAY %d %d *", last, code)}) {
		tc.t.Fatalf("%s: the last words are%s\nwant GOAWAY %d %d", sentence, oneShort(lines), last, code)
	}
	return counts
}

// count returns how often the lines begin with each of only. All must begin with one.
func (tc *oneTest) count(sentence string, lines []string, only ...string) map[string]int {
	tc.t.Helper()
	counts := make(map[string]int)
next:
	for _, l := range lines {
		for _, o := range only {
			if len(l) >= len(o) && l[:len(o)] == o {
				counts[o]++
				continue next
			}
		}
		tc.t.Fatalf("%s: the session has sent %s", sentence, l)
	}
	return counts
}

// goroutines returns how many the caller's bubble has when all of them are parked. The
// whole program's are not its business: the one that runs finalizers counts while it does.
func goroutines() int {
	synctest.Wait()
	stacks := allStacks()
	own := bubble.Find(stacks) // the caller's stack is the first
	if own == nil {
		panic("goroutines is for tests in a synctest bubble")
	}
	return bytes.Count(stacks, own)
}

// bubble is how the first line of a stack names the bubble that its goroutine is in.
var bubble = regexp.MustCompile(`synctest bubble \d+\]:\n`)

// wantGoroutines fails the test if there are more goroutines than n.
func wantGoroutines(t *testing.T, sentence string, n int) {
	t.Helper()
	if got := goroutines(); got > n {
		t.Errorf("%s: %d goroutines, want %d at most", sentence, got, n)
	}
}

// heap returns what is live.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// wantHeap fails the test if more than most bytes have come to live since before.
func wantHeap(t *testing.T, sentence string, before, most int64) {
	t.Helper()
	if raceEnabled || pool.Debug {
		most += 1 << 20 // which keep accounts of their own
	}
	if grown := heap() - before; grown > most {
		t.Errorf("%s: the heap has grown by %d bytes, want %d at most", sentence, grown, most)
	}
}

// wantTooMany fails the test unless a session of the vt-muxer protocol has ended because
// the peer opened too many connections.
func (tc *vtTest) wantTooMany(sentence string) {
	tc.t.Helper()
	synctest.Wait()
	select {
	case <-tc.p.Done():
	default:
		tc.t.Fatalf("%s: the session goes on", sentence)
	}
	wantErrAs(tc.t, sentence, tc.p.Err(), func(err error) bool {
		return errors.Is(err, ErrTooManyConns) && errors.Is(err, ErrProtocol)
	})
}

// wantAlive fails the test if the session has ended.
func (tc *vtTest) wantAlive(sentence string) {
	tc.t.Helper()
	synctest.Wait()
	if err := tc.p.Err(); err != nil {
		tc.t.Fatalf("%s: the session has ended: %v", sentence, err)
	}
}

// pairOf is an address of many, for the vt-muxer protocol's attacks.
func vtMany(n int, each func(i int) []vtFrame) (b []byte) {
	for i := range n {
		b = append(b, vtBytes(each(i)...)...)
	}
	return b
}

// wantDone fails the test unless the session ends within limit, and returns when.
func (tc *vtTest) wantDone(sentence string, limit time.Duration) time.Duration {
	tc.t.Helper()
	start := time.Now()
	select {
	case <-tc.p.Done():
	case <-time.After(limit):
		tc.t.Fatalf("%s: the session goes on after %v", sentence, limit)
	}
	return time.Since(start)
}

// wantNoDelay fails the test if f takes time.
func wantNoDelay(t *testing.T, what string, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if d := time.Since(start); d != 0 {
		t.Errorf("%s took %v", what, d)
	}
}

// isClosedErr reports whether err is what calls return behind Close.
func isClosedErr(err error) bool { return errors.Is(err, net.ErrClosed) }
