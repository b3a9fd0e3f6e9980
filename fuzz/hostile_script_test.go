package fuzz

import (
	"time"

	"github.com/vtmux/vtmux/mux"
)

// A hostileSetup is how a hostile script begins.
type hostileSetup struct {
	protocol mux.Protocol
	one      bool // the attacker begins with a preface
	pipe     bool // the session is a Pipe's
	maxConns int
	backlog  int
	accepts  bool // the application accepts all at once, and else when a step says so
	reads    bool // it reads all at once
	preface  int  // what is wrong with the attacker's preface; 0: nothing
	window   uint32
	payload  int
	heap     bool // measure the heap, which takes as long as the rest
	piece    int  // most bytes of one write; 0: all
}

// Bits of a hostile setup word: 3 protocols, 1 Pipe, 1 connections, 1 backlog, 1 accepts,
// 1 reads, 4 preface, 2 window, 1 payload, 5 heap, 3 pieces, 3 whether the preface is wrong.
func hostileSetupOf(s *hostileSetup, word uint64) {
	b := bits(word)
	switch b.take(3, 8) {
	case 0:
		s.protocol = mux.ProtocolVT
	case 1:
		s.protocol = mux.ProtocolAuto // and vt-muxer's frames
	case 2:
		s.protocol, s.one = mux.ProtocolAuto, true
	default:
		s.protocol, s.one = mux.Protocol1, true
	}
	s.pipe = b.flag() && s.protocol != mux.ProtocolAuto
	s.maxConns = []int{0, 5}[b.take(1, 2)]
	s.backlog = []int{0, 3}[b.take(1, 2)]
	s.accepts, s.reads = b.flag(), b.flag()
	if s.preface = b.take(4, 16); s.preface < 10 {
		s.preface = 0
	} else {
		s.preface -= 9
	}
	s.window = []uint32{65536, 65536, 100_000, 1<<32 - 1}[b.take(2, 4)]
	s.payload = []int{65535, 16384}[b.take(1, 2)]
	s.heap = b.take(5, 32) == 0
	s.piece = []int{0, 0, 0, 0, 1, 8, 100, 5000}[b.take(3, 8)]
	if b.take(3, 8) != 0 { // there is nothing to see behind a wrong one
		s.preface = 0
	}
}

// A blow is what a step of a hostile script does: the attacker's first, and then those
// of the application that is attacked, and of the clock.
type blow uint8

const (
	bOpen blow = iota
	bOpenAgain
	bOpenMetadata
	bData
	bDataFin
	bDataEmpty
	bDataBig // of the whole window, and of one byte more
	bWindow
	bWindowNothing
	bWindowMost
	bWindowWrap
	bReset
	bRefused
	bStop
	bPing
	bAck
	bGoAway
	bGoAwayCode
	bUnknown
	bMalformed
	bRaw
	bZero // a vt-muxer frame without payload
	bDeaf
	bHear
	bPass
	bAccept
	bReject
	bRead
	bWrite
	bCloseWrite
	bCloseRead
	bClose
	bResetOwn
	bOpenOwn
	bPingOwn
	bShutdown
	blowCount
)

// names reports whether b is a frame for a connection that should be there already.
func (b blow) names() bool {
	switch b {
	case bOpen, bOpenMetadata, bPing, bAck, bGoAway, bGoAwayCode, bUnknown, bRaw:
		return false
	}
	return b < bDeaf
}

// blows says how often a blow comes up, of 128.
var blows = func() (t [128]blow) {
	weights := map[blow]int{
		bOpen: 15, bOpenAgain: 1, bOpenMetadata: 4, bData: 14, bDataFin: 7, bDataEmpty: 3, bDataBig: 3, bWindow: 6,
		bWindowNothing: 3, bWindowMost: 2, bWindowWrap: 1, bReset: 6, bRefused: 3, bStop: 7, bPing: 4, bAck: 3, bGoAway: 2,
		bGoAwayCode: 1, bUnknown: 3, bMalformed: 1, bRaw: 1, bZero: 4, bDeaf: 2, bHear: 2, bPass: 2, bAccept: 5, bReject: 2,
		bRead: 4, bWrite: 4, bCloseWrite: 2, bCloseRead: 2, bClose: 2, bResetOwn: 2, bOpenOwn: 3, bPingOwn: 1, bShutdown: 1,
	}
	i := 0
	for b := range blowCount {
		for range weights[b] {
			t[i] = b
			i++
		}
	}
	if i != len(t) {
		panic("BUG: blows do not fill the table")
	}
	return t
}()

// A hostileStep is one step of a hostile script.
type hostileStep struct {
	blow   blow
	yours  bool
	conn   int
	size   int
	times  int
	joined bool // with the next step's frames, in one chunk
	wait   time.Duration
}

// Bits of a hostile step word: 7 blow, 1 yours, 4 connection, 16 size, 3 times, 2 joined, 4 wait.
func hostileStepOf(s *hostileStep, word uint64) {
	b := bits(word)
	s.blow = blows[b.take(7, 128)]
	s.yours = b.flag()
	s.conn = b.take(4, 16)
	s.size = b.take(16, 1<<16)
	s.times = []int{1, 1, 1, 1, 2, 20, 300, 1100}[b.take(3, 8)]
	s.joined = b.take(2, 4) == 0
	s.wait = time.Duration(1<<b.take(4, 16)) * time.Millisecond
}

// blowWord is the word that hostileStepOf turns into such a step, for the seeds. times
// is an index.
func blowWord(w blow, yours bool, conn, size, times int, joined bool) uint64 {
	for i, v := range blows {
		if v != w {
			continue
		}
		word := uint64(i) | uint64(conn)<<8 | uint64(size)<<12 | uint64(times)<<28
		if yours {
			word |= 1 << 7
		}
		if !joined {
			word |= 1 << 31
		}
		return word | 4<<33
	}
	panic("BUG: a blow that never comes up")
}
