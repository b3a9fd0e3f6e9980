package mux

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/addr"
)

// Hazard 7: register, then announce. An acceptor may speak first, as SSH and SMTP
// servers do, and its first bytes may come back before Open has returned.

// TestAnswerThatComesWhileTheOpenIsBeingSent: the transport's Write of the open
// returns only after the session has read the peer's answer to it.
func TestAnswerThatComesWhileTheOpenIsBeingSent(t *testing.T) {
	for _, side := range vtSides {
		t.Run(side.name, func(t *testing.T) {
			var tc0 *vtTest
			wrap := func(c net.Conn) net.Conn {
				return oddConn{Conn: c, write: func(c net.Conn, p []byte) (int, error) {
					n, err := c.Write(p)
					if frames, _ := vtDecode(p); len(frames) == 1 && frames[0] == vtOpen(vtA) {
						tc0.peer.queue(vtBytes(vtData(vtA, "220 ready"), vtEnd(vtA)))
						for tc0.peer.left() > 0 {
							<-time.After(time.Millisecond)
						}
						<-time.After(time.Millisecond) // until it is parsed
					}
					return n, err
				}}
			}
			vtRunOver(t, side.listen, nil, wrap, func(tc *vtTest) {
				tc0 = tc
				c := tc.open(vtA)
				tc.wantRead("the peer's first bytes and its end", c, "220 ready", io.EOF)
				tc.write(c, "hello")
				tc.want("and our half is open", vtOpen(vtA), vtData(vtA, "hello"))
			})
		})
	}
}

// TestAcceptorThatSpeaksFirst opens 2,000 connections to an acceptor that greets
// each at once. No greeting may be lost.
func TestAcceptorThatSpeaksFirst(t *testing.T) {
	for _, tr := range []transport{overTCP, overPipe} {
		run := func(t *testing.T, tr transport) {
			const openers, each = 8, 250
			p, l := sessionPair(t, tr)
			var acceptor, handlers sync.WaitGroup
			acceptor.Go(func() {
				for {
					c, err := l.AcceptConn(context.Background())
					if err != nil {
						return
					}
					handlers.Go(func() {
						c.SetDeadline(time.Now().Add(time.Minute))
						if _, err := c.Write([]byte("hello " + c.Addr().String())); err != nil {
							t.Errorf("greeting of %v: %v", c.Addr(), err)
						}
						c.CloseWrite()
						if _, err := io.Copy(io.Discard, c); err != nil {
							t.Errorf("end of %v: %v", c.Addr(), err)
						}
						c.Close()
					})
				}
			})
			var wg sync.WaitGroup
			for i := range openers {
				wg.Go(func() {
					for n := range each {
						a := addr.SocketAddrFrom(vtA.IP(), uint16(i*each+n+1))
						c, err := p.Open(context.Background(), a)
						if err != nil {
							t.Errorf("Open(%v): %v", a, err)
							return
						}
						c.SetDeadline(time.Now().Add(time.Minute))
						got, err := io.ReadAll(c)
						if string(got) != "hello "+a.String() || err != nil {
							t.Errorf("%v has read %q, %v", a, got, err)
						}
						c.Close()
					}
				})
			}
			wg.Wait() // every greeting has been read, so every handler has begun
			handlers.Wait()
			var ends sync.WaitGroup
			ends.Go(func() { p.Close() })
			l.Close()
			ends.Wait()
			acceptor.Wait()
		}
		t.Run(tr.name, func(t *testing.T) { tr.withEach(t, run) })
	}
}

// Hazard 8: the vt-muxer peer. What vt_state_test.go doesn't ask for is how a
// session ends: the transport is closed after all ends both ways, never before. A
// vt-muxer end tells only one of its tasks that a transport was closed.

// transportEnded reports whether the session has closed its transport.
func (tc *vtTest) transportEnded() bool {
	tc.settle()
	tc.peer.mu.Lock()
	defer tc.peer.mu.Unlock()
	return tc.peer.readErr != nil
}

