package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/internal/faultconn"
)

// The rows of the catalogue about what the transport does. See fault_test.go.

// A faultPair is two Listeners in a bubble, with a transport that can be made to fail.
type faultPair struct {
	ends [2]*Listener
	fc   [2]*faultconn.Conn
}

func newFaultPair(t *testing.T, pr Protocol, cfg Config, plans ...faultconn.Plan) (p faultPair) {
	t.Helper()
	var raw [2]net.Conn
	raw[0], raw[1] = net.Pipe()
	plans = append(plans, faultconn.Plan{}, faultconn.Plan{})
	cfg.Protocol = pr
	for i := range p.ends {
		p.fc[i] = faultconn.New(raw[i], plans[i])
		l, err := NewListener(p.fc[i], &cfg)
		if err != nil {
			t.Fatal(err)
		}
		p.ends[i] = l
	}
	t.Cleanup(func() { closeBoth(p.ends[0], p.ends[1]) })
	return p
}

// wantDone fails the test unless the call has returned n and target by now. An n below
// zero is any.
func wantDone(t *testing.T, what string, done <-chan result, n int, target error) (r result) {
	t.Helper()
	synctest.Wait()
	select {
	case r = <-done:
	default:
		t.Errorf("%s has not returned", what)
		return r
	}
	if n >= 0 && r.n != n || !errors.Is(r.err, target) {
		t.Errorf("%s: %d, %v; want %d, %v", what, r.n, r.err, n, target)
	}
	return r
}

func writing(c *Conn, p []byte) <-chan result {
	return background(func() (int, error) { return c.Write(p) })
}

func reading(c *Conn, n int) <-chan result {
	return background(func() (int, error) { return io.ReadFull(c, make([]byte, n)) })
}

// wantTold tells the story over a transport that is odd and loses nothing.
func wantTold(t *testing.T, name string, setup faultSetup) {
	for _, pr := range protocols {
		t.Run(fmt.Sprintf("%v/%s", pr, name), func(t *testing.T) {
			for end := range 2 {
				setup.end = end
				if out := tellFaultStory(t, pr, setup); !out.told {
					t.Errorf("with the transport of %c, the story ends early", 'A'+end)
				}
			}
		})
	}
}

func faultF01(t *testing.T) {
	for name, f := range map[string]faultconn.Faults{
		"bytes": {MaxPiece: 1}, "sevens": {MaxPiece: 7}, "random": {RandomPieces: true, MaxPiece: 40}, "nothing now and then": {ZeroEvery: 3, MaxPiece: 50},
	} {
		wantTold(t, name, faultSetup{plan: faultconn.Plan{Seed: uint64(faultSeed), Read: f}})
		wantTold(t, name+", no deadlines", faultSetup{plan: faultconn.Plan{Seed: uint64(faultSeed), Read: f, NoDeadlines: true}})
	}
}

func faultF02(t *testing.T) {
	for name, f := range map[string]faultconn.Faults{
		"bytes": {MaxPiece: 1}, "sevens, short": {MaxPiece: 7, Short: true}, "random, short": {RandomPieces: true, MaxPiece: 40, Short: true}, "nothing now and then": {ZeroEvery: 3, MaxPiece: 50, Short: true},
	} {
		for _, copies := range []bool{true, false} {
			if !copies && f.Short {
				continue // see faultCallKind
			}
			wantTold(t, fmt.Sprintf("%s, copies %t", name, copies), faultSetup{copies: copies, plan: faultconn.Plan{Seed: uint64(faultSeed), Write: f}})
		}
	}
}

// lostOverTCP is a session over TCP with a connection x that is open and one that the
// peer has finished, all of which has come.
func lostOverTCP(t *testing.T, pr Protocol) (p *Pipe, l *Listener, far *net.TCPConn, open, finished [2]*Conn, want []byte) {
	t.Helper()
	tr := overTCP.speaking(pr)
	a, b := tr.dial(t)
	p, err := NewPipe(a, tr.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	if l, err = NewListener(b, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBoth(p, l) })
	want = testBytes(50_000, 3)
	for i, c := range []*[2]*Conn{&open, &finished} {
		c[0], c[1] = connPair(t, p, l, i)
		if _, err := c[1].Write(want); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, "CloseWrite", finished[1].CloseWrite(), nil)
	waitUntil(t, "everything received", func() bool {
		return p.Stats().PayloadIn == uint64(2*len(want)) && finished[0].c.flags.Load()&flagReadOver != 0
	})
	return p, l, b.(*net.TCPConn), open, finished, want
}

