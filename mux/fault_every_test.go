package mux

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/vtmux/vtmux/internal/faultconn"
	"github.com/vtmux/vtmux/pool"
	"github.com/vtmux/vtmux/wire"
)

// The fault tests tell the story of fault_story_test.go once for each byte that crosses
// the transport, and once for each of its calls, with a fault there.
//
// Of a payload of more than faultBulk bytes only the first and last faultEdge bytes have
// a turn each, and between them each faultStride-th: a cut in the middle of a payload is
// like the next one. Under the race detector and with -short a part of all bytes and
// calls has a turn. VTMUX_FAULT_SEED=n (by default 1) says which; VTMUX_FAULT_ALL=1 takes
// really all, which takes some minutes.
const (
	faultBulk   = 256
	faultEdge   = 24
	faultStride = 997
	faultThin   = 23 // with -race
	faultCalls  = 25 // that a story has at least, of each kind
)

var (
	faultSeed = envNumber("VTMUX_FAULT_SEED", 1)
	faultAll  = envNumber("VTMUX_FAULT_ALL", 0) != 0
)

func envNumber(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// faultTurn reports whether the i-th of many has a turn. Which have one depends on the
// seed and on salt, so that different tests don't all take the same.
func faultTurn(i, salt int) bool {
	if faultAll || !raceEnabled && !testing.Short() {
		return true
	}
	return (i+salt*7+faultSeed)%faultThin == 0
}

// A faultKind is what can happen at a byte.
type faultKind struct {
	name   string
	writes bool // of what is sent; else of what is read
	faults faultconn.Faults
	silent bool
	target error
}

var faultKinds = []faultKind{
	{name: "EOF", faults: faultconn.Faults{End: faultconn.Cut, CutErr: io.EOF}, target: io.ErrUnexpectedEOF},
	{name: "EOF with bytes", faults: faultconn.Faults{End: faultconn.Cut, CutErr: io.EOF, ErrWithBytes: true}, target: io.ErrUnexpectedEOF},
	{name: "reset", faults: faultconn.Faults{End: faultconn.Cut, CutErr: syscall.ECONNRESET}, target: syscall.ECONNRESET},
	{name: "reset with bytes", faults: faultconn.Faults{End: faultconn.Cut, CutErr: syscall.ECONNRESET, ErrWithBytes: true}, target: syscall.ECONNRESET},
	{name: "timeout", faults: faultconn.Faults{End: faultconn.Cut, CutErr: os.ErrDeadlineExceeded}, target: os.ErrDeadlineExceeded},
	{name: "stall", faults: faultconn.Faults{End: faultconn.Stall}, silent: true},
	{name: "write reset", writes: true, faults: faultconn.Faults{End: faultconn.Cut}, target: syscall.ECONNRESET},
	{name: "write reset with bytes", writes: true, faults: faultconn.Faults{End: faultconn.Cut, ErrWithBytes: true}, target: syscall.ECONNRESET},
	{name: "write timeout", writes: true, faults: faultconn.Faults{End: faultconn.Cut, CutErr: os.ErrDeadlineExceeded}, target: os.ErrDeadlineExceeded},
	{name: "write stall", writes: true, faults: faultconn.Faults{End: faultconn.Stall}, silent: true},
	{name: "write swallow", writes: true, faults: faultconn.Faults{End: faultconn.Swallow}, silent: true},
}

// setup is the fault at byte at of what end hears.
func (k faultKind) setup(end, at int) faultSetup {
	f := k.faults
	f.EndAt = int64(at)
	s := faultSetup{end: end, plan: faultconn.Plan{Read: f}, silent: k.silent, target: k.target, op: "read"}
	if k.writes {
		s.end, s.op = 1-end, "write"
		s.plan = faultconn.Plan{Write: f}
	}
	return s
}

// faultOffsets returns the bytes of a stream that have a turn, and its end.
func faultOffsets(pr Protocol, stream []byte) (at []int) {
	bulk := make([]bool, len(stream)+1)
	for i := 0; i < len(stream); {
		head, n := 0, 0
		if pr == ProtocolVT || i == 0 { // the preface looks the same
			head, n = wire.VTHeaderLen, int(stream[i+18])<<8|int(stream[i+19])
		} else {
			head, n = wire.HeaderLen, int(stream[i+2])<<8|int(stream[i+3])
		}
		if n > faultBulk {
			for j := i + head + faultEdge; j < i+head+n-faultEdge; j++ {
				bulk[j] = true
			}
		}
		i += head + n
	}
	for i := range bulk {
		if faultAll || !bulk[i] || (i+faultSeed)%faultStride == 0 {
			at = append(at, i)
		}
	}
	return at
}

// faultRecord tells the story without a fault and returns what each end has read.
func faultRecord(t *testing.T, pr Protocol) [2][]byte {
	out := tellFaultStory(t, pr, faultSetup{})
	if !out.told {
		t.Fatal("the story ends early, and nothing is wrong with the transport")
	}
	return out.read
}

// TestFaultStoryHasEveryFrame: the story is as long as it should be, the same each time,
// and has each kind of frame in both directions.
func TestFaultStoryHasEveryFrame(t *testing.T) {
	for _, pr := range protocols {
		t.Run(pr.String(), func(t *testing.T) {
			if n := len(faultOps[pr]); n < 100 {
				t.Errorf("%d operations", n)
			}
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // two would vary what is put together
			first := faultRecord(t, pr)
			for range 5 {
				if raceEnabled {
					break // the race detector's scheduler chooses at random
				}
				for i, stream := range faultRecord(t, pr) {
					wantBytes(t, fmt.Sprintf("what %c hears, told again", 'A'+i), stream, first[i])
				}
			}
			for i, stream := range first {
				kinds := make(map[string]int)
				if pr == ProtocolVT {
					frames, _ := vtDecode(stream)
					for _, f := range frames {
						kinds[map[bool]string{true: "zero", false: "data"}[f.data == ""]]++
					}
				} else {
					_, rest, err := readOnePreface(stream)
					for f := (docFrame{}); err == nil && len(rest) > 0; {
						if f, rest, err = readOneFrame(rest); err == nil {
							kinds[fmt.Sprintf("type %d flags %x", f.typ, f.flags)]++
						}
					}
					if err != nil {
						t.Error(err)
					}
				}
				t.Logf("%c hears %d bytes, %d of them with a turn: %v", 'A'+i, len(stream), len(faultOffsets(pr, stream)), kinds)
				want := []string{"zero", "data"}
				if pr == Protocol1 {
					want = []string{"type 1 flags 0", "type 2 flags 0", "type 2 flags 1", "type 2 flags 2", "type 2 flags 3",
						"type 3 flags 0", "type 3 flags 1", "type 4 flags 0", "type 4 flags 1", "type 4 flags 5",
						"type 5 flags 0", "type 5 flags 1", "type 6 flags 0", "type 6 flags 8", "type 7 flags 0"}
				}
				for _, k := range want {
					if kinds[k] == 0 {
						t.Errorf("%c hears no frame of %s", 'A'+i, k)
					}
				}
			}
		})
	}
}

// TestFaultAtEveryByte: what was read is a part of what was written, io.EOF comes only
// behind all of it (hostile peers, R10), every call returns in time and tells why, and
// nothing is left.
func TestFaultAtEveryByte(t *testing.T) {
	slabs, buffers := pool.Outstanding()
	t.Run("in", func(t *testing.T) {
		for _, pr := range protocols {
			record := faultRecord(t, pr)
			for end := range 2 {
				for salt, k := range faultKinds {
					t.Run(fmt.Sprintf("%v/what %c hears/%s", pr, 'A'+end, k.name), func(t *testing.T) {
						t.Parallel()
						faultAtEveryByte(t, pr, record[end], end, k, salt)
					})
				}
			}
		}
	})
	if s, b := pool.Outstanding(); s != slabs || b != buffers {
		t.Errorf("%d slabs and %d buffers are left, want %d and %d\n%s", s, b, slabs, buffers, pool.Leaks())
	}
}

func faultAtEveryByte(t *testing.T, pr Protocol, stream []byte, end int, k faultKind, salt int) {
	struck, told := 0, 0
	for _, at := range faultOffsets(pr, stream) {
		if !faultTurn(at, salt) {
			continue
		}
		out := tellFaultStory(t, pr, k.setup(end, at))
		if out.struck {
			struck++
		}
		if out.told {
			told++
		}
		if t.Failed() {
			t.Fatalf("at byte %d of %d", at, len(stream))
		}
	}
	t.Logf("%d faults; %d stories were told to their end all the same", struck, told)
	if struck == 0 || told > struck/2 {
		t.Errorf("%d faults, and %d stories that were told to their end", struck, told)
	}
}

// A faultCallKind is what can happen to a call of the transport.
type faultCallKind struct {
	name   string
	writes bool
	faults func(n int) faultconn.Faults
	target error // nil: the session must not notice
	copies bool  // nothing is lent: a short Write without an error breaks net.Buffers' rules, and nobody's who can be lent to
}

func failing(err error) func(int) faultconn.Faults {
	return func(n int) faultconn.Faults { return faultconn.Faults{FailCall: n, FailErr: err} }
}

func failingWithBytes(err error) func(int) faultconn.Faults {
	return func(n int) faultconn.Faults {
		return faultconn.Faults{FailCall: n, FailErr: err, ErrWithBytes: true}
	}
}

func failingWithAByte(err error) func(int) faultconn.Faults {
	return func(n int) faultconn.Faults {
		return faultconn.Faults{FailCall: n, ShortCall: n, FailErr: err, ErrWithBytes: true}
	}
}

func short(n int) faultconn.Faults { return faultconn.Faults{ShortCall: n} }

var faultCallKinds = []faultCallKind{
	{"Read short", false, short, nil, false},
	{"Read EOF", false, failing(io.EOF), io.ErrUnexpectedEOF, false},
	{"Read reset", false, failing(syscall.ECONNRESET), syscall.ECONNRESET, false},
	{"Read timeout", false, failing(os.ErrDeadlineExceeded), os.ErrDeadlineExceeded, false},
	{"Read data with EOF", false, failingWithBytes(io.EOF), io.ErrUnexpectedEOF, false},
	{"Read data with reset", false, failingWithBytes(syscall.ECONNRESET), syscall.ECONNRESET, false},
	{"Read data with timeout", false, failingWithBytes(os.ErrDeadlineExceeded), os.ErrDeadlineExceeded, false},
	{"Read a byte with reset", false, failingWithAByte(syscall.ECONNRESET), syscall.ECONNRESET, false},
	{"Write short", true, short, nil, true},
	{"Write reset", true, failing(syscall.ECONNRESET), syscall.ECONNRESET, false},
	{"Write timeout", true, failing(os.ErrDeadlineExceeded), os.ErrDeadlineExceeded, false},
	{"Write a byte with reset", true, failingWithAByte(syscall.ECONNRESET), syscall.ECONNRESET, false},
	{"Write a byte with timeout", true, failingWithAByte(os.ErrDeadlineExceeded), nil, false}, // is like a short one
	{"Write all with reset", true, failingWithBytes(syscall.ECONNRESET), syscall.ECONNRESET, false},
}

// TestFaultAtEveryCall: the same for the n-th Read and the n-th Write of either end,
// for n from 1 on until there is none left to fail.
func TestFaultAtEveryCall(t *testing.T) {
	slabs, buffers := pool.Outstanding()
	t.Run("in", func(t *testing.T) {
		for _, pr := range protocols {
			for end := range 2 {
				for salt, k := range faultCallKinds {
					t.Run(fmt.Sprintf("%v/%c/%s", pr, 'A'+end, k.name), func(t *testing.T) {
						t.Parallel()
						faultAtEveryCall(t, pr, end, k, salt)
					})
				}
			}
		}
	})
	if s, b := pool.Outstanding(); s != slabs || b != buffers {
		t.Errorf("%d slabs and %d buffers are left, want %d and %d\n%s", s, b, slabs, buffers, pool.Leaks())
	}
}

func faultAtEveryCall(t *testing.T, pr Protocol, end int, k faultCallKind, salt int) {
	for n, struck, told := 1, 0, 0; ; n++ {
		if !faultTurn(n, salt) && n < faultCalls {
			continue
		}
		s := faultSetup{end: end, plan: faultconn.Plan{Read: k.faults(n)}, target: k.target, op: "read", copies: n%2 == 0 || k.copies}
		if k.writes {
			s.plan, s.op = faultconn.Plan{Write: k.faults(n)}, "write"
		}
		out := tellFaultStory(t, pr, s)
		if k.target == nil && !out.told {
			t.Error("the story ended early, and nothing was lost")
		}
		if t.Failed() {
			t.Fatalf("at call %d", n)
		}
		if !out.struck {
			t.Logf("%d calls; of the first %d, %d were struck, and %d stories told to their end", n-1, faultCalls-1, struck, told)
			if n < faultCalls || struck == 0 || k.target != nil && told > struck/2 {
				t.Errorf("%d calls; of the first %d, %d were struck, and %d stories told to their end", n-1, faultCalls-1, struck, told)
			}
			return
		}
		if n >= faultCalls {
			continue // to the last calls little is left to lose
		}
		struck++
		if out.told {
			told++
		}
	}
}