// TestShutdownClosesTheTransportAfterAllEnds follows a Shutdown end by end.
func TestShutdownClosesTheTransportAfterAllEnds(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		a, b := tc.open(vtA), tc.open(vtB)
		tc.want("two opens", vtOpen(vtA), vtOpen(vtB))
		op := tc.startErr("Shutdown", func() error { return tc.p.Shutdown(context.Background()) })
		waits := func(sentence string) {
			tc.t.Helper()
			if tc.transportEnded() {
				tc.t.Fatalf("%s, and the transport is closed", sentence)
			}
			op.wantBlocked(sentence)
		}
		waits("two connections are open")
		tc.wantOpenErr("nothing new is opened", vtC, ErrDraining)
		tc.write(a, "still here")
		tc.want("what is open works on", vtData(vtA, "still here"))
		tc.send(vtEnd(vtA), vtEnd(vtB))
		waits("the peer has ended both, we have not")
		a.Close()
		tc.want("our end of one", vtEnd(vtA))
		waits("our half of the other is open")
		b.Close()
		tc.want("our end of the other", vtEnd(vtB))
		if !tc.transportEnded() {
			tc.t.Error("all have ended both ways, and the transport is open")
		}
		op.want("Shutdown is done", 0, nil)
		if err := tc.p.Err(); !errors.Is(err, net.ErrClosed) {
			tc.t.Errorf("the session ended with %v, want net.ErrClosed", err)
		}
	})
}

// TestShutdownWaitsForThePeersEnds: closed here is not ended there, and the peer may still
// be sending what nobody will read.
func TestShutdownWaitsForThePeersEnds(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.write(c, "last words")
		c.Close()
		tc.want("all of it", vtOpen(vtA), vtData(vtA, "last words"), vtEnd(vtA))
		op := tc.startErr("Shutdown", func() error { return tc.p.Shutdown(context.Background()) })
		tc.send(vtData(vtA, "more"))
		if tc.transportEnded() {
			tc.t.Fatal("the peer has not ended its half, and the transport is closed")
		}
		op.wantBlocked("the peer has not ended its half")
		tc.send(vtEnd(vtA))
		op.want("Shutdown is done", 0, nil)
		if !tc.transportEnded() {
			tc.t.Error("all have ended both ways, and the transport is open")
		}
	})
}

// TestShutdownRefusesWhatThePeerOpens, and waits for those ends as well.
func TestShutdownRefusesWhatThePeerOpens(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		c := tc.open(vtC)
		tc.want("our open", vtOpen(vtC))
		tc.send(vtOpen(vtA), vtData(vtA, "nobody took it"))
		op := tc.startErr("Shutdown", func() error { return tc.p.Shutdown(context.Background()) })
		tc.want("what is not accepted is refused", vtEnd(vtA))
		tc.send(vtOpen(vtB))
		tc.want("and what comes", vtEnd(vtB))
		if _, err := tc.l.Accept(); !errors.Is(err, ErrDraining) {
			tc.t.Errorf("Accept returned %v, want ErrDraining", err)
		}
		tc.send(vtEnd(vtC))
		c.Close()
		tc.want("our end", vtEnd(vtC))
		tc.send(vtEnd(vtA))
		op.wantBlocked("a refused connection has not ended")
		if tc.transportEnded() {
			tc.t.Fatal("the peer has not ended a refused connection, and the transport is closed")
		}
		tc.send(vtEnd(vtB))
		op.want("Shutdown is done", 0, nil)
	})
}

// TestShutdownOfAnIdleSession ends at once.
func TestShutdownOfAnIdleSession(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		if err := tc.p.Shutdown(context.Background()); err != nil {
			tc.t.Errorf("Shutdown returned %v", err)
		}
		if !tc.transportEnded() {
			tc.t.Error("the transport is open")
		}
		tc.wantIdle("nothing is said about it")
		if err := tc.p.Close(); err != nil {
			tc.t.Errorf("Close returned %v", err)
		}
	})
}

