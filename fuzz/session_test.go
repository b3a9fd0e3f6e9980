package fuzz

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/internal/faultconn"
	"github.com/vtmux/vtmux/mux"
	"github.com/vtmux/vtmux/pool"
)

const (
	// patience is how long, in fake time, anything may take that has no deadline.
	patience = 5 * time.Minute
	// writeTimeoutVT is Config.WriteTimeout's default with the vt-muxer protocol.
	writeTimeoutVT = 5 * time.Minute
)

// A record is one connection that an application has opened, or tried to.
type record struct {
	addr    addr.SocketAddr
	streams [2]stream // what the opener says, and what the acceptor says
	taken   bool      // the acceptor's application has it
	opening bool      // Open has not returned
}

// An endpoint is what one application has of a connection.
type endpoint struct {
	c       *mux.Conn
	rec     *record
	out, in *stream
	reads   chan struct{} // holds one token: who reads
	writes  chan struct{} // who writes
}

// A world is two sessions, the applications on them, and the model of it all. It lives
// in a synctest bubble.
type world struct {
	t     *testing.T
	s     *setup
	ls    [2]*mux.Listener // nil for a Pipe
	ps    [2]*mux.Pipe
	link  *link // nil: the two transports are one net.Pipe
	vt    bool
	tasks sync.WaitGroup
	ctx   context.Context // of everything that waits for something that may never come
	quit  context.CancelFunc
	cut   atomic.Bool    // an application has ended a session, or runs out of time
	shut  [2]atomic.Bool // a Shutdown has succeeded

	mu      sync.Mutex
	ends    [2][]*endpoint
	pending [2][]*mux.PendingConn
	kept    keeper
	records map[uint32]*record          // by the number that goes as metadata, or in the address
	pooled  map[addr.SocketAddr]*record // by an address that is used again
	number  uint32
	budget  int
	failure error // the first that the model has found

	finishing bool          // the script is over
	left      int           // halves that have not ended yet
	paused    time.Duration // the link, all in all
	passed    time.Duration // in the script
}