// faultF04: FIN, RST, and the end of either session, with calls pending at both ends.
func faultF04(t *testing.T) {
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		for _, how := range []string{"FIN", "RST", "own Close", "peer's Close"} {
			t.Run(how, func(t *testing.T) {
				p, l, far, open, _, want := lostOverTCP(t, pr)
				got := [2]<-chan readResult{readAll(eofKeeper{open[0]}), readAll(eofKeeper{open[1]})}
				waitBlocked(t, "(*conn).await", 2)
				switch how {
				case "FIN":
					far.CloseWrite()
				case "RST":
					far.SetLinger(0)
					far.Close()
				case "own Close":
					p.Close()
				case "peer's Close":
					l.Close()
				}
				results := [2]readResult{wait(t, "Read", got[0]), wait(t, "the peer's Read", got[1])}
				for i, r := range results {
					local := how == "own Close" && i == 0 || how == "peer's Close" && i == 1 || how == "RST" && i == 1
					if local && !errors.Is(r.err, net.ErrClosed) || !local && !isCut(r.err) || r.err == errCleanEnd || errors.Is(r.err, io.EOF) {
						t.Errorf("end %d reads %T %v", i, r.err, r.err)
					}
				}
				wantBytes(t, "what had come", results[0].b, want)
				var gone *GoAwayError
				switch err := results[0].err; {
				case how == "FIN" && !errors.Is(err, io.ErrUnexpectedEOF), how == "RST" && !errors.Is(err, syscall.ECONNRESET):
					t.Errorf("after a %s: %v", how, err)
				case how == "peer's Close" && pr == Protocol1 && (!errors.As(err, &gone) || gone.Code != CodeClosed):
					t.Errorf("after the peer's Close: %v", err)
				}
			})
		}
	})
}

func faultF05(t *testing.T) {
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		for _, how := range []string{"FIN", "RST"} {
			p, _, far, _, finished, want := lostOverTCP(t, pr)
			if how == "RST" {
				far.SetLinger(0)
			}
			far.Close()
			wait(t, "the end", p.Done())
			g := wait(t, "Read", readAll(finished[0]))
			wantErr(t, how+": what was finished", g.err, nil)
			wantBytes(t, how+": what was finished", g.b, want)
		}
	})
}

// faultF06: the session is closed right behind the connection, which is no reason to lose
// what the connection has promised.
func faultF06(t *testing.T) {
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		for _, size := range []int{0, 1, 8191, 65_000} {
			synctest.Test(t, func(t *testing.T) {
				p := newFaultPair(t, pr, Config{})
				x, y := connectOne(t, p.ends[0], p.ends[1], 1)
				want := testBytes(size, 1)
				if _, err := x.Write(want); err != nil {
					t.Fatal(err)
				}
				if pr == ProtocolVT {
					y.CloseWrite() // else the session ends with our own half known, and theirs open
					wantErr(t, "Read of the end", second(x.Read(make([]byte, 1))), io.EOF)
				}
				x.Close()
				p.ends[0].Close()
				g := wait(t, "Read", readAll(y))
				wantErr(t, fmt.Sprintf("%d bytes", size), g.err, nil)
				wantBytes(t, fmt.Sprintf("%d bytes", size), g.b, want)
			})
		}
	})
}

// faultF07: both halves end while a megabyte each way is unread.
func faultF07(t *testing.T) {
	overTCP.withEach(t, func(t *testing.T, tr transport) {
		const size = 1 << 20
		cfg := &Config{InitialWindow: size} // so that all of it can be unread
		p, l := sessionPairWith(t, tr, cfg, cfg)
		x, y := connPair(t, p, l, 1)
		if tr.one() {
			waitUntil(t, "both prefaces", func() bool { return p.s.isSettled() && l.s.isSettled() })
		}
		want := testBytes(size, 1)
		for i, c := range []*Conn{x, y} {
			if _, err := c.Write(want); err != nil {
				t.Fatalf("end %d: %v", i, err)
			}
			wantErr(t, "CloseWrite", c.CloseWrite(), nil)
		}
		waitUntil(t, "both ends", func() bool { return p.Stats().Conns == 0 && l.Stats().Conns == 0 })
		for i, c := range []*Conn{x, y} {
			g := wait(t, "Read", readAll(c))
			wantErr(t, fmt.Sprintf("end %d", i), g.err, nil)
			wantBytes(t, fmt.Sprintf("end %d", i), g.b, want)
		}
	})
}

