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
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/wire"
)

// The tests of this file fail without the engine's answer to a hazard. Each says which
// line to take out to see that.

// A bare is a session and the raw far end of its transport, which is a net.Pipe: it
// buffers nothing, so the transport stalls whenever the test does not read.
type bare struct {
	t   *testing.T
	s   *session
	far net.Conn
	one *bareOne // nil with vt-muxer's protocol
}

// newBare starts a session in the bubble of the test. Payloads are lent where lending.
func newBare(t *testing.T, accepting, lending bool) *bare {
	t.Helper()
	near, far := net.Pipe()
	return newBareOn(t, near, far, accepting, lending)
}

func newBareOn(t *testing.T, near, far net.Conn, accepting, lending bool) *bare {
	t.Helper()
	return startBare(t, near, far, vtConfig, accepting, lending)
}

// newBareOf is newBare with either protocol, for a session that opens.
func newBareOf(t *testing.T, pr Protocol, lending bool) *bare {
	t.Helper()
	near, far := net.Pipe()
	b := startBare(t, near, far, &Config{Protocol: pr, KeepAliveInterval: -1, WriteTimeout: -1}, false, lending)
	b.speak(pr)
	return b
}

func startBare(t *testing.T, near, far net.Conn, cfg *Config, accepting, lending bool) *bare {
	t.Helper()
	s, err := newSession(near, cfg, accepting)
	if err != nil {
		t.Fatal(err)
	}
	s.lending = lending
	t.Cleanup(func() {
		far.Close()
		s.close()
	})
	return &bare{t: t, s: s, far: far}
}

// speak makes the far end speak pr.
func (b *bare) speak(pr Protocol) {
	b.t.Helper()
	if pr == Protocol1 {
		b.one = &bareOne{ids: make(map[int]wire.ID)}
		b.one.start(b)
	}
}

// open opens the i-th connection and swallows its OPEN.
func (b *bare) open(i int) *Conn {
	b.t.Helper()
	var c *Conn
	done := async(func() (err error) {
		c, err = (&Pipe{b.s}).Open(context.Background(), testAddr(i))
		return err
	})
	if b.one != nil {
		b.one.opened(b, i)
	} else {
		b.frame(i, nil)
	}
	if err := <-done; err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait() // nobody flushes any more
	return c
}

// frame reads one frame of the i-th connection and fails the test unless it is this
// one. Without payload it is an end; vt-muxer's may be an open as well.
func (b *bare) frame(i int, payload []byte) {
	b.t.Helper()
	if b.one != nil {
		b.one.frame(b, i, payload)
		return
	}
	got := make([]byte, wire.VTHeaderLen+len(payload))
	if _, err := io.ReadFull(b.far, got); err != nil {
		b.t.Fatalf("reading a frame of connection %d: %v", i, err)
	}
	wantBytes(b.t, fmt.Sprintf("frame of connection %d", i), got, frameBytes(i, payload))
}

// send sends a frame for the i-th connection.
func (b *bare) send(i int, payload []byte) {
	b.t.Helper()
	p := frameBytes(i, payload)
	if b.one != nil {
		p = make([]byte, wire.HeaderLen, wire.HeaderLen+len(payload))
		wire.PutDataHeader(p, wire.FlagYours, b.one.ids[i], len(payload))
		p = append(p, payload...)
	}
	if _, err := b.far.Write(p); err != nil {
		b.t.Fatalf("sending a frame of connection %d: %v", i, err)
	}
}

// A bareOne is a bare's far end with protocol 1.
type bareOne struct {
	ids   map[int]wire.ID // of the i-th connection
	early []bareFrame     // read while another connection's was wanted
}

type bareFrame struct {
	header  wire.Header
	payload []byte
}

func (o *bareOne) start(b *bare) {
	b.t.Helper()
	preface := make([]byte, wire.PrefaceFrameLen)
	if _, err := io.ReadFull(b.far, preface); err != nil {
		b.t.Fatalf("reading the preface: %v", err)
	}
	wire.PutPreface(preface, wire.Settings{Version: 1, InitialWindow: 1 << 20, MaxConns: 1 << 20, MaxPayload: wire.MaxPayload})
	if _, err := b.far.Write(preface); err != nil {
		b.t.Fatalf("sending a preface: %v", err)
	}
	synctest.Wait()
}

