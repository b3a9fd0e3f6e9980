package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// An action is what a step may do.
type action int

const (
	actDeliver action = iota
	actOpen
	actOpenTwice
	actAccept
	actDecide
	actWrite
	actWriteBuffers
	actReadFrom
	actRead
	actWriteTo
	actCloseWrite
	actCloseRead
	actClose
	actReset
	actDeadline
	actPing
	actSettle
	actResize
	actEmptyRead
	actIdle
	actShutdown
	actCloseSession
	actCut
	actions
)

var baseWeights = [actions]int{
	actDeliver: 60, actOpen: 24, actOpenTwice: 2, actAccept: 20, actDecide: 8,
	actWrite: 40, actWriteBuffers: 6, actReadFrom: 6, actRead: 40, actWriteTo: 6,
	actCloseWrite: 8, actCloseRead: 5, actClose: 8, actReset: 5, actDeadline: 10,
	actPing: 5, actSettle: 6, actResize: 3, actEmptyRead: 2, actIdle: 2,
	actShutdown: 1, actCloseSession: 1, actCut: 2,
}

var doers [actions]func(*world, *rand.Rand)

func init() {
	doers = [actions]func(*world, *rand.Rand){
		actDeliver: (*world).deliver, actOpen: (*world).open, actOpenTwice: (*world).openTwice,
		actAccept: (*world).accept, actDecide: (*world).decide,
		actWrite: (*world).write, actWriteBuffers: (*world).writeBuffers, actReadFrom: (*world).readFrom,
		actRead: (*world).read, actWriteTo: (*world).writeTo,
		actCloseWrite: (*world).closeWrite, actCloseRead: (*world).closeRead, actClose: (*world).close, actReset: (*world).reset,
		actDeadline: (*world).deadline, actPing: (*world).ping, actSettle: (*world).settles,
		actResize: (*world).resize, actEmptyRead: (*world).emptyRead, actIdle: (*world).idles,
		actShutdown: (*world).shutdown, actCloseSession: (*world).closeSession, actCut: (*world).cut,
	}
}

func (w *world) deliver(r *rand.Rand) {
	from := r.IntN(2)
	n := pick(r, 1, 1+r.IntN(30), 1+r.IntN(3000), 1<<30, 1<<30, 1<<30)
	w.rest(0)
	w.link.Deliver(from, n)
	w.rest(0)
}

func (w *world) resize(r *rand.Rand) {
	w.link.Resize(r.IntN(2), pick(r, 0, 1, 100, 5000, 200_000))
	w.rest(0)
}

func (w *world) emptyRead(r *rand.Rand) {
	w.link.EmptyRead(r.IntN(2))
	w.rest(0)
}

func (w *world) idles(r *rand.Rand) {
	w.rest(time.Duration(r.IntN(100_000_000)) * pick[time.Duration](r, 1, 1, 10, 500))
}

func (w *world) settles(r *rand.Rand) { w.settle() }

// newStory is the next connection. It is known before it is opened, for its OPEN may be on
// the wire before that call returns.
func (w *world) newStory(r *rand.Rand, e *end) *story {
	st := &story{n: len(w.stories), opener: e.i}
	ip := netip.AddrFrom4([4]byte{10, byte(e.i), byte(st.n >> 8), byte(st.n)})
	if w.shared && r.IntN(2) == 0 {
		ip = netip.AddrFrom4([4]byte{10, 9, 9, 9})
	}
	st.addr = addr.SocketAddrFromAddrPort(netip.AddrPortFrom(ip, 80))
	if w.shared || r.IntN(3) == 0 && (!w.vt || r.IntN(8) == 0) { // the vt-muxer protocol can't carry any
		st.meta = binary.BigEndian.AppendUint32(nil, uint32(st.n))
		st.meta = append(st.meta, make([]byte, pick(r, 0, 0, 10, 1020))...)
	}
	if w.vt && st.meta == nil { // an address is used again once both ends have let go of its last connection
		for _, old := range w.stories {
			if old.opener == e.i && w.byName[name(old.addr)] == old && old.over() && w.free(old.addr) && r.IntN(2) == 0 {
				st.addr = old.addr
				break
			}
		}
	}
	f := &face{st: st, e: e}
	st.faces[e.i] = f
	w.stories = append(w.stories, st)
	w.byName[name(st.addr)] = st
	return st
}

