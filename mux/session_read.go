package mux

import (
	"errors"
	"io"
	"syscall"

	"github.com/vtmux/vtmux/pool"
	"github.com/vtmux/vtmux/wire"
)

const (
	// readSlabSize is how much one transport read takes at most, without the
	// leader's own slice. It is also the one buffer that an idle session holds.
	readSlabSize = 64 << 10
	// firstSlabSize is how much the first one takes: until something has come, a
	// peer may be one that only connects.
	firstSlabSize = pool.MinSlab
	// minReadSpace is the least room in a slab that is worth a read.
	minReadSpace = 16 << 10
	// directFrom is the least rest of a payload that is read from the transport
	// straight into the leader's slice.
	directFrom = 1 << 10
	// directTail is how much is read behind such a payload: the next headers, and
	// little of the next payload, which had better go straight as well.
	directTail = 512
	// maxEmptyCalls is how many reads, or writes, in a row may move nothing and
	// return no error.
	maxEmptyCalls = 100
)

// readSide is what the leader works with. Whoever holds the token owns it all.
type readSide struct {
	mode readMode
	dec  wire.VTDecoder // of the vt-muxer protocol, and of the preface
	one  wire.Decoder   // of protocol 1, behind the preface
	slab *pool.Slab     // nil until the first read, and after the end
	r, w int            // slab[r:w] is received and not parsed

	cur  *conn // whose payload the decoder is in; nil: discarded
	last *conn // the connection found last, to spare the table

	predicted prediction

	preface []byte // what has come of the preface's body
	fin     bool   // protocol 1: cur's half ends with this frame
	calm    calm
	known   uint64 // payload bytes of known connections

	held []byte // a piece of cur's payload that cur had no room for
	err  error  // the error that came along with it

	// The leader's own slice, which its connection's payload goes to directly.
	leader  *waiter
	self    *conn
	p       []byte
	n       int // bytes of p that are filled
	check   leaderCheck
	empties int    // reads in a row that brought nothing
	vain    int    // reads in a row that did not wait, and that nobody waited for
	poke    func() // wakePoller, but in tests
	timed   bool   // whether anybody wants to know when the peer gave a sign of life
	readAt  int64  // when this leader's latest read returned; 0: not known

	count readCounts

	// What this leader delivered to others.
	delivered int
	to        *conn
	woken     []*waiter // to wake when all that was read is handed out
	owes      bool      // to flush then: debts were made, or it is a crowd
	frees     bool      // they are, or were, ends that free places of the peer's connections
	stop      *conn     // a STOP of it has come, no FIN behind that, and its answer is to be flushed
}

// release gives the slab back, at the session's end.
func (r *readSide) release() {
	if r.slab != nil {
		r.slab.Release()
		r.slab, r.held, r.r, r.w = nil, nil, 0, 0
	}
}

// lead reads the transport, and hands out what comes, until w's wait is over, its
// connection's deadline has passed, or the session ends. w holds the token and
// has given it up on return. c is w's connection, or nil. Its payload goes to w's slice
// first, and lead returns how much of that it filled.
func (s *session) lead(w *waiter, c *conn) int {
	r := &s.in
	r.check.begin(w)
	r.leader, r.self, r.p, r.n = w, c, w.p, 0
	r.delivered, r.to, r.readAt = 0, nil, 0

	stalled := s.leadUntil(w, c)

	n := r.n
	last := r.to
	guess := c != nil && w.reader && c.flags.Load()&flagReadOver != 0 // it has read all, and does not come back
	if c != nil && (last == nil || !guess) {
		last = c
	}
	r.leader, r.self, r.p = nil, nil, nil
	r.check.end(w)
	if stalled != nil {
		s.stall(w, stalled)
	} else {
		s.token.release(w, last, guess, r.readAt)
	}
	s.reap()
	return n
}

