package mux

import (
	"context"
	"encoding/binary"
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

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/pool"
)

// The addresses of the transcripts and of most tests.
var (
	vtA = addr.MustParseSocketAddr("192.0.2.1:8080")
	vtB = addr.MustParseSocketAddr("[2001:db8::1]:443")
	vtC = addr.MustParseSocketAddr("198.51.100.7:1")
)

// A vtFrame is a frame of the vt-muxer protocol. Without data it is what opens and
// what ends: nothing in it tells which.
type vtFrame struct {
	addr addr.SocketAddr
	data string
}

// vtOpen and vtEnd are the same frame. The name tells what the test means by it.
func vtOpen(a addr.SocketAddr) vtFrame              { return vtFrame{addr: a} }
func vtEnd(a addr.SocketAddr) vtFrame               { return vtFrame{addr: a} }
func vtData(a addr.SocketAddr, data string) vtFrame { return vtFrame{a, data} }

func (f vtFrame) String() string {
	switch {
	case f.data == "":
		return fmt.Sprintf("{%v zero}", f.addr)
	case len(f.data) > 40:
		return fmt.Sprintf("{%v data, %d bytes, %q...}", f.addr, len(f.data), f.data[:10])
	}
	return fmt.Sprintf("{%v data %q}", f.addr, f.data)
}

// append appends the frame as it goes over the wire.
func (f vtFrame) append(b []byte) []byte {
	b, _ = f.addr.AppendBinary(b)
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.data)))
	return append(b, f.data...)
}

// vtBytes returns frames as they go over the wire.
func vtBytes(frames ...vtFrame) (b []byte) {
	for _, f := range frames {
		b = f.append(b)
	}
	return b
}

// vtDecode cuts b into frames, plainly and by itself, and returns what is left.
func vtDecode(b []byte) (frames []vtFrame, rest []byte) {
	for len(b) >= 20 {
		n := int(b[18])<<8 | int(b[19])
		if len(b) < 20+n {
			break
		}
		ip := addr.IPAddrFrom16([16]byte(b[:16]))
		port := uint16(b[16])<<8 | uint16(b[17])
		frames = append(frames, vtFrame{addr.SocketAddrFrom(ip, port), string(b[20 : 20+n])})
		b = b[20+n:]
	}
	return frames, b
}

// A vtPeer is the other end of a session's transport, in a test's hands. It reads
// and writes the raw transport in goroutines of its own, so that the test never
// waits for the session.
type vtPeer struct {
	conn net.Conn

	mu      sync.Mutex
	writes  [][]byte // what the session wrote and nobody has looked at, a write of its each
	readErr error    // what ended the reading
	unsent  [][]byte // what is queued for the session; each goes by a write of its own
	sendErr error    // what ended the sending
	deaf    bool     // nothing is read

	hear chan struct{} // capacity 1: deaf has changed
	kick chan struct{} // capacity 1: unsent has grown
	quit chan struct{}
}

func newVTPeer(conn net.Conn) *vtPeer {
	p := &vtPeer{
		conn: conn,
		hear: make(chan struct{}, 1),
		kick: make(chan struct{}, 1),
		quit: make(chan struct{}),
	}
	go p.read()
	go p.send()
	return p
}

// read takes what the session writes. A net.Pipe gives a whole write at once to a
// read that is large enough, so the writes stay apart.
func (p *vtPeer) read() {
	buf := make([]byte, 1<<20)
	for {
		n, err := p.conn.Read(buf)
		p.mu.Lock()
		if n > 0 {
			p.writes = append(p.writes, slices.Clone(buf[:n]))
		}
		deaf := p.deaf
		if err != nil && !(deaf && errors.Is(err, os.ErrDeadlineExceeded)) {
			p.readErr = err
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		for ; deaf; deaf = p.isDeaf() {
			select {
			case <-p.hear:
			case <-p.quit:
				return
			}
		}
	}
}

func (p *vtPeer) isDeaf() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deaf
}

// setDeaf stops the reading, or lets it go on.
func (p *vtPeer) setDeaf(deaf bool) {
	p.mu.Lock()
	p.deaf = deaf
	at := time.Time{}
	if deaf {
		at = time.Unix(1, 0)
	}
	p.conn.SetReadDeadline(at)
	p.mu.Unlock()
	select {
	case p.hear <- struct{}{}:
	default:
	}
}