func name(a addr.SocketAddr) [18]byte {
	b, _ := a.MarshalBinary()
	return [18]byte(b)
}

// free reports whether both ends have let go of an address.
func (w *world) free(a addr.SocketAddr) bool {
	return w.model.Named(0, name(a)) == nil && w.model.Named(1, name(a)) == nil
}

// over reports whether both applications have had the connection and closed it.
func (st *story) over() bool {
	for _, f := range st.faces {
		if f == nil || f.c == nil || !f.closed {
			return false
		}
	}
	return true
}

func (w *world) open(r *rand.Rand) {
	if w.opened >= w.most {
		w.deliver(r)
		return
	}
	w.opened++
	e := w.anEnd(r)
	st := w.newStory(r, e)
	f := st.faces[e.i]
	o := &op{e: e, what: fmt.Sprintf("Open %v (%d), %d bytes of metadata", st.addr, st.n, len(st.meta))}
	ctx := o.ctx(r)
	var c *mux.Conn
	o.check = func() {
		if o.err == nil {
			f.c = c
			if w.vt && st.meta != nil {
				w.fail("Open succeeds with metadata, which the vt-muxer protocol can't carry")
			}
			return
		}
		if st.circuit != nil && !w.sessionGone(e) {
			w.fail("Open fails with %v, but its OPEN has gone out", o.err)
		}
		w.checkOpen(o, st)
	}
	o.stays = func() string { return w.whyOpenStays(e) }
	w.call(o, func() {
		if len(st.meta) > 0 {
			c, o.err = e.pipe.OpenWith(ctx, mux.OpenOptions{Addr: st.addr, Metadata: st.meta})
		} else if e.listener != nil {
			c, o.err = e.listener.Open(ctx, st.addr)
		} else {
			c, o.err = e.pipe.Open(ctx, st.addr)
		}
	})
}

// openTwice opens an address that is in use, which the vt-muxer protocol can't.
func (w *world) openTwice(r *rand.Rand) {
	f := w.aFace(r, func(f *face) bool { return w.vt && f.st.opener == f.e.i && !f.closed && !f.wclosed && !f.eof })
	if f == nil || f.st.circuit == nil || f.st.circuit.Half[1-f.e.i].EndHeard {
		return
	}
	o := &op{e: f.e, what: fmt.Sprintf("Open %v once more", f.st.addr)}
	o.check = func() {
		if !errors.Is(o.err, mux.ErrAddrInUse) && !errors.Is(o.err, mux.ErrDraining) && !w.sessionErr(f.e, o.err) {
			w.fail("Open of an address that is in use: %v", o.err)
		}
	}
	w.call(o, func() { _, o.err = f.e.pipe.Open(context.Background(), f.st.addr) })
}

func (w *world) accept(r *rand.Rand) {
	e := w.anEnd(r)
	if e.listener == nil {
		e = w.ends[1-e.i]
	}
	if e.listener != nil && w.count(e, "Accept") < 2 {
		w.acceptAt(r, e)
	}
}

func (w *world) acceptAt(r *rand.Rand, e *end) {
	o := &op{e: e, what: "Accept"}
	ctx := o.ctx(r)
	var c *mux.Conn
	var p *mux.PendingConn
	o.check = func() {
		switch {
		case o.err != nil:
			w.checkAccept(o)
		case p != nil:
			w.accepted(e, p.Addr(), p.Metadata(), nil, p)
		default:
			w.accepted(e, c.Addr(), nil, c, nil)
		}
	}
	o.stays = func() string { return w.whyAcceptStays(e) }
	if w.shared || r.IntN(2) == 0 {
		w.call(o, func() { p, o.err = e.listener.AcceptPending(ctx) })
	} else {
		w.call(o, func() { c, o.err = e.listener.AcceptConn(ctx) })
	}
}

// count returns how many calls of a kind an end has under way.
func (w *world) count(e *end, what string) (n int) {
	for _, o := range w.ops {
		if o.e == e && o.what == what {
			n++
		}
	}
	return n
}

