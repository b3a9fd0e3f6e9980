//go:build linux

package xport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func writeVec(x *Transport, p ...[]byte) (int, error) {
	v := net.Buffers(p)
	n, err := x.WriteVec(&v)
	return int(n), err
}

// TestCallsStayWithinTheirSlices: what lies around a slice is neither sent nor written to,
// wherever the slice lies and whatever its capacity is.
func TestCallsStayWithinTheirSlices(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		near, far := streamPair(t, network)
		x, y := New(near), New(far)
		for at := range 17 {
			for _, n := range []int{1, 2, 15, 16, 17, 100} {
				out := bytes.Repeat([]byte{'#'}, 3*at+3*n+64)
				var v net.Buffers
				var want []byte
				for i := range 3 {
					p := out[(i+1)*at+i*n:][:n]
					for j := range p {
						p[j] = byte('a' + (i+j)%26)
					}
					v, want = append(v, p), append(want, p...)
				}
				if m, err := x.TryWrite(v[0]); m != n || err != nil {
					t.Fatal(m, err)
				}
				if m, err := x.Write(v[1]); m != n || err != nil {
					t.Fatal(m, err)
				}
				rest := v[2:]
				if m, err := x.WriteVec(&rest); m != int64(n) || err != nil {
					t.Fatal(m, err)
				}
				in := bytes.Repeat([]byte{'.'}, 4*at+3*n+64)
				a, b, c := in[at:][:n], in[2*at+n:][:n], in[3*at+2*n:][:n]
				if _, err := io.ReadFull(reader(y.Read), a); err != nil {
					t.Fatal(err)
				}
				for m := 0; m < 2*n; {
					k, err := y.ReadVec(b[min(m, n):], c[max(m-n, 0):], nil)
					if err != nil {
						t.Fatal(err)
					}
					m += k
				}
				if got := bytes.Join([][]byte{a, b, c}, nil); !bytes.Equal(got, want) {
					t.Fatalf("%s, %d bytes %d apart: read %q, want %q", network, n, at, got, want)
				}
				if around := len(in) - 3*n; bytes.Count(in, []byte{'.'}) != around {
					t.Fatalf("%s, %d bytes %d apart: bytes around the slices have changed: %q", network, n, at, in)
				}
			}
		}
	}
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// TestWriteVecOfMoreSlicesThanACallTakes, with empty ones among them, through a transport
// that takes them in pieces.
func TestWriteVecOfMoreSlicesThanACallTakes(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		near, far := streamPair(t, network)
		x := New(near)
		var v net.Buffers
		var want []byte
		for i := range 3000 {
			p := bytes.Repeat([]byte{byte(i)}, i%7*i)
			v, want = append(v, p), append(want, p...)
		}
		backing := v
		got := make(chan []byte, 1)
		go func() { p, _ := io.ReadAll(far); got <- p }()
		if n, err := x.WriteVec(&v); n != int64(len(want)) || err != nil || len(v) != 0 {
			t.Errorf("%s: %d bytes, %v, %d slices are left; want %d bytes", network, n, err, len(v), len(want))
		}
		for i, p := range backing {
			if p != nil {
				t.Fatalf("%s: slice %d is still referred to", network, i)
			}
		}
		near.Close()
		if p := <-got; !bytes.Equal(p, want) {
			t.Errorf("%s: the peer read %d bytes, which are others than the %d written", network, len(p), len(want))
		}
	}
}

// TestInterruptedWritesTellWhatWasSent: to the byte, so that the rest can follow.
func TestInterruptedWritesTellWhatWasSent(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, vec := range []bool{false, true} {
			near, far := streamPair(t, network)
			x := New(near)
			p := make([]byte, 8<<20)
			for i := range p {
				p[i] = byte(i>>16 ^ i>>8 ^ i)
			}
			x.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			var n int
			var err error
			if vec {
				v := net.Buffers{p[:100_000], p[100_000:3_000_000], p[3_000_000:]}
				n, err = writeVec(x, v...)
			} else {
				n, err = x.Write(p)
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(p) {
				t.Fatalf("%s, vector %v: %d, %v; want a part, and the deadline", network, vec, n, err)
			}
			near.Close()
			got, err := io.ReadAll(far)
			if err != nil || !bytes.Equal(got, p[:n]) {
				t.Errorf("%s, vector %v: %d bytes were told, and the peer read %d, %v", network, vec, n, len(got), err)
			}
		}
	}
}

