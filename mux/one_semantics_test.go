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
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/internal/faultconn"
)

// What protocol 1 promises beyond net.Conn. What both protocols promise is in
// semantics_test.go and runs for each.

// ---- Ends.

// TestAllThatWasWrittenArrivesThoughEndsCross: the end follows the bytes by 10 ms, the
// peer writes too, and its bytes and ends cross them.
func TestAllThatWasWrittenArrivesThoughEndsCross(t *testing.T) {
	for _, size := range []int{0, 1, 65_535, 65_536, 65_537, 81_920, 131_072, 500_000} {
		for name, end := range map[string]func(*Conn) error{"Close": (*Conn).Close, "CloseWrite": (*Conn).CloseWrite} {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d bytes, %s, late %t", size, name, late), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ends, _ := carriedSessions(t, 10*time.Millisecond, false, nil)
						x, err := ends[0].Open(bounded(t), testAddr(1))
						if err != nil {
							t.Fatal(err)
						}
						want := testBytes(size, 1)
						sent := async(func() error {
							n, err := x.Write(want)
							if n != size && err == nil {
								err = io.ErrShortWrite
							}
							return errors.Join(err, end(x))
						})
						if late { // nobody accepts for long, and the window is full
							<-time.After(time.Second)
						}
						y, err := ends[1].AcceptConn(bounded(t))
						if err != nil {
							t.Fatal(err)
						}
						back := async(func() error { return writeUntilError(y, 1000) })
						g := wait(t, "Read", readAll(y))
						wantErr(t, "Read", g.err, nil)
						wantBytes(t, "what arrived", g.b, want)
						wantErr(t, "Write and end", wait(t, "Write", sent), nil)
						if name == "CloseWrite" {
							x.Close()
						}
						wantErr(t, "the peer's Write", wait(t, "the peer's Write", back), syscall.EPIPE)
						y.Close()
						settleOne()
						wantNoConns(t, ends[0], ends[1])
					})
				})
			}
		}
	}
}

func wantNoConns(t *testing.T, ends ...interface{ Stats() Stats }) {
	t.Helper()
	for i, s := range ends {
		if n := s.Stats().Conns; n != 0 {
			t.Errorf("end %d has %d connections, want none", i, n)
		}
	}
}

// recordConversation returns what the first of two ends has sent in a conversation. With
// pipe the first end is a Pipe, so the other one opens nothing.
func recordConversation(t *testing.T, pipe bool) (stream []byte) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far, tp := tapedPair()
		b, err := NewListener(far, &Config{Protocol: Protocol1, KeepAliveInterval: -1})
		if err != nil {
			t.Fatal(err)
		}
		var a *Pipe
		var accept func() *Conn
		if pipe {
			a, err = NewPipe(near, &Config{KeepAliveInterval: -1})
		} else {
			var l *Listener
			if l, err = NewListener(near, &Config{Protocol: Protocol1, KeepAliveInterval: -1}); err == nil {
				a = l.Pipe()
			}
			accept = func() *Conn {
				c, err := l.AcceptConn(bounded(t))
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		defer closeBoth(a, b)
		var all []*Conn
		say := func(c *Conn, text string) {
			t.Helper()
			all = append(all, c)
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		open := func(i int, metadata string) *Conn {
			t.Helper()
			c, err := a.OpenWith(bounded(t), OpenOptions{Addr: testAddr(i), Metadata: []byte(metadata)})
			if err != nil {
				t.Fatal(err)
			}
			y, err := b.AcceptConn(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, y)
			return c
		}
		first := open(1, "")
		say(first, "hello")
		first.CloseWrite()
		second := open(2, "metadata")
		say(second, strings.Repeat("2", 150))
		say(second, "!")
		second.Reset(300)
		third := open(3, "")
		say(third, "never finished")
		open(4, "").CloseWrite()
		if accept != nil {
			for i, text := range []string{"answer", "part of an answer"} {
				y, err := b.Open(bounded(t), testAddr(101+i))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, y)
				c := accept()
				say(c, text)
				if i == 0 {
					c.CloseWrite()
				}
			}
		}
		if _, err := a.Ping(bounded(t)); err != nil {
			t.Fatal(err)
		}
		say(third, " at all")
		settleOne()
		stream = tp.stream(0)
		closeBoth(a, b)
		for _, c := range all {
			c.Close()
		}
	})
	return stream
}

// A cutSeen is what is to be seen of a connection when its stream ends.
type cutSeen struct {
	addr  addr.SocketAddr
	data  string // that came in whole frames
	more  string // of a DATA that was cut
	ended bool
	reset bool
}

// expectOfCut reads a stream that was cut by the independent reader. Connections that
// the reading end has opened have addresses from 101 on.
func expectOfCut(stream []byte) (seen []*cutSeen) {
	byKey := make(map[docKey]*cutSeen)
	for i := range 2 {
		c := &cutSeen{addr: testAddr(101 + i)}
		byKey[docKey{1, uint32(1 + i)}] = c
		seen = append(seen, c)
	}
	_, rest, err := readOnePreface(stream)
	if err != nil {
		return seen
	}
	for {
		f, next, err := readOneFrame(rest)
		if err != nil {
			break
		}
		rest = next
		if f.typ == oneOpen {
			c := &cutSeen{addr: addrOfFrame(f)}
			byKey[docKey{0, f.id}] = c
			seen = append(seen, c)
			continue
		}
		c := byKey[docKey{int(f.flags & oneYours), f.id}]
		switch f.typ {
		case docData:
			c.data += f.rest
			c.ended = f.flags&oneFin != 0
		case oneReset:
			c.reset = true
		}
	}
	if len(rest) > 8 && rest[0] == docData {
		c := byKey[docKey{int(rest[1] & oneYours), uint32(rest[4])<<24 | uint32(rest[5])<<16 | uint32(rest[6])<<8 | uint32(rest[7])}]
		c.more = string(rest[8:])
	}
	return seen
}

func addrOfFrame(f docFrame) addr.SocketAddr {
	return addr.SocketAddrFrom(addr.IPAddrFrom16([16]byte(f.addr[:16])), uint16(f.addr[16])<<8|uint16(f.addr[17]))
}

