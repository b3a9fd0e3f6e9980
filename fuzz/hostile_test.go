package fuzz

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
	"github.com/vtmux/vtmux/pool"
)

// frameOf encodes a frame of protocol 1, well formed or not.
func frameOf(typ, flags int, id uint32, body []byte) []byte {
	b := make([]byte, 8, 8+len(body))
	b[0], b[1] = byte(typ), byte(flags)
	binary.BigEndian.PutUint16(b[2:], uint16(len(body)))
	binary.BigEndian.PutUint32(b[4:], id)
	return append(b, body...)
}

// prefaceOf encodes a preface. wrong says what is wrong with it, from 1 to 6; 0: nothing.
func prefaceOf(window uint32, payload, wrong int) []byte {
	b := make([]byte, 44)
	b[19] = 24
	copy(b[20:], "vtmux\n\x00\x01")
	binary.BigEndian.PutUint32(b[28:], window)
	binary.BigEndian.PutUint32(b[32:], 128)
	binary.BigEndian.PutUint16(b[36:], uint16(payload))
	switch wrong {
	case 1:
		b[20] ^= 0x20
	case 2:
		b[27] = 0
	case 3:
		b[28], b[29] = 0, 0
	case 4:
		b[35] = 127
	case 5:
		b[36] = 0x3f
	case 6:
		b[18], b[19] = 4, 1
	}
	return b
}

// attackerAddr is what the attacker calls its n-th connection.
func attackerAddr(n int) []byte {
	return append(make([]byte, 10), 0xff, 0xff, 198, 51, 100, byte(n), 0, byte(n))
}

// A prey is a connection that the application has, of those that the attacker opened
// (known) and its own.
type prey struct {
	c       *mux.Conn
	in      stream
	known   bool
	readers chan struct{} // holds one token
}

// A hunt is a session, the application on it, and an attacker that has the other end of
// its transport, and its clock. It lives in a synctest bubble.
type hunt struct {
	t    *testing.T
	s    *hostileSetup
	p    *mux.Pipe
	l    *mux.Listener // nil for a Pipe
	far  net.Conn
	r    *referee // nil with the vt-muxer protocol
	wild bool     // the attacker has sent bytes of which nobody knows whose they are

	ctx   context.Context
	quit  context.CancelFunc
	tasks sync.WaitGroup
	local bool // the application has ended the session
	dead  bool

	chunk []byte  // to be sent at once
	tries int     // frames that may open a connection
	zeros [16]int // vt-muxer: frames without payload, for each address

	mu       sync.Mutex
	out      []byte // to be written to the session
	sending  int    // the size of what was taken last from out, to be written
	more     chan struct{}
	deaf     chan struct{} // closed: the attacker reads
	isDeaf   bool
	deafFrom time.Time
	deafest  time.Duration
	got      []byte // what the session has sent, and nobody has looked at
	started  bool   // its preface has been seen
	preys    []*prey
	kept     keeper
	read     uint64       // by the application
	buffers  atomic.Int64 // bytes of the application's, for its Reads that are under way
	opened   uint64       // connections that it has accepted or opened
	failure  error
}