func newWorld(t *testing.T, s *setup) *world {
	w := &world{t: t, s: s, vt: s.protocols[0] == mux.ProtocolVT, budget: s.budget,
		records: make(map[uint32]*record), pooled: make(map[addr.SocketAddr]*record)}
	w.ctx, w.quit = context.WithCancel(context.Background())
	var near, far [2]net.Conn
	if s.carried {
		near[0], far[0] = net.Pipe()
		near[1], far[1] = net.Pipe()
		w.link = newLink(far, s.plans[0].Seed)
	} else {
		near[0], near[1] = net.Pipe()
	}
	for i := range near {
		if s.plans[i] != (faultconn.Plan{Seed: s.plans[i].Seed}) {
			near[i] = faultconn.New(near[i], s.plans[i])
		}
		if s.opaque[i] {
			near[i] = opaqueConn{near[i]}
		}
		cfg := &mux.Config{Protocol: s.protocols[i], AcceptBacklog: s.backlog[i], MaxWindow: s.maxWindow}
		if !w.vt {
			cfg.MaxConns = s.maxConns // the others can't refuse, and end the session
		}
		if !s.keepAlive {
			cfg.KeepAliveInterval = -1
		}
		var err error
		if s.pipe && i == 0 {
			w.ps[i], err = mux.NewPipe(near[i], cfg)
		} else if w.ls[i], err = mux.NewListener(near[i], cfg); err == nil {
			w.ps[i] = w.ls[i].Pipe()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// wrong notes what the model has found, if anything.
func (w *world) wrong(what string, err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	if w.failure == nil {
		w.failure = fmt.Errorf("%s: %w", what, err)
	}
	w.mu.Unlock()
}

// endOf returns the endpoint that a step is about, or nil.
func (w *world) endOf(s *sessionStep) *endpoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.ends[s.side]
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1-s.conn%len(all)]
}

// spend takes up to n bytes from what all Writes together may send.
func (w *world) spend(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = min(n, w.budget)
	w.budget -= n
	return n
}

// perform does one step. What may block goes on beside the next steps.
func (w *world) perform(s *sessionStep) {
	switch s.verb {
	case vOpen:
		w.open(s)
	case vAccept, vPend, vDecide:
		w.accept(s)
	case vPing:
		w.tasks.Go(func() { w.ping(s) })
	case vShutdown:
		w.shutdown(s)
	case vCloseSession:
		if s.size&7 == 0 { // behind it there is little to see
			w.cut.Store(true)
			w.ps[s.side].Close()
		}
	case vPause:
		// Less than a session takes for the peer's death, all of them together.
		if w.link != nil && w.paused+s.wait < 8*time.Second {
			w.paused += s.wait
			w.link.pause(s.side, s.wait)
		}
	case vPass:
		w.passed += s.wait
		<-time.After(s.wait)
	default:
		if e := w.endOf(s); e != nil {
			w.use(e, s)
		}
	}
	switch s.then {
	case thenYield:
		runtime.Gosched()
	case thenSettle:
		synctest.Wait()
	}
}

// address names a connection so that its acceptor can tell which it is: by its number,
// or by metadata with that number and an address that others have too. With the
// vt-muxer protocol an address is used again as soon as the acceptor has had it.
func (w *world) address(s *sessionStep) (r *record, metadata []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.number++
	r = &record{addr: addr.SocketAddrFrom(addr.IPAddrFrom4([4]byte{10, 0, byte(w.number >> 8), byte(w.number)}), uint16(1+s.side)), opening: true}
	for i := range r.streams {
		r.streams[i].seed = int(w.number)*2 + i
	}
	r.streams[1].mayRefuse = w.vt
	if again := addr.SocketAddrFrom(addr.IPAddrFrom4([4]byte{192, 0, 2, byte(s.conn)}), uint16(1+s.side)); !s.flag {
		w.records[w.number] = r
	} else if !w.vt {
		r.addr = again
		metadata = make([]byte, 4+s.size%1021)
		binary.BigEndian.PutUint32(metadata, w.number)
		copy(metadata[4:], r.streams[0].at(0, len(metadata)-4))
		w.records[w.number] = r
	} else if old := w.pooled[again]; old == nil || old.taken && !old.opening {
		r.addr = again
		w.pooled[again] = r
	} else {
		w.records[w.number] = r
	}
	return r, metadata
}

func (w *world) open(s *sessionStep) {
	w.mu.Lock()
	full := len(w.ends[0])+len(w.ends[1]) > 40
	w.mu.Unlock()
	if full {
		return
	}
	r, metadata := w.address(s)
	w.tasks.Go(func() {
		c, err := w.ps[s.side].OpenWith(w.ctx, mux.OpenOptions{Addr: r.addr, Metadata: metadata})
		unsent := errors.Is(err, mux.ErrAddrInUse) && w.vt || errors.Is(err, mux.ErrTooManyConns) || errors.Is(err, context.Canceled)
		w.mu.Lock()
		r.opening = false
		if unsent && w.pooled[r.addr] == r {
			r.taken = true // nobody will
		}
		w.mu.Unlock()
		switch {
		case err == nil:
			w.add(s.side, c, r, 0)
		case !unsent: // the session has ended, and the peer may have had the OPEN before
			w.wrong("Open", sessionTyped(err))
		}
	})
}

// add makes an endpoint of c.
func (w *world) add(side int, c *mux.Conn, r *record, which int) {
	e := &endpoint{c: c, rec: r, out: &r.streams[which], in: &r.streams[1-which],
		reads: make(chan struct{}, 1), writes: make(chan struct{}, 1)}
	e.reads <- struct{}{}
	e.writes <- struct{}{}
	w.mu.Lock()
	e.in.served = true
	w.ends[side] = append(w.ends[side], e)
	w.kept = append(w.kept, c)
	finishing := w.finishing
	w.mu.Unlock()
	if finishing {
		w.finishEnd(e)
	}
}

func (w *world) accept(s *sessionStep) {
	l := w.ls[s.side]
	if l == nil {
		return
	}
	if s.verb == vDecide {
		w.mu.Lock()
		var p *mux.PendingConn
		if all := w.pending[s.side]; len(all) > 0 {
			p, w.pending[s.side] = all[0], all[1:]
		}
		w.mu.Unlock()
		if p != nil {
			w.decide(p, s)
		}
		return
	}
	w.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, s.wait)
		defer cancel()
		p, err := l.AcceptPending(ctx)
		switch {
		case err == nil && s.verb == vAccept:
			w.decide(p, s)
		case err == nil:
			w.mu.Lock()
			finishing := w.finishing
			if !finishing {
				w.kept = append(w.kept, p)
				w.pending[s.side] = append(w.pending[s.side], p)
			}
			w.mu.Unlock()
			if finishing {
				w.decide(p, &sessionStep{side: s.side})
			}
		case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
			w.wrong("AcceptPending", sessionTyped(err))
		}
	})
}