// TestCutStreamNeverEndsInEOF cuts the transport at every byte of a recorded session:
// io.EOF is for those whose FIN has come, and all that came before the cut is read.
func TestCutStreamNeverEndsInEOF(t *testing.T) {
	for _, pipe := range []bool{false, true} {
		stream := recordConversation(t, pipe)
		if t.Failed() {
			return
		}
		whole := expectOfCut(stream)
		if n := len(whole); n != 6 {
			t.Fatalf("%d connections in the recorded session, want 6", n)
		}
		for _, tt := range []struct {
			name   string
			plan   faultconn.Plan
			target error
			listen Protocol
		}{
			{"EOF", faultconn.Plan{Read: faultconn.Faults{CutErr: io.EOF}}, io.ErrUnexpectedEOF, Protocol1},
			{"EOF with bytes", faultconn.Plan{Read: faultconn.Faults{CutErr: io.EOF, ErrWithBytes: true}}, io.ErrUnexpectedEOF, Protocol1},
			{"reset", faultconn.Plan{Read: faultconn.Faults{CutErr: syscall.ECONNRESET}}, syscall.ECONNRESET, Protocol1},
			{"EOF byte by byte", faultconn.Plan{Read: faultconn.Faults{CutErr: io.EOF, MaxPiece: 1}}, io.ErrUnexpectedEOF, Protocol1},
			{"EOF without deadlines", faultconn.Plan{NoDeadlines: true, Read: faultconn.Faults{CutErr: io.EOF}}, io.ErrUnexpectedEOF, Protocol1},
			{"EOF, following", faultconn.Plan{Read: faultconn.Faults{CutErr: io.EOF}}, io.ErrUnexpectedEOF, ProtocolAuto},
		} {
			t.Run(fmt.Sprintf("pipe %t/%s", pipe, tt.name), func(t *testing.T) {
				for at := range len(stream) + 1 {
					plan := tt.plan
					plan.Read.End, plan.Read.EndAt = faultconn.Cut, int64(at)
					if at == 0 && plan.Read.ErrWithBytes {
						continue // there are no bytes for it to come with
					}
					cutOne(t, plan, tt.listen, stream, at, tt.target)
					if t.Failed() {
						t.Fatalf("cut at byte %d of %d", at, len(stream))
					}
				}
			})
		}
	}
}

func cutOne(t *testing.T, plan faultconn.Plan, protocol Protocol, stream []byte, at int, target error) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		l, err := NewListener(faultconn.New(near, plan), &Config{Protocol: protocol, KeepAliveInterval: -1})
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, far)
		defer far.Close()
		defer l.Close()

		type end struct {
			data string
			err  error
		}
		var mu sync.Mutex
		got := make(map[addr.SocketAddr]*end)
		var conns []*Conn
		var wg sync.WaitGroup
		take := func(c *Conn) {
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				b, err := io.ReadAll(eofKeeper{c})
				mu.Lock()
				got[c.Addr()] = &end{string(b), err}
				mu.Unlock()
			})
		}
		const begin = 20 + 24 // a Listener that follows opens when it has the peer's preface
		opened := async(func() error {
			for i := range 2 {
				c, err := l.Open(bounded(t), testAddr(101+i))
				if err != nil {
					return err
				}
				take(c)
			}
			return nil
		})
		synctest.Wait()
		far.Write(stream[:begin])
		if err := wait(t, "Open", opened); err != nil {
			var te *TransportError // around io.EOF too, where nothing was open yet
			if !errors.As(err, &te) || at > begin {
				t.Errorf("Open: %v", err)
			}
			return
		}
		wg.Go(func() {
			for {
				c, err := l.AcceptConn(context.Background())
				if err != nil {
					if err == io.EOF || errors.Is(err, io.EOF) {
						t.Errorf("Accept: %v, a clean end", err)
					}
					return
				}
				take(c)
			}
		})
		far.Write(stream[begin:])
		wait(t, "Done", l.Done())
		wg.Wait()
		for _, want := range expectOfCut(stream[:at]) {
			g := got[want.addr]
			delete(got, want.addr)
			switch {
			case g == nil:
				if !want.reset { // one that was reset may be taken back from the queue
					t.Errorf("%v was not accepted", want.addr)
				}
				continue
			case want.reset:
				if !strings.HasPrefix(want.data, g.data) || g.err == errCleanEnd ||
					!errors.Is(g.err, syscall.ECONNRESET) {
					t.Errorf("%v, reset by the peer: %q, %v", want.addr, g.data, g.err)
				}
			case want.ended:
				if g.data != want.data || g.err != errCleanEnd {
					t.Errorf("%v, ended by the peer: %q, %v; want %q and io.EOF", want.addr, g.data, g.err, want.data)
				}
			default:
				wantTransportError(t, fmt.Sprintf("Read of %v", want.addr), g.err, target)
				if g.err == errCleanEnd || !strings.HasPrefix(g.data, want.data) || !strings.HasPrefix(want.data+want.more, g.data) {
					t.Errorf("%v, cut: %q, %v; want %q", want.addr, g.data, g.err, want.data+want.more)
				}
			}
		}
		for a := range got {
			t.Errorf("%v was accepted, and was not opened", a)
		}
		wantTransportError(t, "Err", l.Err(), target)
		for _, c := range conns {
			c.Close()
		}
	})
}

// ---- Who writes learns that nobody reads.

// TestWriterLearnsThatThePeerReadsNoMore: within one round trip, whatever it does, and
// by an error that tells why.
func TestWriterLearnsThatThePeerReadsNoMore(t *testing.T) {
	const lag = 50 * time.Millisecond // each way
	for _, quit := range []struct {
		name string
		call func(*PendingConn, *Conn) error
		want error
	}{
		{"Close", func(_ *PendingConn, y *Conn) error { return y.Close() }, &StoppedError{CodeClosed}},
		{"CloseRead", func(_ *PendingConn, y *Conn) error { return y.CloseRead() }, &StoppedError{CodeClosed}},
		{"Reset", func(_ *PendingConn, y *Conn) error { return y.Reset(300) }, &StoppedError{300}},
		{"Reject", func(p *PendingConn, _ *Conn) error { return p.Reject(300, "no") }, &RefusedError{300, "no"}},
	} {
		for _, write := range []struct {
			name string
			call func(x *Conn) error
		}{
			{"blocked for credit", func(x *Conn) error { _, err := x.Write(make([]byte, 1<<20)); return err }},
			{"blocked again and again", func(x *Conn) error { return writeUntilError(x, 10_000) }},
			{"WriteBuffers", func(x *Conn) error {
				_, err := x.WriteBuffers(&net.Buffers{make([]byte, 1<<20), make([]byte, 10)})
				return err
			}},
			{"ReadFrom", func(x *Conn) error { _, err := x.ReadFrom(endlessReader{}); return err }},
			{"now and then", func(x *Conn) error {
				for {
					if _, err := x.Write([]byte("x")); err != nil {
						return err
					}
					<-time.After(time.Millisecond)
				}
			}},
		} {
			t.Run(quit.name+"/"+write.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ends, _ := carriedSessions(t, lag, false, nil)
					x, err := ends[0].Open(bounded(t), testAddr(1))
					if err != nil {
						t.Fatal(err)
					}
					pending, err := ends[1].AcceptPending(bounded(t))
					if err != nil {
						t.Fatal(err)
					}
					var y *Conn
					if quit.name != "Reject" {
						if y, err = pending.Accept(); err != nil {
							t.Fatal(err)
						}
					}
					written := background(func() (int, error) { return 0, write.call(x) })
					<-time.After(time.Second)
					start := time.Now()
					wantErr(t, quit.name, quit.call(pending, y), nil)
					r := wait(t, "Write", written)
					if took := r.at.Sub(start); took > 2*lag {
						t.Errorf("the writer learned it after %v, and a round trip is %v", took, 2*lag)
					}
					if r.err == nil || r.err.Error() != quit.want.Error() || fmt.Sprintf("%T", r.err) != fmt.Sprintf("%T", quit.want) {
						t.Errorf("Write: %v, want %v", r.err, quit.want)
					}
					if quit.name != "Reject" && !errors.Is(r.err, syscall.EPIPE) {
						t.Errorf("Write: %v, want EPIPE", r.err)
					}
					if _, err := x.Write([]byte("x")); err == nil || err.Error() != r.err.Error() {
						t.Errorf("a later Write: %v, want %v", err, r.err)
					}
					x.Close()
					if y != nil {
						y.Close()
					}
					<-time.After(time.Second)
					wantNoConns(t, ends[0], ends[1])
				})
			})
		}
	}
}

