package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/internal/faultconn"
)

// What two applications, A and B, do in the story that the fault tests tell again and
// again. Both ends are Listeners, and a connection's number is its name.
//
//	open N [metadata]    accept N [metadata]    reject N code reason
//	write N bytes        read N bytes           readall N bytes: and then io.EOF
//	fin N                reset N code           close N    closeread N
//	wasreset N code      wasrefused N code      wasstopped N: Write fails
//	ping                 shutdown               draining: nothing can be opened
//	join: what runs behind "bg" has returned
//
// A line that begins with "1:" or "vt:" is for that protocol alone.
const faultScript = `
	A open 1 user=7
	B accept 1 user=7
	A write 1 1
	B read 1 1
	B write 1 2
	A read 1 2
	B open 2 k
	A accept 2 k
	B write 2 3
	A read 2 3
	A write 2 1
	B read 2 1

	A open 3
	B accept 3
	A bg readall 3 5
	B bg readall 3 4
	B open 4
	A accept 4
	1: A bg write 4 65600
	1: B ping
	1: A ping

	A open 5
	A write 5 7
	A fin 5
	B accept 5
	B readall 5 7
	B write 5 3
	B close 5
	A readall 5 3
	A close 5
	B open 6
	A accept 6
	A write 6 5
	A close 6
	B readall 6 5
	B close 6

	A open 7
	B accept 7
	A write 7 4
	B read 7 4
	A write 7 2
	A reset 7 300
	B wasreset 7 300
	B close 7
	B open 8
	B write 8 3
	A accept 8
	B reset 8 301
	A wasreset 8 301
	A close 8

	A open 9
	B accept 9
	B closeread 9
	1: A ping
	A wasstopped 9
	B write 9 2
	B fin 9
	A readall 9 2
	A close 9
	B open 10
	A accept 10
	A close 10
	1: B ping
	B wasstopped 10
	B close 10

	A open 11 m
	B reject 11 305 busy
	A wasrefused 11 305 busy
	A close 11
	B open 12
	A reject 12 5 full
	B wasrefused 12 5 full
	B close 12
	A open 13
	A close 13
	B accept 13
	B readall 13 0
	B close 13

	A write 1 19
	B read 1 10
	B read 1 9
	1: A write 1 16384
	1: B read 1 16384
	vt: A write 1 9000
	vt: B read 1 9000
	A write 1 1
	B read 1 1
	1: B write 2 16384
	1: A read 2 16384
	1: B write 1 16384
	1: A read 1 16384
	vt: B write 2 9000
	vt: A read 2 9000
	B write 2 21
	A read 2 21

	A bg shutdown
	1: B ping
	1: B draining
	A draining
	B bg shutdown
	1: A ping
	A write 3 4
	A fin 3
	B write 3 5
	B fin 3
	1: B read 4 65600
	1: A read 4 0
	A fin 1
	B readall 1 0
	B write 1 2
	B fin 1
	A readall 1 2
	A fin 2
	B fin 2
	A readall 2 0
	B readall 2 0
	1: join write
	A fin 4
	B readall 4 0
	B close 4
	A readall 4 0
	join
`

// A faultOp is a line of the script.
type faultOp struct {
	line string
	end  int // 0 for A
	bg   bool
	verb string
	conn int
	arg  int
	text string
}

// faultOps are the operations for each protocol.
var faultOps = map[Protocol][]faultOp{ProtocolVT: faultParse("vt:", "1:"), Protocol1: faultParse("1:", "vt:")}