// read reads the next frame that is not a STOP: Close sends one, and the tests are
// about what follows.
func (o *bareOne) read(b *bare) (f bareFrame) {
	b.t.Helper()
	for {
		var head [wire.HeaderLen]byte
		if _, err := io.ReadFull(b.far, head[:]); err != nil {
			b.t.Fatalf("reading a header: %v", err)
		}
		f.header = *wire.View[wire.Header](head[:])
		f.payload = make([]byte, f.header.Len.Get())
		if _, err := io.ReadFull(b.far, f.payload); err != nil {
			b.t.Fatalf("reading the payload of %v: %v", f.header, err)
		}
		if f.header.Type != wire.TypeStop {
			return f
		}
	}
}

func (o *bareOne) opened(b *bare, i int) {
	b.t.Helper()
	f := o.read(b)
	if f.header.Type != wire.TypeOpen {
		b.t.Fatalf("got %v, want an OPEN", f.header)
	}
	o.ids[i] = wire.ID(f.header.ID.Get())
}

func (o *bareOne) frame(b *bare, i int, payload []byte) {
	b.t.Helper()
	id := uint32(o.ids[i])
	at := slices.IndexFunc(o.early, func(f bareFrame) bool { return f.header.ID.Get() == id })
	for at < 0 {
		o.early = append(o.early, o.read(b))
		if last := len(o.early) - 1; o.early[last].header.ID.Get() == id {
			at = last
		}
	}
	f := o.early[at]
	o.early = slices.Delete(o.early, at, at+1)
	var flags wire.Flags
	if len(payload) == 0 {
		flags = wire.FlagFin
	}
	if f.header.Type != wire.TypeData || f.header.Flags != flags {
		b.t.Fatalf("connection %d: got %v, want DATA with flags %v", i, f.header, flags)
	}
	wantBytes(b.t, fmt.Sprintf("payload of connection %d", i), f.payload, payload)
}

func frameBytes(i int, payload []byte) []byte {
	p := make([]byte, wire.VTHeaderLen, wire.VTHeaderLen+len(payload))
	wire.PutVTHeader(p, testAddr(i), len(payload))
	return append(p, payload...)
}

// drain reads far to its end, in the background, and sorts the payloads by
// connection.
func drain(far io.Reader) <-chan map[addr.SocketAddr][]byte {
	done := make(chan map[addr.SocketAddr][]byte, 1)
	go func() {
		all, _ := io.ReadAll(far)
		done <- sortPayloads(all)
	}()
	return done
}

func sortPayloads(stream []byte) map[addr.SocketAddr][]byte {
	var dec wire.VTDecoder
	var cur addr.SocketAddr
	got := make(map[addr.SocketAddr][]byte)
	for len(stream) > 0 {
		h, payload, n := dec.Next(stream)
		if h != nil {
			cur = h.Addr
		}
		got[cur] = append(got[cur], payload...)
		stream = stream[n:]
	}
	return got
}

// leads makes c, the i-th connection, the one that led last, so that its next Read
// leads at once: until a reader has been delivered to, the standby leads.
func (b *bare) leads(i int, c *Conn) {
	b.t.Helper()
	read := background(func() (int, error) { return c.Read(make([]byte, 1)) })
	synctest.Wait()
	b.send(i, []byte("x"))
	if r := <-read; r.err != nil {
		b.t.Fatal(r.err)
	}
}

// holdsLead lets a Read of the i-th connection, c, lead until something comes for it.
func (b *bare) holdsLead(i int, c *Conn) <-chan result {
	b.t.Helper()
	b.leads(i, c)
	lead := background(func() (int, error) { return c.Read(make([]byte, 1)) })
	b.wantLeader(c)
	return lead
}

// wantLeader fails the test unless a Read of c leads.
func (b *bare) wantLeader(c *Conn) {
	b.t.Helper()
	synctest.Wait()
	t := &b.s.token
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leader == nil || t.leader.deadline != &c.c.readDeadline {
		b.t.Fatal("another leads")
	}
}