// An endlessReader gives zeros.
type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestPeerThatReadsNoMoreStillWrites: CloseRead ends one direction, at both ends.
func TestPeerThatReadsNoMoreStillWrites(t *testing.T) {
	overEachOf(t, Protocol1, func(t *testing.T, tr transport) {
		x, y := conns(t, tr)
		wantErr(t, "CloseRead", y.CloseRead(), nil)
		want := testBytes(1<<20, 1)
		sent := async(func() error {
			_, err := y.Write(want)
			return errors.Join(err, y.CloseWrite())
		})
		g := wait(t, "Read", readAll(x))
		wantErr(t, "Read", g.err, nil)
		wantBytes(t, "what was written", g.b, want)
		wantErr(t, "Write", wait(t, "Write", sent), nil)
	})
}

// ---- One holds up no other.

func TestUnreadConnectionsHoldUpNoOther(t *testing.T) {
	for _, tr := range []transport{overTCP, overTCP.narrow(), overPipe} {
		for _, unread := range []int{1, 100} {
			t.Run(fmt.Sprintf("%s, %d unread", tr.name, unread), func(t *testing.T) {
				unreadHoldUpNoOther(t, tr.speaking(Protocol1), unread)
			})
		}
	}
}

func unreadHoldUpNoOther(t *testing.T, tr transport, unread int) {
	const size = 200_000
	p, l := sessionPair(t, tr)
	type blocked struct {
		reader *Conn
		done   <-chan error
	}
	var all []blocked
	for i := range unread {
		x, y := connPair(t, p, l, i)
		if i%2 == 1 { // the other way round
			x, y = y, x
		}
		all = append(all, blocked{y, async(func() error {
			_, err := x.Write(testBytes(size, uint32(i)))
			return errors.Join(err, x.CloseWrite())
		})})
	}
	transfer(t, p, l, 1000, 8, 2<<20)
	for i, b := range all {
		select {
		case err := <-b.done:
			t.Fatalf("connection %d: a Write of more than the window was not blocked: %v", i, err)
		default:
		}
		g := wait(t, "the unread", readAll(b.reader))
		wantErr(t, "Read of what was left unread", g.err, nil)
		wantBytes(t, "what was left unread", g.b, testBytes(size, uint32(i)))
		wantErr(t, "Write", wait(t, "Write", b.done), nil)
	}
}

// transfer opens n connections, numbered from first on, and sends size bytes each way on
// each.
func transfer(t *testing.T, p *Pipe, l *Listener, first, n, size int) {
	t.Helper()
	var pairs [][2]*Conn
	for i := range n {
		x, y := connPair(t, p, l, first+i)
		pairs = append(pairs, [2]*Conn{x, y})
	}
	transferOver(t, pairs, size)
}

func transferOver(t *testing.T, pairs [][2]*Conn, size int) {
	t.Helper()
	var done []<-chan error
	for i, pair := range pairs {
		for j, c := range pair {
			out, in := testBytes(size, uint32(2*i+j)), testBytes(size, uint32(2*i+1-j))
			done = append(done, async(func() error {
				_, err := c.Write(out)
				return errors.Join(err, c.CloseWrite())
			}), async(func() error {
				got, err := io.ReadAll(c)
				if err == nil && !bytes.Equal(got, in) {
					err = errors.New("other bytes than were sent")
				}
				return err
			}))
		}
	}
	for _, d := range done {
		wantErr(t, "transfer", wait(t, "transfer", d), nil)
	}
}

// TestAcceptThatNobodyCallsStallsNoConnection: connections wait to be accepted, each
// with a full window, and one more than may wait is refused at once.
func TestAcceptThatNobodyCallsStallsNoConnection(t *testing.T) {
	const backlog = 100
	for _, tr := range []transport{overTCP.speaking(Protocol1), overPipe.speaking(Protocol1)} {
		t.Run(tr.name, func(t *testing.T) {
			p, l := sessionPairWith(t, tr, nil, &Config{AcceptBacklog: backlog})
			var pairs [][2]*Conn
			for i := range 4 {
				x, y := connPair(t, p, l, 1000+i)
				pairs = append(pairs, [2]*Conn{x, y})
			}
			var blocked []<-chan error
			for i := range backlog {
				x, err := p.Open(bounded(t), testAddr(i))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { x.Close() })
				blocked = append(blocked, async(func() error {
					_, err := x.Write(testBytes(100_000, uint32(i)))
					return errors.Join(err, x.CloseWrite())
				}))
			}
			x, err := p.Open(bounded(t), testAddr(backlog))
			if err != nil {
				t.Fatal(err)
			}
			wantRefused(t, tr, x, CodeBacklog)
			x.Close()
			transferOver(t, pairs, 2<<20)
			for i, b := range blocked {
				y, err := l.AcceptConn(bounded(t))
				if err != nil {
					t.Fatal(err)
				}
				if y.Addr() != testAddr(i) {
					t.Errorf("accepted %v, want %v", y.Addr(), testAddr(i))
				}
				g := wait(t, "Read", readAll(y))
				wantErr(t, "Read", g.err, nil)
				wantBytes(t, "what waited to be accepted", g.b, testBytes(100_000, uint32(i)))
				wantErr(t, "Write", wait(t, "Write", b), nil)
				y.Close()
			}
		})
	}
}

// TestDeadlineOfALentPayloadDisturbsNoOther: writes of a megabyte time out again and
// again, and what another connection sends meanwhile arrives as it was.
func TestDeadlineOfALentPayloadDisturbsNoOther(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPairWith(t, tr.narrow(), nil, &Config{InitialWindow: 1 << 20})
		hasty, hastyPeer := connPair(t, p, l, 1)
		patient, patientPeer := connPair(t, p, l, 2)
		want := testBytes(8<<20, 2)
		stop := make(chan struct{})
		type counted struct {
			b   []byte
			err error
		}
		hurried := make(chan counted, 1)
		go func() {
			var c counted
			buf := make([]byte, 1<<20)
			for i := 0; c.err == nil; i++ {
				select {
				case <-stop:
					c.err = hasty.CloseWrite()
					hurried <- c
					return
				default:
				}
				copy(buf, testBytes(len(buf), uint32(i)))
				hasty.SetWriteDeadline(time.Now().Add(time.Duration(i%10) * 20 * time.Microsecond))
				n, err := hasty.Write(buf)
				c.b = append(c.b, buf[:n]...)
				clear(buf)
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					c.err = err
				}
			}
			hurried <- c
		}()
		hastyRead := readAll(hastyPeer)
		sent := async(func() error {
			_, err := patient.Write(want)
			return errors.Join(err, patient.CloseWrite())
		})
		g := wait(t, "the connection without a deadline", readAll(patientPeer))
		wantErr(t, "the connection without a deadline", g.err, nil)
		wantBytes(t, "without a deadline", g.b, want)
		wantErr(t, "Write", wait(t, "Write", sent), nil)
		close(stop)
		c := wait(t, "the writer with deadlines", hurried)
		wantErr(t, "the writer with deadlines", c.err, nil)
		g = wait(t, "the reader of the other", hastyRead)
		wantErr(t, "the reader of the other", g.err, nil)
		wantBytes(t, "with deadlines", g.b, c.b)
	})
}