// TestShutdownWhoseContextEnds does what Close does.
func TestShutdownWhoseContextEnds(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.write(c, "in time")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		if err := tc.p.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second+closeLinger {
			tc.t.Errorf("Shutdown returned %v after %v", err, time.Since(start))
		}
		tc.want("what was written before", vtOpen(vtA), vtData(vtA, "in time"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			tc.t.Errorf("Read returned %v, want net.ErrClosed", err)
		}
	})
}

// TestShutdownFlushesBeforeItCloses: the ends that the transport has not taken yet
// go out first.
func TestShutdownFlushesBeforeItCloses(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		a, b := tc.open(vtA), tc.open(vtB)
		tc.send(vtEnd(vtA), vtEnd(vtB))
		tc.peer.setDeaf(true)
		first := tc.startWrite(a, "holds the transport")
		tc.write(b, "small")
		first.wantBlocked("the peer reads nothing")
		b.Close()
		op := tc.startErr("Shutdown", func() error { return tc.p.Shutdown(context.Background()) })
		op.wantBlocked("an end is under way")
		tc.peer.setDeaf(false)
		first.want("it is out", 19, nil)
		a.Close()
		tc.want("all of it", vtOpen(vtA), vtOpen(vtB), vtData(vtA, "holds the transport"), vtData(vtB, "small"), vtEnd(vtB), vtEnd(vtA))
		op.want("Shutdown is done", 0, nil)
	})
}

// TestShutdownOfBothEnds: two sessions shut down at once, after a conversation and
// over transports with and without halves. Both must succeed, with nothing lost.
func TestShutdownOfBothEnds(t *testing.T) {
	run := func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		x, err := p.Open(ctx, vtA)
		if err != nil {
			t.Fatal(err)
		}
		y, err := l.AcceptConn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		data := strings.Repeat("to the last byte ", 20_000)
		var wg sync.WaitGroup
		for _, c := range []*Conn{x, y} {
			wg.Go(func() {
				c.Write([]byte(data))
				c.CloseWrite()
			})
			wg.Go(func() {
				got, err := io.ReadAll(c)
				if string(got) != data || err != nil {
					t.Errorf("read %d bytes of %d, %v", len(got), len(data), err)
				}
			})
		}
		wg.Go(func() {
			if err := p.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown of the Pipe: %v", err)
			}
		})
		wg.Go(func() {
			if err := l.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown of the Listener: %v", err)
			}
		})
		wg.Wait()
		x.Close()
		y.Close()
	}
	t.Run("tcp", func(t *testing.T) {
		overTCP.withEach(t, func(t *testing.T, tr transport) {
			for range 50 {
				run(t, tr)
			}
		})
	})
	t.Run("pipe", func(t *testing.T) {
		overPipe.withEach(t, func(t *testing.T, tr transport) {
			for range 50 {
				synctest.Test(t, func(t *testing.T) { run(t, tr) })
			}
		})
	})
}

// TestSessionsCloseLeavesNoCleanEnd: Close ends at once, and a connection that was open
// must not look finished to the peer.
func TestSessionsCloseLeavesNoCleanEnd(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.write(c, "half of it")
		tc.p.Close()
		tc.want("no end for a connection that was cut", vtOpen(vtA), vtData(vtA, "half of it"))
		if !tc.transportEnded() {
			tc.t.Error("the transport is open")
		}
	})
}

// Close over TLS, to a peer that reads nothing, does not wait the 5 s that crypto/tls gives
// its farewell.
// To see it fail: in xport, take the AfterFunc out of Close.
func TestCloseWaitsForNoFarewell(t *testing.T) {
	cert := testCert()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		peer := tls.Server(far, &tls.Config{SessionTicketsDisabled: true, Certificates: []tls.Certificate{cert}})
		shook := async(func() error {
			if err := peer.Handshake(); err != nil {
				return err
			}
			_, err := peer.Read(make([]byte, 4096)) // the preface
			return err
		})
		p, err := NewPipe(tls.Client(near, &tls.Config{InsecureSkipVerify: true}), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-shook; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		p.Close()
		if d := time.Since(start); d > closeLinger+100*time.Millisecond {
			t.Errorf("Close took %v", d)
		}
	})
}