func faultParse(only, not string) (ops []faultOp) {
	for line := range strings.Lines(faultScript) {
		words := strings.Fields(line)
		if len(words) > 0 && words[0] == only {
			words = words[1:]
		}
		if len(words) == 0 || words[0] == not {
			continue
		}
		op := faultOp{line: strings.Join(words, " ")}
		if words[0] == "A" || words[0] == "B" {
			op.end = int(words[0][0] - 'A')
			words = words[1:]
		}
		if words[0] == "bg" {
			op.bg, words = true, words[1:]
		}
		op.verb, words = words[0], words[1:]
		number := func(v *int) {
			if len(words) > 0 {
				if n, err := strconv.Atoi(words[0]); err == nil {
					*v, words = n, words[1:]
				}
			}
		}
		number(&op.conn)
		number(&op.arg)
		op.text = strings.Join(words, " ")
		ops = append(ops, op)
	}
	return ops
}

// faultText is what connections carry: each direction of each has a place of its own in
// it to begin.
var faultText = testBytes(1<<17, 12)

// A faultHalf is one direction of a connection: what its writer has said and what its
// reader has seen.
type faultHalf struct {
	tried, sent int    // bytes given to Write, and counted by it
	ending      string // what the writer has called to end it
	got         int    // bytes read
	readErr     error  // what ended the reading
	shut        bool   // the reader has closed it
}

// A faultConn is a connection of the story, by both its ends.
type faultConn struct {
	number, opener int
	metadata       string
	c              [2]*Conn
	half           [2]faultHalf // that which each end says
}

func (k *faultConn) text(from, at, n int) []byte {
	at += k.number*256 + from*64
	return faultText[at : at+n]
}

// A faultEnd is one of the two sessions.
type faultEnd struct {
	l   *Listener
	fc  *faultconn.Conn
	raw net.Conn
	got *faultTap
}

// A faultTap records what a session reads.
type faultTap struct {
	net.Conn
	mu  sync.Mutex
	got []byte
}

func (c *faultTap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	c.got = append(c.got, p[:n]...)
	c.mu.Unlock()
	return n, err
}

// A faultStory is one telling of the story, in a bubble.
type faultStory struct {
	t     *testing.T
	pr    Protocol
	setup faultSetup
	ends  [2]faultEnd
	began time.Time
	ctx   context.Context // ends with patienceOfFaults

	mu    sync.Mutex
	conns [32]*faultConn
	bg    []*faultCall
	cut   bool        // a call has failed for the session's sake
	shut  atomic.Bool // Shutdown has been called: before that nothing fails with net.ErrClosed
}

// A faultCall is a call behind "bg".
type faultCall struct {
	op   faultOp
	done chan struct{}
	err  error
}

// A faultSetup says what goes wrong.
type faultSetup struct {
	end    int // whose transport
	plan   faultconn.Plan
	silent bool  // no call of the transport returns an error
	target error // what the session of that end fails with, behind TransportError; nil: anything
	op     string
	copies bool // nothing is lent
}

const (
	// faultPatience is how long each call of the story may take: its deadline.
	faultPatience = time.Minute
	// faultSoon is how long a call may take once the transport has said that it is
	// gone, with all lingering.
	faultSoon = 3 * time.Second
	// faultNoticed is how long it may take to find that it is, where it doesn't say so
	// and protocol 1 is spoken: the defaults of keep-alive, and a second to say why.
	faultNoticed = defaultKeepAliveInterval + defaultKeepAliveTimeout + faultSoon
)

// A faultOutcome is what came of a story.
type faultOutcome struct {
	told   bool      // to its end, without an error
	struck bool      // the fault struck
	read   [2][]byte // what each session has read
	calls  int       // operations
}

// tellFaultStory tells the story once, and holds every call against what is promised.
func tellFaultStory(t *testing.T, pr Protocol, setup faultSetup) (out faultOutcome) {
	synctest.Test(t, func(t *testing.T) {
		s := &faultStory{t: t, pr: pr, setup: setup, began: time.Now()}
		var cancel context.CancelFunc
		s.ctx, cancel = context.WithTimeout(context.Background(), faultPatience)
		defer cancel()
		s.start()
		for _, op := range faultOps[pr] {
			if out.calls++; s.do(op) != nil {
				s.cut = true
				break
			}
		}
		out.told = !s.cut
		s.aftermath()
		for i, e := range s.ends {
			out.read[i] = e.got.got
		}
		_, r := s.ends[setup.end].fc.ReadFault()
		_, w := s.ends[setup.end].fc.WriteFault()
		out.struck = r || w
	})
	return out
}

