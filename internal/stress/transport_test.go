package stress

import (
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/vtmux/vtmux/internal/faultconn"
)

// A fault is what happens to a session's transport, or to the session as a whole.
type fault int

const (
	noFault    fault = iota
	narrow           // the kernel holds little
	pieces           // short reads and writes, which wait at a gate now and then
	closes           // an end, or both, call Close in the middle
	shutsDown        // an end calls Shutdown in the middle, and waits
	cutsShort        // an end calls Shutdown in the middle, with little patience
	reset            // the socket is reset
	halfClosed       // the socket's one half is ended behind the session's back
	cut              // the transport fails at some byte
	stalls           // the transport takes, or brings, nothing more from some byte on
	faults           // how many there are
)

func (f fault) String() string {
	return [...]string{"no fault", "narrow", "pieces", "closes", "shuts down", "cuts short", "reset", "half closed", "cut", "stalls"}[f]
}

// socketPair returns the two ends of a connection over network, which is "tcp" or "unix".
func socketPair(network string) (a, b socket, err error) {
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "stress")
		if err != nil {
			return nil, nil, err
		}
		defer os.RemoveAll(dir)
		address = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	type dialed struct {
		c   net.Conn
		err error
	}
	done := make(chan dialed, 1)
	go func() {
		c, err := net.Dial(network, l.Addr().String())
		done <- dialed{c, err}
	}()
	d := <-done // the kernel has it, accepted or not
	if d.err != nil {
		return nil, nil, d.err
	}
	c, err := l.Accept()
	if err != nil {
		d.c.Close()
		return nil, nil, err
	}
	return d.c.(socket), c.(socket), nil
}

// A socket is what *net.TCPConn and *net.UnixConn have in common.
type socket interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}

// squeeze makes the kernel hold little of what is sent. It leaves TCP as much as it needs to keep going: with less, the
// sender waits for its timer, 200 ms, before each few bytes.
func squeeze(r *rand.Rand, sockets ...socket) {
	for _, s := range sockets {
		least := 2 << 10
		if _, ok := s.(*net.TCPConn); ok {
			least = 32 << 10
		}
		s.SetReadBuffer(least + r.IntN(least))
		s.SetWriteBuffer(least + r.IntN(least))
	}
}

// breakOff ends a socket behind its owner's back. Over TCP the peer sees a reset.
func breakOff(s socket) {
	if tcp, ok := s.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	s.Close()
}

// wrap returns what a session gets for its transport.
func (f fault) wrap(r *rand.Rand, c socket, gate <-chan struct{}) net.Conn {
	plan := faultconn.Plan{Seed: r.Uint64(), Read: someFaults(r, gate), Write: someFaults(r, gate)}
	bad := &plan.Read
	if r.IntN(2) == 0 {
		bad = &plan.Write
	}
	bad.EndAt = r.Int64N(1 << (4 + r.IntN(17)))
	switch f {
	case pieces:
	case cut:
		bad.End = faultconn.Cut
		bad.CutErr = []error{nil, syscall.ECONNRESET, syscall.ETIMEDOUT, faultconn.ErrInjected}[r.IntN(4)]
	case stalls:
		bad.End = faultconn.Stall
		if r.IntN(2) == 0 {
			bad.End = faultconn.Swallow
		}
	default:
		return c
	}
	return faultconn.New(c, plan)
}

func someFaults(r *rand.Rand, gate <-chan struct{}) (f faultconn.Faults) {
	if r.IntN(4) > 0 {
		f.MaxPiece = 1 << r.IntN(17)
		if f.MaxPiece < 256 && r.IntN(8) > 0 {
			f.MaxPiece = 0
		}
		f.RandomPieces = true
	}
	if r.IntN(3) == 0 {
		f.GateEvery, f.Gate = 20+r.IntN(200), gate
	}
	if r.IntN(4) == 0 {
		f.ZeroEvery = 2 + r.IntN(50)
	}
	return f
}