func (p *vtPeer) send() {
	for {
		p.mu.Lock()
		var b []byte
		if len(p.unsent) > 0 {
			b = p.unsent[0]
		}
		p.mu.Unlock()
		if b == nil {
			select {
			case <-p.kick:
			case <-p.quit:
				return
			}
			continue
		}
		n, err := p.conn.Write(b)
		p.mu.Lock()
		if p.unsent[0] = b[n:]; n == len(b) {
			p.unsent = p.unsent[1:]
		}
		p.sendErr = err
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// queue hands the session pieces, each by a write of its own.
func (p *vtPeer) queue(pieces ...[]byte) {
	p.mu.Lock()
	for _, b := range pieces {
		if len(b) > 0 {
			p.unsent = append(p.unsent, b)
		}
	}
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// take returns what the session has written since the last take.
func (p *vtPeer) take() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.writes
	p.writes = nil
	return w
}

// left returns how many queued bytes the session has not read.
func (p *vtPeer) left() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.unsent {
		n += len(b)
	}
	return n
}

func (p *vtPeer) close() {
	p.conn.Close()
	select {
	case <-p.quit:
	default:
		close(p.quit)
	}
}

// A vtTest is a session whose peer and clock are the test. It lives in a synctest
// bubble, and ends with the test: then all of it must be gone.
type vtTest struct {
	t    *testing.T
	s    *session
	l    *Listener // nil for a Pipe's session
	p    *Pipe
	peer *vtPeer

	conns []*Conn // all, so that none is closed by the garbage collector

	slabs, buffers int // that were out before; slabs < 0: another test in the bubble counts them
}

// vtSides are the two kinds of session. Tests that hold for both run over them.
var vtSides = []struct {
	name   string
	listen bool
}{{"listener", true}, {"pipe", false}}

// vtRun runs f in a bubble, with a Listener or a Pipe over a net.Pipe that speaks
// vt-muxer's protocol.
func vtRun(t *testing.T, listen bool, cfg *Config, f func(*vtTest)) {
	t.Helper()
	vtRunOver(t, listen, cfg, nil, f)
}

// vtRunBoth runs f as a subtest for each kind of session.
func vtRunBoth(t *testing.T, f func(*vtTest)) {
	for _, side := range vtSides {
		t.Run(side.name, func(t *testing.T) { vtRun(t, side.listen, nil, f) })
	}
}

// vtRunOver is vtRun with the session's end of the transport wrapped.
func vtRunOver(t *testing.T, listen bool, cfg *Config, wrap func(net.Conn) net.Conn, f func(*vtTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		if wrap != nil {
			near = wrap(near)
		}
		tc := &vtTest{t: t}
		cfg := vtOf(cfg)
		tc.slabs, tc.buffers = pool.Outstanding()
		var err error
		if listen {
			tc.l, err = NewListener(near, cfg)
			if err == nil {
				tc.p = tc.l.Pipe()
			}
		} else {
			tc.p, err = NewPipe(near, cfg)
		}
		if err != nil {
			t.Fatal(err)
		}
		tc.s = tc.p.s
		tc.peer = newVTPeer(far)
		t.Cleanup(tc.finish) // in the bubble, and after a failure too
		f(tc)
	})
}

// finish ends the session and looks for what it has left behind. Goroutines are
// the bubble's business: it fails where one is left.
func (tc *vtTest) finish() {
	tc.t.Helper()
	tc.p.Close()
	tc.peer.close()
	for _, c := range tc.conns {
		c.Close()
	}
	synctest.Wait()
	runtime.KeepAlive(tc.conns)
	if tc.s.accept.head != nil {
		tc.t.Errorf("connections are left in the accept queue")
	}
	if tc.s.token.leader != nil {
		tc.t.Errorf("somebody leads a session that has ended")
	}
	if tc.s.in.slab != nil {
		tc.t.Errorf("the session has not given its read buffer back")
	}
	if role := tc.s.out.role.Load(); role != flushIdle {
		tc.t.Errorf("the flusher's role is %d after the end, want idle", role)
	}
	if slabs, buffers := pool.Outstanding(); tc.slabs >= 0 && slabs != tc.slabs || tc.slabs >= 0 && buffers != tc.buffers {
		tc.t.Errorf("%d slabs and %d buffers are left, want %d and %d\n%s", slabs, buffers, tc.slabs, tc.buffers, pool.Leaks())
	}
}

// settle waits until everything that can happen has happened, the standby's delay
// in taking a free token included.
func (tc *vtTest) settle() {
	synctest.Wait()
	<-time.After(2 * lazyAfter << maxStandbyBackoff)
	synctest.Wait()
}