func (w *world) accepted(e *end, a addr.SocketAddr, meta []byte, c *mux.Conn, p *mux.PendingConn) {
	st := w.byName[name(a)]
	if len(meta) >= 4 {
		st = w.stories[binary.BigEndian.Uint32(meta)]
	}
	switch {
	case st == nil || st.addr != a || p != nil && !bytes.Equal(meta, st.meta) || st.opener == e.i:
		w.fail("%c accepts %v with %d bytes of metadata, which nobody opened", 'A'+e.i, a, len(meta))
		return
	case st.faces[e.i] != nil:
		w.fail("%c accepts connection %d a second time", 'A'+e.i, st.n)
		return
	case st.circuit == nil || !st.circuit.Taken:
		w.fail("%c accepts connection %d, whose OPEN has not come", 'A'+e.i, st.n)
	}
	f := &face{st: st, e: e, c: c, waiting: p}
	st.faces[e.i] = f
	if p != nil {
		e.pending = append(e.pending, f)
	}
	w.tracef("%c  has connection %d", 'A'+e.i, st.n)
}

// decide accepts or rejects a connection that waits for that.
func (w *world) decide(r *rand.Rand) {
	for _, e := range w.ends {
		if len(e.pending) == 0 {
			continue
		}
		f := e.pending[0]
		e.pending = e.pending[1:]
		if r.IntN(3) > 0 {
			w.take(f)
			continue
		}
		code, reason := pick[mux.Code](r, 0, 5, 300, 1<<31), pick(r, "", "no", "busy")
		f.stops(code)
		f.closed, f.wclosed, f.rejected, f.reason = true, true, true, reason
		w.atOnce(f, fmt.Sprintf("Reject %d, code %d, %q", f.st.n, code, reason), func() error { return f.waiting.Reject(code, reason) })
	}
}

func (w *world) take(f *face) {
	c, err := f.waiting.Accept()
	w.tracef("%c  takes %d: %v", 'A'+f.e.i, f.st.n, err)
	if err != nil && !isClosed(err) {
		w.fail("PendingConn.Accept: %v", err)
	}
	f.c = c
}

// atOnce makes a call that must not wait for anything.
func (w *world) atOnce(f *face, what string, call func() error) error {
	o := &op{e: f.e, f: f, what: what, check: func() {}}
	w.rest(0)
	w.begun++
	o.n = w.begun
	w.tracef("%c  #%d %s", 'A'+f.e.i, o.n, what)
	go func() {
		o.err = call()
		o.done.Store(true)
	}()
	synctest.Wait()
	if !o.done.Load() {
		w.fail("#%d %s waits", o.n, what)
		w.ops = append(w.ops, o)
		return nil
	}
	if o.err != nil {
		w.tracef("%c  #%d returns %v", 'A'+f.e.i, o.n, o.err)
	}
	w.collect()
	return o.err
}

func (f *face) String() string { return fmt.Sprintf("connection %d", f.st.n) }

// amount draws how many bytes f is to write next.
func (w *world) amount(r *rand.Rand, f *face) int {
	n := r.IntN(1 + min(w.bulk, pick(r, 1, 100, 9_000, 70_000, 300_000)))
	return min(n, maxStory-int(f.next))
}

// writer picks a face that can write: mostly one that does not yet, for Writes of one
// connection take turns. A ReadFrom takes its turn for each piece, so nobody can tell what
// comes between.
func (w *world) writer(r *rand.Rand) *face {
	return w.aFace(r, func(f *face) bool {
		return (len(f.writing) == 0 || len(f.writing) == 1 && !f.writing[0].pieces && r.IntN(8) == 0) && (!f.wclosed || r.IntN(8) == 0)
	})
}