func newHunt(t *testing.T, s *hostileSetup) *hunt {
	near, far := net.Pipe()
	h := &hunt{t: t, s: s, far: far, more: make(chan struct{}, 1), deaf: make(chan struct{})}
	close(h.deaf)
	h.ctx, h.quit = context.WithCancel(context.Background())
	cfg := &mux.Config{Protocol: s.protocol, MaxConns: s.maxConns, AcceptBacklog: s.backlog, MaxWindow: 1 << 17, KeepAliveInterval: -1}
	if s.one {
		cfg.WriteTimeout = writeTimeout
	}
	var err error
	if s.pipe {
		h.p, err = mux.NewPipe(near, cfg)
	} else if h.l, err = mux.NewListener(near, cfg); err == nil {
		h.p = h.l.Pipe()
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.one {
		h.r = newReferee(uint64(s.window), s.payload)
		h.r.greedy = s.reads
	}
	h.tasks.Go(h.writes)
	h.tasks.Go(h.listens)
	if s.accepts && h.l != nil {
		h.tasks.Go(func() {
			for h.accept(false) {
			}
		})
	}
	return h
}

// writes writes what is queued to the session.
func (h *hunt) writes() {
	for {
		h.mu.Lock()
		b := h.out
		h.out, h.sending = nil, cap(h.out)
		h.mu.Unlock()
		for len(b) > 0 {
			n := len(b)
			if h.s.piece > 0 && n > h.s.piece && len(b) < 3000*h.s.piece {
				n = h.s.piece
			}
			if _, err := h.far.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
		select {
		case <-h.more:
		case <-h.ctx.Done():
			return
		}
	}
}

// listens reads what the session sends, unless it is deaf.
func (h *hunt) listens() {
	buf := make([]byte, 16<<10)
	for {
		h.mu.Lock()
		deaf := h.deaf
		h.mu.Unlock()
		select {
		case <-deaf:
		case <-h.ctx.Done():
		}
		n, err := h.far.Read(buf)
		h.mu.Lock()
		h.got = append(h.got, buf[:n]...)
		h.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wrong notes what has been found, if anything.
func (h *hunt) wrong(what string, err error) {
	if err == nil {
		return
	}
	h.mu.Lock()
	if h.failure == nil {
		h.failure = fmt.Errorf("%s: %w", what, err)
	}
	h.mu.Unlock()
}

// send adds a frame to the chunk, n times.
func (h *hunt) send(n int, frame func() []byte) {
	for range n {
		if len(h.chunk) > 200_000 {
			return
		}
		b := frame()
		h.chunk = append(h.chunk, b...)
		if h.r != nil {
			h.r.heard(b)
			h.r.round-- // one chunk is one round
		}
	}
}

// flush sends the chunk, and waits until it has had its effect.
func (h *hunt) flush() {
	if len(h.chunk) > 0 {
		h.mu.Lock()
		h.out = append(h.out, h.chunk...)
		h.mu.Unlock()
		h.chunk = h.chunk[:0]
		select {
		case h.more <- struct{}{}:
		default:
		}
	}
	h.look()
	if h.r != nil {
		h.r.settled()
	}
}

// settled is how long a session may leave the transport to a reader that led last.
const settled = 2100 * time.Millisecond

// look holds what the session has done against what the referee says.
func (h *hunt) look() {
	synctest.Wait()
	<-time.After(settled)
	h.hear()
	if h.r != nil && !h.dead {
		h.judge()
	} else if h.r == nil && h.failure == nil {
		h.wrong("the session goes on", h.judgeVT())
	}
}

// judgeVT wants the session to have ended if the attacker has more open than it takes.
// An address that got one frame without payload is open.
func (h *hunt) judgeVT() error {
	open := 0
	for _, n := range h.zeros {
		if n == 1 {
			open++
		}
	}
	if h.s.maxConns == 0 || open <= h.s.maxConns || h.wild || h.p.Err() != nil {
		return nil
	}
	return fmt.Errorf("with %d connections open, of %d at most", open, h.s.maxConns)
}

// hear tells the referee what the session has sent.
func (h *hunt) hear() {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.r == nil {
		h.got = nil
		return
	}
	if !h.started {
		if len(h.got) < 44 {
			return
		}
		if want := plainParsePreface(h.got); (want.none || len(want.wrong) > 0 || want.size != 44) && h.failure == nil {
			h.failure = fmt.Errorf("the session's preface is %x", h.got[:44])
		}
		h.started, h.got = true, h.got[44:]
	}
	if err := h.r.said(h.got); err != nil && h.failure == nil {
		h.failure = err
	}
	h.got = nil
}

// judge fails the test if the session goes on where it must not, or the other way round.
func (h *hunt) judge() {
	r := h.r
	calmed := r.calmed()
	must := r.judged() || calmed
	if must || r.over {
		<-time.After(1100 * time.Millisecond) // for the GOAWAY, to an attacker that does not read
		h.hear()
	}
	var ended bool
	select {
	case <-h.p.Done():
		ended = true
	default:
	}
	switch {
	case !ended && must:
		h.wrong("the session goes on", fmt.Errorf("and must end with one of %v, GOAWAY %v, tokens %d", r.must, r.ended, r.tokens))
	case !ended && h.started && !r.blind:
		if what := r.owes(); what != "" {
			h.wrong("the session goes on", fmt.Errorf("and has not answered %s", what))
		}
	case ended && !h.local:
		h.wrong("the session ended", h.why(h.p.Err()))
	}
	h.dead = ended
}

// why returns nil if err is a reason that the referee knows.
func (h *hunt) why(err error) error {
	r := h.r
	var pe *mux.ProtocolError
	var ga *mux.GoAwayError
	switch {
	case errors.As(err, &ga):
		if !r.ended || uint32(ga.Code) != r.code {
			return fmt.Errorf("%w, which the attacker has not said", err)
		}
		return nil
	case errors.As(err, &pe) && errors.Is(err, mux.ErrProtocol):
		code := uint32(pe.Code)
		if len(r.must) > 0 && !r.must[code] && !r.may[code] || len(r.must) == 0 && !r.may[code] {
			return fmt.Errorf("%w, code %d; it must with one of %v, and may with one of %v", err, code, r.must, r.may)
		}
		if h.started && r.overCode != code && !r.wasBlind && !errors.Is(err, mux.ErrNoPreface) {
			return fmt.Errorf("%w, and its GOAWAY has code %d", err, r.overCode)
		}
		return nil
	case errors.Is(err, mux.ErrWriteTimeout) && h.longestDeaf() >= writeTimeout:
		return nil
	}
	return fmt.Errorf("error %T %w; it must with one of %v, and may with one of %v", err, err, r.must, r.may)
}

// writeTimeout is how long a session with protocol 1 bears an attacker that takes nothing.
const writeTimeout = 30 * time.Second

// longestDeaf returns for how long the attacker has not read, at most, so far.
func (h *hunt) longestDeaf() time.Duration {
	if !h.isDeaf {
		return h.deafest
	}
	return max(h.deafest, time.Since(h.deafFrom))
}

// setDeaf makes the attacker stop reading, or go on.
func (h *hunt) setDeaf(deaf bool) {
	h.mu.Lock()
	if deaf != h.isDeaf {
		if h.isDeaf = deaf; deaf {
			h.deaf = make(chan struct{})
			h.deafFrom = time.Now()
		} else {
			close(h.deaf)
			h.deafest = h.longestDeaf()
		}
	}
	h.mu.Unlock()
	if h.r != nil {
		h.r.blind = deaf
		h.r.wasBlind = h.r.wasBlind || deaf
	}
}

// accept takes the next connection, and returns whether there was one.
func (h *hunt) accept(reject bool) bool {
	ctx := h.ctx
	if !h.s.accepts {
		c, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		ctx = c
	}
	p, err := h.l.AcceptPending(ctx)
	if err != nil {
		return false
	}
	h.mu.Lock()
	h.kept = append(h.kept, p)
	h.opened++
	h.mu.Unlock()
	if reject {
		p.Reject(300, "no")
		return true
	}
	if c, err := p.Accept(); err == nil {
		h.add(c, true)
	}
	return true
}

// add gives the application a connection.
func (h *hunt) add(c *mux.Conn, known bool) {
	y := &prey{c: c, known: known, readers: make(chan struct{}, 1)}
	y.readers <- struct{}{}
	y.in.seed, y.in.tried = int(c.Addr().Port()), math.MaxInt
	y.in.ending = clean // when it ends is the attacker's business
	h.mu.Lock()
	h.preys = append(h.preys, y)
	h.kept = append(h.kept, c)
	h.mu.Unlock()
	if h.s.reads {
		<-y.readers
		h.tasks.Go(func() {
			for h.readFrom(y, 20_000) {
			}
			y.readers <- struct{}{}
		})
	}
}

// readFrom reads once, and reports whether there may be more.
func (h *hunt) readFrom(y *prey, n int) bool {
	b := make([]byte, n)
	h.buffers.Add(int64(n))
	defer h.buffers.Add(-int64(n))
	n, err := y.c.Read(b)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read += uint64(n)
	var wrong error
	if h.wild || !y.known {
		y.in.read += n // nobody knows what they should be
	} else {
		wrong = y.in.reads(b[:n], nil)
	}
	if wrong == nil && err != nil && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
		var pe *mux.ProtocolError
		if !errors.As(err, &pe) {
			wrong = typed(err)
		}
	}
	if wrong != nil && h.failure == nil {
		h.failure = fmt.Errorf("Read of %v: %w", y.c.Addr(), wrong)
	}
	return err == nil
}

// preyOf returns the connection of the application's that a step is about, or nil.
func (h *hunt) preyOf(s *hostileStep) *prey {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.preys) == 0 {
		return nil
	}
	return h.preys[s.conn%len(h.preys)]
}

// do does one step.
func (h *hunt) do(s *hostileStep) {
	switch {
	case s.blow >= bDeaf:
		h.flush()
		h.act(s)
		h.flush()
		return
	case h.s.one:
		h.strikeOne(s)
	default:
		h.strikeVT(s)
	}
	if !s.joined {
		h.flush()
	}
}

// strikeVT sends what a step says by the vt-muxer protocol. All that is not DATA is a
// frame without payload there.
func (h *hunt) strikeVT(s *hostileStep) {
	a := attackerAddr(1 + s.conn)
	switch s.blow {
	case bData, bDataFin, bDataBig, bWindow:
		h.wild = true // whether it is delivered depends on what the session knows
		n := s.size
		h.send(min(s.times, 20), func() []byte {
			return append(binary.BigEndian.AppendUint16(append([]byte(nil), a...), uint16(n)), pattern[:n]...)
		})
	case bRaw:
		h.wild = true
		h.send(1, func() []byte { return pattern[s.size : s.size+s.size%100] })
	default:
		h.tries += 2
		h.zeros[s.conn] += min(s.times, 2)
		h.send(min(s.times, 2), func() []byte { return append(append([]byte(nil), a...), 0, 0) })
	}
}

// strikeOne sends what a step says by protocol 1.
func (h *hunt) strikeOne(s *hostileStep) {
	r := h.r
	// Of the latest connections mostly, and now and then one that was never opened.
	known := s.conn < 15
	if known && s.blow.names() && r.seen == 0 && !(s.yours && r.allotted > 0) {
		h.tries++
		h.send(1, func() []byte { return frameOf(plainOpen, 0, 1, attackerAddr(1)) })
	}
	flags, latest := 0, r.seen
	if s.yours && (r.allotted > 0 || !known) {
		flags, latest = plainYours, r.allotted
	}
	id := latest + 1 + uint32(s.size&3)
	if known && latest > 0 {
		id = latest - uint32(s.conn)%latest
	}
	code := binary.BigEndian.AppendUint32(nil, uint32(s.size))
	limit := func(v uint64) []byte { return frameOf(plainWindow, flags, id, binary.BigEndian.AppendUint64(nil, v)) }
	d := r.duels[duelKey{flags&plainYours != 0, id}]
	if d == nil {
		d = &duel{}
	}
	var f func() []byte
	switch s.blow {
	case bOpen, bOpenMetadata:
		h.tries += s.times
		metadata := 0
		if s.blow == bOpenMetadata {
			metadata = s.size % 1025
		}
		f = func() []byte {
			next := r.seen + 1
			if s.conn == 14 {
				next += uint32(s.size) // a gap
			}
			return frameOf(plainOpen, 0, next, append(attackerAddr(int(next)&0xff), make([]byte, metadata)...))
		}
	case bOpenAgain:
		f = func() []byte { return frameOf(plainOpen, 0, id, attackerAddr(int(id)&0xff)) }
	case bData, bDataFin, bDataBig:
		f = func() []byte {
			n := min(s.size&0x3fff, 3000)
			if s.blow == bDataBig {
				n = min(int(min(d.limit-min(d.limit, d.received), 65534))+s.size&1, 65535)
			} else if s.size>>14 == 3 {
				n = s.size & 0x7fff
			}
			fin := 0
			if s.blow == bDataFin {
				fin = plainFin
			}
			return frameOf(plainData, flags|fin, id, pattern[(int(id)&0xff*7919+int(d.received))%patternLen:][:n])
		}
	case bDataEmpty:
		f = func() []byte { return frameOf(plainData, flags, id, nil) }
	case bWindow:
		f = func() []byte { return limit(d.credit + uint64(s.size)) }
	case bWindowNothing:
		f = func() []byte { return limit(uint64(s.size)) }
	case bWindowMost:
		f = func() []byte { return limit(1<<63 - 1 - uint64(s.size&1)) }
	case bWindowWrap:
		f = func() []byte { return limit([]uint64{1 << 63, 1<<64 - 1, 1<<63 + 65536, 1<<64 - 65536}[s.size&3]) }
	case bReset:
		f = func() []byte { return frameOf(plainReset, flags, id, code) }
	case bRefused:
		f = func() []byte {
			return frameOf(plainReset, flags|plainRefused, id, append(code, pattern[:s.size%257]...))
		}
	case bStop:
		f = func() []byte { return frameOf(plainStop, flags, id, code) }
	case bPing:
		f = func() []byte { return frameOf(plainPing, 0, 0, append(code, code...)) }
	case bAck:
		// The session's opaque bytes are a number.
		f = func() []byte {
			return frameOf(plainPing, plainAck, 0, binary.BigEndian.AppendUint64(nil, uint64(s.size&7)))
		}
	case bGoAway:
		last := uint32(1<<32 - 1)
		if s.size&3 != 0 {
			last = uint32(s.conn)
		}
		f = func() []byte {
			return frameOf(plainGoAway, 0, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, last), 0))
		}
	case bGoAwayCode:
		f = func() []byte { return frameOf(plainGoAway, 0, 0, append([]byte{0, 0, 0, 0}, code...)) }
	case bUnknown:
		f = func() []byte { return frameOf(8+s.size%248, s.conn, id, pattern[:s.size>>8]) }
	case bMalformed:
		f = func() []byte {
			b := frameOf(1+s.size&7, flags, id, pattern[:s.size>>8])
			b[s.conn&3] ^= byte(s.size)
			h.wild = true
			return b
		}
	case bRaw:
		h.wild = true
		f = func() []byte { return pattern[s.size : s.size+s.size%100] }
	default: // a vt-muxer frame has no meaning here
		f = func() []byte { return frameOf(plainData, flags|plainFin, id, nil) }
	}
	h.send(s.times, f)
}