// frames returns the frames that the session has sent since the last look. Each
// of its writes must hold whole frames: a vt-muxer end hangs on a cut header.
func (tc *vtTest) frames() (all []vtFrame) {
	tc.t.Helper()
	tc.settle()
	for _, w := range tc.peer.take() {
		frames, rest := vtDecode(w)
		if len(rest) > 0 {
			tc.t.Fatalf("a write of %d bytes ends %d bytes into a frame; before it in the write: %v", len(w), len(rest), frames)
		}
		all = append(all, frames...)
	}
	return all
}

// want fails the test unless the session has sent exactly frames, in this order,
// since the last want.
func (tc *vtTest) want(sentence string, frames ...vtFrame) {
	tc.t.Helper()
	if got := tc.frames(); !slices.Equal(got, frames) {
		tc.t.Fatalf("%s:\n sent %v\n want %v", sentence, got, frames)
	}
}

// wantIdle fails the test if the session has sent anything since the last want.
func (tc *vtTest) wantIdle(sentence string) {
	tc.t.Helper()
	tc.want(sentence)
}

// send sends frames, by one write.
func (tc *vtTest) send(frames ...vtFrame) { tc.sendRaw(vtBytes(frames...)) }

// sendRaw sends b, cut into several writes at the given offsets.
func (tc *vtTest) sendRaw(b []byte, cuts ...int) {
	at := 0
	var pieces [][]byte
	for _, cut := range append(cuts, len(b)) {
		pieces = append(pieces, b[at:cut])
		at = cut
	}
	tc.peer.queue(pieces...)
	tc.settle()
}

// wantAllTaken fails the test unless the session has read all that was sent.
func (tc *vtTest) wantAllTaken(sentence string) {
	tc.t.Helper()
	tc.settle()
	if n := tc.peer.left(); n != 0 {
		tc.t.Fatalf("%s: %d bytes sent by the peer are not read", sentence, n)
	}
}

// open opens a connection.
func (tc *vtTest) open(a addr.SocketAddr) *Conn {
	tc.t.Helper()
	c, err := tc.p.Open(context.Background(), a)
	if err != nil {
		tc.t.Fatalf("Open(%v): %v", a, err)
	}
	tc.conns = append(tc.conns, c)
	return c
}

// wantOpenErr fails the test unless opening a fails with target.
func (tc *vtTest) wantOpenErr(sentence string, a addr.SocketAddr, target error) {
	tc.t.Helper()
	c, err := tc.p.Open(context.Background(), a)
	if c != nil {
		tc.conns = append(tc.conns, c)
	}
	if !errors.Is(err, target) {
		tc.t.Fatalf("%s: Open(%v) returned %v, want %v", sentence, a, err, target)
	}
}

// accept accepts the connection that the peer has opened with a.
func (tc *vtTest) accept(a addr.SocketAddr) *Conn {
	tc.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := tc.l.AcceptConn(ctx)
	if err != nil {
		tc.t.Fatalf("accept of %v: %v", a, err)
	}
	tc.conns = append(tc.conns, c)
	if c.Addr() != a {
		tc.t.Fatalf("accepted %v, want %v", c.Addr(), a)
	}
	return c
}

// wantNoAccept fails the test if there is something to accept.
func (tc *vtTest) wantNoAccept(sentence string) {
	tc.t.Helper()
	if tc.l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := tc.l.AcceptConn(ctx)
	if c != nil {
		tc.conns = append(tc.conns, c)
		tc.t.Fatalf("%s: accepted %v", sentence, c.Addr())
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		tc.t.Fatalf("%s: Accept returned %v, want to wait", sentence, err)
	}
}

// wantHalves fails the test unless the address is in state h.
func (tc *vtTest) wantHalves(sentence string, a addr.SocketAddr, h halves) {
	tc.t.Helper()
	tc.settle()
	var got halves
	if c := tc.s.table.get(a); c != nil {
		if got = halves(c.halves.Load()); got == 0 {
			tc.t.Fatalf("%s: %v is in the table and has no open half", sentence, a)
		}
	}
	if got != h {
		tc.t.Fatalf("%s: %v has halves %02b (bit 0 recv, bit 1 send), want %02b", sentence, a, got, h)
	}
}

