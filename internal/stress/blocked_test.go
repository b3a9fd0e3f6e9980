package stress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
	"github.com/vtmux/vtmux/wire"
)

// blockedCalls is how many readers, and how many writers, are blocked. The race detector takes 8,128 goroutines at most.
func blockedCalls() int {
	if raceEnabled {
		return 3000
	}
	return 10_000
}

// endings are the ways in which a session ends. Each returns when the session has ended.
var endings = []struct {
	name string
	end  func(p *mux.Pipe, peer *net.TCPConn)
	is   func(error) bool // what blocked calls return
}{
	{"Close", func(p *mux.Pipe, _ *net.TCPConn) { p.Close() }, isClosed},
	{"Shutdown", func(p *mux.Pipe, _ *net.TCPConn) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		p.Shutdown(ctx)
	}, isClosed},
	{"reset", func(p *mux.Pipe, peer *net.TCPConn) {
		breakOff(peer)
		<-p.Done()
	}, isLost},
	{"end", func(p *mux.Pipe, peer *net.TCPConn) { // the peer reads nothing, so its kernel makes this a reset as well
		peer.Close()
		<-p.Done()
	}, isLost},
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

func isLost(err error) bool {
	var te *mux.TransportError
	return errors.As(err, &te) && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestEndOfASessionEndsAllBlockedCalls: over TCP, 10,000 readers and as many writers, all blocked on one session, return
// when it is closed, when a Shutdown's time is over, and when the transport is lost, with an error that tells so. How long
// that takes is logged; BenchmarkEndOfBlockedCalls measures it.
func TestEndOfASessionEndsAllBlockedCalls(t *testing.T) {
	for _, pr := range []mux.Protocol{mux.ProtocolVT, mux.Protocol1} {
		for _, e := range endings {
			t.Run(pr.String()+" "+e.name, func(t *testing.T) {
				calls, whole := endBlocked(t, pr, blockedCalls(), e.end, e.is)
				t.Logf("%d readers and %d writers returned within %v, %s within %v", blockedCalls(), blockedCalls(), calls, e.name, whole)
			})
		}
	}
}

// BenchmarkEndOfBlockedCalls measures how long 10,000 readers and 10,000 writers take to return when their session ends, and
// how long that end takes itself:
//
//	go test -run '^$' -bench EndOfBlockedCalls -benchtime 5x ./internal/stress
func BenchmarkEndOfBlockedCalls(b *testing.B) {
	for _, pr := range []mux.Protocol{mux.ProtocolVT, mux.Protocol1} {
		for _, e := range endings {
			b.Run(pr.String()+"/"+e.name, func(b *testing.B) {
				var calls, whole, worst time.Duration
				for range b.N {
					c, w := endBlocked(b, pr, blockedCalls(), e.end, e.is)
					calls, whole, worst = calls+c, whole+w, max(worst, c)
				}
				b.ReportMetric(calls.Seconds()*1e3/float64(b.N), "ms/calls")
				b.ReportMetric(worst.Seconds()*1e3, "ms/worst")
				b.ReportMetric(whole.Seconds()*1e3/float64(b.N), "ms/end")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// endBlocked blocks n readers and n writers on a session whose peer reads nothing, and ends it. It returns how long it took
// until all calls had returned, and the end itself.
func endBlocked(t testing.TB, pr mux.Protocol, n int, end func(*mux.Pipe, *net.TCPConn), is func(error) bool) (calls, whole time.Duration) {
	near, far, err := socketPair("tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if pr == mux.Protocol1 {
		set := wire.MinSettings()
		set.MaxConns = 1 << 20
		preface := make([]byte, wire.PrefaceFrameLen)
		wire.PutPreface(preface, set)
		if _, err := far.Write(preface); err != nil {
			t.Fatal(err)
		}
	}
	p, err := mux.NewPipe(near, &mux.Config{Protocol: pr})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	conns := make([]*mux.Conn, n)
	for i := range conns {
		a := addr.SocketAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 16), 0}), uint16(i)))
		if conns[i], err = p.Open(context.Background(), a); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	var wrong atomic.Pointer[error]
	check := func(err error) {
		if !is(err) {
			wrong.Store(&err)
		}
	}
	payload := make([]byte, 60_000) // within what any peer grants
	for _, c := range conns {
		wg.Go(func() {
			_, err := c.Read(make([]byte, 1))
			check(err)
		})
		wg.Go(func() {
			_, err := c.Write(payload)
			for err == nil {
				_, err = c.Write(payload)
			}
			check(err)
		})
	}
	awaitBlocked(t, n)
	began := time.Now()
	ended := make(chan time.Duration, 1)
	go func() {
		end(p, far.(*net.TCPConn))
		ended <- time.Since(began)
	}()
	wg.Wait()
	calls = time.Since(began)
	whole = <-ended
	if err := wrong.Load(); err != nil {
		t.Errorf("a call returned %v", *err)
	}
	for _, c := range conns {
		c.Close()
	}
	return calls, whole
}

// awaitBlocked waits until n goroutines are blocked in Read, and n in Write.
func awaitBlocked(t testing.TB, n int) {
	for began := time.Now(); ; {
		readers := goroutinesIn("mux.(*conn).await+")
		writers := goroutinesIn("mux.(*conn).parkWriter+", "mux.(*conn).awaitCredit+", "mux.(*writeSide).send+")
		if readers >= n && writers >= n {
			return
		}
		if time.Since(began) > hang {
			t.Fatalf("%d readers and %d writers are blocked, want %d each", readers, writers, n)
		}
	}
}

// goroutinesIn counts the goroutines that are in one of the calls.
func goroutinesIn(calls ...string) (n int) {
	var profile bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&profile, 1) // one stack for all that are at the same place
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if slices.ContainsFunc(calls, func(call string) bool { return strings.Contains(stack, call) }) {
			count, _, _ := strings.Cut(stack[strings.LastIndex(stack[:strings.Index(stack, " @ ")], "\n")+1:], " ")
			m, _ := strconv.Atoi(count)
			n += m
		}
	}
	return n
}