// writes makes a call that writes n bytes.
func (w *world) writes(f *face, what string, n int, call func(p []byte) (int64, error), scribble bool) *op {
	if len(f.writing) == 0 {
		f.next = f.written
	}
	p := f.st.says(f.e.i, f.next, n)
	if scribble {
		p = slices.Clone(p)
	}
	o := &op{e: f.e, f: f, what: fmt.Sprintf("%s %d bytes on %v at %d", what, n, f, f.next)}
	f.next += uint64(n)
	f.writing, f.offered = append(f.writing, o), max(f.offered, f.next)
	at := f.next
	o.check = func() {
		first := f.writing[0] == o
		f.writing = slices.DeleteFunc(f.writing, func(x *op) bool { return x == o })
		f.written += uint64(o.count)
		if !first && o.count > 0 || o.count > 0 && f.written+uint64(n)-uint64(o.count) != at {
			w.fail("#%d %s did not wait for its turn, or for the whole of the one before", o.n, o.what)
		}
		f.unsure = f.unsure || o.err != nil && w.sessionGone(f.e)
		if !f.unsure && len(f.writing) == 0 {
			f.offered = f.written
		}
		if o.count > int64(n) || o.err == nil && o.count != int64(n) {
			w.fail("#%d %s: wrote %d bytes", o.n, o.what, o.count)
		}
		w.checkWrite(o, f)
	}
	o.stays = func() string { return w.whyWriteStays(f) }
	return w.call(o, func() {
		o.count, o.err = call(p)
		if scribble {
			clear(p)
		}
	})
}

func (w *world) write(r *rand.Rand) {
	f := w.writer(r)
	if f == nil {
		w.open(r)
		return
	}
	w.writes(f, "Write", w.amount(r, f), func(p []byte) (int64, error) {
		n, err := f.c.Write(p)
		return int64(n), err
	}, r.IntN(2) == 0)
}

func (w *world) writeBuffers(r *rand.Rand) {
	f := w.writer(r)
	if f == nil {
		return
	}
	n := w.amount(r, f)
	cut := 0
	if n > 0 {
		cut = r.IntN(n)
	}
	w.writes(f, "WriteBuffers", n, func(p []byte) (int64, error) {
		v := net.Buffers{p[:cut], nil, p[cut:]}
		return f.c.WriteBuffers(&v)
	}, false)
}

func (w *world) readFrom(r *rand.Rand) {
	f := w.writer(r)
	if f == nil {
		return
	}
	n := w.amount(r, f)
	size := pick(r, 10, 1000, 100_000)
	w.writes(f, "ReadFrom", n, func(p []byte) (int64, error) {
		return f.c.ReadFrom(&source{p, size})
	}, false).pieces = true
}

// A source gives p in pieces.
type source struct {
	p    []byte
	size int
}

func (s *source) Read(p []byte) (int, error) {
	if len(s.p) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.p[:min(s.size, len(s.p))])
	s.p = s.p[n:]
	return n, nil
}

func (w *world) reader(r *rand.Rand) *face {
	return w.aFace(r, func(f *face) bool { return f.reading == nil && (!f.rclosed || r.IntN(8) == 0) })
}

func (w *world) read(r *rand.Rand) {
	f := w.reader(r)
	if f == nil {
		w.accept(r)
		return
	}
	w.reads(f, pick(r, 0, 1, 10, 2_000, 20_000, 100_000))
}

// reads reads once, up to size bytes.
func (w *world) reads(f *face, size int) *op {
	p := make([]byte, size)
	o := &op{e: f.e, f: f, what: fmt.Sprintf("Read %d bytes of %v at %d", size, f, f.readN)}
	f.reading, f.reads = o, uint64(size)
	o.check = func() {
		f.reading, f.reads = nil, 0
		w.checkBytes(f, f.readN, p[:o.count])
		f.readN += uint64(o.count)
		if o.count > 0 && o.err != nil {
			w.fail("#%d %s: %d bytes and %v", o.n, o.what, o.count, o.err)
		}
		if size > 0 || o.err != nil {
			w.checkRead(o, f, o.err == io.EOF)
		}
	}
	o.stays = func() string { return w.whyReadStays(f) }
	return w.call(o, func() {
		n, err := f.c.Read(p)
		o.count, o.err = int64(n), err
	})
}

// checkBytes holds what was read against what was written.
func (w *world) checkBytes(f *face, off uint64, p []byte) {
	other := f.st.faces[1-f.e.i]
	if len(p) == 0 {
		return
	}
	if other == nil || off+uint64(len(p)) > other.offered || !bytes.Equal(p, f.st.says(1-f.e.i, off, len(p))) {
		w.fail("%d bytes read of %v at %d that were not written there", len(p), f, off)
	}
}

