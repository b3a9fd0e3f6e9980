package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/vtmux/vtmux/mux"
)

// sessionGone reports whether e's session has ended or is about to.
func (w *world) sessionGone(e *end) bool {
	_, over := w.model.Ended(e.i)
	return e.closed || e.shut || over || !w.alive(e)
}

// sessionErr reports whether err is a reason for e's session to end.
func (w *world) sessionErr(e *end, err error) bool {
	var (
		away      *mux.GoAwayError
		protocol  *mux.ProtocolError
		transport *mux.TransportError
	)
	peer := w.ends[1-e.i]
	code, told := w.model.Ended(1 - e.i)
	cfg := &w.cfg[e.i]
	switch {
	case isClosed(err):
		return e.closed || e.shut || peer.shut // Close, or a graceful end
	case errors.As(err, &away):
		return told && away.Code == mux.Code(code)
	case errors.As(err, &protocol):
		return errors.Is(err, mux.ErrNoPreface) && protocol.Code == mux.CodeTimeout && w.now() >= cfg.PrefaceTimeout
	case errors.Is(err, mux.ErrSilent):
		return w.wasSilent(e)
	case errors.Is(err, mux.ErrWriteTimeout):
		mute := max(w.mute[e.i], w.now()-w.lastOut[e.i])
		if k := w.kind[e.i]; k != Plain && k != Sock && k != Below {
			mute = w.now() // there only Writes that are over are seen to take anything
		}
		return cfg.WriteTimeout > 0 && mute >= cfg.WriteTimeout
	case errors.As(err, &transport):
		return w.fault != "" || !w.alive(peer) || peer.closed || peer.shut
	}
	return false
}

// bearsSilence returns for how long e bears that nothing comes; 0: for ever.
func (w *world) bearsSilence(e *end) time.Duration {
	if cfg := &w.cfg[e.i]; cfg.KeepAliveInterval > 0 {
		return cfg.KeepAliveInterval + cfg.KeepAliveTimeout
	}
	return 0
}

// wasSilent reports whether nothing has come for so long, once, that e may give up.
func (w *world) wasSilent(e *end) bool {
	most := w.bearsSilence(e)
	return most > 0 && max(w.silence[e.i], w.now()-w.lastIn[e.i]) >= most
}

// checkPatience wants a session of protocol 1 to give up when its peer is gone.
func (w *world) checkPatience(e *end) {
	if w.vt || !w.alive(e) {
		return
	}
	const linger = 2 * time.Second // more than it takes to say why
	cfg := &w.cfg[e.i]
	still := min(w.now()-w.lastIn[e.i], w.now()-w.lastOut[e.i])
	switch most := w.bearsSilence(e); {
	case w.model.Greeted(e.i):
		if most > 0 && still > 2*most+linger { // twice: what the transport takes begins the second half anew
			w.fail("%c has heard nothing and said nothing for %v, and goes on", 'A'+e.i, still)
		}
	case cfg.Protocol == mux.Protocol1 || !w.accepts[e.i]: // who requires a preface
		if w.now() > cfg.PrefaceTimeout+linger {
			w.fail("%c has heard no preface for %v, and goes on", 'A'+e.i, w.now())
		}
	}
}

// checkParting wants the code of e's last GOAWAY to be true.
func (w *world) checkParting(e *end) {
	switch code, over := w.model.Ended(e.i); {
	case !over:
	case code == uint32(mux.CodeTimeout) && !w.wasSilent(e) && w.now() < w.cfg[e.i].PrefaceTimeout:
		w.fail("%c says that time is up, and it is not", 'A'+e.i)
	case code == uint32(mux.CodeClosed) && !e.closed && !e.shut:
		w.fail("%c says that it was closed, and it was not", 'A'+e.i)
	}
}