// Result of a call in the background.
type result struct {
	n   int
	err error
	at  time.Time
}

func background(f func() (int, error)) <-chan result {
	done := make(chan result, 1)
	go func() {
		n, err := f()
		done <- result{n, err, time.Now()}
	}()
	return done
}

// now returns what done has brought when the bubble is idle, or fails the test.
func (b *bare) now(what string, done <-chan result) result {
	b.t.Helper()
	synctest.Wait()
	select {
	case r := <-done:
		return r
	default:
		b.t.Fatalf("%s has not returned", what)
		return result{}
	}
}

// pending fails the test if done has brought something when the bubble is idle.
func (b *bare) pending(what string, done <-chan result) {
	b.t.Helper()
	synctest.Wait()
	select {
	case r := <-done:
		b.t.Fatalf("%s has returned: %d, %v", what, r.n, r.err)
	default:
	}
}

// A lent writer that is promoted, and then loses the role to a writer that is still
// copying, must not flush. (The role is lost in collect.)
func TestPromotedWriterThatLosesTheRoleDoesNotFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, true)
		x, y := b.open(1), b.open(2)
		s, o := b.s, &b.s.out

		if !o.claim() {
			t.Fatal("the role is not free")
		}
		big := testBytes(lendFrom, 1)
		wrote := background(func() (int, error) { return x.Write(big) })
		synctest.Wait()
		small := testBytes(100, 2)
		p, i, ok := o.stg.reserve(wire.VTHeaderLen+len(small), 0)
		if !ok {
			t.Fatal("no room in staging")
		}
		o.queue.take(&o.lent)
		s.passOn() // to x's Write, which finds y's frame half copied
		synctest.Wait()
		far := make(chan []byte, 1)
		go func() {
			got := make([]byte, 2*wire.VTHeaderLen+len(small)+len(big))
			n, _ := io.ReadFull(b.far, got)
			far <- got[:n]
		}()
		b.pending("Write, whose payload nobody may flush yet,", wrote)

		wire.PutVTHeader(p, testAddr(2), len(small))
		copy(p[wire.VTHeaderLen:], small)
		if !o.stg.commit(i, len(p)) {
			t.Fatal("the last writer did not get the role")
		}
		s.flush(y.c, true)
		if r := b.now("Write", wrote); r.n != len(big) || r.err != nil {
			t.Errorf("Write: %d, %v", r.n, r.err)
		}
		want := append(frameBytes(2, small), frameBytes(1, big)...)
		wantBytes(t, "what was sent", <-far, want)
		runtime.KeepAlive(y)
	})
}

// A payload is recalled after it was claimed and before the flusher is in the
// transport: the interrupt must not be lost.
func TestRecallBeforeTheFlusherWritesIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, true)
		x := b.open(1)
		s, o := b.s, &b.s.out

		if !o.claim() {
			t.Fatal("the role is not free")
		}
		p := testBytes(lendFrom, 1)
		want := bytes.Clone(p)
		x.SetWriteDeadline(time.Now().Add(time.Second))
		wrote := background(func() (int, error) { return x.Write(p) })
		synctest.Wait()
		if !o.collect() {
			t.Fatal("the role went to somebody")
		}
		o.build() // claims p
		<-time.After(time.Second)
		synctest.Wait() // x's Write wants p back
		go s.runFlusher(nil, nil)
		r := b.now("Write, a second after its deadline,", wrote)
		if r.n != len(p) || r.err != nil {
			t.Errorf("Write: %d, %v; want %d: all of it was claimed", r.n, r.err, len(p))
		}
		clear(p)
		b.frame(1, want)
	})
}

// Hazard 1. The leader owes an END into a transport that takes nothing, and reads on.
// To see it fail: in tryFlush let runFlusher take the place of trySend.
func TestLeaderReadsOnWhileItsEndIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x := b.open(1)
		b.leads(1, x)
		got := make([]byte, 5)
		read := background(func() (int, error) { return x.Read(got) })
		b.wantLeader(x)
		b.send(2, nil) // an open towards a Pipe, which is refused
		b.send(1, []byte("hello"))
		if r := b.now("Read", read); r.err != nil || string(got) != "hello" {
			t.Errorf("Read: %q, %v", got[:r.n], r.err)
		}
		b.frame(2, nil) // the END waited for this
	})
}