func (s *faultStory) errorf(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf("after %v: %s", time.Since(s.began), fmt.Sprintf(format, args...))
}

func (s *faultStory) start() {
	var raw [2]net.Conn
	raw[0], raw[1] = net.Pipe()
	for i := range s.ends {
		e := &s.ends[i]
		var plan faultconn.Plan
		if i == s.setup.end {
			plan = s.setup.plan
		}
		e.raw, e.fc = raw[i], faultconn.New(raw[i], plan)
		e.got = &faultTap{Conn: e.fc}
		l, err := NewListener(e.got, &Config{Protocol: s.pr})
		if err != nil {
			s.t.Fatal(err)
		}
		l.s.lending = !s.setup.copies
		e.l = l
	}
}

// do makes a call, or starts it.
func (s *faultStory) do(op faultOp) error {
	if op.verb == "join" {
		return s.join(op.text)
	}
	if op.bg {
		b := &faultCall{op: op, done: make(chan struct{})}
		s.bg = append(s.bg, b)
		go func() {
			defer close(b.done)
			b.err = s.call(op)
		}()
		synctest.Wait()
		return nil
	}
	begin := time.Now()
	err := s.call(op)
	synctest.Wait() // so that the story is the same each time
	if took := time.Since(begin); took > s.bound(begin) {
		s.errorf("%s took %v (%v)", op.line, took, err)
	}
	return err
}

// bound is how long a call may take that began then.
func (s *faultStory) bound(begin time.Time) time.Duration {
	switch {
	case !s.setup.silent:
		return faultSoon
	case s.pr == Protocol1:
		return faultNoticed
	}
	return time.Until(s.began.Add(faultPatience)) + time.Since(begin) + faultSoon
}

func (s *faultStory) join(verb string) error {
	for _, b := range s.bg {
		if verb != "" && b.op.verb != verb {
			continue
		}
		select {
		case <-b.done:
		case <-time.After(faultPatience + faultSoon):
			s.errorf("%s does not return", b.op.line)
			return errors.New("it hangs")
		}
		if b.err != nil {
			return b.err
		}
	}
	return nil
}

// call makes the call that op names and returns its error, if that is not in the
// script. What must never be is an error of the test.
func (s *faultStory) call(op faultOp) (err error) {
	e := &s.ends[op.end]
	k := s.conns[op.conn]
	switch op.verb {
	case "open":
		return s.open(op)
	case "accept", "reject":
		return s.accept(op)
	case "ping":
		_, err = e.l.Ping(s.ctx)
		return s.typed(op.line, err)
	case "shutdown":
		s.shut.Store(true)
		err = e.l.Shutdown(s.ctx)
		s.wantSuccess(op, err)
		return s.typed(op.line, err)
	case "draining":
		_, err = e.l.Open(s.ctx, testAddr(31))
		if err == nil {
			s.errorf("%s: Open succeeds", op.line)
		}
		if errors.Is(err, ErrDraining) {
			return nil
		}
		return s.typed(op.line, err)
	case "write", "wasstopped":
		return s.write(op, k)
	case "read", "readall", "wasreset", "wasrefused":
		return s.read(op, k)
	}
	c, h := k.c[op.end], &k.half[op.end]
	s.mu.Lock()
	switch {
	case op.verb == "fin", op.verb == "reset":
		h.ending = op.verb
	case op.verb == "close" && h.ending == "":
		h.ending = "fin"
	}
	if op.verb != "fin" {
		k.half[1-op.end].shut = true
	}
	s.mu.Unlock()
	switch op.verb {
	case "fin":
		err = c.CloseWrite()
	case "reset":
		err = c.Reset(Code(op.arg))
	case "close":
		err = c.Close()
	case "closeread":
		err = c.CloseRead()
	default:
		panic("what is " + op.line)
	}
	return s.typed(op.line, err)
}