// ---- Both ends at once.

// TestBothEndsOpenTheSameAddressAtOnce, in every order of both ends' calls and of what
// is delivered in between.
func TestBothEndsOpenTheSameAddressAtOnce(t *testing.T) {
	// A a, B b: an end opens, writes and later closes. X and Y deliver what A and B sent.
	interleavings([]string{"Aa", "Bb", "XX", "YY"}, func(order string) {
		synctest.Test(t, func(t *testing.T) {
			ends, ways := carriedSessions(t, 0, true, nil)
			var opened [2]*Conn
			for _, step := range order {
				switch step {
				case 'A', 'B':
					i := int(step - 'A')
					c, err := ends[i].Open(bounded(t), testAddr(1))
					if err != nil {
						t.Fatalf("Open: %v", err)
					}
					opened[i] = c
					if _, err := io.WriteString(c, "from "+string(step)); err != nil {
						t.Fatalf("Write: %v", err)
					}
				case 'a', 'b':
					wantErr(t, "Close", opened[step-'a'].Close(), nil)
				case 'X', 'Y':
					ways[step-'X'].deliver()
				}
			}
			for _, w := range ways {
				w.openGate()
			}
			settleOne()
			for i, l := range ends {
				c, err := l.AcceptConn(bounded(t))
				if err != nil {
					t.Fatalf("AcceptConn: %v", err)
				}
				g := wait(t, "Read", readAll(c))
				if want := "from " + string('B'-rune(i)); string(g.b) != want || g.err != nil || c.Addr() != testAddr(1) {
					t.Errorf("end %d has read %q, %v from %v; want %q", i, g.b, g.err, c.Addr(), want)
				}
				c.Close()
			}
			wantAgreementOfEnds(t, ends)
		})
		if t.Failed() {
			t.Fatalf("in the order %s", order)
		}
	})
}

// wantAgreementOfEnds fails the test unless nothing is left at either end, the session
// still works, and shuts down well.
func wantAgreementOfEnds(t *testing.T, ends [2]*Listener) {
	t.Helper()
	settleOne()
	wantNoConns(t, ends[0], ends[1])
	for i, l := range ends {
		wantErr(t, fmt.Sprintf("Err of end %d", i), l.Err(), nil)
	}
	if t.Failed() {
		return
	}
	x, y := connectOne(t, ends[0], ends[1], 99)
	exchange(t, x, y)
	x.Close()
	y.Close()
	wantErr(t, "Shutdown", ends[0].Shutdown(bounded(t)), nil)
	wait(t, "the other's Done", ends[1].Done())
	if err := ends[1].Err(); !errors.Is(err, io.EOF) {
		t.Errorf("the other end has ended with %v, want the transport's clean end", err)
	}
}

// An ending is a way to end a connection, or a half of it.
type ending struct {
	name  string
	call  func(*Conn) error
	reads bool // the own Read goes on
	write bool // the own Write goes on
}

var endings = []ending{
	{"CloseWrite", (*Conn).CloseWrite, true, false},
	{"CloseRead", (*Conn).CloseRead, false, true},
	{"Close", (*Conn).Close, false, false},
	{"Reset", func(c *Conn) error { return c.Reset(300) }, false, false},
}

// TestBothEndsCloseAtOnce in every way and order: each sees what the other did, as far
// as its own call lets it, and nothing is left.
func TestBothEndsCloseAtOnce(t *testing.T) {
	for _, first := range endings {
		for _, second := range endings {
			t.Run(first.name+" and "+second.name, func(t *testing.T) {
				// A a, B b: an end writes, and then ends. X and Y deliver what A and B sent.
				interleavings([]string{"Aa", "Bb", "X", "Y"}, func(order string) {
					synctest.Test(t, func(t *testing.T) { bothClose(t, [2]ending{first, second}, order) })
					if t.Failed() {
						t.Fatalf("in the order %s", order)
					}
				})
			})
		}
	}
}

func bothClose(t *testing.T, how [2]ending, order string) {
	ends, ways := carriedSessions(t, 0, true, nil)
	conns := connectGated(t, ends, ways)
	for _, step := range order {
		switch step {
		case 'A', 'B':
			if _, err := io.WriteString(conns[step-'A'], "from "+string(step)); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write: %v", err)
			}
		case 'a', 'b':
			i := step - 'a'
			err := how[i].call(conns[i])
			if how[i].name == "CloseWrite" && errors.Is(err, syscall.EPIPE) {
				err = nil // the peer has stopped it before
			}
			wantErr(t, how[i].name, err, nil)
		case 'X', 'Y':
			ways[step-'X'].deliver()
		}
	}
	for _, w := range ways {
		w.openGate()
	}
	settleOne()
	for i, c := range conns {
		how[i].wantToRead(t, c, how[1-i], "from "+string('B'-rune(i)))
	}
	for i, c := range conns {
		how[i].wantToWrite(t, c, how[1-i])
	}
	conns[0].Close()
	conns[1].Close()
	wantAgreementOfEnds(t, ends)
}

// wantToRead fails the test unless a Read of c, which has ended so, tells how the other
// end has ended, after having written text.
func (e ending) wantToRead(t *testing.T, c *Conn, other ending, text string) {
	t.Helper()
	if want := e.local(); want != nil {
		_, err := c.Read(make([]byte, 1))
		wantErr(t, "Read after "+e.name, err, want)
	}
	if e.reads {
		c.SetReadDeadline(time.Now().Add(time.Second))
		got, err := io.ReadAll(eofKeeper{c})
		want := map[string]error{"CloseWrite": errCleanEnd, "Close": errCleanEnd, "CloseRead": os.ErrDeadlineExceeded, "Reset": syscall.ECONNRESET}[other.name]
		if !errors.Is(err, want) || string(got) != text && other.name != "Reset" {
			t.Errorf("after %s, and %s by the other: Read %q, %v; want %q, %v", e.name, other.name, got, err, text, want)
		}
	}
}

// wantToWrite is wantToRead for Write.
func (e ending) wantToWrite(t *testing.T, c *Conn, other ending) {
	t.Helper()
	if want := e.local(); want != nil {
		_, err := c.Write([]byte("x"))
		wantErr(t, "Write after "+e.name, err, want)
	}
	if e.write {
		_, err := c.Write([]byte("x"))
		want := map[string]error{"CloseRead": syscall.EPIPE, "Close": syscall.EPIPE, "Reset": syscall.EPIPE}[other.name]
		if want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("after %s, and %s by the other: Write %v; want %v", e.name, other.name, err, want)
		}
	}
}

// local is what the own calls return from then on, if it ended both halves.
func (e ending) local() error {
	switch e.name {
	case "Close":
		return net.ErrClosed
	case "Reset":
		return syscall.ECONNRESET
	}
	return nil
}

