package mux

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/vtmux/vtmux/pool"
)

const (
	// flushQuantum bounds the lent bytes of one flush. After that many the staging
	// buffer is looked at again, so that small frames pass bulk.
	flushQuantum = 256 << 10
	// fairRounds is how many flushes a writer does for others after its own.
	fairRounds = 8
)

// The flusher's role.
//
//	idle ──claim──▶ busy ──claim by another──▶ dirty
//	     ◀──rest──       ◀──collect───────────
//
// Who publishes (a frame in staging, a lent payload, a debt) claims the role after
// it. Claim either makes the caller the flusher, or marks the role dirty, and a
// flusher can't rest while it is: so nothing that is published stays behind. What
// flushLater publishes has its claim later, by whoever comes first.
const (
	flushIdle uint32 = iota
	flushBusy
	flushDirty
)

// A flushPhase says how far the flusher's batch is. It passes on with the role.
type flushPhase uint8

const (
	phaseNone    flushPhase = iota // nothing collected
	phaseSealed                    // staging is sealed, the batch is not built
	phaseSending                   // head or batch hold what is unsent
)

// writeSide sends what connections publish. Nobody owns it: whoever holds the
// flusher's role sends for all.
type writeSide struct {
	s *session // constant

	role  atomic.Uint32
	lent  lentStack
	debts debtStack
	stg   staging

	mu              sync.Mutex
	owner           *conn        // whose Write holds the role and may be blocked in the transport
	rooms, watchers waitQueue    // who waits for the flusher: see rooms.go
	waiting         atomic.Int32 // how many do

	// armedAt is the transport's write deadline: 0 none, 1 longAgo, else when. Written
	// under mu.
	armedAt atomic.Int64

	// recalling is set, before the interrupt, by an owner that wants a claimed
	// payload back. Arm clears the interrupt first and looks at this after.
	recalling atomic.Bool

	// The role's holder owns the rest.
	phase   flushPhase
	sealed  int         // index and length of the sealed staging buffer
	end     int         //
	control bool        // the batch holds no payload, and no open or end of a connection
	ends    bool        // the batch ends halves
	ending  atomic.Bool // the same, for others
	parted  atomic.Bool // a GOAWAY with a code has been built, or Shutdown is done: nothing follows
	owed    uint32      // the session's debts, taken and not yet sent
	owing   *conn       // the connections' likewise
	queue   lentQueue   // lent payloads taken and not yet claimed
	head    []byte      // the unsent rest of staging and debts, in a batch without lent payloads
	batch   [][]byte    // else all of it, in order
	vec     net.Buffers
	claimed []*lent // nil where it has been recalled
	late    bool    // the flusher was expected by an earlier flush
	failed  error   // the transport's error, after which nothing is sent
	gone    bool    // it came while the session drained: see isMoot
	copies  []*pool.Buffer
}

// claim takes the flusher's role if nobody has it, and else makes sure that who
// has it collects once more.
func (o *writeSide) claim() bool {
	for {
		switch o.role.Load() {
		case flushIdle:
			if o.role.CompareAndSwap(flushIdle, flushBusy) {
				o.stg.flusher.take()
				return true
			}
		case flushBusy:
			if o.role.CompareAndSwap(flushBusy, flushDirty) {
				return false
			}
		default:
			return false
		}
	}
}

// published reports whether anything is published that is not collected.
func (o *writeSide) published() bool {
	return !o.stg.empty() || o.s.owes.Load() != 0 || o.debts.top.Load() != nil || o.lent.top.Load() != nil
}

// rest gives the role up, unless something was published and claimed meanwhile.
func (o *writeSide) rest() bool {
	if o.s.failing.Load() {
		o.s.part()
	}
	o.stg.flusher.leave()
	if !o.role.CompareAndSwap(flushBusy, flushIdle) {
		o.stg.flusher.take() // nobody else could have
		return false
	}
	o.wakeRooms()
	return true
}