func (s *faultStory) open(op faultOp) error {
	k := &faultConn{number: op.conn, opener: op.end, metadata: op.text}
	o := OpenOptions{Addr: testAddr(op.conn)}
	if s.pr == Protocol1 {
		o.Metadata = []byte(op.text)
	}
	s.conns[op.conn] = k
	c, err := s.ends[op.end].l.Pipe().OpenWith(s.ctx, o)
	if err == nil {
		c.SetDeadline(s.began.Add(faultPatience))
		k.c[op.end] = c
	}
	return s.typed(op.line, err)
}

func (s *faultStory) accept(op faultOp) error {
	p, err := s.ends[op.end].l.AcceptPending(s.ctx)
	if err != nil {
		return s.typed(op.line, err)
	}
	k := s.conns[op.conn]
	if p.Addr() != testAddr(op.conn) || s.pr == Protocol1 && string(p.Metadata()) != k.metadata {
		s.errorf("%s: accepted %v with %q", op.line, p.Addr(), p.Metadata())
	}
	if op.verb == "reject" {
		k.half[op.end].ending = "refused"
		k.half[1-op.end].shut = true
		return s.typed(op.line, p.Reject(Code(op.arg), op.text))
	}
	c, err := p.Accept()
	if err == nil {
		c.SetDeadline(s.began.Add(faultPatience))
		k.c[op.end] = c
	}
	return s.typed(op.line, err)
}

func (s *faultStory) write(op faultOp, k *faultConn) error {
	h := &k.half[op.end]
	n := op.arg
	if op.verb == "wasstopped" {
		n = 1
	}
	s.mu.Lock()
	at := h.tried
	h.tried += n
	s.mu.Unlock()
	m, err := k.c[op.end].Write(k.text(op.end, at, n))
	s.mu.Lock()
	h.sent += m
	s.mu.Unlock()
	if m < 0 || m > n || (m == n) != (err == nil) {
		s.errorf("%s: Write returned %d, %v", op.line, m, err)
	}
	if op.verb == "wasstopped" && s.pr == Protocol1 {
		var stopped *StoppedError
		if errors.As(err, &stopped) && stopped.Code == CodeClosed {
			h.ending = "reset"
			return nil
		}
		if err == nil {
			s.errorf("%s: Write succeeds", op.line)
		}
	}
	return s.typed(op.line, err)
}

func (s *faultStory) read(op faultOp, k *faultConn) error {
	n := op.arg
	switch op.verb {
	case "readall", "wasreset", "wasrefused":
		n = len(faultText)
	}
	got, err := s.take(k, op.end, n)
	switch h := &k.half[1-op.end]; {
	case op.verb == "readall" && err == io.EOF && got == op.arg:
		return nil
	case op.verb == "readall" && err == io.EOF:
		s.errorf("%s: read %d bytes", op.line, got)
	case op.verb == "wasreset" && isReset(Code(op.arg), true)(err), op.verb == "wasrefused" && isRefused(Code(op.arg), op.text)(err):
		return nil
	case op.verb != "read" && err == io.EOF && s.pr == ProtocolVT && h.ending != "":
		return nil // that protocol has one end only
	}
	return s.typed(op.line, err)
}

var faultBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// take reads up to n bytes, and holds them and the end against what was written.
func (s *faultStory) take(k *faultConn, end, n int) (got int, err error) {
	h := &k.half[1-end]
	buf := faultBuffers.Get().(*[16 << 10]byte)
	defer faultBuffers.Put(buf)
	for got < n && err == nil {
		var m int
		m, err = k.c[end].Read(buf[:min(len(buf), n-got)])
		s.mu.Lock()
		if h.got+m > h.tried || !bytes.Equal(buf[:m], k.text(1-end, h.got, m)) {
			s.errorf("connection %d: %c reads %d bytes at %d that were not written there (%d were)", k.number, 'A'+end, m, h.got, h.tried)
		}
		got += m
		h.got += m
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			h.readErr = err
		}
		ended := h.ending == "fin" && h.got == h.sent || h.ending != "" && s.pr == ProtocolVT
		if errors.Is(err, io.EOF) && (err != io.EOF || !ended) {
			s.errorf("connection %d: %c reads %v after %d bytes; the writer has written %d and called %q", k.number, 'A'+end, err, h.got, h.sent, h.ending)
		}
		s.mu.Unlock()
	}
	return got, err
}

// isCut reports whether err tells that the session has ended and why.
func isCut(err error) bool {
	var (
		te   *TransportError
		gone *GoAwayError
	)
	return errors.As(err, &te) || errors.As(err, &gone)
}

// typed returns err, which must be one that tells what became of the session.
func (s *faultStory) typed(what string, err error) error {
	var refused *RefusedError
	switch {
	case err == nil, isCut(err):
	case s.setup.silent && s.pr == Protocol1 && (errors.Is(err, ErrNoPreface) || errors.As(err, &refused) && refused.Code == CodeDraining):
		// The preface was lost, or the peer had not seen the OPEN when it gave up.
	case errors.Is(err, net.ErrClosed) && s.shut.Load(), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
	case errors.Is(err, syscall.EPIPE) && strings.Contains(what, "draining"):
	default:
		s.errorf("%s returns %T %v", what, err, err)
	}
	return err
}

// wantSuccess looks at what a Shutdown means that has succeeded: all has ended.
func (s *faultStory) wantSuccess(op faultOp, err error) {
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.conns {
		if k == nil || k.c[op.end] == nil {
			continue
		}
		if h := k.half[1-op.end]; h.ending == "" && !h.shut {
			s.errorf("%s succeeds, and connection %d has not ended", op.line, k.number)
		}
		if h := k.half[op.end]; h.ending == "" {
			s.errorf("%s succeeds, and its own half of connection %d has not ended", op.line, k.number)
		}
	}
}

// ---- What follows.

// aftermath ends what the fault has left, and looks at it.
func (s *faultStory) aftermath() {
	if s.cut {
		s.wantPendingReturn()
	}
	for i := range s.ends {
		s.wantEnd(i)
	}
	if s.cut {
		s.acceptRest()
		for i := range s.ends {
			if s.ends[i].l.Err() != nil {
				s.wantLaterFail(i)
				s.drain(i)
			}
		}
	}
	s.close()
}

// wantPendingReturn waits for the calls that were pending, which nobody ends but the
// sessions themselves.
func (s *faultStory) wantPendingReturn() {
	limit := time.After(s.bound(time.Now()))
	for _, b := range s.bg {
		select {
		case <-b.done:
		case <-limit:
			s.errorf("%s is still pending, %v after the fault", b.op.line, s.bound(time.Now()))
			s.close()
			return
		}
	}
	if s.setup.silent && s.pr == ProtocolVT {
		return // nobody notices
	}
	for i, e := range s.ends {
		select {
		case <-e.l.Done():
		case <-limit:
			s.errorf("the session of %c goes on", 'A'+i)
			return
		}
	}
}