// act does what a step says of the application, of the attacker's ears, and of time.
func (h *hunt) act(s *hostileStep) {
	y := h.preyOf(s)
	switch s.blow {
	case bDeaf:
		h.setDeaf(true)
	case bHear:
		h.setDeaf(false)
	case bPass:
		<-time.After(s.wait)
	case bAccept, bReject:
		if h.l != nil && !h.s.accepts {
			h.accept(s.blow == bReject)
		}
	case bOpenOwn:
		ctx, cancel := context.WithTimeout(h.ctx, time.Millisecond)
		a := addr.SocketAddrFrom(addr.IPAddrFrom4([4]byte{10, 0, 0, byte(s.size)}), uint16(s.size))
		if c, err := h.p.Open(ctx, a); err == nil {
			h.mu.Lock()
			h.opened++
			h.mu.Unlock()
			h.add(c, false)
		}
		cancel()
	case bPingOwn:
		h.tasks.Go(func() { h.p.Ping(h.ctx) })
	case bShutdown:
		if s.size&3 == 0 {
			h.local = true
			h.tasks.Go(func() { h.p.Shutdown(h.ctx) })
		}
	default:
		if y != nil {
			h.use(y, s)
		}
	}
}

// use does what a step says of a connection of the application's.
func (h *hunt) use(y *prey, s *hostileStep) {
	switch s.blow {
	case bRead:
		select {
		case <-y.readers:
			y.c.SetReadDeadline(time.Now().Add(time.Millisecond))
			h.readFrom(y, s.size)
			y.c.SetReadDeadline(time.Time{})
			y.readers <- struct{}{}
		default:
		}
	case bWrite:
		if h.r != nil {
			h.r.writes = true
		}
		h.tasks.Go(func() { y.c.Write(pattern[:s.size]) })
	case bCloseWrite:
		y.c.CloseWrite()
	case bCloseRead:
		y.c.CloseRead()
	case bClose:
		y.c.Close()
	case bResetOwn:
		if h.r != nil {
			h.r.ownResets++
		}
		y.c.Reset(mux.Code(s.size))
	}
}

