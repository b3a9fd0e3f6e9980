package faultconn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/vtmux/vtmux/internal/leakcheck"
)

func TestMain(m *testing.M) { leakcheck.Main(m, leakcheck.OpenFiles()) }

// pair returns a connection with faults and the plain other end of it.
func pair(t *testing.T, plan Plan) (*Conn, net.Conn) {
	a, b := net.Pipe()
	c := New(a, plan)
	t.Cleanup(func() { c.Close(); b.Close() })
	return c, b
}

// send writes s to conn from another goroutine, then closes conn.
func send(conn net.Conn, s string) {
	go func() {
		io.WriteString(conn, s)
		conn.Close()
	}()
}

// pieces reads conn to its end with a large buffer and returns what each Read gave, and the last error.
func pieces(conn io.Reader) (got []string, err error) {
	buf := make([]byte, 1<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			got = append(got, string(buf[:n]))
		}
		if err != nil {
			return got, err
		}
	}
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("pieces are %q, want %q", got, want)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

func TestReadFaults(t *testing.T) {
	boom := errors.New("boom")
	for name, tt := range map[string]struct {
		faults Faults
		want   []string
		err    error
	}{
		"none":                       {Faults{}, []string{"abcdefgh"}, io.EOF},
		"pieces":                     {Faults{MaxPiece: 3}, []string{"abc", "def", "gh"}, io.EOF},
		"cut before the first byte":  {Faults{End: Cut}, nil, io.EOF},
		"cut inside":                 {Faults{End: Cut, EndAt: 5}, []string{"abcde"}, io.EOF},
		"cut inside a piece":         {Faults{End: Cut, EndAt: 4, MaxPiece: 3}, []string{"abc", "d"}, io.EOF},
		"cut with an error":          {Faults{End: Cut, EndAt: 5, CutErr: syscall.ECONNRESET}, []string{"abcde"}, syscall.ECONNRESET},
		"cut beyond the end":         {Faults{End: Cut, EndAt: 9, CutErr: boom}, []string{"abcdefgh"}, io.EOF},
		"first call fails":           {Faults{FailCall: 1}, nil, ErrInjected},
		"third call fails":           {Faults{FailCall: 3, FailErr: boom, MaxPiece: 2}, []string{"ab", "cd"}, boom},
		"third call fails and reads": {Faults{FailCall: 3, FailErr: boom, MaxPiece: 2, ErrWithBytes: true}, []string{"ab", "cd", "ef"}, boom},
		"nothing every second call":  {Faults{ZeroEvery: 2, MaxPiece: 4}, []string{"abcd", "efgh"}, io.EOF},
		"second call is short":       {Faults{ShortCall: 2, MaxPiece: 4}, []string{"abcd", "e", "fgh"}, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := pair(t, Plan{Read: tt.faults})
			send(peer, "abcdefgh")
			got, err := pieces(c)
			equal(t, got, tt.want...)
			wantErr(t, err, tt.err)
			if n := c.ReadBytes(); n != int64(len(strings.Join(got, ""))) {
				t.Errorf("ReadBytes is %d after %q", n, got)
			}
		})
	}
}

func TestWriteFaults(t *testing.T) {
	boom := errors.New("boom")
	for name, tt := range map[string]struct {
		faults Faults
		want   []string // the pieces that the peer sees
		n      int
		err    error
	}{
		"none":                        {Faults{}, []string{"abcdefgh"}, 8, nil},
		"pieces":                      {Faults{MaxPiece: 3}, []string{"abc", "def", "gh"}, 8, nil},
		"cut before the first byte":   {Faults{End: Cut}, nil, 0, syscall.ECONNRESET},
		"cut inside":                  {Faults{End: Cut, EndAt: 5, CutErr: boom}, []string{"abcde"}, 5, boom},
		"cut at the end of the Write": {Faults{End: Cut, EndAt: 8}, []string{"abcdefgh"}, 8, nil},
		"the same, with the bytes":    {Faults{End: Cut, EndAt: 8, ErrWithBytes: true}, []string{"abcdefgh"}, 8, syscall.ECONNRESET},
		"swallow":                     {Faults{End: Swallow, EndAt: 3}, []string{"abc"}, 8, nil},
		"fails":                       {Faults{FailCall: 1}, nil, 0, ErrInjected},
		"fails after a piece":         {Faults{FailCall: 1, MaxPiece: 2, ErrWithBytes: true}, []string{"ab"}, 2, ErrInjected},
		"nothing":                     {Faults{ZeroEvery: 1}, nil, 0, nil},
		"short":                       {Faults{Short: true, MaxPiece: 3}, []string{"abc"}, 3, nil},
		"this call is short":          {Faults{ShortCall: 1}, []string{"a"}, 1, nil},
		"another call is short":       {Faults{ShortCall: 2}, []string{"abcdefgh"}, 8, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := pair(t, Plan{Write: tt.faults})
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer c.Close()
				n, err := io.WriteString(c, "abcdefgh")
				if n != tt.n || !errors.Is(err, tt.err) {
					t.Errorf("Write returns %d, %v, want %d, %v", n, err, tt.n, tt.err)
				}
			}()
			got, err := pieces(peer)
			<-done
			equal(t, got, tt.want...)
			wantErr(t, err, io.EOF)
			if n := c.WrittenBytes(); n != int64(len(strings.Join(got, ""))) {
				t.Errorf("WrittenBytes is %d, the peer got %q", n, got)
			}
		})
	}
}

