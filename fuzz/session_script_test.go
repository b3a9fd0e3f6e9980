package fuzz

import (
	"syscall"
	"time"

	"github.com/vtmux/vtmux/internal/faultconn"
	"github.com/vtmux/vtmux/mux"
)

// A setup is how a session script begins.
type setup struct {
	protocols [2]mux.Protocol
	pipe      bool // end 0 is a Pipe
	backlog   [2]int
	maxConns  int // with protocol 1; 0: the default
	maxWindow int
	keepAlive bool

	carried bool // a link carries the bytes, late and in pieces
	opaque  [2]bool
	plans   [2]faultconn.Plan
	budget  int // bytes that all Writes together may send
}

// faulty reports whether the transport may lose something, or all.
func (s *setup) faulty() bool {
	for _, p := range s.plans {
		for _, f := range []faultconn.Faults{p.Read, p.Write} {
			if f.End != faultconn.Open || f.FailCall != 0 {
				return true
			}
		}
	}
	return false
}

// Bits of a setup word, in this order. Most transports have no faults, for behind a cut
// there is little to see.
//
//	3  protocols        2  backlogs      1  most connections, few
//	2  MaxWindow        1  keep-alive    1  carried
//	2  opaque, each     1  deadlines     4  pieces
//	8  fault            12 at            16 seed
var setupProtocols = [][2]mux.Protocol{
	{mux.Protocol1, mux.Protocol1},
	{mux.ProtocolVT, mux.ProtocolVT},
	{mux.ProtocolAuto, mux.ProtocolAuto},
	{mux.Protocol1, mux.ProtocolAuto},
	{mux.ProtocolVT, mux.ProtocolAuto},
	{mux.Protocol1, mux.Protocol1}, // end 0 is a Pipe from here on
	{mux.ProtocolVT, mux.ProtocolVT},
	{mux.ProtocolAuto, mux.ProtocolAuto},
}

func setupOf(s *setup, word uint64) {
	b := bits(word)
	p := b.take(3, 8)
	s.protocols, s.pipe = setupProtocols[p], p >= 5
	s.backlog[0], s.backlog[1] = b.take(1, 2)*2, b.take(1, 2)*3
	s.maxConns = b.take(1, 2) * 6
	s.maxWindow = []int{1 << 17, 1 << 18, 1 << 20, 0}[b.take(2, 4)]
	s.keepAlive = b.flag()
	s.carried = b.flag()
	s.opaque = [2]bool{b.flag(), b.flag()}
	noDeadlines := b.flag()
	s.budget = 300 << 10
	piece := []int{0, 0, 0, 0, 0, 0, 1, 7, 19, 64, 64, 300, 4096, 4096, 20_000, 65_535}[b.take(4, 16)]
	if piece > 0 {
		s.budget = min(s.budget, 200*piece)
	}
	fault, at, seed := b.take(8, 256), b.take(12, 4096), b.take(16, 1<<16)
	for i := range s.plans {
		s.plans[i].Seed = uint64(seed)
		s.plans[i].NoDeadlines = noDeadlines && i == 1
		for _, f := range []*faultconn.Faults{&s.plans[i].Read, &s.plans[i].Write} {
			f.MaxPiece, f.RandomPieces = piece, seed&1 == 1 && piece > 0
		}
	}
	if fault >= 64 {
		return
	}
	f := &s.plans[fault&1].Read
	if fault&2 != 0 {
		f = &s.plans[fault&1].Write
	}
	f.ErrWithBytes = fault&4 != 0
	f.EndAt = int64(at)
	if at >= 3072 {
		f.EndAt = int64(at-3072) * 64
	}
	switch fault >> 3 {
	case 0, 1:
		f.End = faultconn.Cut
	case 2:
		f.End, f.CutErr = faultconn.Cut, syscall.ECONNRESET
	case 3, 4:
		f.End = faultconn.Stall
	case 5:
		f.End = faultconn.Swallow
	case 6:
		f.FailCall = 1 + at%64
	case 7:
		f.ZeroEvery = 2 + at%8
	}
}

// A verb is what a step does.
type verb uint8

const (
	vOpen verb = iota
	vAccept
	vPend   // AcceptPending
	vDecide // on what AcceptPending has given
	vWrite
	vWriteBuffers
	vReadFrom
	vRead
	vWriteTo
	vCloseWrite
	vCloseRead
	vClose
	vReset
	vReadDeadline
	vWriteDeadline
	vPing
	vShutdown
	vCloseSession
	vPause // the link
	vPass  // lets time pass
)

// verbs says how often a verb comes up, of 64.
var verbs = func() (t [64]verb) {
	i := 0
	for _, w := range []struct {
		v verb
		n int
	}{
		{vWrite, 14}, {vRead, 11}, {vOpen, 9}, {vAccept, 6}, {vPend, 1}, {vDecide, 1}, {vWriteBuffers, 1}, {vReadFrom, 1},
		{vWriteTo, 2}, {vCloseWrite, 3}, {vCloseRead, 2}, {vClose, 2}, {vReset, 2}, {vReadDeadline, 2}, {vWriteDeadline, 2},
		{vPing, 1}, {vShutdown, 1}, {vCloseSession, 1}, {vPause, 1}, {vPass, 1},
	} {
		for range w.n {
			t[i] = w.v
			i++
		}
	}
	if i != len(t) {
		panic("BUG: verbs do not fill the table")
	}
	return t
}()

// What follows a step.
const (
	thenGoOn = iota
	thenYield
	thenSettle // until nothing moves any more
)

// A sessionStep is one step of a session script.
type sessionStep struct {
	verb verb
	side int
	conn int // of those that the side has, counted from the newest
	then int
	size int // bytes, or a code
	wait time.Duration
	flag bool
}

// Bits of a step word: 6 verb, 1 side, 4 connection, 2 then, 1 flag, 20 size, 10 wait.
func sessionStepOf(s *sessionStep, word uint64) {
	b := bits(word)
	s.verb = verbs[b.take(6, 64)]
	s.side = b.take(1, 2)
	s.conn = b.take(4, 16)
	s.then = b.take(2, 4)
	s.flag = b.flag()
	class, size := b.take(4, 16), b.take(16, 1<<16)
	switch { // small ones, middling ones, large ones, and those at an edge
	case class < 6:
		s.size = size & 0xff
	case class < 10:
		s.size = size & 0x3fff
	case class < 13:
		s.size = size
	case class < 14:
		s.size = size * 3
	default:
		edges := []int{0, 1, 8171, 8172, 8173, 16383, 16384, 16385, 32768, 65535, 65536, 65537, 131070, 131071, 81920, 81921}
		s.size = edges[size%len(edges)]
	}
	s.wait = time.Duration(1<<b.take(4, 16)) * time.Millisecond // 1 ms to 33 s
	if b.take(6, 64) == 0 {
		s.wait = 0
	}
}

// stepWord is the word that sessionStepOf turns into such a step, for the seeds. sizes:
// see there.
func stepWord(v verb, side, conn, then, class, size int, waitShift int) uint64 {
	for i, w := range verbs {
		if w == v {
			return uint64(i) | uint64(side)<<6 | uint64(conn)<<7 | uint64(then)<<11 | uint64(class)<<14 | uint64(size)<<18 |
				uint64(waitShift)<<34 | 1<<38
		}
	}
	panic("BUG: a verb that never comes up")
}