// write writes data, and fails the test if that doesn't succeed.
func (tc *vtTest) write(c *Conn, data string) {
	tc.t.Helper()
	if n, err := c.Write([]byte(data)); n != len(data) || err != nil {
		tc.t.Fatalf("Write of %d bytes returned %d, %v", len(data), n, err)
	}
}

// wantRead reads what c has, without waiting for more, and fails the test unless
// that is data and then err. A nil err means that there is no more yet.
func (tc *vtTest) wantRead(sentence string, c *Conn, data string, err error) {
	tc.t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	got, gotErr := io.ReadAll(eofKeeper{c})
	if errors.Is(gotErr, os.ErrDeadlineExceeded) {
		gotErr = nil
	}
	c.SetReadDeadline(time.Time{})
	vtWantResult(tc.t, sentence, string(got), gotErr, data, err)
}

// eofKeeper turns io.EOF, which io.ReadAll swallows, into errCleanEnd.
type eofKeeper struct{ r io.Reader }

var errCleanEnd = errors.New("io.EOF, and nothing else")

func (k eofKeeper) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	if err == io.EOF {
		err = errCleanEnd
	}
	return n, err
}

// vtWantResult compares what was read with what was to be read.
func vtWantResult(t testing.TB, sentence, got string, gotErr error, data string, err error) {
	t.Helper()
	if got != data {
		t.Fatalf("%s: read %s, want %s", sentence, vtShort(got), vtShort(data))
	}
	switch {
	case err == io.EOF && gotErr == errCleanEnd, err == nil && gotErr == nil:
	case err == nil || err == io.EOF || gotErr == errCleanEnd || !errors.Is(gotErr, err):
		t.Fatalf("%s: read %s and then error %v, want %v", sentence, vtShort(got), gotErr, err)
	}
}

func vtShort(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%d bytes, %q...", len(s), s[:10])
	}
	return fmt.Sprintf("%q", s)
}

// A vtReader reads a connection to its end in the background.
type vtReader struct {
	tc  *vtTest
	mu  sync.Mutex
	got strings.Builder
	err error
}

// reading starts to read c.
func (tc *vtTest) reading(c *Conn) *vtReader {
	r := &vtReader{tc: tc}
	go func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := eofKeeper{c}.Read(buf)
			r.mu.Lock()
			r.got.Write(buf[:n])
			r.err = err
			r.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return r
}

// want fails the test unless the reader has got data since the last want, and
// then err. A nil err means that it waits for more.
func (r *vtReader) want(sentence, data string, err error) {
	r.tc.t.Helper()
	r.tc.settle()
	r.mu.Lock()
	got, gotErr := r.got.String(), r.err
	r.got.Reset()
	r.mu.Unlock()
	vtWantResult(r.tc.t, sentence, got, gotErr, data, err)
}

// A vtOp is a call that may block.
type vtOp struct {
	tc   *vtTest
	name string
	done chan struct{}
	n    int
	err  error
}

// start calls f in the background.
func (tc *vtTest) start(name string, f func() (int, error)) *vtOp {
	op := &vtOp{tc: tc, name: name, done: make(chan struct{})}
	go func() {
		op.n, op.err = f()
		close(op.done)
	}()
	synctest.Wait()
	return op
}

// startErr is start for calls that return an error alone.
func (tc *vtTest) startErr(name string, f func() error) *vtOp {
	return tc.start(name, func() (int, error) { return 0, f() })
}

// startWrite writes data to c in the background.
func (tc *vtTest) startWrite(c *Conn, data string) *vtOp {
	return tc.start("Write", func() (int, error) { return c.Write([]byte(data)) })
}

// wantBlocked fails the test if the call has returned.
func (op *vtOp) wantBlocked(sentence string) {
	op.tc.t.Helper()
	synctest.Wait()
	select {
	case <-op.done:
		op.tc.t.Fatalf("%s: %s returned %d, %v, want it to wait", sentence, op.name, op.n, op.err)
	default:
	}
}

// want fails the test unless the call has returned n and an error that is target. An
// n below zero is any.
func (op *vtOp) want(sentence string, n int, target error) {
	op.tc.t.Helper()
	synctest.Wait()
	select {
	case <-op.done:
	default:
		op.tc.t.Fatalf("%s: %s waits still", sentence, op.name)
	}
	if n >= 0 && op.n != n || !errors.Is(op.err, target) {
		op.tc.t.Fatalf("%s: %s returned %d, %v, want %d, %v", sentence, op.name, op.n, op.err, n, target)
	}
}