// Hazard 1. Nothing but Write, ReadFrom and WriteBuffers waits for the transport.
// To see it fail: in tryFlush let runFlusher take the place of trySend.
func TestClosesDoNotWaitForTheTransport(t *testing.T) {
	for _, f := range []struct {
		name  string
		close func(*Conn) error
	}{
		{"Close", (*Conn).Close},
		{"CloseWrite", (*Conn).CloseWrite},
		{"Reset", func(c *Conn) error { return c.Reset(300) }},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBare(t, false, false)
				x := b.open(1)
				if r := b.now(f.name, background(func() (int, error) { return 0, f.close(x) })); r.err != nil {
					t.Error(r.err)
				}
				b.frame(1, nil)
				x.Close()
			})
		})
	}
}

// Hazard 1. An Open returns without waiting for the transport, so the goroutine of a
// reader may open; and its context ends the wait for room.
func TestOpenDoesNotWaitForTheTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		opened := background(func() (int, error) {
			c, err := b.s.open(context.Background(), testAddr(1))
			if c != nil {
				t.Cleanup(func() { c.Close() })
			}
			return 0, err
		})
		if r := b.now("Open", opened); r.err != nil {
			t.Error(r.err)
		}
		b.frame(1, nil)
	})
}

// Hazard 1. Two ends that refuse everything, over a transport without any buffer: if
// one of the leaders waited for its END to be taken, both might.
func TestBothEndsRefuseAtOnce(t *testing.T) {
	overPipe.withEach(t, bothEndsRefuseAtOnce)
}

func bothEndsRefuseAtOnce(t *testing.T, tr transport) {
	synctest.Test(t, func(t *testing.T) {
		const n = 120
		a, z := tr.dial(t)
		var ends [2]*Pipe
		for i, c := range []net.Conn{a, z} {
			p, err := NewPipe(c, tr.config(nil))
			if err != nil {
				t.Fatal(err)
			}
			ends[i] = p
		}
		defer closeBoth(ends[0], ends[1])
		var wg sync.WaitGroup
		for i := range 2 * n {
			wg.Go(func() {
				c, err := ends[i%2].Open(context.Background(), testAddr(i))
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				wantRefused(t, tr, c, CodeNotAccepting)
			})
		}
		wg.Wait()
	})
}

// Hazard 2. A flusher does not rest while something was published since it collected.
// To see it fail: in rest, store flushIdle without the CAS.
func TestFlusherDoesNotRestOnWhatIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x := b.open(1)
		o := &b.s.out
		if !o.claim() || !o.collect() {
			t.Fatal("the role is not free")
		}
		wrote := background(func() (int, error) { return x.Write([]byte("late")) })
		if r := b.now("Write", wrote); r.n != 4 || r.err != nil {
			t.Fatalf("Write: %d, %v", r.n, r.err)
		}
		if o.rest() {
			t.Fatal("the flusher rests while a frame is unsent")
		}
		go b.s.runFlusher(nil, nil)
		b.frame(1, []byte("late"))
	})
}

// Hazard 2. Who waits for room in staging is woken when the buffer is sealed.
// To see it fail: take wakeRooms out of collect.
func TestSealWakesWhoWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x, y := b.open(1), b.open(2)
		o := &b.s.out
		if !o.claim() {
			t.Fatal("the role is not free")
		}
		p := testBytes(copyMax, 1)
		if r := b.now("Write of what fits", background(func() (int, error) {
			n, err := x.Write(p)
			m, err2 := x.Write(p)
			return n + m, errors.Join(err, err2)
		})); r.n != 2*len(p) || r.err != nil {
			t.Fatalf("Write: %d, %v", r.n, r.err)
		}
		wrote := background(func() (int, error) { return y.Write(p) })
		b.pending("Write without room", wrote)
		if !o.collect() {
			t.Fatal("the role went to somebody")
		}
		if r := b.now("Write, when there is room,", wrote); r.n != len(p) || r.err != nil {
			t.Errorf("Write: %d, %v", r.n, r.err)
		}
		go b.s.runFlusher(nil, nil)
		b.frame(1, p)
		b.frame(1, p)
		b.frame(2, p)
	})
}