// find returns the record of a connection that the peer has opened.
func (w *world) find(p *mux.PendingConn) *record {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = append(w.kept, p)
	m, ip := p.Metadata(), p.Addr().IP().As16()
	var r *record
	switch {
	case len(m) >= 4:
		if r = w.records[binary.BigEndian.Uint32(m)]; r != nil && string(m[4:]) != string(r.streams[0].at(0, len(m)-4)) {
			r = nil
		}
	case ip[12] == 10:
		r = w.records[uint32(ip[14])<<8|uint32(ip[15])]
	default:
		r = w.pooled[p.Addr()]
	}
	if r == nil || r.taken || r.addr != p.Addr() {
		return nil
	}
	r.taken = true
	if r.streams[1].eof || r.streams[1].ending != open {
		return nil
	}
	r.streams[1].mayRefuse = false
	return r
}

// decide accepts a connection, or rejects it.
func (w *world) decide(p *mux.PendingConn, s *sessionStep) {
	r := w.find(p)
	if r == nil {
		w.wrong("AcceptPending", fmt.Errorf("%v with metadata %q was not opened, or has been accepted or refused before", p.Addr(), p.Metadata()))
		return
	}
	if s.flag && s.conn&3 == 0 {
		w.mu.Lock()
		r.streams[0].given = true
		w.mu.Unlock()
		w.end(&r.streams[1], aborted, mux.Code(s.size))
		p.Reject(mux.Code(s.size), "no")
		return
	}
	if c, err := p.Accept(); err == nil {
		w.add(s.side, c, r, 1)
	} else {
		w.wrong("PendingConn.Accept", err) // nothing else can have closed it
	}
}

// end notes that a stream ends, by what its writer asks for first.
func (w *world) end(st *stream, by ending, code mux.Code) {
	w.mu.Lock()
	if w.vt {
		by = clean // that protocol knows no other end
	}
	if st.ending == open {
		st.ending, st.code = by, code
	}
	w.mu.Unlock()
}

// use does a step that is about a connection.
func (w *world) use(e *endpoint, s *sessionStep) {
	at := time.Time{}
	if s.wait > 0 {
		at = time.Now().Add(s.wait)
	}
	switch s.verb {
	case vWrite, vWriteBuffers, vReadFrom:
		w.begin(e.writes, func() { w.write(e, s.verb, s.size) })
	case vRead:
		w.begin(e.reads, func() { w.read(e, s.size) })
	case vWriteTo:
		w.begin(e.reads, func() { w.readAll(e) })
	case vCloseWrite:
		w.end(e.out, clean, 0)
		if err := e.c.CloseWrite(); err != nil {
			w.wrong("CloseWrite", typed(err))
		}
	case vCloseRead:
		w.give(e)
		if err := e.c.CloseRead(); err != nil && err != net.ErrClosed {
			w.wrong("CloseRead", err)
		}
	case vClose:
		w.give(e)
		w.end(e.out, clean, 0)
		w.wrong("Close", e.c.Close())
	case vReset:
		w.give(e)
		w.end(e.out, aborted, mux.Code(s.size))
		w.wrong("Reset", e.c.Reset(mux.Code(s.size)))
	case vReadDeadline:
		e.c.SetReadDeadline(at)
	case vWriteDeadline:
		e.c.SetWriteDeadline(at)
	}
}