// held returns how much payload the session holds for its application at most, what was
// dropped at a Close included, and how many connections there were.
func (h *hunt) held() (n uint64, conns int) {
	st := h.p.Stats()
	h.mu.Lock()
	defer h.mu.Unlock()
	return st.PayloadIn - st.Discarded - h.read, len(h.preys) + h.tries
}

// checkMemory holds what the session keeps against the formula: for each connection a
// window of payload and a state of fixed size.
func (h *hunt) checkMemory(heap0 uint64) {
	<-time.After(time.Millisecond) // the leader shows its counts when it reads again
	synctest.Wait()
	n, conns := h.held()
	perConn := uint64(2 << 17) // windows grow to MaxWindow; with vt-muxer one payload more
	if n < 1<<40 && n > uint64(conns+1)*perConn {
		h.wrong("memory", fmt.Errorf("%d bytes are unread on %d connections", n, conns))
	}
	if !h.s.heap {
		return
	}
	// 16 KiB unread may pin the slab of 64 KiB that they were read into. The rest: the
	// session with its staging, the fuzzing engine, and what this test itself holds.
	most := 4*n + uint64(conns)*(4<<10) + 2<<20 + h.own()
	if heap := liveHeap(); heap > heap0+most {
		h.wrong("memory", fmt.Errorf("the heap has grown by %d bytes, with %d unread on %d connections, and %d of the attacker's own", heap-heap0, n, conns, h.own()))
	}
}

