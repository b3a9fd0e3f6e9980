package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// A world is one seed's: two sessions, what their applications do with them, and the link
// between. One goroutine, the driver, does one thing after the other, and lets
// everything come to rest in between.
type world struct {
	setup
	seed  uint64
	begin time.Time
	link  *Link
	model *Model
	ends  [2]*end

	stories []*story
	byName  map[[18]byte]*story
	ops     []*op // under way
	opened  int
	begun   int // operations, so far
	fault   string
	lastIn  [2]time.Duration // when each end has read something
	silence [2]time.Duration // the longest that it has read nothing, before that
	lastOut [2]time.Duration // when the transport has taken something of each end
	mute    [2]time.Duration // the longest that it has taken nothing, before that

	digest   uint32 // of everything that the operations returned
	failures []string
	verbose  bool
	trace    []string
}

// An end is one session as its application knows it.
type end struct {
	i        int
	w        *world
	listener *mux.Listener
	pipe     *mux.Pipe
	closed   bool // Close has been called
	shut     bool // Shutdown has
	pending  []*face
}

// A story is one connection.
type story struct {
	n       int
	opener  int
	addr    addr.SocketAddr
	meta    []byte
	circuit *Circuit // nil until its OPEN is on the wire
	faces   [2]*face
}

// A face is one end of a connection as its application knows it. Its fields are the
// driver's alone.
type face struct {
	st      *story
	e       *end
	c       *mux.Conn
	waiting *mux.PendingConn

	written uint64 // as Write has counted
	offered uint64 // the most that may come to be on the wire
	unsure  bool   // a write failed with the session: nobody knows how much of it was sent
	writing []*op  // in turn
	next    uint64 // what the next Write begins with, if those under way write all
	reading *op
	readN   uint64 // consumed, but for what the call under way has
	sink    *sink  // of a WriteTo
	reads   uint64 // the most that the read under way may consume
	eof     bool
	lastErr error // of reading, when nothing more can come

	wclosed, rclosed, closed bool // by CloseWrite, CloseRead, Close, or what does as much
	reset                    bool
	code                     mux.Code
	rejected                 bool
	stop                     mux.Code      // of what made it rclosed: for its STOP, or its REFUSED
	reason                   string        // why it was rejected
	readBy, writeBy          time.Duration // deadlines; 0: none
}

// An op is a call that may wait.
type op struct {
	n      int
	what   string
	e      *end
	f      *face
	done   atomic.Bool
	count  int64
	err    error
	by     time.Duration // its context's end; 0: none
	began  time.Duration
	pieces bool // a ReadFrom, between whose pieces other Writes may come
	check  func()
	stays  func() string // why it may still wait when everything has arrived; "" if it may not
}

const maxStory = 400_000 // bytes, each way

// content is what all connections say, each from a place of its own.
var content = func() []byte {
	b := make([]byte, 1<<20+maxStory)
	r := dice(1, 1)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}()

// says returns what end from says on st, from offset off.
func (st *story) says(from int, off uint64, n int) []byte {
	at := (st.n*77_773+from*40_009)%(1<<20) + int(off)
	return content[at : at+n]
}

func (w *world) now() time.Duration { return time.Since(w.begin) }

func (w *world) fail(format string, args ...any) {
	if len(w.failures) < 10 {
		w.failures = append(w.failures, fmt.Sprintf("at %v: ", w.now())+fmt.Sprintf(format, args...))
	}
	w.tracef("FAIL: "+format, args...)
}

func (w *world) tracef(format string, args ...any) {
	if w.verbose {
		w.trace = append(w.trace, fmt.Sprintf("%12.6fms  ", float64(w.now())/1e6)+fmt.Sprintf(format, args...))
	}
}

func newWorld(seed uint64, verbose bool) *world {
	w := &world{setup: drawSetup(seed), seed: seed, begin: time.Now(), verbose: verbose, byName: make(map[[18]byte]*story)}
	w.model = NewModel(w.vt)
	w.model.Now = w.now
	w.model.Opened = func(c *Circuit) {
		if st := w.find(c); st == nil {
			w.fail("an OPEN that nobody asked for: %x", c.Addr)
		} else {
			st.circuit = c
		}
	}
	w.model.Content = func(c *Circuit, from int, off uint64, p []byte) bool {
		st := w.find(c)
		f := st.faces[from]
		return f != nil && off+uint64(len(p)) <= f.offered && string(st.says(from, off, len(p))) == string(p)
	}
	w.model.Read = func(c *Circuit, i int) uint64 {
		f := w.find(c).faces[i]
		if f == nil {
			return 0
		}
		return min(f.readN+f.reads, c.Half[1-i].Arrived)
	}
	w.link = NewLink(seed, w.room, w.piece)
	w.link.Said = func(from int, p []byte) {
		w.mute[from] = max(w.mute[from], w.now()-w.lastOut[from])
		w.lastOut[from] = w.now()
		w.model.Say(from, p)
	}
	w.link.Heard = func(by, n int) {
		w.silence[by] = max(w.silence[by], w.now()-w.lastIn[by])
		w.lastIn[by] = w.now()
		w.model.Hear(by, n)
	}
	for i := range w.ends {
		w.ends[i] = &end{i: i, w: w}
		w.model.MaxWindow[i] = uint64(w.cfg[i].MaxWindow)
	}
	return w
}