// connectGated makes a connection between ends whose gates are closed, and leaves
// nothing under way.
func connectGated(t *testing.T, ends [2]*Listener, ways [2]*carrier) [2]*Conn {
	t.Helper()
	x, err := ends[0].Open(bounded(t), testAddr(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ways[0].deliver()
		ways[1].deliver()
	}
	y, err := tryAccept(ends[1])
	if err != nil || y == nil {
		t.Fatalf("AcceptConn: %v, %v", y, err)
	}
	return [2]*Conn{x, y}
}

// TestCloseWhileOpening: the opener ends before, while and after the acceptor hears
// of it.
func TestCloseWhileOpening(t *testing.T) {
	for _, how := range endings {
		t.Run(how.name, func(t *testing.T) {
			// A w a: the opener opens, writes, ends. B b: the acceptor accepts if it can, closes.
			interleavings([]string{"Awa", "Bb", "X", "Y"}, func(order string) {
				synctest.Test(t, func(t *testing.T) { closeWhileOpening(t, how, order) })
				if t.Failed() {
					t.Fatalf("in the order %s", order)
				}
			})
		})
	}
}

func closeWhileOpening(t *testing.T, how ending, order string) {
	ends, ways := carriedSessions(t, 0, true, nil)
	var x, y *Conn
	var err error
	for _, step := range order {
		switch step {
		case 'A':
			if x, err = ends[0].Open(bounded(t), testAddr(1)); err != nil {
				t.Fatalf("Open: %v", err)
			}
		case 'w':
			if _, err := io.WriteString(x, "from A"); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write: %v", err)
			}
		case 'a':
			if err := how.call(x); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%s: %v", how.name, err)
			}
		case 'B':
			if y, err = tryAccept(ends[1]); err != nil {
				t.Errorf("AcceptConn: %v", err)
			}
		case 'b':
			if y != nil {
				y.Close()
			}
		case 'X', 'Y':
			ways[step-'X'].deliver()
		}
	}
	for _, w := range ways {
		w.openGate()
	}
	settleOne()
	if y == nil {
		if y, err = tryAccept(ends[1]); err != nil {
			t.Errorf("AcceptConn: %v", err)
		}
		switch {
		case y == nil && how.name != "Reset":
			t.Errorf("after %s the connection was not to be accepted", how.name)
		case y != nil && how.name == "Reset":
			_, err := io.ReadAll(y)
			wantErr(t, "Read after the opener's Reset", err, syscall.ECONNRESET)
		case y != nil:
			y.SetReadDeadline(time.Now().Add(time.Second))
			got, err := io.ReadAll(y)
			if how.name == "CloseRead" {
				wantErr(t, "Read after the opener's CloseRead", err, os.ErrDeadlineExceeded)
			} else {
				wantErr(t, "Read after the opener's "+how.name, err, nil)
			}
			wantBytes(t, "what the opener wrote", got, []byte("from A"))
		}
	}
	if y != nil {
		y.Close()
	}
	x.Close()
	wantAgreementOfEnds(t, ends)
}

// TestShutdownWhileOpening: what is opened while the other end, or both, shut down is
// served to its end or refused, and both ends agree which.
func TestShutdownWhileOpening(t *testing.T) {
	for name, rows := range map[string][]string{
		// A w e: open, write, end the half; S: Shutdown. The same of B in B v f and T; P: B accepts.
		"one end opens, the other shuts down":        {"Awe", "PT", "XX", "Y"},
		"both ends open, and one shuts down":         {"Awe", "BvfT", "X", "Y"},
		"one end opens and shuts down, as the other": {"AweS", "T", "X", "YY"},
		"both shut down":                             {"AS", "BT", "XX", "YY"},
	} {
		t.Run(name, func(t *testing.T) {
			interleavings(rows, func(order string) {
				synctest.Test(t, func(t *testing.T) { shutdownWhileOpening(t, order) })
				if t.Failed() {
					t.Fatalf("in the order %s", order)
				}
			})
		})
	}
}

func shutdownWhileOpening(t *testing.T, order string) {
	ends, ways := carriedSessions(t, 0, true, nil)
	var opened, accepted [2]*Conn // by each end
	var shut [2]<-chan error
	accept := func(i int) {
		c, err := tryAccept(ends[i])
		switch {
		case c != nil && accepted[i] == nil:
			accepted[i] = c
		case c != nil:
			t.Errorf("end %d accepts a connection that nobody opened", i)
		case err != nil && shut[i] == nil && shut[1-i] == nil:
			t.Errorf("AcceptConn of end %d: %v", i, err)
		}
	}
	for _, step := range order {
		switch step {
		case 'A', 'B':
			c, err := ends[step-'A'].Open(bounded(t), testAddr(1))
			if err != nil && !errors.Is(err, ErrDraining) && !errors.Is(err, io.EOF) { // the session may be over
				t.Errorf("Open: %v", err)
			}
			opened[step-'A'] = c
		case 'w', 'v':
			if c := opened['w'-step]; c != nil {
				if _, err := io.WriteString(c, "ask"); err != nil && !errors.Is(err, ErrRefused) {
					t.Errorf("Write: %v", err)
				}
			}
		case 'e', 'f':
			if c := opened[step-'e']; c != nil {
				if err := c.CloseWrite(); err != nil && !errors.Is(err, ErrRefused) {
					t.Errorf("CloseWrite: %v", err)
				}
			}
		case 'P':
			accept(1)
		case 'S', 'T':
			l := ends[step-'S']
			shut[step-'S'] = async(func() error { return l.Shutdown(bounded(t)) })
			synctest.Wait()
		case 'X', 'Y':
			ways[step-'X'].deliver()
		}
	}
	for _, w := range ways {
		w.openGate()
	}
	settleOne()
	for i, x := range opened {
		accept(1 - i)
		y := accepted[1-i]
		switch {
		case x == nil && y != nil:
			t.Errorf("end %d accepted what end %d could not open", 1-i, i)
		case x != nil:
			wantServedOrRefused(t, x, y)
		}
	}
	for i, done := range shut {
		if done == nil {
			continue
		}
		wantErr(t, fmt.Sprintf("Shutdown of end %d", i), wait(t, "Shutdown", done), nil)
	}
	for i, l := range ends {
		wait(t, "Done", l.Done())
		// Where both shut down, the peer may have been done first.
		if err := l.Err(); !errors.Is(err, io.EOF) && (shut[i] == nil || !errors.Is(err, net.ErrClosed)) {
			t.Errorf("end %d has ended with %v, want a clean end", i, err)
		}
	}
	wantNoConns(t, ends[0], ends[1])
}

// wantServedOrRefused serves y, if there is one, and fails the test unless x's calls
// tell the same.
func wantServedOrRefused(t *testing.T, x, y *Conn) {
	t.Helper()
	defer x.Close()
	if y == nil {
		wantRefused(t, overPipe.speaking(Protocol1), x, CodeDraining)
		return
	}
	defer y.Close()
	x.CloseWrite()
	if _, err := io.WriteString(y, "answer"); err != nil {
		t.Errorf("Write of who was accepted: %v", err)
	}
	wantErr(t, "CloseWrite of who was accepted", y.CloseWrite(), nil)
	g := wait(t, "Read", readAll(x))
	if string(g.b) != "answer" || g.err != nil {
		t.Errorf("the opener of an accepted connection reads %q, %v", g.b, g.err)
	}
	g = wait(t, "Read", readAll(y))
	if text := string(g.b); text != "ask" && text != "" || g.err != nil {
		t.Errorf("the acceptor reads %q, %v", g.b, g.err)
	}
}