// Hazard 2. Who waits for room, for the flusher, for the write lock, for bytes or for
// a connection is woken when the session ends.
// To see it fail: take wakeReadersLocked out of abort, accept.close out of end, or the
// first loop out of failAll.
func TestEndWakesEveryWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, true, true)
		x, y, z := b.open(1), b.open(2), b.open(3)
		p := testBytes(copyMax, 1)
		big := testBytes(lentMax, 1)
		calls := map[string]<-chan result{
			"Write of the flusher": background(func() (int, error) { return x.Write(big) }),
			"Read":                 background(func() (int, error) { return x.Read(p) }),
			"second Read":          background(func() (int, error) { return x.Read(p) }),
			"WriteTo": background(func() (int, error) {
				n, err := y.WriteTo(io.Discard)
				return int(n), err
			}),
			"AcceptConn": background(func() (int, error) {
				_, err := b.s.acceptState(context.Background())
				return 0, err
			}),
		}
		synctest.Wait()
		calls["Write that is queued"] = background(func() (int, error) { return y.Write(big) })
		calls["second Write"] = background(func() (int, error) { return x.Write(big) })
		for i := range 4 {
			calls[fmt.Sprintf("Write for room, %d", i)] = background(func() (int, error) {
				for {
					if n, err := z.Write(p[:lendFrom-1]); err != nil {
						return n, err
					}
				}
			})
		}
		for what, done := range calls {
			b.pending(what, done)
		}
		b.far.Close()
		for what, done := range calls {
			// Whether the leader or the flusher finds out first is open.
			var te *TransportError
			if r := b.now(what, done); !errors.As(r.err, &te) || errors.Is(r.err, io.EOF) {
				t.Errorf("%s after the transport's end: %v", what, r.err)
			}
		}
	})
}

// Hazard 2. Of two readers of a connection one is woken for what came. If its
// deadline passes before it has run, the other must get it.
func TestReaderThatLeavesPassesTheBytesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, false)
		x, y := b.open(1), b.open(2)
		lead := b.holdsLead(2, y) // so x's readers park
		first := background(func() (int, error) { return x.Read(make([]byte, 10)) })
		synctest.Wait()
		second := background(func() (int, error) { return x.Read(make([]byte, 10)) })
		synctest.Wait()

		// The bytes come and the deadline passes before the first of them has run.
		x.c.mu.Lock()
		x.c.in.add([]byte("bytes"), nil)
		w := x.c.readers.pop()
		x.c.mu.Unlock()
		x.c.readDeadline.Store(1)
		w.Wake()
		r := b.now("Read, woken after its deadline,", first)
		wantErr(t, "Read", r.err, os.ErrDeadlineExceeded)
		x.SetReadDeadline(time.Time{}) // the other may have seen it, or not
		if r := b.now("the other Read", second); r.n != 5 && !errors.Is(r.err, os.ErrDeadlineExceeded) {
			t.Errorf("the other Read: %d, %v; want what came", r.n, r.err)
		}
		y.Close()
		<-lead
	})
}