func (w *world) writeTo(r *rand.Rand) {
	f := w.reader(r)
	if f == nil {
		return
	}
	sink := &sink{w: w, f: f}
	f.sink = sink
	o := &op{e: f.e, f: f, what: fmt.Sprintf("WriteTo from %v at %d", f, f.readN)}
	f.reading, f.reads = o, 1<<40
	o.check = func() {
		f.reading, f.reads, f.sink = nil, 0, nil
		f.readN += uint64(sink.n)
		if o.count != sink.n {
			w.fail("#%d %s: counts %d bytes of %d", o.n, o.what, o.count, sink.n)
		}
		w.checkRead(o, f, o.err == nil)
	}
	o.stays = func() string { return w.whyReadStays(f) }
	w.call(o, func() { o.count, o.err = f.c.WriteTo(sink) })
}

// A sink checks what WriteTo gives it.
type sink struct {
	w *world
	f *face
	n int64
}

func (s *sink) Write(p []byte) (int, error) {
	s.w.checkBytes(s.f, s.f.readN+uint64(s.n), p)
	s.n += int64(len(p))
	return len(p), nil
}

func (w *world) closeWrite(r *rand.Rand) {
	f := w.aFace(r, func(f *face) bool { return !f.wclosed || r.IntN(8) == 0 })
	if f != nil {
		w.endWrite(f)
	}
}

func (w *world) endWrite(f *face) {
	first := !f.wclosed
	f.wclosed = true
	err := w.atOnce(f, fmt.Sprintf("CloseWrite of %v", f), f.c.CloseWrite)
	if err != nil && first && !w.writeErr(f, err) {
		w.fail("CloseWrite of %v: %v", f, err)
	}
}

func (w *world) closeRead(r *rand.Rand) {
	f := w.aFace(r, func(f *face) bool { return !f.rclosed || r.IntN(8) == 0 })
	if f == nil {
		return
	}
	f.stops(mux.CodeClosed)
	if err := w.atOnce(f, fmt.Sprintf("CloseRead of %v", f), f.c.CloseRead); err != nil && !f.closed {
		w.fail("CloseRead of %v: %v", f, err)
	}
}

func (w *world) close(r *rand.Rand) {
	if f := w.aFace(r, func(f *face) bool { return !f.closed || r.IntN(8) == 0 }); f != nil {
		w.closes(f)
	}
}

// stops notes that f reads no more, and the code that the peer is to be told.
func (f *face) stops(code mux.Code) {
	if !f.rclosed {
		f.rclosed, f.stop = true, code
	}
}

func (w *world) closes(f *face) {
	f.stops(mux.CodeClosed)
	f.closed, f.wclosed = true, true
	if err := w.atOnce(f, fmt.Sprintf("Close of %v", f), f.c.Close); err != nil {
		w.fail("Close of %v: %v", f, err)
	}
}

func (w *world) reset(r *rand.Rand) {
	f := w.aFace(r, func(f *face) bool { return !f.closed || r.IntN(8) == 0 })
	if f == nil {
		return
	}
	code := pick[mux.Code](r, 0, 9, 77, 300, 1<<32-1)
	if !f.closed {
		f.reset, f.code = true, code
	}
	f.stops(code)
	f.closed, f.wclosed = true, true
	if err := w.atOnce(f, fmt.Sprintf("Reset of %v, code %d", f, code), func() error { return f.c.Reset(code) }); err != nil {
		w.fail("Reset of %v: %v", f, err)
	}
}

func (w *world) deadline(r *rand.Rand) {
	f := w.aFace(r, func(f *face) bool { return !f.closed })
	if f == nil {
		return
	}
	var at time.Time
	in := pick(r, 0, -time.Second, time.Duration(1+r.IntN(1_000_000)), time.Duration(1+r.IntN(100_000)), 10*time.Second)
	by := time.Duration(0)
	if in != 0 {
		at = time.Now().Add(in)
		by = max(w.now()+in, 1)
	}
	what := r.IntN(3)
	set := [...]func(time.Time) error{f.c.SetWriteDeadline, f.c.SetReadDeadline, f.c.SetDeadline}[what]
	if err := w.atOnce(f, fmt.Sprintf("Set%sDeadline of %v in %v", [...]string{"Write", "Read", ""}[what], f, in), func() error {
		if what != 0 {
			f.readBy = by
		}
		if what != 1 {
			f.writeBy = by
		}
		return set(at)
	}); err != nil && !isClosed(err) {
		w.fail("SetDeadline of %v: %v", f, err)
	}
}