// own returns how many bytes the attacker and the application hold themselves.
func (h *hunt) own() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return uint64(cap(h.chunk)+cap(h.out)+cap(h.got)+h.sending) + uint64(h.buffers.Load())
}

// liveHeap returns how much memory is in use. What lies idle in a sync.Pool survives one
// collection, and is no session's.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// finish ends the attack, and all that is left of the session.
func (h *hunt) finish() {
	h.setDeaf(false)
	h.flush()
	h.far.Close()
	select {
	case <-h.p.Done():
	case <-time.After(patience):
		// With the vt-muxer protocol an unread connection holds everything up, the end of
		// the transport too.
		if h.r != nil || h.s.reads && h.s.accepts {
			h.wrong("the transport's end", errors.New("the session goes on"))
		}
	}
	if err := h.p.Err(); err != nil && h.r == nil {
		h.wrong("Err", h.vtTyped(err))
	}
	h.quit()
	mustEnd("Close of a session", func() { h.p.Close() })
	mustEnd("a call, with the session closed", h.tasks.Wait)
	if st := h.p.Stats(); st.Opened+st.Accepted != h.opened {
		h.wrong("Stats", fmt.Errorf("%d opened and %d accepted, and there were %d", st.Opened, st.Accepted, h.opened))
	}
	for _, y := range h.preys {
		y.c.Close()
	}
}