// wantEnd looks at why a session has ended.
func (s *faultStory) wantEnd(i int) {
	err := s.ends[i].l.Err()
	var te *TransportError
	at, struck := s.ends[i].fc.WriteFault()
	switch {
	case err == nil:
		return
	case s.cut && errors.Is(err, io.EOF) && s.lost(i):
		s.errorf("the session of %c ended with %v, and something was cut", 'A'+i, err)
	case errors.Is(err, io.EOF) && !faultBoundary(s.pr, s.ends[i].got.got):
		s.errorf("the session of %c ended with %v, inside a frame", 'A'+i, err)
	case s.cut && i == s.setup.end && s.setup.target != nil && errors.As(err, &te) && te.Err != io.EOF && !(te.Op == s.setup.op && errors.Is(err, s.setup.target)):
		s.errorf("the session of %c ended with %v, want %v", 'A'+i, err, s.setup.target)
	}
	s.typed("Err", err)
	// A Write that timed out half-way may be gone on with, if nothing is lost.
	goesOn := s.setup.target == os.ErrDeadlineExceeded && (te == nil || te.Op != "write")
	if n := s.ends[i].fc.WrittenBytes(); struck && s.setup.target != nil && n != at && !goesOn {
		s.errorf("%c sent %d bytes behind the write that failed at byte %d", 'A'+i, n-at, at)
	}
}

// faultBoundary reports whether a stream ends between two frames.
func faultBoundary(pr Protocol, stream []byte) bool {
	if pr == ProtocolVT {
		_, rest := vtDecode(stream)
		return len(rest) == 0
	}
	_, rest, err := readOnePreface(stream)
	for err == nil && len(rest) > 0 {
		_, rest, err = readOneFrame(rest)
	}
	return err == nil || len(stream) == 0
}

// lost reports whether a connection of an end has failed.
func (s *faultStory) lost(i int) bool {
	for _, k := range s.conns {
		if k != nil && isCut(k.half[1-i].readErr) {
			return true
		}
	}
	return false
}

// acceptRest takes what came before the end and nobody has accepted.
func (s *faultStory) acceptRest() {
	for i, e := range s.ends {
		for e.l.Err() != nil {
			p, err := e.l.AcceptPending(context.Background())
			if err != nil {
				s.typedEnd("Accept", err)
				break
			}
			c, err := p.Accept()
			if err != nil {
				s.errorf("Accept: %v", err)
				break
			}
			for _, k := range s.conns {
				if k != nil && c.Addr() == testAddr(k.number) {
					k.c[i] = c
				}
			}
		}
	}
}

// typedEnd is typed for calls on a session, which may tell of a clean end.
func (s *faultStory) typedEnd(what string, err error) {
	if err == nil {
		s.errorf("%s succeeds after the end", what)
	} else if !errors.Is(err, ErrDraining) {
		s.typed(what, err)
	}
}

// wantLaterFail makes every kind of call behind the end: each must return at once.
func (s *faultStory) wantLaterFail(i int) {
	l := s.ends[i].l
	begin := time.Now()
	_, err := l.Open(context.Background(), testAddr(30))
	s.typedEnd("Open", err)
	_, err = l.Ping(context.Background())
	s.typedEnd("Ping", err)
	_, err = l.AcceptConn(context.Background())
	s.typedEnd("AcceptConn", err)
	if err := l.Shutdown(context.Background()); err == nil && s.lost(i) {
		s.errorf("Shutdown succeeds, and something was cut")
	}
	if k := s.conns[3]; k != nil && k.c[i] != nil {
		c := k.c[i]
		c.SetDeadline(time.Time{})
		n, err := c.Write(faultText[:1])
		if n != 0 || err == nil {
			s.errorf("Write after the end returned %d, %v", n, err)
		}
		n, err = c.Write(faultText[:20000])
		if n != 0 || err == nil {
			s.errorf("large Write after the end returned %d, %v", n, err)
		}
		if k.half[i].ending == "" {
			s.typedEnd("Write", err)
			s.typedEnd("CloseWrite", c.CloseWrite())
		}
	}
	if took := time.Since(begin); took != 0 {
		s.errorf("calls after the end of %c took %v", 'A'+i, took)
	}
}