func (w *world) ping(r *rand.Rand) {
	e := w.anEnd(r)
	o := &op{e: e, what: "Ping"}
	ctx := o.ctx(r)
	o.check = func() { w.checkPing(o) }
	o.stays = func() string { return w.whyPingStays(e) }
	w.call(o, func() {
		d, err := e.pipe.Ping(ctx)
		o.count, o.err = int64(d), err
	})
}

func (w *world) shutdown(r *rand.Rand) {
	w.shuts(r, w.anEnd(r))
}

func (w *world) shuts(r *rand.Rand, e *end) *op {
	o := &op{e: e, what: "Shutdown"}
	ctx := o.ctx(r)
	if o.by != 0 {
		o.by += 600 * time.Millisecond // it does what Close does then
	}
	e.shut = true
	o.check = func() { w.checkShutdown(o) }
	o.stays = func() string { return w.whyShutdownStays(e) }
	return w.call(o, func() { o.err = e.pipe.Shutdown(ctx) })
}

func (w *world) closeSession(r *rand.Rand) {
	w.closesSession(w.anEnd(r))
}

func (w *world) closesSession(e *end) {
	// What is open is cut, and the peer is to be told that.
	tells := !w.vt && !w.sessionGone(e) && w.model.Greeted(e.i) && w.cuts(e) &&
		w.fault == "" && w.quiet(e) && w.link.Free(e.i) > 2000 && !w.link.Over(e.i) // so that it can
	e.closed = true
	o := &op{e: e, what: "Close of the session", by: w.now() + 600*time.Millisecond}
	o.check = func() {
		if o.err != nil {
			w.fail("Close: %v", o.err)
		}
		if code, over := w.model.Ended(e.i); tells && (!over || code != uint32(mux.CodeClosed)) {
			w.fail("%c was closed, and has not said so", 'A'+e.i)
		}
	}
	w.call(o, func() { o.err = e.pipe.Close() })
	for _, o := range w.ops { // every other call has ended by then
		if o.e == e && (o.f != nil || o.what == "Accept") {
			w.fail("#%d %s goes on after Close of the session", o.n, o.what)
		}
	}
}

// cuts reports whether the end of e's session now cuts a connection, or has, that its application has.
func (w *world) cuts(e *end) bool {
	for _, st := range w.stories {
		f, c := st.faces[e.i], st.circuit
		if f == nil || f.c == nil || f.closed || c == nil || c.Refused || c.RefusalHeard {
			continue
		}
		// A FIN, or the answer to a STOP, counts as sent before the transport has it, and may be lost then.
		if own := &c.Half[e.i]; !c.Half[1-e.i].EndHeard || !own.Ended() && !own.Stopped && !f.wclosed {
			return true
		}
	}
	return false
}

// quiet reports whether e's application writes nothing.
func (w *world) quiet(e *end) bool {
	for _, st := range w.stories {
		if f := st.faces[e.i]; f != nil && len(f.writing) > 0 {
			return false
		}
	}
	return true
}

// errTimeout is the transport's own.
type errTimeout struct{}

func (errTimeout) Error() string   { return "the link gave up" }
func (errTimeout) Timeout() bool   { return true }
func (errTimeout) Temporary() bool { return true }

func (w *world) cut(r *rand.Rand) {
	if w.fault != "" {
		return
	}
	in := pick[error](r, io.EOF, syscall.ECONNRESET, syscall.ETIMEDOUT, errTimeout{}, nil)
	out := pick[error](r, nil, syscall.EPIPE, syscall.ECONNRESET, syscall.ETIMEDOUT, errTimeout{}, os.ErrDeadlineExceeded)
	from, both := r.IntN(2), r.IntN(2) == 0
	w.fault = fmt.Sprintf("%c's direction is cut: reading ends in %v, writing in %v; both %v", 'A'+from, in, out, both)
	w.tracef("%s", w.fault)
	w.link.Deliver(from, r.IntN(1000))
	w.link.Cut(from, in, out, r.IntN(2) == 0)
	if both {
		w.link.Deliver(1-from, r.IntN(1000))
		w.link.Cut(1-from, in, out, r.IntN(2) == 0)
	}
	w.rest(0)
}