// TestShutdownLosesNoConnectionInFlight: 8 goroutines open without pause while the
// other end shuts down. Each connection is served to its last byte, or it is told that it
// was not.
func TestShutdownLosesNoConnectionInFlight(t *testing.T) {
	for _, tr := range []transport{overTCP.speaking(Protocol1), overPipe.speaking(Protocol1)} {
		for _, who := range []string{"Pipe", "Listener"} {
			t.Run(tr.name+"/"+who, func(t *testing.T) {
				for range 20 {
					shutdownLosesNothing(t, tr, who)
				}
			})
		}
	}
}

func shutdownLosesNothing(t *testing.T, tr transport, who string) {
	const openers = 8
	p, l := sessionPair(t, tr)
	var mu sync.Mutex
	served := make(map[addr.SocketAddr]bool)
	var handlers sync.WaitGroup
	acceptor := async(func() error {
		for {
			y, err := l.AcceptConn(context.Background())
			if err != nil {
				return err
			}
			handlers.Go(func() {
				defer y.Close()
				b, err := io.ReadAll(y)
				if err != nil || string(b) != "ask" {
					t.Errorf("accepted %v, and read %q, %v", y.Addr(), b, err)
				}
				mu.Lock()
				served[y.Addr()] = true
				mu.Unlock()
				if _, err := io.WriteString(y, "answer"); err != nil {
					t.Errorf("Write: %v", err)
				}
			})
		}
	})
	var refused, answered int
	begun := make(chan struct{}, openers)
	var wg sync.WaitGroup
	for i := range openers {
		wg.Go(func() {
			for n := 0; ; n++ {
				if n == 5 {
					begun <- struct{}{}
				}
				a := testAddr(i*10_000 + n)
				x, err := p.Open(context.Background(), a)
				if err != nil {
					select {
					case <-p.Done():
					default:
						wantErr(t, "Open", err, ErrDraining)
					}
					return
				}
				_, werr := io.WriteString(x, "ask")
				x.CloseWrite()
				b, err := io.ReadAll(x)
				mu.Lock()
				switch {
				case errors.Is(err, ErrRefused):
					if refused++; served[a] {
						t.Errorf("%v was served, and its opener is told %v", a, err)
					}
				case err != nil || werr != nil || string(b) != "answer":
					t.Errorf("%v: Write %v, Read %q, %v", a, werr, b, err)
				default:
					answered++
				}
				mu.Unlock()
				x.Close()
			}
		})
	}
	for range openers {
		wait(t, "the openers", begun)
	}
	var err error
	if who == "Pipe" {
		err = p.Shutdown(bounded(t))
	} else {
		err = l.Shutdown(bounded(t))
	}
	wantErr(t, "Shutdown", err, nil)
	wait(t, "the acceptor", acceptor)
	wg.Wait()
	handlers.Wait()
	if answered != len(served) {
		t.Errorf("%d were answered, %d served, and %d refused", answered, len(served), refused)
	}
}

// TestBothEndsCloseManyAtOnce: what crosses when thousands of idle connections are
// closed from both ends is no attack.
func TestBothEndsCloseManyAtOnce(t *testing.T) {
	const n = 1500
	for _, how := range endings[2:] {
		t.Run(how.name, func(t *testing.T) {
			p, l := sessionPairWith(t, overTCP.speaking(Protocol1), nil, &Config{AcceptBacklog: n})
			var all [2][]*Conn
			for i := range n {
				x, y := connPair(t, p, l, i)
				all[0], all[1] = append(all[0], x), append(all[1], y)
			}
			var wg sync.WaitGroup
			for _, conns := range all {
				wg.Go(func() {
					for _, c := range conns {
						how.call(c)
					}
				})
			}
			wg.Wait()
			waitUntil(t, "the end of all", func() bool { return p.Stats().Conns == 0 && l.Stats().Conns == 0 })
			wantErr(t, "Err of the Pipe", p.Err(), nil)
			wantErr(t, "Err of the Listener", l.Err(), nil)
			x, y := connPair(t, p, l, 0)
			exchange(t, x, y)
		})
	}
}

// ---- What is left.

// TestNothingIsLeftAfterClose: when the peer has answered, which it does without its
// application.
func TestNothingIsLeftAfterClose(t *testing.T) {
	for _, how := range []ending{endings[2], endings[3]} {
		t.Run(how.name, func(t *testing.T) {
			overEachOf(t, Protocol1, func(t *testing.T, tr transport) {
				p, l := sessionPair(t, tr)
				for i := range 20 {
					x, y := connPair(t, p, l, i)
					if i%2 == 1 {
						x, y = y, x
					}
					exchange(t, x, y)
					wantErr(t, how.name, how.call(x), nil)
					waitUntil(t, "the peer's answer", func() bool { return p.Stats().Conns == 0 && l.Stats().Conns == 0 })
					_, err := y.Write([]byte("x"))
					wantErr(t, "Write of the peer", err, syscall.EPIPE)
				}
			})
		})
	}
}

// TestOneAddressManyTimes: an address may be open many times at once, by both ends.
func TestOneAddressManyTimes(t *testing.T) {
	const n = 100
	for _, tr := range []transport{overTCP, overPipe} {
		t.Run(tr.name, func(t *testing.T) {
			a, b := tr.dial(t)
			var ends [2]*Listener
			for i, c := range []net.Conn{a, b} {
				var err error
				if ends[i], err = NewListener(c, &Config{Protocol: Protocol1}); err != nil {
					t.Fatal(err)
				}
			}
			defer closeBoth(ends[0], ends[1])
			var all [][2]*Conn
			for i := range n {
				for j := range ends {
					x, y := connectOne(t, ends[j], ends[1-j], 1)
					if y.Addr() != testAddr(1) {
						t.Fatalf("accepted %v", y.Addr())
					}
					all = append(all, [2]*Conn{x, y})
					if i%10 == 9 { // and again
						x.Close()
						y.Close()
						all = all[:len(all)-1]
					}
				}
			}
			for i, pair := range all {
				for j, c := range pair {
					if _, err := fmt.Fprintf(c, "%04d %d", i, j); err != nil {
						t.Fatal(err)
					}
				}
			}
			for i, pair := range all {
				for j, c := range pair {
					got := make([]byte, 6)
					if _, err := io.ReadFull(c, got); err != nil || string(got) != fmt.Sprintf("%04d %d", i, 1-j) {
						t.Errorf("connection %d has read %q, %v", i, got, err)
					}
				}
			}
			if n := ends[0].Stats().Conns; n != len(all) {
				t.Errorf("%d connections, want %d", n, len(all))
			}
			for _, pair := range all {
				pair[0].Close()
				pair[1].Close()
			}
			waitUntil(t, "the end of all", func() bool { return ends[0].Stats().Conns == 0 && ends[1].Stats().Conns == 0 })
		})
	}
}