// leadUntil is lead's loop. It returns the connection that stalls the session, if
// one does.
func (s *session) leadUntil(w *waiter, c *conn) (stalled *conn) {
	r := &s.in
	if stalled = s.parse(); stalled != nil || s.lazyDone(w) {
		return stalled
	}
	for !w.satisfied.Load() && !s.dead.Load() {
		at, roused := s.token.arm(w)
		if w.satisfied.Load() || at != 0 && s.now() >= at || roused && !w.reader {
			return nil
		}
		had, handed := r.count.bytesIn, r.n+r.delivered
		err := s.fill()
		calls, waited := s.t.ReadCalls()
		r.count.reads += calls
		r.readAt = s.now()
		if r.timed && r.count.bytesIn > had {
			r.count.lifeAt = r.readAt
		}
		if stalled = s.parse(); stalled != nil {
			if err != nil && !s.token.timedOut(err) {
				r.err = err
			}
			return stalled
		}
		r.lookAround(waited || r.n+r.delivered > handed)
		if err != nil && !s.token.timedOut(err) {
			s.readOver(err)
			return nil
		}
		if s.lazyDone(w) {
			return nil
		}
	}
	return nil
}

// longVain is how many reads in vain, in a row, make the leader look around.
const longVain = 4

// lookAround follows a read. If many have been in vain it has an idle thread wait for the
// network. It is not for who reads bulk: the own socket would wake that thread all the time.
func (r *readSide) lookAround(useful bool) {
	if useful {
		r.vain = 0
		return
	}
	if r.vain++; r.vain%longVain == 0 {
		r.poke()
	}
}

// wakePoller makes an idle thread, if there is one, wait for the network. A thread that did
// so, and woke up, runs the goroutine that it woke up for, and the scheduler puts none in its
// place until another goroutine is made to run. A leader that neither waits nor wakes anybody
// makes none: all other sockets of the process would be looked at by the runtime's monitor
// alone, every 10 ms or more seldom.
func wakePoller() { go func() {}() }

// readOver follows a Read that failed for good: the session ends. But a peer that has read
// the ends that are being sent may end the transport before the flusher is back, and one that
// has only ended its half still reads: so they are let out first, for a second at most.
// Nobody leads meanwhile, and the waits of others last no longer than they should.
func (s *session) readOver(err error) {
	if s.out.ending.Load() {
		s.token.close()
		s.readFailed.Store(&err)
		s.endAfter(endLinger, s.readError(err))
		if s.out.ending.Load() {
			return // who has sent them looks at readFailed
		}
	}
	s.end(s.readError(err))
}

// endsOut follows when the ends that the flusher had built have been sent.
func (s *session) endsOut() {
	if err := s.readFailed.Load(); err != nil {
		s.end(s.readError(*err))
	}
}

// lazyDone reports whether w is lazy and has delivered to a reader, who is to lead
// from now on.
func (s *session) lazyDone(w *waiter) bool {
	return w.lazy && s.in.delivered > 0 && !s.token.permanent
}

// readError tells what a transport read's error means for the session.
func (s *session) readError(err error) error {
	switch {
	case err == io.EOF && s.in.inFrame():
		err = io.ErrUnexpectedEOF
	case errors.Is(err, syscall.ECONNRESET) && !s.in.inFrame() && s.drains() && !s.unfinished():
		// The one that was done first has closed the transport before it read our last
		// words, a PING or its ACK. Nothing is missing.
		err = io.EOF
	}
	return &TransportError{Op: "read", Err: err}
}

// fill reads once: the leader's own payload straight into its slice where that is worth
// it, and else into the slab.
func (s *session) fill() error {
	r := &s.in
	if err := r.err; err != nil {
		r.err = nil
		return err
	}
	if r.self != nil && len(r.p)-r.n >= directFrom {
		rest, size := r.remaining(), r.predicted.next(r.self)
		switch {
		case rest >= directFrom && r.cur == r.self && r.self.wantsDirect():
			return s.fillDirect(rest)
		case size > 0 && len(r.p)-r.n >= predictFrom && !r.inFrame() && s.t.CanReadVec():
			return s.fillPredicted(size)
		}
	}
	n, err := s.t.Read(r.space(readSlabSize))
	r.w += n
	return s.filled(n, err)
}