// Hazard 3. The leader returns at its deadline, and the reader that leads next never
// sees that timeout, which is still set in the transport.
// To see it fail: take SetReadDeadline out of rouse, and the leader does not return;
// or out of arm where want is 0, and the next leader spins on the old deadline.
func TestNextLeaderDoesNotSeeTheTimeout(t *testing.T) {
	for _, f := range []struct {
		name string
		end  func(*Conn)
		want error
	}{
		{"deadline", func(x *Conn) { x.SetReadDeadline(time.Now().Add(time.Second)) }, os.ErrDeadlineExceeded},
		{"past deadline", func(x *Conn) { x.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		{"Close", func(x *Conn) { x.Close() }, net.ErrClosed},
		{"CloseRead", func(x *Conn) { x.CloseRead() }, net.ErrClosed},
		{"Reset", func(x *Conn) { x.Reset(300) }, syscall.ECONNRESET},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBare(t, false, false)
				x, y := b.open(1), b.open(2)
				b.leads(1, x)
				leader := background(func() (int, error) { return x.Read(make([]byte, 10)) })
				b.wantLeader(x)
				other := background(func() (int, error) { return y.Read(make([]byte, 10)) })
				synctest.Wait()
				start := time.Now()
				f.end(x)
				if f.name == "deadline" {
					<-time.After(time.Second)
				}
				r := b.now("Read of the leader", leader)
				wantErr(t, "Read of the leader", r.err, f.want)
				if d := r.at.Sub(start); f.name == "deadline" && d != time.Second {
					t.Errorf("Read of the leader returned after %v, want 1s", d)
				}
				b.wantLeader(y)
				b.pending("Read of the other", other)
				b.send(2, []byte("hello"))
				if r := b.now("Read of the other", other); r.n != 5 || r.err != nil {
					t.Errorf("Read of the other: %d, %v", r.n, r.err)
				}
				go io.Copy(io.Discard, b.far)
				y.Close()
				x.Close()
			})
		})
	}
}

// Hazard 4. The deadline of a Write passes while the transport has taken half of its
// payload. The rest is copied, so the slice is the caller's at once, and n bytes are
// sent, exactly and in order.
// To see it fail: in recall, append o.batch[j] without copying it.
func TestDeadlineCopiesTheRestOfALentPayload(t *testing.T) {
	for _, size := range []int{lendFrom, lentMax - 1, lentMax, lentMax + 1, 5 * lentMax} {
		for _, taken := range []int{0, 1, 7, wire.VTHeaderLen, wire.VTHeaderLen + 1, 5000} {
			t.Run(fmt.Sprintf("%d of %d", taken, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBare(t, false, true)
					x := b.open(1)
					p := testBytes(size, 1)
					want := bytes.Clone(p[:min(size, lentMax)])
					start := time.Now()
					x.SetWriteDeadline(start.Add(time.Second))
					wrote := background(func() (int, error) {
						n, err := x.Write(p)
						clear(p)
						return n, err
					})
					synctest.Wait()
					head := make([]byte, taken)
					io.ReadFull(b.far, head)
					<-time.After(time.Second)
					r := b.now("Write, at its deadline,", wrote)
					if r.at.Sub(start) != time.Second {
						t.Errorf("Write returned after %v, want 1s", r.at.Sub(start))
					}
					if r.n != len(want) {
						t.Errorf("Write: %d, want %d: that much was claimed", r.n, len(want))
					}
					if size > lentMax {
						wantErr(t, "Write", r.err, os.ErrDeadlineExceeded)
					}
					x.Close()
					got := drain(io.MultiReader(bytes.NewReader(head), b.far))
					b.s.close()
					wantBytes(t, "what was sent", (<-got)[testAddr(1)], want)
				})
			})
		}
	}
}

// Hazard 4. The same while another connection's Write flushes: that one is not
// disturbed.
// To see it fail: in awaitLent, take the call of recallNow out.
func TestDeadlineRecallsFromAnotherFlusher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, false, true)
		s, o := b.s, &b.s.out
		x, y := b.open(1), b.open(2)
		px, py := testBytes(100<<10, 1), testBytes(50<<10, 2)
		wantX, wantY := bytes.Clone(px), bytes.Clone(py)
		if !o.claim() { // so that one batch carries both
			t.Fatal("the role is not free")
		}
		start := time.Now()
		y.SetWriteDeadline(start.Add(time.Second))
		wroteX := background(func() (int, error) { return x.Write(px) })
		synctest.Wait()
		wroteY := background(func() (int, error) {
			n, err := y.Write(py)
			clear(py)
			return n, err
		})
		synctest.Wait()
		o.queue.take(&o.lent)
		s.passOn()
		<-time.After(time.Second)
		r := b.now("Write, at its deadline,", wroteY)
		if r.n != len(wantY) || r.err != nil || r.at.Sub(start) != time.Second {
			t.Errorf("Write: %d, %v after %v; want %d after 1s", r.n, r.err, r.at.Sub(start), len(wantY))
		}
		b.pending("Write of the flusher", wroteX)
		got := drain(b.far)
		if r := b.now("Write of the flusher", wroteX); r.n != len(wantX) || r.err != nil {
			t.Errorf("Write of the flusher: %d, %v", r.n, r.err)
		}
		s.close()
		all := <-got
		wantBytes(t, "x", all[testAddr(1)], wantX)
		wantBytes(t, "y", all[testAddr(2)], wantY)
		runtime.KeepAlive(x)
		runtime.KeepAlive(y)
	})
}