// give notes that the reader of e gives up.
func (w *world) give(e *endpoint) {
	w.mu.Lock()
	e.in.given = true
	w.mu.Unlock()
}

// begin starts what takes a turn, if the turn is free.
func (w *world) begin(turn chan struct{}, f func()) {
	select {
	case <-turn:
		w.tasks.Go(func() {
			f()
			turn <- struct{}{}
		})
	default:
	}
}

// write writes up to n bytes, in one of three ways. It is the writer's turn.
func (w *world) write(e *endpoint, how verb, n int) {
	n = w.spend(n)
	w.mu.Lock()
	p := e.out.at(e.out.written, n)
	e.out.tried = max(e.out.tried, e.out.written+n)
	w.mu.Unlock()
	var m int64
	var err error
	switch how {
	case vWriteBuffers:
		v := net.Buffers{p[:n/3], p[n/3 : n/3], p[n/3 : n/2], p[n/2:]}
		if m, err = e.c.WriteBuffers(&v); err == nil && len(v) > 0 {
			err = fmt.Errorf("WriteBuffers left %d buffers", len(v))
		}
	case vReadFrom:
		if m, err = e.c.ReadFrom(&chunks{p}); err == nil && m != int64(n) {
			err = fmt.Errorf("ReadFrom of %d bytes returned %d", n, m)
		}
	default:
		var k int
		k, err = e.c.Write(p)
		m = int64(k)
	}
	w.mu.Lock()
	wrong := e.out.wrote(int(m), n, err)
	w.mu.Unlock()
	w.wrong("Write", wrong)
}

// chunks gives its bytes a few at a time.
type chunks struct{ p []byte }

func (c *chunks) Read(b []byte) (int, error) {
	if len(c.p) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 9000)], c.p)
	c.p = c.p[n:]
	return n, nil
}

// read reads once. It is the reader's turn.
func (w *world) read(e *endpoint, n int) (over bool) {
	b := make([]byte, n)
	m, err := e.c.Read(b)
	w.mu.Lock()
	wrong := e.in.reads(b[:m], err)
	if m == 0 && err == nil && n > 0 {
		wrong = errors.New("neither bytes nor an error")
	}
	w.mu.Unlock()
	w.wrong("Read", wrong)
	return err != nil
}

// readAll reads to the end, or to the deadline, by WriteTo.
func (w *world) readAll(e *endpoint) {
	_, err := e.c.WriteTo(sink{w, e})
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		err = io.EOF
	}
	if wrong := e.in.reads(nil, err); wrong != nil && w.failure == nil {
		w.failure = fmt.Errorf("WriteTo: %w", wrong)
	}
}

type sink struct {
	w *world
	e *endpoint
}

func (k sink) Write(p []byte) (int, error) {
	k.w.mu.Lock()
	wrong := k.e.in.reads(p, nil)
	k.w.mu.Unlock()
	k.w.wrong("WriteTo", wrong)
	return len(p), nil
}

func (w *world) ping(s *sessionStep) {
	ctx, cancel := context.WithTimeout(w.ctx, s.wait)
	defer cancel()
	switch _, err := w.ps[s.side].Ping(ctx); {
	case err == nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
	case errors.Is(err, errors.ErrUnsupported) && w.vt:
	default:
		w.wrong("Ping", sessionTyped(err))
	}
}