func TestCutLasts(t *testing.T) {
	c, _ := pair(t, Plan{Read: Faults{End: Cut}, Write: Faults{End: Cut}})
	for range 3 {
		_, err := c.Read(make([]byte, 1))
		wantErr(t, err, io.EOF)
		_, err = c.Write([]byte("x"))
		wantErr(t, err, syscall.ECONNRESET)
	}
}

func TestOneFailureIsNotTheEnd(t *testing.T) {
	c, peer := pair(t, Plan{Read: Faults{FailCall: 1}})
	send(peer, "abc")
	_, err := c.Read(make([]byte, 3))
	wantErr(t, err, ErrInjected)
	got, err := pieces(c)
	equal(t, got, "abc")
	wantErr(t, err, io.EOF)
}

func TestRandomPiecesFollowTheSeed(t *testing.T) {
	text := strings.Repeat("0123456789", 20)
	run := func(seed uint64) []string {
		c, peer := pair(t, Plan{Seed: seed, Read: Faults{RandomPieces: true, MaxPiece: 7}})
		send(peer, text)
		got, _ := pieces(c)
		if joined := strings.Join(got, ""); joined != text {
			t.Fatalf("seed %d: bytes changed: %q", seed, joined)
		}
		return got
	}
	first := run(1)
	equal(t, run(1), first...)
	if slices.Equal(run(2), first) {
		t.Error("two seeds gave the same pieces")
	}
	if n := len(slices.CompactFunc(first, func(a, b string) bool { return len(a) == len(b) })); n < 2 {
		t.Errorf("all pieces have one size: %q", first)
	}
	for _, p := range first {
		if len(p) > 7 {
			t.Errorf("piece %q is longer than MaxPiece", p)
		}
	}
}

// blocking is every way to block for ever, each as a plan and the call that blocks after one byte at most.
var blocking = map[string]struct {
	plan Plan
	call func(*Conn) (int, error)
	n    int
}{
	"stalled Read":   {Plan{Read: Faults{End: Stall}}, func(c *Conn) (int, error) { return c.Read(make([]byte, 4)) }, 0},
	"stalled Write":  {Plan{Write: Faults{End: Stall, EndAt: 1}}, func(c *Conn) (int, error) { return c.Write([]byte("abcd")) }, 1},
	"swallowed Read": {Plan{Read: Faults{End: Swallow}}, func(c *Conn) (int, error) { return c.Read(make([]byte, 4)) }, 0},
}

// feed keeps the peer of a connection busy: it reads all and writes without end.
func feed(peer net.Conn) {
	go io.Copy(io.Discard, peer)
	go func() {
		for {
			if _, err := peer.Write(make([]byte, 100)); err != nil {
				return
			}
		}
	}()
}

func TestDeadlineEndsABlockedCall(t *testing.T) {
	for name, tt := range blocking {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, peer := pair(t, tt.plan)
				if tt.plan.Read.End != Swallow { // an endless stream of lost bytes would keep the bubble's clock from moving
					feed(peer)
				}
				start := time.Now()
				c.SetDeadline(start.Add(time.Minute))
				n, err := tt.call(c)
				wantErr(t, err, os.ErrDeadlineExceeded)
				if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
					t.Errorf("%v is not a timeout", err)
				}
				if n != tt.n || time.Since(start) != time.Minute {
					t.Errorf("moved %d bytes in %v, want %d in a minute", n, time.Since(start), tt.n)
				}
			})
		})
	}
}