// Hazard 4. Over real sockets: whatever Write counts arrives, and nothing else, though
// the slice is overwritten as soon as Write has returned.
func TestOverwrittenSliceArrivesAsItWas(t *testing.T) {
	overTCP.withEach(t, overwrittenSliceArrivesAsItWas)
}

func overwrittenSliceArrivesAsItWas(t *testing.T, tr transport) {
	p, l := sessionPair(t, tr)
	x, y := connPair(t, p, l, 1)
	const rounds = 200
	want := make(chan []byte, rounds)
	wrote := async(func() error {
		defer x.CloseWrite()
		defer close(want)
		buf := make([]byte, 1<<20)
		for i := range rounds {
			src := testBytes(len(buf), uint32(i))
			copy(buf, src)
			x.SetWriteDeadline(time.Now().Add(time.Duration(i%7) * 100 * time.Microsecond))
			n, err := x.Write(buf)
			clear(buf)
			want <- src[:n]
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
		}
		return nil
	})
	for i := 0; ; i++ {
		w, ok := <-want
		if !ok {
			break
		}
		got := make([]byte, len(w))
		if _, err := io.ReadFull(y, got); err != nil {
			t.Fatal(err)
		}
		if wantBytes(t, fmt.Sprintf("round %d", i), got, w); t.Failed() {
			break
		}
	}
	if n, err := y.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the last byte: %d, %v", n, err)
	}
	if err := wait(t, "Write", wrote); err != nil {
		t.Error(err)
	}
}

// Hazard 5. The transport takes the batch in pieces of any size, cut anywhere.
// To see it fail: in send, go on with o.head as it was.
func TestShortWritesLoseNothing(t *testing.T) {
	for _, most := range []int{1, 7, wire.VTHeaderLen - 1, 1000} {
		for _, lending := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d lending %v", most, lending), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					b := newBareOn(t, &interruptedConn{Conn: near, most: most}, far, false, lending)
					x, y := b.open(1), b.open(2)
					px, py := testBytes(3*lendFrom, 1), testBytes(100, 2)
					got := drain(b.far)
					wx := background(func() (int, error) { return x.Write(px) })
					wy := background(func() (int, error) { return y.Write(py) })
					for _, w := range []<-chan result{wx, wy} {
						if r := <-w; r.err != nil {
							t.Error(r.err)
						}
					}
					b.s.close()
					all := <-got
					wantBytes(t, "x", all[testAddr(1)], px)
					wantBytes(t, "y", all[testAddr(2)], py)
					runtime.KeepAlive(x)
					runtime.KeepAlive(y)
				})
			})
		}
	}
}

// An interruptedConn ends every Write after a few bytes, as one whose deadline passes.
type interruptedConn struct {
	net.Conn
	most int
}