// TestDroppedPendingConnIsClosed: as a Conn is, and its opener sees an end.
func TestDroppedPendingConnIsClosed(t *testing.T) {
	p, l := sessionPair(t, overTCP.speaking(Protocol1))
	x, err := p.Open(bounded(t), testAddr(1))
	if err != nil {
		t.Fatal(err)
	}
	acceptAndDrop(t, l)
	waitUntil(t, "the runtime's cleanup", func() bool { runtime.GC(); return l.Stats().Dropped == 1 })
	g := wait(t, "Read", readAll(x))
	wantErr(t, "Read", g.err, nil)
	waitUntil(t, "the word that nobody reads", func() bool { _, err := x.Write([]byte("x")); return errors.Is(err, syscall.EPIPE) })
	x.Close()
	waitUntil(t, "the end", func() bool { return p.Stats().Conns == 0 && l.Stats().Conns == 0 })
}

//go:noinline
func acceptAndDrop(t *testing.T, l *Listener) {
	if _, err := l.AcceptPending(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

// ---- Opening.

func TestMetadataGoesToThePeer(t *testing.T) {
	overEachOf(t, Protocol1, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		for i, size := range []int{0, 1, 18, 100, 1023, 1024} {
			want := testBytes(size, uint32(i))
			given := bytes.Clone(want)
			x, err := p.OpenWith(bounded(t), OpenOptions{Addr: testAddr(i), Metadata: given})
			if err != nil {
				t.Fatal(err)
			}
			clear(given) // it is the caller's again
			pending, err := l.AcceptPending(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			if pending.Addr() != testAddr(i) {
				t.Errorf("pending %v, want %v", pending.Addr(), testAddr(i))
			}
			wantBytes(t, "metadata", pending.Metadata(), want)
			y, err := pending.Accept()
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, x, y)
			wantBytes(t, "metadata after Accept", pending.Metadata(), want)
			x.Close()
			y.Close()
		}
		if x, err := p.OpenWith(bounded(t), OpenOptions{Addr: testAddr(1), Metadata: make([]byte, 1025)}); err == nil {
			x.Close()
			t.Error("1,025 bytes of metadata were taken")
		}
		x, y := connPair(t, p, l, 2) // the session is well
		exchange(t, x, y)
	})
}

// TestOpensBeyondMaxConnsAreRefused, with the code that says why, and the place is free
// again when the application has closed one.
func TestOpensBeyondMaxConnsAreRefused(t *testing.T) {
	tr := overTCP.speaking(Protocol1)
	p, l := sessionPairWith(t, tr, nil, &Config{MaxConns: 3})
	var ys []*Conn
	var first *Conn
	for i := range 3 {
		x, y := connPair(t, p, l, i)
		if i == 0 {
			first = x
		}
		ys = append(ys, y)
	}
	tooMany := func(when string) {
		t.Helper()
		x, err := p.Open(bounded(t), testAddr(9))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer x.Close()
		wantRefused(t, tr, x, CodeTooManyConns)
	}
	tooMany("three are open")
	first.Close()
	waitUntil(t, "the end of one", func() bool { return p.Stats().Conns == 2 })
	tooMany("the application holds what both ends have ended")
	ys[0].Close()
	x, y := connPair(t, p, l, 9)
	exchange(t, x, y)
	if n := l.Stats().Refused; n != 2 {
		t.Errorf("%d refused, want 2", n)
	}
}

// TestPeersLimitOfConnsIsKept: what the peer has announced bounds Open, so that no open
// is refused without need.
func TestPeersLimitOfConnsIsKept(t *testing.T) {
	p, l := sessionPairWith(t, overTCP.speaking(Protocol1), nil, &Config{MaxConns: 200, AcceptBacklog: 500})
	x, y := connPair(t, p, l, 0)
	exchange(t, x, y) // so that the preface is here
	var opened []*Conn
	for i := range 199 {
		c, err := p.Open(bounded(t), testAddr(1+i))
		if err != nil {
			t.Fatalf("Open %d: %v", i, err)
		}
		defer c.Close()
		opened = append(opened, c)
	}
	_, err := p.Open(bounded(t), testAddr(300))
	wantErr(t, "Open beyond the peer's limit", err, ErrTooManyConns)
	exchange(t, x, y)
	if n := l.Stats().Refused; n != 0 {
		t.Errorf("%d refused, want none", n)
	}
	runtime.KeepAlive(opened)
}

// ---- Sessions.

func TestPingMeasuresTheRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lag = 30 * time.Millisecond
		ends, _ := carriedSessions(t, lag, false, nil)
		x, y := connectOne(t, ends[0], ends[1], 1)
		exchange(t, x, y)
		for i, l := range ends {
			var all []<-chan error // several at once are served by one PING
			for range 5 {
				all = append(all, async(func() error {
					d, err := l.Ping(bounded(t))
					if err == nil && (d < 2*lag || d > 2*lag+10*time.Millisecond) {
						err = fmt.Errorf("%v, and the round trip is %v", d, 2*lag)
					}
					return err
				}))
			}
			for _, done := range all {
				wantErr(t, fmt.Sprintf("Ping of end %d", i), wait(t, "Ping", done), nil)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), lag)
		defer cancel()
		_, err := ends[0].Ping(ctx)
		wantErr(t, "Ping with too little time", err, context.DeadlineExceeded)
	})
}

// TestStatsTellOfCreditAndRoundTrip: a minute in which the peer's application reads
// nothing is a minute of waiting for credit and for nothing else.
func TestStatsTellOfCreditAndRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lag = 30 * time.Millisecond
		ends, _ := carriedSessions(t, lag, false, nil)
		x, y := connectOne(t, ends[0], ends[1], 1)
		written := async(func() error {
			_, err := x.Write(make([]byte, 100_000))
			return errors.Join(err, x.CloseWrite())
		})
		<-time.After(time.Minute)
		got := readAll(y)
		wantErr(t, "Write", wait(t, "Write", written), nil)
		g := wait(t, "Read", got)
		if len(g.b) != 100_000 || g.err != nil {
			t.Errorf("Read: %d bytes, %v", len(g.b), g.err)
		}
		if _, err := ends[0].Ping(bounded(t)); err != nil {
			t.Fatal(err)
		}
		st := ends[0].Stats()
		if b := st.Blocked; b.Credit < time.Minute || b.Credit > time.Minute+time.Second || b.Flusher != 0 || b.Stalled != 0 {
			t.Errorf("blocked %+v, want a minute for credit alone", b)
		}
		if st.RTT < 2*lag || st.RTT > 2*lag+10*time.Millisecond {
			t.Errorf("the round trip is %v, want %v", st.RTT, 2*lag)
		}
		if there := ends[1].Stats(); st.PayloadOut != 100_000 || there.PayloadIn != 100_000 || there.Discarded != 0 {
			t.Errorf("%d bytes of payload went out, %d came and %d were discarded", st.PayloadOut, there.PayloadIn, there.Discarded)
		}
	})
}

// TestPingWorksOverEveryTransport, and passes what is queued: the peer's application
// reads nothing.
func TestPingWorksOverEveryTransport(t *testing.T) {
	overEachOf(t, Protocol1, func(t *testing.T, tr transport) {
		st := stall(t, tr)
		for range 3 {
			if d, err := st.p.Ping(bounded(t)); err != nil || d <= 0 {
				t.Errorf("Ping: %v, %v", d, err)
			}
		}
		st.x.Close()
		wait(t, "Write", st.written)
	})
}