func (s *session) fillDirect(rest int) error {
	r := &s.in
	p := r.p[r.n:]
	var tail []byte
	if len(p) >= rest {
		p, tail = p[:rest], r.space(directTail)
	}
	n, err := s.t.ReadVec(p, tail, nil)
	own := min(n, len(p))
	s.took(own)
	r.w += n - own
	return s.filled(n, err)
}

// took accounts for n bytes of the current payload that went straight to the leader's
// slice.
func (s *session) took(n int) {
	r := &s.in
	if n == 0 {
		return
	}
	r.advance(n)
	if s.failing.Load() {
		return // what came before may have been dropped for that
	}
	r.n += n
	r.count.payloadIn += uint64(n)
	s.oweWindow(r.self, r.self.satisfy(r.leader, n))
	s.endFrame()
}

// filled counts what a read brought.
func (s *session) filled(n int, err error) error {
	if n > 0 {
		s.in.count.bytesIn += uint64(n)
		s.in.empties = 0
		return err
	}
	if err == nil {
		if s.in.empties++; s.in.empties >= maxEmptyCalls {
			return io.ErrNoProgress
		}
	}
	return err
}

// space returns room in the slab for the next read, at most limit bytes.
// Everything received before has been parsed.
func (r *readSide) space(limit int) []byte {
	switch {
	case r.slab == nil:
		r.slab = pool.GetSlab(firstSlabSize)
	case r.count.bytesIn > 0 && len(r.slab.Bytes()) != readSlabSize: // the first one, or insert's
		r.slab.Release()
		r.slab = pool.GetSlab(readSlabSize)
		r.r, r.w = 0, 0
	case r.slab.Unique():
		r.r, r.w = 0, 0
	case len(r.slab.Bytes())-r.w < min(minReadSpace, limit):
		// Connections hold views of this slab; the rest of it is small.
		r.slab.Release()
		r.slab = pool.GetSlab(readSlabSize)
		r.r, r.w = 0, 0
	}
	b := r.slab.Bytes()[r.w:]
	return b[:min(len(b), limit)]
}

// crowdSize is how many woken at once make the leader flush for them: they are about as many
// as a processor's queue takes, so that the first of them would flush before many have run.
// It makes 1,000 connections in ping-pong 6 to 13% faster; from 64 on, it made 128 slower.
const crowdSize = 256

// parse hands out everything in the slab, and then wakes who got something: should
// the first of them run at once on another core, it would flush its answer alone.
// It returns the connection that has no room for the next piece, if one has none.
func (s *session) parse() (stalled *conn) {
	stalled = s.parseAll()
	r := &s.in
	r.owes = r.owes || r.stop != nil || len(r.woken) >= crowdSize
	r.stop = nil
	for i, w := range r.woken {
		w.Wake()
		r.woken[i] = nil
	}
	r.woken = r.woken[:0]
	if r.owes {
		r.owes = false
		s.tryFlush()
	}
	return stalled
}

func (s *session) parseAll() (stalled *conn) {
	r := &s.in
	if r.mode <= modePreface && !s.failing.Load() {
		s.parseFirst()
	}
	switch {
	case s.failing.Load():
		r.r = r.w // what comes is read only so that the peer gets our GOAWAY
	case r.mode == modeOne:
		s.parseOne()
	case r.mode == modeVT:
		return s.parseVT()
	}
	return nil
}