func (c *interruptedConn) Write(p []byte) (int, error) {
	if len(p) <= c.most {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:c.most])
	if err == nil {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// Hazard 5. One batch of more slices than the kernel takes at once.
func TestBatchOfMoreSlicesThanTheKernelTakes(t *testing.T) {
	a, far := tcpPair(t)
	s, err := newSession(a, vtConfig, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	defer far.Close()
	const n = 3000
	o := &s.out
	if !o.claim() {
		t.Fatal("the role is not free")
	}
	c := &conn{s: s, addr: testAddr(1)}
	ls := make([]*lent, n)
	var want []byte
	for i := range ls {
		w := s.waiters.get(c)
		p := testBytes(50, uint32(i))
		want = append(want, frameBytes(1, p)...)
		ls[i] = newLent(c, w, p)
		o.lent.push(ls[i])
	}
	done := background(func() (int, error) { s.runFlusher(nil, nil); return 0, nil })
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, "what was sent", got, want)
	wait(t, "the flusher", done)
	for i, l := range ls {
		if st := l.state.Load(); st != lentDone {
			t.Fatalf("payload %d is in state %d", i, st)
		}
	}
}

// Hazard 6. A deadline that moves forward before each read costs the transport
// nothing: its own deadline is moved when it has passed, and not before.
// To see it fail: take the second case out of readToken.arm.
func TestDeadlineThatMovesForwardLeavesTheTransportAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		tr := &countingConn{Conn: near}
		b := newBareOn(t, tr, far, false, false)
		x := b.open(1)
		p := make([]byte, 10)
		b.leads(1, x)
		before := tr.reads.Load()
		for range 1000 {
			x.SetReadDeadline(time.Now().Add(10 * time.Second))
			read := background(func() (int, error) { return x.Read(p) })
			<-time.After(time.Millisecond)
			b.send(1, []byte("hi"))
			if r := <-read; r.n != 2 || r.err != nil {
				t.Fatalf("Read: %d, %v", r.n, r.err)
			}
		}
		if n := tr.reads.Load() - before; n > 2 {
			t.Errorf("1000 reads within a second set the transport's deadline %d times", n)
		}
	})
}

// countingConn counts what is set.
type countingConn struct {
	net.Conn
	reads, writes atomic.Int64
}

func (c *countingConn) SetReadDeadline(t time.Time) error {
	c.reads.Add(1)
	return c.Conn.SetReadDeadline(t)
}

func (c *countingConn) SetWriteDeadline(t time.Time) error {
	c.writes.Add(1)
	return c.Conn.SetWriteDeadline(t)
}

// Hazard 6. To set a deadline before each read allocates nothing, whichever way the
// deadline moves.
func TestDeadlineBeforeEachReadAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools drop what they are given")
	}
	overTCP.withEach(t, deadlineBeforeEachReadAllocatesNothing)
}

func deadlineBeforeEachReadAllocatesNothing(t *testing.T, tr transport) {
	x, y := conns(t, tr)
	go func() {
		p := make([]byte, 10)
		for {
			n, err := y.Read(p)
			if err != nil {
				return
			}
			y.Write(p[:n])
		}
	}()
	p := make([]byte, 10)
	for name, step := range map[string]time.Duration{"forward": time.Millisecond, "backward": -time.Millisecond} {
		at := time.Now().Add(time.Hour)
		turn := func() {
			at = at.Add(step)
			x.SetDeadline(at)
			x.Write(p)
			if _, err := x.Read(p); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			turn()
		}
		if n := testing.AllocsPerRun(500, turn); n >= 1 {
			t.Errorf("%s: %v allocations a turn", name, n)
		}
	}
}

// A transport whose writes time out for ever, like TLS after its first timeout, ends
// the session; the flusher does not try for ever.
func TestTransportThatTimesOutForEverEndsTheSession(t *testing.T) {
	overPipe.withEach(t, transportThatTimesOutForEver)
}

func transportThatTimesOutForEver(t *testing.T, tr transport) {
	near, far := tr.dial(t)
	defer far.Close()
	stuck := &stuckConn{Conn: near, gaveUp: make(chan struct{})}
	p, err := NewPipe(stuck, tr.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	opened := async(func() error {
		c, err := p.Open(context.Background(), testAddr(1))
		if c != nil {
			defer c.Close()
		}
		return err
	})
	select {
	case <-p.Done():
	case <-stuck.gaveUp:
		t.Error("the flusher goes on writing to a transport that times out for ever")
		near.Close()
	}
	p.Close()
	wait(t, "Open", opened)
}

// A stuckConn times out for ever in Write, though it has no deadline.
type stuckConn struct {
	net.Conn
	calls  atomic.Int64
	gaveUp chan struct{}
}

func (c *stuckConn) Write([]byte) (int, error) {
	switch n := c.calls.Add(1); {
	case n == 100_000:
		close(c.gaveUp)
		fallthrough
	case n > 100_000:
		return 0, net.ErrClosed
	}
	return 0, os.ErrDeadlineExceeded
}