// TestIdleSessionIsKeptAlive for hours, by both ends, and one whose peer falls silent is
// declared dead in the time that is configured.
func TestIdleSessionIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := &Config{KeepAliveInterval: 10 * time.Second, KeepAliveTimeout: 20 * time.Second}
		ends, ways := carriedSessions(t, time.Millisecond, false, cfg)
		x, y := connectOne(t, ends[0], ends[1], 1)
		exchange(t, x, y)
		<-time.After(5 * time.Hour)
		for i, l := range ends {
			wantErr(t, fmt.Sprintf("Err of end %d after hours", i), l.Err(), nil)
		}
		exchange(t, x, y)
		// Now the transport carries nothing any more.
		for _, w := range ways {
			w.mu.Lock()
			w.gated, w.allowed = true, 0
			w.mu.Unlock()
		}
		start := time.Now()
		for i, l := range ends {
			wait(t, "the end of a silent session", l.Done())
			wantErr(t, fmt.Sprintf("Err of end %d", i), l.Err(), ErrSilent)
		}
		if took := time.Since(start); took < 20*time.Second || took > 45*time.Second {
			t.Errorf("a silent session has ended after %v, want about 30 s", took)
		}
		_, err := x.Read(make([]byte, 1))
		wantErr(t, "Read", err, ErrSilent)
	})
}

// TestSlowTransportIsNotSilent: bytes that come are life, though the answer to a PING is
// minutes behind them.
func TestSlowTransportIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := &Config{KeepAliveInterval: time.Second, KeepAliveTimeout: 2 * time.Second, InitialWindow: 1 << 20}
		ends, ways := carriedSessions(t, 0, false, cfg)
		x, y := connectOne(t, ends[0], ends[1], 1)
		exchange(t, x, y)
		for _, w := range ways {
			w.mu.Lock()
			w.gated, w.allowed = true, 0
			w.mu.Unlock()
		}
		// One piece of what each end has sent goes every 1.5 s.
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(1500 * time.Millisecond):
				}
				for _, w := range ways {
					w.mu.Lock()
					w.allowed = 1
					w.mu.Unlock()
					w.wake()
				}
			}
		}()
		writes := async(func() error {
			for range 30 {
				if _, err := x.Write([]byte("a piece")); err != nil {
					return err
				}
				if _, err := y.Write([]byte("a piece")); err != nil {
					return err
				}
				<-time.After(1500 * time.Millisecond)
			}
			return nil
		})
		wantErr(t, "Write over a slow transport", wait(t, "Write", writes), nil)
		for i, l := range ends {
			wantErr(t, fmt.Sprintf("Err of end %d", i), l.Err(), nil)
		}
	})
}

// TestWhoSpeaksWhat: every pair of settings works, or fails with an error that tells
// what to do (PROTOCOL.md, 2.2).
func TestWhoSpeaksWhat(t *testing.T) {
	for _, tt := range []struct {
		pipe, listener Protocol
		first          string // who opens
		works          bool
	}{
		{ProtocolAuto, ProtocolAuto, "Pipe", true},
		{ProtocolAuto, ProtocolAuto, "Listener", true},
		{Protocol1, ProtocolAuto, "Pipe", true},
		{ProtocolAuto, Protocol1, "Pipe", true},
		{Protocol1, Protocol1, "Listener", true},
		{ProtocolVT, ProtocolAuto, "Pipe", true},
		{ProtocolVT, ProtocolVT, "Pipe", true},
		{ProtocolVT, ProtocolVT, "Listener", true},
		{ProtocolVT, Protocol1, "Pipe", false},
		{Protocol1, ProtocolVT, "Listener", false},
	} {
		t.Run(fmt.Sprintf("Pipe %v, Listener %v, %s first", tt.pipe, tt.listener, tt.first), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				p, err := NewPipe(near, &Config{Protocol: tt.pipe})
				if err != nil {
					t.Fatal(err)
				}
				l, err := NewListener(far, &Config{Protocol: tt.listener})
				if err != nil {
					t.Fatal(err)
				}
				defer closeBoth(p, l)
				if tt.works {
					whoSpeaksWorks(t, p, l, tt.first == "Listener", tt.pipe != ProtocolVT)
					return
				}
				open, one := p.Open, l.Err // who opens with vt-muxer's protocol, and who speaks 1
				done := l.Done()
				if tt.first == "Listener" {
					open, one, done = l.Open, p.Err, p.Done()
				}
				if c, err := open(bounded(t), testAddr(1)); err == nil {
					defer c.Close()
				}
				wait(t, "the end of who speaks 1", done)
				wantErr(t, "Err", one(), ErrNoPreface)
				wantText(t, one(), "ProtocolVT")
			})
		})
	}
}

func whoSpeaksWorks(t *testing.T, p *Pipe, l *Listener, listenerFirst, one bool) {
	if listenerFirst {
		c, err := l.Open(bounded(t), testAddr(2))
		if err != nil {
			t.Fatal(err)
		}
		tr := overPipe.speaking(ProtocolVT)
		if one {
			tr = overPipe.speaking(Protocol1)
		}
		wantRefused(t, tr, c, CodeNotAccepting)
		c.Close()
	}
	x, y := connPair(t, p, l, 1)
	exchange(t, x, y)
	_, err := p.OpenWith(bounded(t), OpenOptions{Addr: testAddr(3), Metadata: []byte("m")})
	if one {
		wantErr(t, "OpenWith metadata", err, nil)
		pending, err := l.AcceptPending(bounded(t))
		if err != nil || string(pending.Metadata()) != "m" {
			t.Errorf("pending: %v, %v", pending, err)
		}
	} else {
		wantErr(t, "OpenWith metadata", err, errors.ErrUnsupported)
	}
}

// TestTwoListenersThatFollow work together as soon as one of them opens, and also when
// both do at once.
func TestTwoListenersThatFollow(t *testing.T) {
	interleavings([]string{"A", "B", "XX", "YY"}, func(order string) {
		synctest.Test(t, func(t *testing.T) {
			a, b, ways := carriedPair(0, true)
			var ends [2]*Listener
			for i, c := range []net.Conn{a, b} {
				var err error
				if ends[i], err = NewListener(c, nil); err != nil {
					t.Fatal(err)
				}
			}
			defer func() {
				for _, w := range ways {
					w.openGate()
				}
				closeBoth(ends[0], ends[1])
			}()
			var xs [2]*Conn
			var opened [2]<-chan error
			for _, step := range order {
				switch step {
				case 'A', 'B':
					i := int(step - 'A')
					opened[i] = async(func() (err error) { // waits for the other's preface
						xs[i], err = ends[i].Open(bounded(t), testAddr(i))
						return err
					})
					synctest.Wait()
				default:
					ways[step-'X'].deliver()
				}
			}
			for _, w := range ways {
				w.openGate()
			}
			for i, l := range ends {
				if err := wait(t, "Open", opened[1-i]); err != nil {
					t.Fatalf("Open: %v", err)
				}
				y, err := l.AcceptConn(bounded(t))
				if err != nil {
					t.Fatalf("AcceptConn: %v", err)
				}
				exchange(t, xs[1-i], y)
				y.Close()
				xs[1-i].Close()
			}
			settleOne()
			wantNoConns(t, ends[0], ends[1])
		})
		if t.Failed() {
			t.Fatalf("in the order %s", order)
		}
	})
}