// start makes the two sessions, one after the other, so that their clocks differ.
func (w *world) start() error {
	for i, e := range w.ends {
		conn := w.link.Conn(i, w.kind[i], w.delay[i])
		var err error
		if w.accepts[i] {
			if e.listener, err = mux.NewListener(conn, &w.cfg[i].Config); err == nil {
				e.pipe = e.listener.Pipe()
			}
		} else {
			e.pipe, err = mux.NewPipe(conn, &w.cfg[i].Config)
		}
		if err != nil {
			return err
		}
		w.rest(time.Duration(1 + dice(w.seed, 1).IntN(1000)))
	}
	return nil
}

// find returns the story of a connection on the wire.
func (w *world) find(c *Circuit) *story {
	if len(c.Meta) >= 4 {
		if n := int(binary.BigEndian.Uint32(c.Meta)); n < len(w.stories) {
			return w.stories[n]
		}
		return nil
	}
	return w.byName[c.Addr]
}

// rest lets d pass, and everything come to rest. No two things that the driver does happen
// at the same time: what the library would make of them later would coincide as well, and
// timers of a bubble that coincide fire in any order.
func (w *world) rest(d time.Duration) {
	w.link.Sync()
	<-time.After(d + 1)
	synctest.Wait()
	w.collect()
}

// call starts a call that may wait, and lets everything come to rest.
func (w *world) call(o *op, f func()) *op {
	w.rest(0)
	w.begun++
	o.n, o.began = w.begun, w.now()
	w.tracef("%c  #%d %s", 'A'+o.e.i, o.n, o.what)
	w.ops = append(w.ops, o)
	go func() {
		f()
		o.done.Store(true)
	}()
	synctest.Wait()
	w.collect()
	return o
}

// collect takes what calls have returned, and looks at those that have not.
func (w *world) collect() {
	now := w.now()
	left := w.ops[:0]
	var over []*op
	for _, o := range w.ops {
		if o.done.Load() {
			over = append(over, o)
			continue
		}
		left = append(left, o)
		if o.by != 0 && now >= o.by {
			w.fail("#%d %s waits beyond its context's end", o.n, o.what)
			o.by = 0
		}
		if f := o.f; f != nil && (f.reading == o && f.readBy != 0 && now >= f.readBy || slices.Contains(f.writing, o) && f.writeBy != 0 && now >= f.writeBy) {
			w.fail("#%d %s waits beyond its deadline", o.n, o.what)
			f.readBy, f.writeBy = 0, 0
		}
	}
	w.ops = left
	for _, o := range over {
		w.tracef("%c  #%d returns %d, %v", 'A'+o.e.i, o.n, o.count, o.err)
		w.digest = crc32.Update(w.digest, crc32.IEEETable, fmt.Append(nil, o.n, o.count, o.err))
		if o.err != io.EOF && errors.Is(o.err, io.EOF) && o.f != nil {
			w.fail("#%d %s: an error that reads as a clean end: %v", o.n, o.what, o.err)
		}
		o.check()
	}
	for i, e := range w.ends {
		if w.alive(e) && !w.link.Stuck(i) && !w.link.Over(i) && e.idle() {
			w.model.Settle(i)
		}
		w.checkPatience(e)
		w.checkParting(e)
	}
	w.failures = append(w.failures, w.model.Breaches...)
	w.model.Breaches = w.model.Breaches[:0]
}

// alive reports whether the session has not ended.
func (w *world) alive(e *end) bool {
	if e.pipe == nil {
		return false
	}
	select {
	case <-e.pipe.Done():
		return false
	default:
		return true
	}
}

// idle reports whether the session can have sent what it owes.
func (e *end) idle() bool {
	w := e.w
	return w.now() > w.delay[e.i]+time.Microsecond*10 && w.fault == ""
}

// step does one thing.
func (w *world) step(r *rand.Rand) {
	runtime.Gosched() // a new slice of time: see TestTheSameSeedHasTheSameLog
	// Never a whole millisecond, which is when a timer set just now fires.
	w.rest(pick[time.Duration](r, 1, 1, 1, 20, 1003) * time.Duration(1000+r.IntN(20_000)))
	total := 0
	for _, n := range w.weights {
		total += n
	}
	at := r.IntN(total)
	for a, n := range w.weights {
		if at -= n; at < 0 {
			doers[a](w, r)
			break
		}
	}
	if r.IntN(2) == 0 { // mostly the link works
		w.deliver(r)
	}
}

// anEnd picks one.
func (w *world) anEnd(r *rand.Rand) *end { return w.ends[r.IntN(2)] }

// aFace picks one that the application has, and that pleases; nil if there is none.
func (w *world) aFace(r *rand.Rand, pleases func(*face) bool) *face {
	var some []*face
	for _, st := range w.stories {
		for _, f := range st.faces {
			if f != nil && f.c != nil && pleases(f) {
				some = append(some, f)
			}
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[r.IntN(len(some))]
}

// ctx returns a context that is done in a while, perhaps.
func (o *op) ctx(r *rand.Rand) context.Context {
	if r.IntN(3) > 0 {
		return context.Background()
	}
	d := time.Duration(1 + r.IntN(3_000_000))
	o.by = o.e.w.now() + d
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
