package mux

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/internal/xport"
	"github.com/vtmux/vtmux/wire"
)

// A vecPipe is a net.Pipe that reads vectors, as a socket does. What one Write of the
// other end brings comes by one read, if there is room.
type vecPipe struct {
	net.Conn
	asked [3]int // the room of the latest read's slices
}

var _ xport.Socket = (*vecPipe)(nil)

func (*vecPipe) Emulate(xport.Emulated) {}

func (*vecPipe) TryWrite([]byte) (int, error) { return 0, nil }

func (v *vecPipe) Read(p []byte) (int, error) {
	v.asked = [3]int{len(p)}
	return v.Conn.Read(p)
}

func (v *vecPipe) ReadVec(a, b, c []byte) (int, error) {
	v.asked = [3]int{len(a), len(b), len(c)}
	all := make([]byte, len(a)+len(b)+len(c))
	n, err := v.Conn.Read(all)
	from := all[:n]
	for _, p := range [][]byte{a, b, c} {
		from = from[copy(p, from):]
	}
	return n, err
}

func TestPrediction(t *testing.T) {
	x, y := new(conn), new(conn)
	type payload struct {
		c *conn
		n int
	}
	const big = 65535
	for _, tt := range []struct {
		name string
		came []payload
		want int // for x
	}{
		{"nothing", nil, 0},
		{"one", []payload{{x, big}}, 0},
		{"two", []payload{{x, big}, {x, big}}, big},
		{"the latest counts", []payload{{x, big}, {x, 40000}}, 40000},
		{"three", []payload{{x, big}, {x, 40000}, {x, 50000}}, 50000},
		{"just large enough", []payload{{x, predictFrom}, {x, predictFrom}}, predictFrom},
		{"not large", []payload{{x, predictFrom - 1}, {x, predictFrom - 1}}, 0},
		{"with small ones between", []payload{{x, big}, {x, 1}, {x, big}, {x, 1}}, big},
		{"two small ones", []payload{{x, big}, {x, big}, {x, 1}, {x, 1}}, 0},
		{"another's", []payload{{x, big}, {x, big}, {y, big}}, 0},
		{"another's habit", []payload{{y, big}, {y, big}}, 0},
		{"in turns", []payload{{x, big}, {y, big}, {x, big}}, 0},
		{"another's small one", []payload{{x, big}, {x, big}, {y, 1}}, 0},
		{"one behind another's small one", []payload{{x, big}, {x, big}, {y, 1}, {x, big}}, 0},
		{"nobody's", []payload{{x, big}, {x, big}, {nil, big}}, 0},
		{"nobody's between", []payload{{x, big}, {x, big}, {nil, 1}, {x, big}}, 0},
	} {
		var p prediction
		for _, c := range tt.came {
			p.note(c.c, c.n)
		}
		if got := p.next(x); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// A predicting is a bare whose connection x has just got two payloads of one size.
type predicting struct {
	*bare
	v    *vecPipe
	size int
	x, y *Conn
}

// newPredicting lets the session have the transport as wrap makes it, if that is given.
func newPredicting(t *testing.T, pr Protocol, size int, wrap ...func(*vecPipe) net.Conn) *predicting {
	t.Helper()
	pipe, far := net.Pipe()
	v := &vecPipe{Conn: pipe}
	near := net.Conn(v)
	for _, w := range wrap {
		near = w(v)
	}
	b := startBare(t, near, far, &Config{Protocol: pr, KeepAliveInterval: -1, WriteTimeout: -1, InitialWindow: 8 << 20, MaxConns: 3}, false, false)
	b.speak(pr)
	p := &predicting{bare: b, v: v, size: size, x: b.open(1), y: b.open(2)}
	b.leads(1, p.x)
	got := make([]byte, size)
	for range 2 {
		read := background(func() (int, error) { return io.ReadFull(p.x, got) })
		b.send(1, testBytes(size, 3))
		if r := b.now("Read", read); r.err != nil {
			t.Fatal(r.err)
		}
	}
	go io.Copy(io.Discard, far) // WINDOWs and ACKs
	return p
}

// waits lets a Read of x wait, and fails the test unless it predicts.
func (p *predicting) waits(slice []byte) <-chan result {
	p.t.Helper()
	read := background(func() (int, error) { return p.x.Read(slice) })
	p.wantPredicts(len(slice))
	return read
}

// wantPredicts fails the test unless a Read of x waits and predicts, with a slice of so
// many bytes.
func (p *predicting) wantPredicts(slice int) {
	p.t.Helper()
	p.wantLeader(p.x)
	head := wire.VTHeaderLen
	if p.one != nil {
		head = wire.HeaderLen
	}
	if want := [3]int{head, min(slice, p.size), directTail}; p.v.asked != want {
		p.t.Fatalf("the leader reads into %d bytes, want %d", p.v.asked, want)
	}
}

// A predictFrame is what comes where x's next large payload is predicted.
type predictFrame struct {
	to   int // 1 is x, 2 is y, 0 none of the application's
	n    int // bytes of payload; 0 ends the half
	fin  bool
	kind wire.FrameType // where to is 0
}

// story returns the frames as a stream, and what x and y have to read.
func (p *predicting) story(frames []predictFrame) (stream []byte, want [3][]byte) {
	for i, f := range frames {
		payload := testBytes(f.n, uint32(10+i))
		if p.one == nil {
			stream = append(stream, frameBytes(f.to, payload)...)
		} else {
			stream = p.appendOne(stream, f, payload)
		}
		want[f.to] = append(want[f.to], payload...)
	}
	return stream, want
}

func (p *predicting) appendOne(b []byte, f predictFrame, payload []byte) []byte {
	head := make([]byte, wire.HeaderLen)
	var flags wire.Flags
	switch {
	case f.to == 0:
		h := wire.View[wire.Header](head)
		h.Type = f.kind
		h.Len.Set(uint16(f.n))
		return append(append(b, head...), payload...)
	case f.fin || f.n == 0:
		flags = wire.FlagFin
	}
	wire.PutDataHeader(head, wire.FlagYours|flags, p.one.ids[f.to], f.n)
	return append(append(b, head...), payload...)
}

// readAll reads c to its end by slices of size bytes, and fails the test if Read leaves
// anything in the rest of a slice that is not c's: what was there, zeros, or what Read
// has returned.
func (p *predicting) readAll(c *Conn, size int, want []byte) <-chan error {
	done := make(chan error, 1)
	go func() {
		slice := make([]byte, size)
		for off := 0; ; {
			for i := range slice {
				slice[i] = 0xee
			}
			n, err := c.Read(slice)
			if n > len(want)-off || !bytes.Equal(slice[:n], want[off:off+n]) {
				done <- fmt.Errorf("the %d bytes at %d are wrong", n, off)
				return
			}
			off += n
			for _, b := range slice[n:] {
				if b != 0xee && b != 0 {
					done <- fmt.Errorf("behind the %d bytes at %d lies something else", n, off)
					return
				}
			}
			if err != nil {
				if off != len(want) || err != io.EOF {
					err = fmt.Errorf("%w after %d bytes, want io.EOF after %d", err, off, len(want))
				} else {
					err = nil
				}
				done <- err
				return
			}
		}
	}()
	return done
}

// Whatever comes where a large payload is predicted, and however the stream is cut, each
// connection reads its own bytes and nothing else. To see it fail, in fillPredicted: take
// all that came in the slice as its own, look for it in the slab behind the tail, or
// don't clear it.
func TestPredictionMayBeWrong(t *testing.T) {
	repeat := func(n int, f predictFrame) (fs []predictFrame) { return slices.Repeat([]predictFrame{f}, n) }
	const big = 65535
	for _, story := range []struct {
		name   string
		size   int // predicted
		slice  int // the readers'
		frames []predictFrame
		only   Protocol // 0: both
	}{
		{"as predicted", big, 64 << 10, repeat(3, predictFrame{to: 1, n: big}), 0},
		{"as predicted, cut into two frames", big, 64 << 10, []predictFrame{{to: 1, n: big}, {to: 1, n: 1}, {to: 1, n: big}, {to: 1, n: 1}}, 0},
		{"a smaller slice", big, 40000, repeat(2, predictFrame{to: 1, n: big}), 0},
		{"a larger slice", 40000, 200000, repeat(4, predictFrame{to: 1, n: 40000}), 0},
		{"a little less", 40000, 64 << 10, []predictFrame{{to: 1, n: 39000}, {to: 1, n: 40000}}, 0},
		{"half of it, twice", 40000, 64 << 10, []predictFrame{{to: 1, n: 20000}, {to: 1, n: 20000}, {to: 1, n: 40000}}, 0},
		{"more", 40000, 64 << 10, repeat(2, predictFrame{to: 1, n: big}), 0},
		{"small ones", big, 64 << 10, repeat(300, predictFrame{to: 1, n: 100}), 0},
		{"the end", big, 64 << 10, nil, 0},
		{"another's", 40000, 64 << 10, []predictFrame{{to: 2, n: 40000}, {to: 1, n: 40000}}, 0},
		{"another's small ones", big, 64 << 10, append(repeat(600, predictFrame{to: 2, n: 60}), predictFrame{to: 1, n: 40000}), 0},
		{"both small, in turns", big, 64 << 10, slices.Repeat([]predictFrame{{to: 1, n: 10}, {to: 2, n: 20}}, 400), 0},
		{"more than the slab takes", big, 64 << 10, []predictFrame{{to: 2, n: 1}, {to: 2, n: big}, {to: 1, n: 3}, {to: 1, n: big}}, 0},
		{"more than the slab takes, behind the end", big, 64 << 10, []predictFrame{{to: 1}, {to: 2, n: big}, {to: 2, n: 20000}}, 0},
		{"an end in the frame", 40000, 64 << 10, []predictFrame{{to: 1, n: 40000, fin: true}, {to: 2, n: 40000, fin: true}}, Protocol1},
		{"an end in a smaller frame", 40000, 64 << 10, []predictFrame{{to: 1, n: 5, fin: true}, {to: 2, n: 40000, fin: true}}, Protocol1},
		{"an unknown frame", 40000, 64 << 10, []predictFrame{{kind: 77, n: 30000}, {to: 1, n: 40000}}, Protocol1},
		{"a PING", 40000, 64 << 10, []predictFrame{{kind: wire.TypePing, n: wire.PingBodyLen}, {to: 1, n: 40000}}, Protocol1},
	} {
		for _, pr := range []Protocol{ProtocolVT, Protocol1} {
			if story.only != 0 && story.only != pr {
				continue
			}
			t.Run(story.name+"/"+pr.String(), func(t *testing.T) {
				frames := slices.Clone(story.frames)
				for _, to := range []int{1, 2} {
					if !slices.ContainsFunc(frames, func(f predictFrame) bool { return f.to == to && (f.fin || f.n == 0) }) {
						frames = append(frames, predictFrame{to: to})
					}
				}
				length := 0
				run := func(cut int) {
					synctest.Test(t, func(t *testing.T) {
						p := newPredicting(t, pr, story.size)
						stream, want := p.story(frames)
						length = len(stream)
						x := p.readAll(p.x, story.slice, want[1])
						p.wantPredicts(story.slice)
						y := p.readAll(p.y, 5000, want[2])
						synctest.Wait()
						for _, piece := range [][]byte{stream[:cut], stream[cut:]} {
							if len(piece) > 0 {
								p.far.Write(piece)
								synctest.Wait()
							}
						}
						if err := <-x; err != nil {
							t.Errorf("cut at %d, x: %v", cut, err)
						}
						if err := <-y; err != nil {
							t.Errorf("cut at %d, y: %v", cut, err)
						}
						p.x.Close()
						p.y.Close()
					})
				}
				run(0)
				for cut := 1; cut < length && !t.Failed(); {
					run(cut)
					about := 45 // the headers
					if raceEnabled {
						about = 3
					}
					switch at := cut - story.size; {
					case cut < about || at > 0 && at < about:
						cut++
					case at < 0 && at > -8000:
						cut = story.size + 1
					default:
						cut += 7000 + cut%77
					}
				}
			})
		}
	}
}

// What is predicted is read straight into the slice, not by way of the slab.
func TestPredictedPayloadIsNotCopied(t *testing.T) {
	for _, pr := range []Protocol{ProtocolVT, Protocol1} {
		t.Run(pr.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPredicting(t, pr, 40000)
				slice := make([]byte, 64<<10)
				read := p.waits(slice)
				payload := testBytes(40000, 5)
				p.send(1, payload)
				if r := p.now("Read", read); r.err != nil || !bytes.Equal(slice[:r.n], payload) {
					t.Errorf("Read: %d bytes, %v", r.n, r.err)
				}
				if in := &p.s.in; bytes.Contains(in.slab.Bytes(), payload[:64]) {
					t.Error("the payload is in the slab")
				}
				<-background(func() (int, error) { return 0, p.x.Close() })
			})
		})
	}
}