func TestDeadlineMovedWhileBlocked(t *testing.T) {
	for name, tt := range blocking {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, peer := pair(t, tt.plan)
				go io.Copy(io.Discard, peer)
				start := time.Now()
				c.SetDeadline(start.Add(time.Minute))
				result := make(chan error)
				go func() {
					_, err := tt.call(c)
					result <- err
				}()
				<-time.After(time.Second)
				c.SetDeadline(start.Add(time.Hour))
				<-time.After(2 * time.Minute)
				select {
				case err := <-result:
					t.Fatalf("returned %v at the first deadline", err)
				default:
				}
				c.SetDeadline(start)
				wantErr(t, <-result, os.ErrDeadlineExceeded)
			})
		})
	}
}

func TestCloseEndsABlockedCall(t *testing.T) {
	for name, tt := range blocking {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, peer := pair(t, tt.plan)
				go io.Copy(io.Discard, peer)
				result := make(chan error, 2)
				for range 2 { // one blocks in the call, the other waits for its turn
					go func() {
						_, err := tt.call(c)
						result <- err
					}()
				}
				synctest.Wait()
				if err := c.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				for range 2 {
					if err := <-result; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
						t.Errorf("error is %v, want that of a closed connection", err)
					}
				}
			})
		})
	}
}

func TestSwallowedReadSeesTheEnd(t *testing.T) {
	c, peer := pair(t, Plan{Read: Faults{End: Swallow, EndAt: 2}})
	send(peer, "abcdefgh")
	got, err := pieces(c)
	equal(t, got, "ab")
	wantErr(t, err, io.EOF)
}

func TestStallThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stall := Faults{End: Stall, EndAt: 2, StallFor: time.Minute}
		c, peer := pair(t, Plan{Read: stall, Write: stall})
		start := time.Now()
		send(peer, "abcdefgh")
		c.SetReadDeadline(start.Add(time.Second))
		got, err := pieces(c)
		equal(t, got, "ab")
		wantErr(t, err, os.ErrDeadlineExceeded)
		c.SetReadDeadline(time.Time{})
		got, err = pieces(c)
		equal(t, got, "cdefgh")
		wantErr(t, err, io.EOF)
		if took := time.Since(start); took != time.Minute {
			t.Errorf("the stall took %v, want a minute from the call that it held up first", took)
		}
	})
}

func TestBreakFromNowOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pair(t, Plan{})
		go io.WriteString(c, "ab")
		buf := make([]byte, 8)
		if n, err := peer.Read(buf); n != 2 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		c.Break(Cut, Swallow)
		if n, err := io.WriteString(c, "lost"); n != 4 || err != nil {
			t.Errorf("swallowed: %d, %v", n, err)
		}
		_, err := c.Read(buf)
		wantErr(t, err, io.EOF)
		c.Break(Open, Open)
		go io.WriteString(c, "cd")
		if n, err := peer.Read(buf); string(buf[:n]) != "cd" || err != nil {
			t.Errorf("after the break: %q, %v", buf[:n], err)
		}
		synctest.Wait() // until Write has counted them
		if n := c.WrittenBytes(); n != 4 {
			t.Errorf("WrittenBytes is %d, want 4", n)
		}
	})
}

func TestFaultTellsWhereItStruck(t *testing.T) {
	for name, tt := range map[string]struct {
		faults Faults
		at     int64
		struck bool
	}{
		"none":                {Faults{}, 0, false},
		"cut":                 {Faults{End: Cut, EndAt: 5}, 5, true},
		"cut with the bytes":  {Faults{End: Cut, EndAt: 5, ErrWithBytes: true}, 5, true},
		"cut beyond":          {Faults{End: Cut, EndAt: 50}, 0, false},
		"call":                {Faults{FailCall: 2, MaxPiece: 4}, 4, true},
		"call with the bytes": {Faults{FailCall: 2, MaxPiece: 4, ErrWithBytes: true}, 8, true},
		"call that never is":  {Faults{FailCall: 20}, 0, false},
		"short":               {Faults{ShortCall: 1}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := pair(t, Plan{Read: tt.faults})
			send(peer, "abcdefgh")
			pieces(c)
			if at, struck := c.ReadFault(); at != tt.at || struck != tt.struck {
				t.Errorf("ReadFault is %d, %t, want %d, %t", at, struck, tt.at, tt.struck)
			}
			if _, struck := c.WriteFault(); struck {
				t.Error("the write side was struck")
			}
		})
	}
}