// runFlusher sends all that is published. The caller holds the role, and has
// passed it on at return: to nobody when there is nothing left, else to another.
// c is the connection whose Write this is, or nil; when it is closed or its
// deadline passes, the rest is the helper's. mine is its lent payload, or nil.
func (s *session) runFlusher(c *conn, mine *lent) {
	o := &s.out
	o.stg.flusher.must()
	for round := 0; ; {
		if s.dead.Load() {
			o.failAll()
			if o.rest() {
				return
			}
			o.role.Store(flushBusy)
			continue
		}
		if o.phase == phaseNone && !o.collect() {
			return
		}
		if o.phase == phaseSealed {
			o.build()
		}
		if o.phase == phaseNone {
			if !o.pending() && o.rest() {
				return
			}
			continue
		}
		if err := o.send(c); err != nil {
			if err != errInterrupted && o.isMoot(err) {
				o.failBatch()
				continue
			}
			if err != errInterrupted {
				s.end(&TransportError{Op: "write", Err: err})
				continue
			}
			over := c != nil && c.cantWrite() != nil
			o.recall(mine, over)
			if over {
				s.handOver()
				return
			}
			continue
		}
		o.finish(mine)
		if !o.pending() && o.rest() {
			return
		}
		round++
		if c != nil && o.pending() && (mine != nil && o.queue.head != nil || round >= fairRounds) {
			if mine == nil || mine.state.Load() == lentDone {
				s.passOn()
				return
			}
		}
	}
}

// pending reports whether there is more to send than the last collect took into its
// batch. (Debts stay where they are while earlier ones are owing.)
func (o *writeSide) pending() bool {
	return o.queue.head != nil || o.owed != 0 || o.owing != nil || o.s.owes.Load() != 0 || o.debts.top.Load() != nil || o.role.Load() == flushDirty
}

// collect takes what is published. It reports false if the role passed to a
// writer that is still copying into the sealed buffer.
//
// Debts and lent payloads are taken before staging is sealed, and sent after it: so
// what a connection published first goes first, whatever way it took.
func (o *writeSide) collect() bool {
	o.role.Store(flushBusy) // what is published from here on makes it dirty again
	o.letExpectedPublish()
	if o.owing == nil {
		o.owing = o.debts.take()
	}
	if o.s.owes.Load() != 0 {
		o.owed |= o.s.owes.Swap(0)
	}
	o.queue.take(&o.lent)
	if o.owing == nil && o.owed == 0 && o.stg.empty() {
		if o.queue.head != nil {
			o.end = 0
			o.phase = phaseSealed
		}
		return true
	}
	o.sealed, o.end = o.stg.swap()
	o.phase = phaseSealed
	o.wakeRooms()
	o.stg.revoke(o.sealed, o.stg.given[o.sealed])
	return o.stg.settle(o.sealed, o.end) // false: o is another's now
}

// letExpectedPublish lets the writers run that are about to publish: the readers
// that the last read woke. It goes by evidence, never by a timer. It yields once: who
// has not come forward then may sit on a core that the kernel has given to another
// process (to yield on while some did come cost a fifth of the messages/s). When
// those come after all, late, they come together, so who is late lets the others
// publish too.
func (o *writeSide) letExpectedPublish() {
	e := &o.s.expect
	if e.left() == 0 && !o.late {
		return
	}
	o.late = false
	runtime.Gosched()
	e.giveUp()
}

// build makes the batch from the sealed buffer, the debts and the lent payloads.
func (o *writeSide) build() {
	o.assertSettled()
	o.phase = phaseNone
	buf := o.stg.buf[o.sealed]
	end := 0
	if o.end > 0 && !o.parted.Load() {
		end = o.stg.closeGaps(o.sealed, o.end)
	}
	o.control = end == 0 && o.queue.head == nil
	if o.owed != 0 {
		end += o.s.settleSession(buf[end:])
	}
	if o.owing != nil {
		for o.owing != nil && end+maxDebtLen <= len(buf) {
			c := o.owing
			// Before its debts are taken, and it may be added again. A link that was left
			// would keep what has ended reachable from what has not.
			o.owing, c.owesNext = c.owesNext, nil
			end += o.s.settleDebts(c, buf[end:])
		}
		o.wakeRooms() // an Open may wait for an address that has become free
	}
	o.head = buf[:end]
	o.batch, o.claimed = o.batch[:0], o.claimed[:0]
	if o.parted.Load() {
		o.failQueue()
	}
	for size := 0; size < flushQuantum; {
		l := o.queue.pop()
		if l == nil {
			break
		}
		if !l.state.CompareAndSwap(lentQueued, lentClaimed) {
			l.dropped() // withdrawn
			continue
		}
		if len(o.batch) == 0 && end > 0 {
			o.batch = append(o.batch, o.head)
		}
		o.claim1(l)
		size += len(l.p)
	}
	if len(o.batch) > 0 {
		o.head, o.vec = nil, o.batch
	}
	if end > 0 || len(o.batch) > 0 {
		o.phase = phaseSending
	}
}