// A slab that had to be larger than usual is not lent to connections, and is not kept.
func TestLargerSlabIsForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPredicting(t, ProtocolVT, 65535)
		read := p.waits(make([]byte, 64<<10))
		stream, want := p.story([]predictFrame{{to: 2, n: 1}, {to: 2, n: 65535}})
		p.far.Write(stream)
		synctest.Wait()
		p.y.c.mu.Lock()
		for g := range p.y.c.in.all() {
			if g.slab != nil && len(g.slab.Bytes()) > readSlabSize {
				t.Errorf("%d bytes hold a slab of %d", len(g.b), len(g.slab.Bytes()))
			}
		}
		p.y.c.mu.Unlock()
		p.send(1, []byte("x"))
		p.now("Read", read)
		if size := len(p.s.in.slab.Bytes()); size != readSlabSize {
			t.Errorf("the session keeps a slab of %d bytes", size)
		}
		got := make([]byte, len(want[2]))
		if _, err := io.ReadFull(p.y, got); err != nil || !bytes.Equal(got, want[2]) {
			t.Errorf("y: %v", err)
		}
		p.x.Close()
		p.y.Close()
	})
}

// A header that ends the session leaves nothing of what came along with it in the slice.
func TestPredictedReadThatEndsTheSession(t *testing.T) {
	for _, bad := range []struct {
		name string
		put  func(p *predicting, head []byte)
	}{
		{"malformed", func(p *predicting, head []byte) {
			h := wire.View[wire.Header](head)
			h.Type = wire.TypePing
			h.Len.Set(9)
		}},
		{"for a connection never opened", func(p *predicting, head []byte) {
			wire.PutDataHeader(head, wire.FlagYours, 12345, 40000)
		}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPredicting(t, Protocol1, 40000)
				slice := make([]byte, 64<<10)
				read := p.waits(slice)
				stream := bytes.Repeat([]byte{0xaa}, wire.HeaderLen+40000+100)
				clear(stream[:wire.HeaderLen])
				bad.put(p, stream[:wire.HeaderLen])
				p.far.Write(stream)
				r := p.now("Read", read)
				if pe := (*ProtocolError)(nil); r.n != 0 || !errors.As(r.err, &pe) {
					t.Errorf("Read: %d, %v; want a ProtocolError", r.n, r.err)
				}
				if i := bytes.IndexByte(slice, 0xaa); i >= 0 {
					t.Errorf("byte %d of the slice is the peer's", i)
				}
			})
		})
	}
}