// faultF08: the transport takes nothing from some moment on.
func faultF08(t *testing.T) {
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		for _, closes := range []bool{true, false} {
			faultStalled(t, pr, closes)
		}
	})
}

// faultStalled is F08 with a session that is closed, or else is left to end by itself.
func faultStalled(t *testing.T, pr Protocol, closes bool) {
	synctest.Test(t, func(t *testing.T) {
		p := newFaultPair(t, pr, Config{})
		x, _ := connectOne(t, p.ends[0], p.ends[1], 1)
		z, _ := connectOne(t, p.ends[0], p.ends[1], 2)
		synctest.Wait()
		p.fc[0].Break(faultconn.Open, faultconn.Stall)
		start := time.Now()
		stalled := start
		x.SetWriteDeadline(start.Add(time.Second))
		w, w2 := writing(x, make([]byte, 200_000)), writing(z, make([]byte, 200_000))
		r := wait(t, "Write", w)
		if took := r.at.Sub(start); !errors.Is(r.err, os.ErrDeadlineExceeded) || took != time.Second {
			t.Errorf("Write returned %v after %v, its deadline was a second", r.err, took)
		}
		start = time.Now()
		z.Close()
		wantDone(t, "Write, after Close,", w2, -1, net.ErrClosed)
		if took := time.Since(start); took != 0 {
			t.Errorf("Close of a connection took %v", took)
		}
		if closes {
			start = time.Now()
			p.ends[0].Close()
			if took := time.Since(start); took > closeLinger {
				t.Errorf("Close of the session took %v", took)
			}
			return
		}
		limit := p.ends[0].s.cfg.writeTimeout(pr == Protocol1)
		<-p.ends[0].Done()
		if took, err := time.Since(stalled), p.ends[0].Err(); !errors.Is(err, ErrWriteTimeout) || took < limit || took > limit+2*lookEvery {
			t.Errorf("the session ended after %v with %v; WriteTimeout is %v", took, err, limit)
		}
		<-p.ends[1].Done()
		if err := p.ends[1].Err(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the peer's session ended with %v", err)
		}
	})
}

// faultF09: a frame stops coming at each of its bytes.
func faultF09(t *testing.T) {
	eachProtocol(t, func(t *testing.T, pr Protocol) {
		base, end := int64(0), int64(0)
		const first, more = "first", "and more, that does not all come"
		tell := func(t *testing.T, at int64) {
			synctest.Test(t, func(t *testing.T) {
				plan := faultconn.Plan{}
				if at > 0 {
					plan.Read = faultconn.Faults{End: faultconn.Stall, EndAt: at}
				}
				p := newFaultPair(t, pr, Config{KeepAliveInterval: -1}, faultconn.Plan{}, plan)
				x, y := connectOne(t, p.ends[0], p.ends[1], 1)
				other, buffered := connectOne(t, p.ends[0], p.ends[1], 2)
				for _, c := range []*Conn{x, other} {
					io.WriteString(c, first)
				}
				settleOne()
				base = p.fc[1].ReadBytes()
				sent := writing(x, []byte(more))
				settleOne()
				end = p.fc[1].ReadBytes()
				if at == 0 {
					return
				}
				if _, struck := p.fc[1].ReadFault(); !struck {
					t.Errorf("byte %d: no stall", at)
				}
				start := time.Now()
				y.SetReadDeadline(start.Add(time.Second))
				got, err := io.ReadAll(y)
				if n := max(0, int(at-base)-p.ends[1].s.headerLen()); string(got) != first+more[:n] || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
					t.Errorf("stall at byte %d of the frame: read %q, %v after %v", at-base, got, err, time.Since(start))
				}
				buf := make([]byte, 100)
				buffered.SetReadDeadline(time.Now())
				buffered.SetReadDeadline(time.Time{})
				if n, err := buffered.Read(buf); string(buf[:n]) != first || err != nil {
					t.Errorf("another connection: %q, %v", buf[:n], err)
				}
				y.SetReadDeadline(time.Time{})
				pending := reading(y, 10)
				synctest.Wait()
				start = time.Now()
				y.Close()
				wantDone(t, "Read, after Close,", pending, -1, net.ErrClosed)
				p.ends[1].Close()
				if took := time.Since(start); took > closeLinger {
					t.Errorf("Close took %v", took)
				}
				<-sent
			})
		}
		tell(t, 0)
		from, to := base, end
		if to-from < int64(len(more)) {
			t.Fatalf("the frame is from %d to %d", from, to)
		}
		for at := from; at < to && !t.Failed(); at++ {
			tell(t, at)
		}
	})
}