func TestDirectionsFailApart(t *testing.T) {
	c, peer := pair(t, Plan{Read: Faults{End: Cut}})
	go c.Write([]byte("abc"))
	buf := make([]byte, 3)
	if _, err := io.ReadFull(peer, buf); err != nil || string(buf) != "abc" {
		t.Errorf("peer reads %q, %v", buf, err)
	}
}

func TestNoDeadlines(t *testing.T) {
	c, peer := pair(t, Plan{NoDeadlines: true})
	wantErr(t, c.SetDeadline(time.Unix(1, 0)), os.ErrNoDeadline)
	wantErr(t, c.SetReadDeadline(time.Unix(1, 0)), os.ErrNoDeadline)
	wantErr(t, c.SetWriteDeadline(time.Unix(1, 0)), os.ErrNoDeadline)
	send(peer, "abc")
	got, err := pieces(c)
	equal(t, got, "abc")
	wantErr(t, err, io.EOF)
}

func TestCallsAfterClose(t *testing.T) {
	c, _ := pair(t, Plan{Read: Faults{End: Cut}, Write: Faults{End: Swallow}})
	c.Close()
	_, err := c.Read(make([]byte, 1))
	wantErr(t, err, net.ErrClosed)
	_, err = c.Write([]byte("x"))
	wantErr(t, err, net.ErrClosed)
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestReaderContract(t *testing.T) {
	text := bytes.Repeat([]byte("vtmux"), 300)
	for name, f := range map[string]Faults{
		"single bytes":           {MaxPiece: 1},
		"random":                 {RandomPieces: true},
		"random, with the error": {RandomPieces: true, End: Cut, EndAt: int64(len(text)), ErrWithBytes: true},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := pair(t, Plan{Seed: 1, Read: f})
			send(peer, string(text))
			if err := iotest.TestReader(c, text); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConcurrentWritesStayWhole(t *testing.T) {
	c, peer := pair(t, Plan{Seed: 1, Write: Faults{RandomPieces: true, MaxPiece: 3}})
	const writers, words = 8, 50
	var wg sync.WaitGroup
	for i := range writers {
		word := []byte(strings.Repeat(string(rune('a'+i)), 10))
		wg.Go(func() {
			for range words {
				if _, err := c.Write(word); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); c.Close() }()
	all, err := io.ReadAll(peer)
	if err != nil || len(all) != writers*words*10 {
		t.Fatalf("%d bytes, %v", len(all), err)
	}
	for word := range slices.Chunk(all, 10) {
		if len(bytes.Trim(word, string(word[:1]))) > 0 {
			t.Fatalf("two writes are mixed: %q", word)
		}
	}
}

func TestNetConn(t *testing.T) {
	random := Faults{RandomPieces: true, MaxPiece: 4 << 10}
	for name, tt := range map[string]struct {
		dial func() (a, b net.Conn, err error)
		plan Plan
	}{
		// A pipe holds no bytes, and the suite's echo writes back what it has read of a Write that still goes on: pieces
		// would lock it up.
		"pipe": {dialPipe, Plan{}},
		"tcp":  {dialTCP, Plan{Seed: 1, Read: random, Write: random}},
	} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				a, b, err := tt.dial()
				if err != nil {
					return nil, nil, nil, err
				}
				c1, c2 = New(a, tt.plan), New(b, tt.plan)
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
		})
	}
}

func dialPipe() (a, b net.Conn, err error) {
	a, b = net.Pipe()
	return a, b, nil
}

func dialTCP() (a, b net.Conn, err error) {
	l, err := nettest.NewLocalListener("tcp")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if b, err = l.Accept(); err != nil {
		a.Close()
	}
	return a, b, err
}

func TestGateHoldsUpACallUntilItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		c, peer := pair(t, Plan{Read: Faults{GateEvery: 2, Gate: gate}})
		send(peer, "ab")
		var b [1]byte
		if n, err := c.Read(b[:]); n != 1 || err != nil {
			t.Errorf("first Read: %d, %v", n, err)
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := c.Read(b[:]); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("second Read, gate shut: %d, %v", n, err)
		}
		c.SetReadDeadline(time.Time{})
		if n, err := c.Read(b[:0]); n != 0 || err != nil {
			t.Errorf("third Read: %d, %v", n, err)
		}
		began := time.Now()
		time.AfterFunc(time.Minute, func() { gate <- struct{}{} })
		if n, err := c.Read(b[:]); n != 1 || err != nil || b[0] != 'b' || time.Since(began) != time.Minute {
			t.Errorf("fourth Read, gate opened after a minute: %d, %v, %q after %v", n, err, b, time.Since(began))
		}
	})
}
