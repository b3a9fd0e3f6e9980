package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vtmux/vtmux/mux"
)

// A setup is how a seed's world is made.
type setup struct {
	vt      bool
	accepts [2]bool // a Listener; else a Pipe
	cfg     [2]config
	kind    [2]Kind
	delay   [2]time.Duration // of a handshake
	room    [2]int
	piece   [2]int
	steps   int
	bulk    int // the most bytes of a Write
	most    int // connections
	shared  bool
	weights [actions]int
}

// dice returns the random numbers of one part of a seed. Each step has its own, so that
// the others stay what they are when one is left out.
func dice(seed, part uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, part)) }

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func drawSetup(seed uint64) (s setup) {
	r := dice(seed, 0)
	s.vt = r.IntN(3) == 0
	s.accepts = pick(r, [2]bool{false, true}, [2]bool{false, true}, [2]bool{true, false}, [2]bool{true, true})
	if !s.vt && r.IntN(30) == 0 {
		s.accepts = [2]bool{}
	}
	s.bulk = pick(r, 100, 10_000, 100_000, 300_000)
	s.most = pick(r, 1, 3, 8, 16)
	s.steps = pick(r, 20, 60, 100, 150)
	s.shared = !s.vt && r.IntN(3) == 0
	for i := range 2 {
		s.kind[i] = pick(r, Plain, NoDeadlines, Layered, Below, Sock, Sock, Sock)
		s.delay[i] = time.Duration(r.IntN(1_000_000))
		s.room[i] = pick(r, 100, 2_000, 20_000, 200_000)
		s.piece[i] = pick(r, 0, 0, 0, 1_000, 30, 1)
		if s.piece[i] == 1 {
			s.bulk = min(s.bulk, 1_000)
		} else if s.piece[i] == 30 {
			s.bulk = min(s.bulk, 20_000)
		}
		s.cfg[i] = drawConfig(r, s.vt)
		s.cfg[i].apart(time.Duration(i))
	}
	// What each end must be told for the two to speak the same.
	for i := range 2 {
		c := &s.cfg[i]
		switch other := s.accepts[1-i]; {
		case s.vt && (!s.accepts[i] || i == 0 && other):
			c.Protocol = mux.ProtocolVT // or else both would wait for the other to tell
		case s.vt:
			c.Protocol = pick(r, mux.ProtocolVT, mux.ProtocolAuto)
		default:
			c.Protocol = pick(r, mux.Protocol1, mux.ProtocolAuto)
		}
	}
	s.weights = baseWeights
	for i := range s.weights {
		s.weights[i] *= pick(r, 0, 1, 2, 4) // a world without some of it sees more of the rest
	}
	for _, always := range []action{actDeliver, actOpen, actAccept, actWrite, actRead} {
		s.weights[always] = max(s.weights[always], baseWeights[always])
	}
	return s
}

func drawConfig(r *rand.Rand, vt bool) (c config) {
	c.MaxWindow = pick(r, 131_070, 150_000, 256<<10)
	c.InitialWindow = pick(r, 0, 64<<10, 70_000, 100_000)
	c.AcceptBacklog = pick(r, 0, 0, 1, 2)
	if !vt {
		c.MaxConns = pick(r, 0, 0, 1, 3) // a vt-muxer peer that opens too many is cut off
	}
	c.KeepAliveInterval = pick(r, 0, -1, 30*time.Millisecond)
	if c.KeepAliveInterval > 0 {
		c.KeepAliveTimeout = 70 * time.Millisecond
	}
	c.PrefaceTimeout = pick(r, 0, 0, 0, 20*time.Millisecond)
	c.WriteTimeout = pick(r, 0, 0, -1, 100*time.Millisecond)
	return c
}

// apart makes an end's times differ from the other end's, by little. Timers of a bubble that
// fire at the same time do so in any order.
func (c *config) apart(i time.Duration) {
	for at, def := range map[*time.Duration]time.Duration{&c.KeepAliveInterval: 15 * time.Second, &c.KeepAliveTimeout: 30 * time.Second,
		&c.PrefaceTimeout: 10 * time.Second, &c.SilenceTimeout: 5 * time.Minute, &c.HandshakeTimeout: 10 * time.Second,
		&c.WriteTimeout: 30 * time.Second} {
		if *at == 0 {
			*at = def
		}
		if *at > 0 {
			*at += i * 7919 * time.Nanosecond
		}
	}
}

type config struct{ mux.Config }

func (s *setup) String() string {
	protocol := "protocol 1"
	if s.vt {
		protocol = "vt-muxer"
	}
	text := fmt.Sprintf("%s, %d steps, writes up to %d bytes\n", protocol, s.steps, s.bulk)
	for i := range 2 {
		face := "Pipe"
		if s.accepts[i] {
			face = "Listener"
		}
		c := s.cfg[i]
		text += fmt.Sprintf("%c: %s over a %v transport that holds %d bytes, pieces up to %d; Protocol %v, MaxConns %d, AcceptBacklog %d, windows %d to %d, keep-alive %v, preface within %v\n",
			'A'+i, face, s.kind[i], s.room[i], s.piece[i], c.Protocol, c.MaxConns, c.AcceptBacklog, c.InitialWindow, c.MaxWindow, c.KeepAliveInterval, c.PrefaceTimeout)
	}
	return text
}