// faultF10: exactly KeepAliveInterval and KeepAliveTimeout after the last byte, whichever
// direction is dead.
func faultF10(t *testing.T) {
	isSilent := func(err error) bool {
		var te *TransportError
		return errors.As(err, &te) && te.Op == "keep-alive" && errors.Is(err, ErrSilent) && !errors.Is(err, io.EOF)
	}
	isTold := func(err error) bool {
		var gone *GoAwayError
		return errors.As(err, &gone) && gone.Code == CodeTimeout && !errors.Is(err, io.EOF)
	}
	// Where both give up at the same moment, one may see that the other has.
	isGone := func(err error) bool { return isSilent(err) || isCut(err) && errors.Is(err, io.ErrUnexpectedEOF) }
	for _, interval := range []time.Duration{time.Second, 15 * time.Second, time.Hour} {
		for _, timeout := range []time.Duration{time.Second, 30 * time.Second} {
			for name, tt := range map[string]struct {
				a, b faultconn.End // of what each writes
				want [2]func(error) bool
			}{
				"both ways":               {faultconn.Swallow, faultconn.Swallow, [2]func(error) bool{isGone, isGone}},
				"only A's sending":        {faultconn.Swallow, faultconn.Open, [2]func(error) bool{isTold, isSilent}},
				"only B's sending":        {faultconn.Open, faultconn.Swallow, [2]func(error) bool{isSilent, isTold}},
				"nothing of A's is taken": {faultconn.Stall, faultconn.Open, [2]func(error) bool{isTold, isSilent}},
				"nothing of B's is taken": {faultconn.Open, faultconn.Stall, [2]func(error) bool{isSilent, isTold}},
				"nothing of both's":       {faultconn.Stall, faultconn.Stall, [2]func(error) bool{isSilent, isSilent}},
			} {
				t.Run(fmt.Sprintf("%v and %v/%s", interval, timeout, name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newFaultPair(t, Protocol1, Config{KeepAliveInterval: interval, KeepAliveTimeout: timeout, WriteTimeout: -1})
						x, y := connectOne(t, p.ends[0], p.ends[1], 1)
						for range 2 { // both ends have heard from each other now
							if _, err := p.ends[0].Ping(t.Context()); err != nil {
								t.Fatal(err)
							}
						}
						synctest.Wait()
						p.fc[0].Break(faultconn.Open, tt.a)
						p.fc[1].Break(faultconn.Open, tt.b)
						start := time.Now()
						var wg sync.WaitGroup
						for i, c := range []*Conn{x, y} {
							wg.Go(func() {
								_, err := c.Read(make([]byte, 1))
								if took := time.Since(start); took != interval+timeout || !tt.want[i](err) {
									t.Errorf("%c reads %v after %v, want it after %v", 'A'+i, err, took, interval+timeout)
								}
							})
						}
						wg.Wait()
						for _, l := range p.ends {
							select {
							case <-l.Done():
							case <-time.After(failLinger): // the GOAWAY can't be sent
								<-l.Done()
							}
							if err := l.Shutdown(context.Background()); err == nil {
								t.Error("Shutdown succeeds")
							}
						}
						if !isSilent(p.ends[0].Err()) && !isSilent(p.ends[1].Err()) {
							t.Errorf("nobody says why: %v, %v", p.ends[0].Err(), p.ends[1].Err())
						}
					})
				})
			}
		}
	}
}