// drain reads what is left to be read. Where it was the reading that ended the session,
// that must be all that came.
func (s *faultStory) drain(i int) {
	var te *TransportError
	exact := errors.As(s.ends[i].l.Err(), &te) && te.Op == "read"
	came := s.arrived(i)
	for _, k := range s.conns {
		if k == nil || k.c[i] == nil {
			continue
		}
		h := &k.half[1-i]
		k.c[i].SetDeadline(time.Time{})
		if h.shut {
			continue
		}
		_, err := s.take(k, i, len(faultText))
		if err == nil {
			s.errorf("connection %d: reading does not end", k.number)
		}
		a := came[k.c[i].Addr()]
		if !exact || a.reset {
			continue
		}
		if h.got != a.payload || a.fin != (h.readErr == io.EOF) {
			s.errorf("connection %d: %c has read %d bytes and %v; %d had come, the end: %t", k.number, 'A'+i, h.got, h.readErr, a.payload, a.fin)
		}
	}
}

// A faultArrival is what had come of a connection when its transport was cut.
type faultArrival struct {
	payload    int
	fin, reset bool
}

// arrived reads what a session has read, with the tests' own readers.
func (s *faultStory) arrived(i int) map[addr.SocketAddr]*faultArrival {
	came := make(map[addr.SocketAddr]*faultArrival)
	for _, k := range s.conns {
		if k != nil {
			came[testAddr(k.number)] = new(faultArrival)
		}
	}
	synctest.Wait() // the leader may be on its way out of its last Read
	got := s.ends[i].got.got
	if s.pr == ProtocolVT {
		opened := make(map[addr.SocketAddr]bool)
		for _, k := range s.conns {
			if k != nil && k.opener == i {
				opened[testAddr(k.number)] = true
			}
		}
		frames, rest := vtDecode(got)
		for _, f := range frames {
			a := came[f.addr]
			a.payload += len(f.data)
			a.fin = a.fin || f.data == "" && opened[f.addr]
			opened[f.addr] = true
		}
		if len(rest) > 20 {
			came[addr.SocketAddrFrom(addr.IPAddrFrom16([16]byte(rest[:16])), uint16(rest[16])<<8|uint16(rest[17]))].payload += len(rest) - 20
		}
		return came
	}
	byID := make(map[docKey]*faultArrival) // opener: 1 for the reading end
	next := [2]uint32{1, 1}
	for _, op := range faultOps[s.pr] {
		if op.verb == "open" {
			o := 0
			if op.end == i {
				o = 1
			}
			if a := came[testAddr(op.conn)]; a != nil {
				byID[docKey{o, next[o]}] = a
			}
			next[o]++
		}
	}
	_, rest, err := readOnePreface(got)
	for err == nil {
		var f docFrame
		if f, rest, err = readOneFrame(rest); err != nil {
			break
		}
		a := byID[docKey{int(f.flags & oneYours), f.id}]
		switch f.typ {
		case docData:
			a.payload += len(f.rest)
			a.fin = f.flags&oneFin != 0
		case oneReset:
			a.reset = true
		}
	}
	if len(rest) > 8 && rest[0] == docData {
		id := uint32(rest[4])<<24 | uint32(rest[5])<<16 | uint32(rest[6])<<8 | uint32(rest[7])
		byID[docKey{int(rest[1] & oneYours), id}].payload += len(rest) - 8
	}
	return came
}

// close ends both sessions, and looks for what they have left.
func (s *faultStory) close() {
	begin := time.Now()
	closeBoth(s.ends[0].l, s.ends[1].l)
	if took := time.Since(begin); took > closeLinger {
		s.errorf("Close took %v", took)
	}
	for _, b := range s.bg {
		select {
		case <-b.done:
		case <-time.After(faultSoon):
			s.errorf("%s is pending after Close", b.op.line)
		}
	}
	for i, e := range s.ends {
		tc := &vtTest{t: s.t, s: e.l.s, l: e.l, p: e.l.Pipe(), peer: &vtPeer{conn: e.raw, quit: make(chan struct{})}, slabs: -1}
		for _, k := range s.conns {
			if k != nil && k.c[i] != nil {
				tc.conns = append(tc.conns, k.c[i])
			}
		}
		tc.finish()
	}
	runtime.KeepAlive(s.conns)
}