// claim1 puts l's headers and pieces into the batch.
func (o *writeSide) claim1(l *lent) {
	l.first = len(o.batch)
	p := l.p
	most, head := int(o.s.peer.maxPayload.Load()), o.s.headerLen()
	for i := 0; len(p) > 0; i++ {
		n := min(len(p), most)
		h := l.hdrs[i].Bytes()[:head]
		l.c.putHeader(h, n)
		o.batch = append(o.batch, h, p[:n])
		p = p[n:]
	}
	l.past = len(o.batch)
	o.claimed = append(o.claimed, l)
}

// recall copies what is unsent of each payload that its owner wants back, so that
// the owner may return while the flusher goes on. over: mine is wanted back too.
func (o *writeSide) recall(mine *lent, over bool) {
	for i, l := range o.claimed {
		if l == nil || l.state.Load() != lentRecalled && !(over && l == mine) {
			continue
		}
		sent := len(o.batch) - len(o.vec)
		size := 0
		for j := max(l.first, sent); j < l.past; j++ {
			size += len(o.batch[j])
		}
		if size > 0 {
			b := pool.GetBuffer()
			b.Grow(size)
			for j := max(l.first, sent); j < l.past; j++ {
				at := len(b.B)
				b.Append(o.batch[j])
				o.batch[j] = b.B[at:len(b.B):len(b.B)]
			}
			o.copies = append(o.copies, b)
		}
		o.claimed[i] = nil
		l.finish(lentDone)
	}
}

// finish ends the batch, all of which has been sent.
func (o *writeSide) finish(mine *lent) {
	for i, l := range o.claimed {
		switch {
		case l == nil:
		case l == mine:
			l.state.Store(lentDone)
		default:
			l.finish(lentDone)
		}
		o.claimed[i] = nil
	}
	ends := o.ends
	if ends {
		o.ends = false
		o.ending.Store(false)
	}
	o.dropBatch()
	if ends {
		o.s.endsOut()
	}
}

// noteEnd notes that the batch ends a half. The table forgets a connection when its end has
// been built: the caller does so after this.
func (o *writeSide) noteEnd() {
	o.control = false
	if !o.ends {
		o.ends = true
		o.ending.Store(true)
	}
}

// dropBatch lets go of everything that a batch held on to.
func (o *writeSide) dropBatch() {
	clear(o.batch)
	for i, b := range o.copies {
		b.Release()
		o.copies[i] = nil
	}
	o.batch, o.claimed, o.copies = o.batch[:0], o.claimed[:0], o.copies[:0]
	o.head, o.vec = nil, nil
	o.phase = phaseNone
}

// failBatch drops the batch, and fails the lent payloads in it.
func (o *writeSide) failBatch() {
	for i, l := range o.claimed {
		if l != nil {
			l.finish(lentFailed)
		}
		o.claimed[i] = nil
	}
	o.dropBatch()
}

// failAll fails what is queued or in the batch: the session has ended.
func (o *writeSide) failAll() {
	o.failBatch()
	w := o.stg.word.Load()
	o.stg.revoke(wordOpen(w), wordLeases(w)) // what is in them counts, as lost
	o.queue.take(&o.lent)
	o.failQueue()
	for o.owing != nil { // a link that was left would keep the others reachable: see build
		o.owing, o.owing.owesNext = o.owing.owesNext, nil
	}
	for c := o.debts.take(); c != nil; {
		c, c.owesNext = c.owesNext, nil
	}
	o.owed = 0
	o.s.owes.Store(0)
	o.wakeRooms()
}

// failQueue fails the lent payloads that are in no batch.
func (o *writeSide) failQueue() {
	for l := o.queue.pop(); l != nil; l = o.queue.pop() {
		w := l.w // l is its owner's once it has failed
		if l.state.CompareAndSwap(lentQueued, lentFailed) {
			w.Wake()
		} else {
			l.dropped() // withdrawn
		}
	}
}