func (s *session) parseVT() (stalled *conn) {
	r := &s.in
	if r.held != nil {
		if !s.deliver(r.cur, r.held) {
			return r.cur
		}
		r.held = nil
	}
	for r.r < r.w {
		h, payload, n := r.dec.Next(r.slab.Bytes()[r.r:r.w])
		r.r += n
		switch {
		case h != nil:
			r.count.framesIn++
			if err := s.onVTHeader(h); err != nil {
				s.end(err)
				r.r = r.w
				return nil
			}
		case payload != nil:
			r.count.payloadIn += uint64(n)
			if !s.deliver(r.cur, payload) {
				r.held = payload
				return r.cur
			}
		}
	}
	return nil
}

// owe makes c owe the peer a frame, which is flushed when all is handed out.
func (s *session) owe(c *conn, what uint32) {
	s.out.debts.add(c, what)
	s.in.owes = true
}

// deliver hands p to c: to the slice of a reader that waits, the leader's own before
// others, and what is left to c's buffer. It reports false, and takes nothing, where c
// has no room.
func (s *session) deliver(c *conn, p []byte) bool {
	r := &s.in
	if c == nil {
		r.count.discarded += uint64(len(p))
		return true
	}
	c.mu.Lock()
	if c.discards() {
		c.mu.Unlock()
		r.count.discarded += uint64(len(p))
		return true
	}
	if c == r.self && c.in.n == 0 && r.n < len(r.p) {
		n := copy(r.p[r.n:], p)
		r.n += n
		c.readers.take(r.leader)
		s.oweWindow(c, c.consumeLocked(n))
		if p = p[n:]; len(p) == 0 {
			c.mu.Unlock()
			return true
		}
	}
	if c.id == 0 && !c.roomLocked() {
		c.mu.Unlock()
		return false
	}
	var filled, next *waiter
	// A large piece is better kept as it is, for the reader to copy on its own core.
	if w := c.readers.first(); w != nil && w != r.leader && len(w.p) > 0 && c.in.n == 0 && len(p) < lendSlabFrom {
		w.n, w.until = copy(w.p, p), r.readAt
		s.oweWindow(c, c.consumeLocked(w.n))
		p = p[w.n:]
		filled = c.readers.pop()
	}
	if len(p) > 0 {
		slab := r.slab
		if len(slab.Bytes()) > readSlabSize {
			slab = nil // SECURITY.md counts on what a piece may pin
		}
		c.in.add(p, slab)
		next = c.readers.pop()
	}
	c.mu.Unlock()
	s.serve(c, filled)
	s.serve(c, next)
	return true
}

// serve has w woken, a reader of c whose wait is over, when all is handed out; nobody
// if w is nil, or leads.
func (s *session) serve(c *conn, w *waiter) {
	r := &s.in
	if w == nil || w == r.leader {
		return
	}
	r.delivered++
	r.to = c
	c.expected.Store(s.expect.add())
	r.woken = append(r.woken, w)
}

// stall gives the token up because c has no room. If c's reader has made room
// meanwhile it may have missed the stall, so that is looked at last.
func (s *session) stall(w *waiter, c *conn) {
	s.token.stall(w, c)
	if c.hasRoom() {
		s.unstall(c)
	}
}

// unstall lets the session read on after c's reader made room or c was closed.
func (s *session) unstall(c *conn) { s.count.stalled.Add(s.token.unstall(c)) }

// remaining returns how much of the current payload is still to come.
func (r *readSide) remaining() int {
	switch r.mode {
	case modeVT:
		return r.dec.Remaining()
	case modeOne:
		return r.one.Remaining()
	}
	return 0
}

// advance tells the decoder of payload that went past it.
func (r *readSide) advance(n int) {
	if r.mode == modeOne {
		r.one.Advance(n)
	} else {
		r.dec.Advance(n)
	}
}

// inFrame reports whether the stream stands inside a frame.
func (r *readSide) inFrame() bool {
	if r.mode == modeOne {
		return r.one.InFrame() || r.one.Remaining() > 0
	}
	return r.dec.InHeader() || r.dec.Remaining() > 0
}