// TestWritesTellWhatWriteTells: a deadline, the end of our half and Close look the same,
// however bytes are written, and no signal comes.
func TestWritesTellWhatWriteTells(t *testing.T) {
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	defer signal.Stop(pipes)
	for _, tt := range []struct {
		name   string
		spoil  func(near, far net.Conn)
		target error
	}{
		{"deadline", func(near, _ net.Conn) { near.SetWriteDeadline(past) }, os.ErrDeadlineExceeded},
		{"shut", func(near, _ net.Conn) { near.(interface{ CloseWrite() error }).CloseWrite() }, syscall.EPIPE},
		{"close", func(near, _ net.Conn) { near.Close() }, net.ErrClosed},
	} {
		for name, write := range map[string]func(*Transport) (int, error){
			"Write":    func(x *Transport) (int, error) { return x.Write(make([]byte, 8)) },
			"WriteVec": func(x *Transport) (int, error) { return writeVec(x, make([]byte, 8), make([]byte, 8)) },
			"TryWrite": func(x *Transport) (int, error) { return x.TryWrite(make([]byte, 8)) },
		} {
			for _, network := range []string{"tcp", "unix"} {
				near, far := streamPair(t, network)
				x := New(near)
				tt.spoil(near, far)
				if n, err := write(x); n != 0 || !errors.Is(err, tt.target) {
					t.Errorf("%s, %s, %s: %d, %v; want 0, %v", network, tt.name, name, n, err, tt.target)
				}
			}
		}
	}
	select {
	case <-pipes:
		if direct {
			t.Error("SIGPIPE came")
		}
	default:
	}
}

// computing names the variable that makes a process the child of TestComputingStopsNobody.
const computing = "VTMUX_XPORT_COMPUTING"

// idleFor is how long the child has nothing to do, before each time that it computes: the
// monitor's timer is used, set, at its end, and gone.
var idleFor = []time.Duration{200, 1, 5, 15, 19, 21, 25, 35, 39, 41, 45, 100}

// TestComputingStopsNobody: a process that was idle is sent something for which it computes,
// with its only P, until it has got something else: which needs the runtime's monitor. To see
// it fail: let wokeUp do nothing, or monitor.awakeSlow not set the timer, or not make the call.
func TestComputingStopsNobody(t *testing.T) {
	if address := os.Getenv(computing); address != "" {
		compute(t, address)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	child := exec.Command(os.Args[0], "-test.run=^TestComputingStopsNobody$")
	child.Env = append(os.Environ(), computing+"="+l.Addr().String(), "GOMAXPROCS=1")
	out := new(bytes.Buffer)
	child.Stdout, child.Stderr = out, out
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i := range conns {
		if conns[i], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	for _, idle := range idleFor {
		<-time.After(idle * time.Millisecond)
		conns[0].Write([]byte("x"))
		<-time.After(5 * time.Millisecond) // it computes by now, mostly
		conns[1].Write([]byte("x"))
		if _, err := conns[0].Read(make([]byte, 1)); err != nil {
			break // the child tells why
		}
	}
	if err := child.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// compute is the child.
func compute(t *testing.T, address string) {
	var conns [2]*Transport
	for i := range conns {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = New(c)
	}
	var served atomic.Int32
	go func() {
		for range idleFor {
			conns[1].Read(make([]byte, 1))
			served.Add(1)
		}
	}()
	for i, idle := range idleFor {
		if _, err := conns[0].Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); served.Load() <= int32(i); {
			if time.Since(start) > 5*time.Second {
				t.Fatalf("idle for %d ms: nobody else was served for 5 s", idle)
			}
		}
		conns[0].Write([]byte("x"))
	}
}

// TestCallsWhileTheCollectorRuns all the time, on slices that it could take a moment later.
func TestCallsWhileTheCollectorRuns(t *testing.T) {
	near, far := streamPair(t, "tcp")
	x, y := New(near), New(far)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	const rounds, size = 200, 100_000
	go func() {
		for i := range rounds {
			writeVec(x, bytes.Repeat([]byte{byte(i)}, size), bytes.Repeat([]byte{^byte(i)}, size))
		}
	}()
	for i := range rounds {
		for _, want := range []byte{byte(i), ^byte(i)} {
			p := make([]byte, size)
			for n := 0; n < size; {
				m, err := y.ReadVec(p[n:min(n+size/2, size)], p[min(n+size/2, size):], nil)
				if err != nil {
					t.Fatal(err)
				}
				n += m
			}
			if bytes.Count(p, []byte{want}) != size {
				t.Fatalf("round %d: bytes are others than were written", i)
			}
		}
	}
	close(stop)
	<-stopped
}