func isCtx(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// ctxErr reports whether o's context is why it failed.
func (w *world) ctxErr(o *op) bool { return o.by != 0 && isCtx(o.err) && w.now() >= o.by }

func (w *world) checkOpen(o *op, st *story) {
	e := o.e
	peer := w.ends[1-e.i]
	switch {
	case w.ctxErr(o), w.sessionErr(e, o.err):
	case errors.Is(o.err, mux.ErrDraining):
		if !e.shut && !(peer.shut && !w.vt) {
			w.fail("Open: %v, and nobody shuts down", o.err)
		}
	case errors.Is(o.err, mux.ErrTooManyConns):
		if w.vt {
			w.fail("Open: %v", o.err)
		}
	case errors.Is(o.err, errors.ErrUnsupported) && w.vt && len(st.meta) > 0:
	case errors.Is(o.err, mux.ErrAddrInUse) && w.stalled(e): // the END that frees it is behind what e does not read
	default:
		w.fail("Open: %v", o.err)
	}
}

func (w *world) checkAccept(o *op) {
	switch {
	case w.ctxErr(o), w.sessionErr(o.e, o.err), errors.Is(o.err, mux.ErrDraining) && o.e.shut:
	default:
		w.fail("Accept: %v", o.err)
	}
}

func (w *world) checkPing(o *op) {
	switch {
	case o.err == nil && !w.vt, w.ctxErr(o), w.sessionErr(o.e, o.err), errors.Is(o.err, errors.ErrUnsupported) && w.vt:
	default:
		w.fail("Ping: %d, %v", o.count, o.err)
	}
}

func (w *world) checkShutdown(o *op) {
	e := o.e
	switch {
	case o.err == nil && w.cuts(e):
		w.fail("Shutdown succeeds, and has cut connections")
	case o.err == nil, isCtx(o.err) && o.by != 0, w.sessionErr(e, o.err):
	default:
		w.fail("Shutdown: %v", o.err)
	}
}

// refusalErr reports whether err says what the acceptor's REFUSED has said, or its GOAWAY.
func (w *world) refusalErr(f *face, err error) bool {
	var refusal *mux.RefusedError
	if !errors.As(err, &refusal) || f.st.opener != f.e.i {
		return false
	}
	c := f.st.circuit
	if c == nil { // its OPEN has not gone out, and a GOAWAY has come
		return refusal.Code == mux.CodeDraining && w.model.HeardGoAway(f.e.i)
	}
	if c.Refused {
		return c.RefusalHeard && refusal.Code == mux.Code(c.Code) && refusal.Reason == c.Reason
	}
	return c.RefusalHeard && refusal.Code == mux.CodeDraining
}

// checkRead looks at how reading ends. eof: with a clean end.
func (w *world) checkRead(o *op, f *face, eof bool) {
	if eof {
		w.checkEOF(o, f)
		return
	}
	if o.err == nil || o.err == os.ErrDeadlineExceeded && f.readBy != 0 && w.now() >= f.readBy {
		return
	}
	if !w.readErr(f, o.err) {
		w.fail("#%d %s: %v", o.n, o.what, o.err)
	}
}

func (w *world) readErr(f *face, err error) bool {
	var reset *mux.ResetError
	if errors.As(err, &reset) {
		if !reset.Remote {
			return f.reset && reset.Code == f.code
		}
		h := w.halfOf(f, 1-f.e.i)
		return !w.vt && h != nil && h.Cut && h.EndHeard && reset.Code == mux.Code(h.Code)
	}
	return isClosed(err) && f.rclosed || w.refusalErr(f, err) || w.sessionErr(f.e, err)
}

// halfOf returns what from says on f's connection, nil before its OPEN.
func (w *world) halfOf(f *face, from int) *Half {
	if f.st.circuit == nil {
		return nil
	}
	return &f.st.circuit.Half[from]
}

// checkEOF: a clean end follows the last of the bytes that the peer has written, and
// nothing else.
func (w *world) checkEOF(o *op, f *face) {
	f.eof = true
	h := w.halfOf(f, 1-f.e.i)
	switch other := f.st.faces[1-f.e.i]; {
	case h == nil || !h.Fin || !h.EndHeard:
		w.fail("#%d %s: a clean end, but no end was sent", o.n, o.what)
	case f.readN != h.Sent:
		w.fail("#%d %s: a clean end at %d of %d bytes sent", o.n, o.what, f.readN, h.Sent)
	case other != nil && f.readN != other.written && !other.unsure:
		w.fail("#%d %s: a clean end at %d of %d bytes written", o.n, o.what, f.readN, other.written)
	case other != nil && !other.wclosed && !(w.vt && w.refusing(other.e)), other == nil && !w.vt:
		w.fail("#%d %s: a clean end, but the peer's application has not ended its half", o.n, o.what)
	}
}

// refusing reports whether e's session may refuse by itself what waits to be accepted.
func (w *world) refusing(e *end) bool { return e.shut || e.closed }

func (w *world) checkWrite(o *op, f *face) {
	if o.err == nil || o.err == os.ErrDeadlineExceeded && f.writeBy != 0 && w.now() >= f.writeBy {
		return
	}
	if !w.writeErr(f, o.err) {
		w.fail("#%d %s: %v", o.n, o.what, o.err)
	}
}

func (w *world) writeErr(f *face, err error) bool {
	var reset *mux.ResetError
	var stopped *mux.StoppedError
	h := w.halfOf(f, f.e.i)
	switch {
	case errors.As(err, &stopped):
		return h != nil && h.Stopped && stopped.Code == mux.Code(h.StopCode)
	case err == syscall.EPIPE:
		return f.wclosed
	case errors.As(err, &reset):
		return !reset.Remote && f.reset && reset.Code == f.code
	}
	return isClosed(err) && f.closed || w.refusalErr(f, err) || w.sessionErr(f.e, err)
}

// What follows says why a call may go on waiting although everything that was sent has
// arrived and the sessions are at rest; "" if it may not.

func (w *world) whyOpenStays(e *end) string {
	if !w.known(e) {
		return "the peer has not said what it speaks"
	}
	return ""
}

// known reports whether e knows what is spoken.
func (w *world) known(e *end) bool {
	return w.cfg[e.i].Protocol != mux.ProtocolAuto || !w.accepts[e.i] || w.lastIn[e.i] > 0
}

func (w *world) whyAcceptStays(e *end) string {
	for _, st := range w.stories {
		c := st.circuit
		if st.opener == e.i || c == nil || !c.Taken || st.faces[e.i] != nil || c.Half[e.i].Ended() {
			continue
		}
		if c.Half[1-e.i].Cut {
			continue // taken back by its opener
		}
		return ""
	}
	return "nothing waits to be accepted"
}

func (w *world) whyPingStays(e *end) string { return w.whyOpenStays(e) }

func (w *world) whyReadStays(f *face) string {
	c := f.st.circuit
	read := f.readN
	if f.sink != nil {
		read += uint64(f.sink.n)
	}
	if h := w.halfOf(f, 1-f.e.i); h == nil || h.Arrived > read || h.EndHeard || c.RefusalHeard {
		return ""
	}
	return "nothing has come"
}

func (w *world) whyWriteStays(f *face) string {
	h := w.halfOf(f, f.e.i)
	if w.vt || h == nil || h.Ended() || f.st.circuit.RefusalHeard || h.Sent < max(h.Limit, w.model.Window(f.e.i)) {
		return ""
	}
	return "its window is used up"
}

func (w *world) whyShutdownStays(e *end) string {
	if n := w.openAt(e); n > 0 {
		return fmt.Sprintf("%d connections are open", n)
	}
	return w.whyOpenStays(e)
}

// openAt returns how many connections e's session must know.
func (w *world) openAt(e *end) (n int) {
	if w.vt {
		return w.model.Views(e.i)
	}
	for _, c := range w.model.Circuits {
		if (c.Opener == e.i || c.Taken) && !c.Refused && !c.RefusalHeard && !(c.Half[e.i].Ended() && c.Half[1-e.i].EndHeard) {
			n++
		}
	}
	return n
}

// stalled reports whether e's session may leave the transport unread: the vt-muxer
// protocol has no flow control, so it does while a connection holds as much as it may.
func (w *world) stalled(e *end) bool {
	for _, st := range w.stories {
		if !w.vt || st.circuit == nil {
			continue
		}
		read := uint64(0)
		if f := st.faces[e.i]; f != nil {
			read = f.readN
		}
		if st.circuit.Half[1-e.i].Arrived >= read+uint64(w.cfg[e.i].MaxWindow) {
			return true
		}
	}
	return false
}

// arrive lets everything arrive, until nothing moves any more.
func (w *world) arrive() {
	for range 10_000 {
		for i := range 2 {
			w.link.Resize(i, 1<<20)
			w.link.Deliver(i, 1<<30)
			w.rest(0)
		}
		if w.link.Undelivered(0)+w.link.Undelivered(1) == 0 {
			return
		}
	}
	w.fail("the sessions talk without end")
}

// settle lets everything arrive. Whatever still waits then must have a reason to, and
// each session must have said and forgotten what it has to.
func (w *world) settle() {
	for range 4 {
		w.arrive()
		w.rest(1100 * time.Millisecond) // by then somebody reads, whoever waits
		if w.link.Undelivered(0)+w.link.Undelivered(1)+w.link.Unread(0)+w.link.Unread(1) == 0 {
			break
		}
	}
	if w.fault != "" || !w.alive(w.ends[0]) || !w.alive(w.ends[1]) || w.stalled(w.ends[0]) || w.stalled(w.ends[1]) {
		return
	}
	for i, e := range w.ends {
		if n := w.link.Unread(1 - i); n > 0 {
			w.fail("%c leaves %d bytes unread", 'A'+i, n)
		}
		if w.link.Stuck(i) {
			w.fail("%c's Write waits, and there is room", 'A'+i)
		}
		st := e.pipe.Stats()
		if want := w.openAt(e); st.Conns != want && !w.sessionGone(e) && w.known(e) {
			w.fail("%c knows %d connections, and %d are open", 'A'+i, st.Conns, want)
		}
		sent, arrived := w.model.Payload(i)
		if st.PayloadIn != arrived || st.PayloadOut != sent && w.quiet(e) {
			w.fail("%c counts %d payload bytes in and %d out, and there were %d and %d", 'A'+i, st.PayloadIn, st.PayloadOut, arrived, sent)
		}
	}
	for _, o := range w.ops {
		if o.stays != nil && o.stays() == "" {
			w.fail("#%d %s waits for nothing", o.n, o.what)
		}
	}
	for _, st := range w.stories {
		for _, f := range st.faces {
			if f != nil && (f.c != nil || f.rejected) {
				w.settled(f)
			}
		}
	}
}

// settled checks that what f has been asked to send is sent.
func (w *world) settled(f *face) {
	h := w.halfOf(f, f.e.i)
	if h == nil {
		if w.known(f.e) {
			w.fail("%v was opened, and its OPEN has not gone out", f)
		}
		return
	}
	c := f.st.circuit
	if f.rejected && c.Refused && (c.Code != uint32(f.stop) || c.Reason != f.reason) {
		w.fail("%v was refused, code %d, %q, and the peer is told %d, %q", f, f.stop, f.reason, c.Code, c.Reason)
	}
	if c.RefusalHeard || w.sessionGone(f.e) {
		return
	}
	in := w.halfOf(f, 1-f.e.i)
	if window := w.model.Announced(f.e.i); !w.vt && !in.Stop && !in.EndHeard && in.Granted < f.readN+window-window/4 {
		w.fail("%d bytes of %v were read, and %d granted: a WINDOW is due", f.readN, f, in.Granted)
	}
	if !w.vt && f.rclosed && !in.Stop && !in.EndHeard {
		w.fail("%v is read no more, and the peer was not told", f)
	}
	if in.Stop && (!f.rclosed || in.StopCode != uint32(f.stop)) {
		w.fail("%v is read no more: %t, code %d; and the peer is told %d", f, f.rclosed, f.stop, in.StopCode)
	}
	if h.Cut && !(f.reset && h.Code == uint32(f.code)) && !(h.Stopped && h.Code == h.StopCode) {
		w.fail("%v was reset: %t, code %d; and the peer is told %d", f, f.reset, f.code, h.Code)
	}
	if h.Cut || len(f.writing) > 0 {
		return
	}
	if h.Sent != f.written {
		w.fail("%d bytes of %v were written, and %d sent", f.written, f, h.Sent)
	}
	if f.wclosed && !h.Ended() {
		w.fail("%v was ended, and that was not sent", f)
	}
}

// finish ends the world, in one of several ways. Every wait ends with it.
func (w *world) finish(r *rand.Rand) {
	runtime.Gosched()
	if w.fault == "" && r.IntN(2) == 0 {
		w.farewell(r)
	}
	if r.IntN(2) == 0 {
		w.expire()
	}
	for _, i := range r.Perm(2) {
		w.closesSession(w.ends[i])
		if r.IntN(2) == 0 {
			w.deliver(r)
		}
	}
	w.rest(1500 * time.Millisecond)
	for _, o := range w.ops {
		w.fail("#%d %s never returns", o.n, o.what)
	}
	for i, e := range w.ends {
		switch err := e.pipe.Err(); {
		case w.alive(e) || err == nil:
			w.fail("%c has not ended", 'A'+i)
		case errors.Is(err, io.EOF) && !w.model.Between(i):
			w.fail("%c ended with %v, inside a frame", 'A'+i, err)
		case errors.Is(err, io.EOF) && w.cuts(e):
			w.fail("%c ended with %v, and has cut connections", 'A'+i, err)
		case !errors.Is(err, io.EOF) && !w.sessionErr(e, err):
			w.fail("%c ended with %v", 'A'+i, err)
		}
	}
	w.readRest()
}

// expire ends every call on a connection by its deadline.
func (w *world) expire() {
	in := time.Duration(5_000_000)
	for _, st := range w.stories {
		for _, f := range st.faces {
			if f != nil && f.c != nil && !f.closed {
				in += 1001
				at := time.Now().Add(in)
				by := w.now() + in
				w.atOnce(f, fmt.Sprintf("SetDeadline of %v", f), func() error {
					f.readBy, f.writeBy = by, by
					return f.c.SetDeadline(at)
				})
			}
		}
	}
	w.rest(in)
	for _, o := range w.ops {
		if o.f != nil && !o.f.closed {
			w.fail("#%d %s goes on after its deadline", o.n, o.what)
		}
	}
}

// farewell lets both applications end everything, and both sessions shut down: nothing
// may be lost then.
func (w *world) farewell(r *rand.Rand) {
	w.tracef("farewell")
	for _, e := range w.ends {
		for _, f := range e.pending {
			w.take(f)
		}
		e.pending = nil
		for range w.stories {
			if e.listener == nil || e.shut || !w.alive(e) || w.whyAcceptStays(e) != "" {
				break
			}
			w.acceptAt(r, e)
			for _, f := range e.pending {
				w.take(f)
			}
			e.pending = nil
		}
	}
	for round := range 400 {
		w.arrive()
		busy := false
		for _, st := range w.stories {
			for _, f := range st.faces {
				if f == nil || f.c == nil || f.closed {
					continue
				}
				busy = w.parts(r, f, round) || busy
			}
		}
		if !busy {
			break
		}
	}
	w.settle()
	for _, i := range r.Perm(2) {
		if w.alive(w.ends[i]) && r.IntN(4) > 0 {
			w.shuts(r, w.ends[i])
		}
	}
	w.settle()
}

// parts brings f nearer to its end, and reports whether there is more to do.
func (w *world) parts(r *rand.Rand, f *face, round int) bool {
	switch {
	case f.readBy != 0 || f.writeBy != 0:
		f.readBy, f.writeBy = 0, 0
		w.atOnce(f, fmt.Sprintf("SetDeadline of %v away", f), func() error { return f.c.SetDeadline(time.Time{}) })
		return true
	case !f.wclosed && len(f.writing) == 0:
		w.endWrite(f)
		return true
	case f.rclosed, f.eof, round > 300, f.lastErr != nil:
		if len(f.writing) == 0 || round > 350 {
			w.closes(f)
			return false
		}
		return true
	case f.reading != nil:
		return true
	}
	o := w.reads(f, 100_000)
	if o.done.Load() && o.err != nil && o.err != os.ErrDeadlineExceeded {
		f.lastErr = o.err
	}
	return true
}

// readRest reads what both ends still have: what was received stays readable.
func (w *world) readRest() {
	for _, st := range w.stories {
		for _, f := range st.faces {
			if f == nil || f.waiting != nil && f.c == nil && !f.rejected {
				if f != nil {
					w.take(f)
				}
			}
			if f == nil || f.c == nil {
				continue
			}
			if !f.closed {
				f.readBy = 0
				f.c.SetReadDeadline(time.Time{})
				for {
					o := w.reads(f, 50_000)
					if !o.done.Load() {
						w.fail("#%d %s waits, and the session has ended", o.n, o.what)
						break
					}
					if o.err != nil {
						break
					}
				}
				w.closes(f)
			}
		}
	}
}