// The same with the vt-muxer protocol, where no more of what came is looked at.
func TestPredictedReadThatEndsTheVTSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPredicting(t, ProtocolVT, 40000)
		slice := make([]byte, 64<<10)
		read := p.waits(slice)
		p.send(3, nil)
		p.wantPredicts(len(slice))
		frames := p.s.in.count.framesIn
		stream := append(frameBytes(4, nil), bytes.Repeat(frameBytes(1, []byte{0xaa}), 2000)...)
		p.far.Write(stream)
		r := p.now("Read", read)
		if r.n != 0 || !errors.Is(r.err, ErrTooManyConns) {
			t.Errorf("Read: %d, %v; want 0, ErrTooManyConns", r.n, r.err)
		}
		if i := bytes.IndexByte(slice, 0xaa); i >= 0 {
			t.Errorf("byte %d of the slice is the peer's", i)
		}
		if n := p.s.in.count.framesIn - frames; n != 1 {
			t.Errorf("%d frames were looked at, want 1", n)
		}
	})
}

// Nothing is predicted where the transport reads no vectors, for a read of the header alone
// would be one too many, nor for a small slice, for one read fills many of them by way of
// the slab.
func TestNoPrediction(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wrap  func(*vecPipe) net.Conn
		slice int
	}{
		{"without vectors", func(v *vecPipe) net.Conn { return struct{ net.Conn }{v} }, 64 << 10},
		{"for a small slice", func(v *vecPipe) net.Conn { return v }, predictFrom - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPredicting(t, Protocol1, 65535, tt.wrap)
				read := background(func() (int, error) { return p.x.Read(make([]byte, tt.slice)) })
				p.wantLeader(p.x)
				if p.v.asked[0] < minReadSpace || p.v.asked[1] != 0 {
					t.Errorf("the leader reads into %d bytes", p.v.asked)
				}
				p.x.Close()
				<-read
			})
		})
	}
}