// shutdown begins a Shutdown. One that may run out of time cuts the session then.
func (w *world) shutdown(s *sessionStep) {
	wait := 2 * patience
	if s.size&7 == 0 {
		wait = s.wait
	} else if s.size&3 != 0 {
		return // what follows opens nothing
	}
	w.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, wait)
		defer cancel()
		err := w.ps[s.side].Shutdown(ctx)
		switch {
		case err == nil:
			w.shut[s.side].Store(true)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			w.cut.Store(true)
		default:
			w.wrong("Shutdown", sessionTyped(err))
		}
	})
}

// sessionTyped is typed for what a session's own calls return.
func sessionTyped(err error) error {
	var te *mux.TransportError
	if errors.As(err, &te) && te.Err == io.EOF {
		return nil // a clean end: the other one has shut down
	}
	return typed(err)
}

// finish brings everything to its end: whoever has not ended does, all is accepted and
// read. It returns whether that came about before the sessions were closed.
func (w *world) finish() (inTime bool) {
	w.mu.Lock()
	w.finishing = true
	var ends []*endpoint
	for side := range w.ends {
		ends = append(ends, w.ends[side]...)
	}
	pending := w.pending
	w.pending = [2][]*mux.PendingConn{}
	w.mu.Unlock()
	for _, e := range ends {
		w.finishEnd(e)
	}
	for side, l := range w.ls {
		for _, p := range pending[side] {
			w.decide(p, &sessionStep{side: side})
		}
		if l == nil {
			continue
		}
		w.tasks.Go(func() {
			for {
				p, err := l.AcceptPending(w.ctx)
				if err != nil {
					return
				}
				w.decide(p, &sessionStep{side: side})
			}
		})
	}
	began, pause := time.Now(), time.Millisecond
	for quiet := 0; quiet < 2; { // what is under way may bring a connection more
		<-time.After(pause)
		w.mu.Lock()
		left := w.left
		w.mu.Unlock()
		switch {
		case left > 0 && time.Since(began) > patience:
			return false
		case left > 0:
			quiet, pause = 0, min(2*pause, time.Second)
		default:
			quiet, pause = quiet+1, 10*time.Second
		}
	}
	return true
}

// finishEnd ends what e writes, and reads what it reads to the end.
func (w *world) finishEnd(e *endpoint) {
	e.c.SetDeadline(time.Time{})
	w.mu.Lock()
	w.left += 2
	w.mu.Unlock()
	done := func(turn chan struct{}) {
		turn <- struct{}{}
		w.mu.Lock()
		w.left--
		w.mu.Unlock()
	}
	w.tasks.Go(func() {
		<-e.writes
		w.end(e.out, clean, 0)
		if err := e.c.CloseWrite(); err != nil {
			w.wrong("CloseWrite", typed(err))
		}
		done(e.writes)
	})
	w.tasks.Go(func() {
		<-e.reads
		for !w.read(e, 16<<10) {
		}
		done(e.reads)
	})
}

// within reports whether f returns in time. If not, it goes on.
func within(f func()) bool {
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(patience):
		return false
	}
}

// mustEnd panics, with all stacks, unless f returns in time.
func mustEnd(what string, f func()) {
	if !within(f) {
		b := make([]byte, 1<<20)
		panic(fmt.Sprintf("%s: still under way after %v\n%s", what, patience, b[:runtime.Stack(b, true)]))
	}
}