// vtTyped returns nil if err may end a session of the vt-muxer protocol.
func (h *hunt) vtTyped(err error) error {
	var pe *mux.ProtocolError
	if errors.As(err, &pe) && (errors.Is(err, mux.ErrTooManyConns) && h.s.maxConns > 0 || h.s.protocol == mux.ProtocolAuto && errors.Is(err, mux.ErrNoPreface)) {
		return nil
	}
	return sessionTyped(err)
}

// An honestPair is two sessions that have nothing to do with the attacked one but the
// process, its pools among it.
type honestPair struct {
	ls [2]*mux.Listener
	cs [2]*mux.Conn
	st stream
}

func newHonestPair(t *testing.T) *honestPair {
	h := &honestPair{st: stream{seed: 12345, tried: 1 << 30}}
	var near [2]net.Conn
	near[0], near[1] = net.Pipe()
	for i := range near {
		var err error
		if h.ls[i], err = mux.NewListener(near[i], &mux.Config{Protocol: mux.Protocol1, KeepAliveInterval: -1}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if h.cs[0], err = h.ls[0].Open(context.Background(), addr.SocketAddr{}); err != nil {
		t.Fatal(err)
	}
	if h.cs[1], err = h.ls[1].AcceptConn(context.Background()); err != nil {
		t.Fatal(err)
	}
	// What is unread lies in buffers from the pools that the attacked session uses.
	h.write(t, 300)
	h.write(t, 20_000)
	synctest.Wait()
	return h
}

func (h *honestPair) write(t *testing.T, n int) {
	if m, err := h.cs[0].Write(h.st.at(h.st.written, n)); m != n || err != nil {
		t.Fatalf("an honest Write returned %d, %v", m, err)
	}
	h.st.written += n
}

// check fails the test unless every byte arrives, without a moment's wait.
func (h *honestPair) check(t *testing.T) {
	began := time.Now()
	h.write(t, 1000)
	h.cs[0].CloseWrite()
	h.st.ending = clean
	b := make([]byte, 4096)
	for {
		n, err := h.cs[1].Read(b)
		if wrong := h.st.reads(b[:n], err); wrong != nil {
			t.Fatalf("an honest connection: %v", wrong)
		}
		if err != nil {
			break
		}
	}
	if h.st.read != h.st.written || !h.st.eof {
		t.Fatalf("%d of %d bytes have arrived on an honest connection", h.st.read, h.st.written)
	}
	h.cs[1].Close()
	h.cs[0].Close()
	if d := time.Since(began); d != 0 {
		t.Fatalf("an honest connection was held up for %v", d)
	}
	for i := range h.ls {
		h.ls[i].Close()
	}
}

// playHostile plays a script in a bubble. It returns the hunt, for whoever counts.
func playHostile(t *testing.T, s *hostileSetup, steps []hostileStep) *hunt {
	slabs, buffers := pool.Outstanding()
	honest := newHonestPair(t)
	var heap0 uint64
	if s.heap {
		heap0 = liveHeap()
	}
	h := newHunt(t, s)
	if s.one {
		b := prefaceOf(s.window, s.payload, s.preface)
		h.chunk = append(h.chunk, b...)
		if s.preface != 0 {
			h.r.must[codeProtocol] = true
		}
		h.flush()
	}
	for i := range steps {
		if *verbose {
			t.Logf("%v %+v", time.Now().Format("04:05.000"), steps[i])
		}
		h.do(&steps[i])
		if h.failure != nil || h.dead && i%4 == 3 {
			break
		}
	}
	h.flush()
	h.checkMemory(heap0)
	h.finish()
	honest.check(t)
	h.kept.letGo()
	synctest.Wait()
	if s, b := pool.Outstanding(); s != slabs || b != buffers {
		h.wrong("the pool", fmt.Errorf("%d slabs and %d buffers are left\n%s", s-slabs, b-buffers, pool.Leaks()))
	}
	if h.failure != nil {
		t.Fatalf("%v\n%+v", h.failure, *s)
	}
	return h
}

// FuzzHostile lets a peer send frames that are valid, invalid, reordered and repeated. By
// PROTOCOL.md, the session must end with the code that says why, or go on; what it
// answers is bounded by what it is asked, and what it holds by its connections. An
// honest connection on another session notices nothing.
func FuzzHostile(f *testing.F) {
	f.Fuzz(func(t *testing.T, script []byte) {
		s, steps := scripted(script, 100, hostileSetupOf, hostileStepOf)
		synctest.Test(t, func(t *testing.T) { playHostile(t, &s, steps) })
	})
}