// When a session fails, what comes is dropped, and Read must not return what comes behind
// that. To see it fail: take the look at failing out of took.
func TestNothingIsReadBehindWhatAFailingSessionDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPredicting(t, Protocol1, 40000)
		slice := make([]byte, 64<<10)
		stream, _ := p.story([]predictFrame{{to: 1, n: 40000}})
		read := p.waits(slice)
		p.far.Write(stream[:100])
		if r := p.now("Read", read); r.n == 0 || r.err != nil {
			t.Fatalf("Read: %d, %v", r.n, r.err)
		}
		read = background(func() (int, error) { return p.x.Read(slice) })
		p.wantLeader(p.x)
		p.s.failing.Store(true)
		p.far.Write(stream[100:20000])
		p.pending("Read", read)
		err := errors.New("the session's end")
		p.s.end(err)
		if r := p.now("Read", read); r.n != 0 || !errors.Is(r.err, err) {
			t.Errorf("Read: %d, %v; want 0, %v", r.n, r.err, err)
		}
	})
}

// Where the deadline passes within the header, nothing of it is lost.
func TestDeadlineWithinAPredictedHeader(t *testing.T) {
	for _, pr := range []Protocol{ProtocolVT, Protocol1} {
		t.Run(pr.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPredicting(t, pr, 40000)
				stream, want := p.story([]predictFrame{{to: 1, n: 40000}})
				slice := make([]byte, 64<<10)
				for cut := range 5 {
					p.x.SetReadDeadline(time.Now().Add(time.Second))
					read := background(func() (int, error) { return p.x.Read(slice) })
					synctest.Wait()
					p.far.Write(stream[cut : cut+1])
					if r := <-read; r.n != 0 || !errors.Is(r.err, os.ErrDeadlineExceeded) {
						t.Fatalf("Read: %d, %v; want os.ErrDeadlineExceeded", r.n, r.err)
					}
				}
				p.x.SetReadDeadline(time.Time{})
				read := background(func() (int, error) { return io.ReadFull(p.x, slice[:40000]) })
				p.far.Write(stream[5:])
				if r := p.now("Read", read); r.err != nil || !bytes.Equal(slice[:r.n], want[1]) {
					t.Errorf("Read: %d, %v", r.n, r.err)
				}
				p.x.Close()
			})
		})
	}
}