// check holds the end of it all against the model.
func (w *world) check(inTime bool) {
	whole := inTime && !w.cut.Load() && !w.s.faulty() && !w.worn()
	if !inTime && !w.cut.Load() && !w.s.faulty() {
		w.wrong("connections hang", w.unended())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for side := range w.ends {
		for _, e := range w.ends[side] {
			if err := e.in.ended(whole && !w.mayMiss(side, e.in)); err != nil && w.failure == nil {
				w.failure = fmt.Errorf("what end %d reads of %v: %w", side, e.c.Addr(), err)
			}
		}
	}
}

// worn reports whether a session has ended because the peer's application read nothing for
// too long: with the vt-muxer protocol, that holds up the transport (PROTOCOL.md, 1.6).
func (w *world) worn() bool {
	return w.vt && w.passed >= writeTimeoutVT &&
		(errors.Is(w.ps[0].Err(), mux.ErrWriteTimeout) || errors.Is(w.ps[1].Err(), mux.ErrWriteTimeout))
}

// mayMiss reports whether the last ends of what side reads may have been lost: it wrote while
// the peer was done and closed the transport, which has no halves, and the vt-muxer protocol
// has no PING to ask whether all has been read (ARCHITECTURE.md).
func (w *world) mayMiss(side int, in *stream) bool {
	var te *mux.TransportError
	return w.vt && w.shut[1-side].Load() && errors.As(in.readErr, &te) && te.Op == "write"
}

// unended tells which halves have not ended.
func (w *world) unended() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for side := range w.ends {
		for _, e := range w.ends[side] {
			if len(e.reads) == 0 || len(e.writes) == 0 {
				errs = append(errs, fmt.Errorf("end %d of %v: reads, in turn %d, %+v; writes, in turn %d, %+v", side, e.c.Addr(), len(e.reads), *e.in, len(e.writes), *e.out))
			}
		}
	}
	return errors.Join(errs...)
}

// stop ends both sessions, all connections and the transport.
func (w *world) stop(whole bool) {
	if whole {
		for side := range w.ends {
			for _, e := range w.ends[side] {
				e.c.Close()
			}
		}
		<-time.After(10 * time.Second) // the link may be paused
		for i, p := range w.ps {
			if n := p.Stats().Conns; n != 0 && p.Err() == nil {
				w.wrong("Close", fmt.Errorf("end %d has %d connections when all are closed", i, n))
			}
		}
	}
	for i, p := range w.ps {
		if err := p.Err(); err != nil {
			w.wrong("Err", sessionTyped(err))
		}
		mustEnd("Close of a session", func() { w.wrong(fmt.Sprintf("Close of end %d", i), p.Close()) })
	}
	mustEnd("a call, with both sessions closed", w.tasks.Wait)
	for side := range w.ends {
		for _, e := range w.ends[side] {
			e.c.Close()
		}
		for _, p := range w.pending[side] { // that came late
			p.Reject(0, "")
		}
	}
	if w.link != nil {
		mustEnd("the link", w.link.wg.Wait)
	}
}

// playSession plays a script in a bubble.
func playSession(t *testing.T, s *setup, steps []sessionStep) {
	slabs, buffers := pool.Outstanding()
	w := newWorld(t, s)
	for i := range steps {
		if *verbose {
			t.Logf("%v %+v", time.Now().Format("04:05.000"), steps[i])
		}
		w.perform(&steps[i])
	}
	whole := w.finish()
	w.check(whole)
	w.stop(whole && !w.s.faulty() && !w.cut.Load())
	w.kept.letGo()
	synctest.Wait()
	if s, b := pool.Outstanding(); s != slabs || b != buffers {
		w.wrong("the pool", fmt.Errorf("%d slabs and %d buffers are left\n%s", s-slabs, b-buffers, pool.Leaks()))
	}
	if w.failure != nil {
		t.Fatalf("%v\n%+v", w.failure, *s)
	}
}

// FuzzSession plays a script on two sessions: their applications open, write, read, end
// and reset, and the transport between them is slow, cut or stalled. Each byte arrives
// or the reader is told, every error is one that is promised, nothing hangs in fake
// time, and nothing is left behind.
func FuzzSession(f *testing.F) {
	f.Fuzz(func(t *testing.T, script []byte) {
		s, steps := scripted(script, 200, setupOf, sessionStepOf)
		synctest.Test(t, func(t *testing.T) { playSession(t, &s, steps) })
	})
}
