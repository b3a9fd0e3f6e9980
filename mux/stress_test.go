package mux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Several sessions over real sockets, with many connections each, do everything at
// once: reads and writes of every size, deadlines that pass, half-closes, closes and
// resets in the middle of a Write. What a Write counts arrives, in order, once.
func TestEveryByteThatIsCountedArrives(t *testing.T) {
	for _, procs := range []int{1, 2, 4} {
		for _, tr := range []transport{overTCP, overUnix, overPipe, overTLS} {
			t.Run(fmt.Sprintf("%s procs %d", tr.name, procs), func(t *testing.T) {
				tr.withEach(t, func(t *testing.T, tr transport) {
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
					stress(t, tr, uint64(procs))
				})
			})
		}
	}
}

func stress(t *testing.T, tr transport, seed uint64) {
	sessions, each, turns := 3, 12, 24
	if raceEnabled || testing.Short() {
		sessions, each, turns = 2, 8, 16
	}
	done := async(func() error {
		var wg sync.WaitGroup
		for i := range sessions {
			p, l := sessionPair(t, tr)
			for j := range each {
				x, y := connPair(t, p, l, j)
				st := &stressed{t: t, one: tr.one(), name: fmt.Sprintf("session %d, connection %d", i, j), x: x, y: y, kind: stressKind(j % 4), turns: turns}
				st.seed = seed<<32 + uint64(i<<16+j)
				wg.Go(st.run)
			}
		}
		wg.Wait()
		return nil
	})
	wait(t, "the stress", done)
}

// A stressKind says how x ends.
type stressKind int

const (
	endsByCloseWrite stressKind = iota
	endsByCloseWriteToo
	endsByClose
	endsByReset
)

type stressed struct {
	t     *testing.T
	one   bool // protocol 1
	name  string
	x, y  *Conn
	kind  stressKind
	turns int
	seed  uint64
}

func (st *stressed) run() {
	var there, back streamSum // what was written
	var got streamSum         // what y read
	var wg sync.WaitGroup
	half := make(chan struct{})
	wg.Go(func() { there = st.write(st.x, 1, half) })
	wg.Go(func() { back = st.write(st.y, 2, nil) })
	wg.Go(func() {
		end := io.EOF
		if st.one && st.kind == endsByReset {
			end = syscall.ECONNRESET
		}
		got = st.read(st.y, 3, end)
	})
	var over streamSum
	wg.Go(func() {
		switch st.kind {
		case endsByClose:
			<-half
			st.x.Close()
		case endsByReset:
			<-half
			st.x.Reset(300)
		}
	})
	wg.Go(func() {
		switch st.kind {
		case endsByClose:
			over = st.read(st.x, 4, net.ErrClosed)
		case endsByReset:
			over = st.read(st.x, 4, syscall.ECONNRESET)
		default:
			over = st.read(st.x, 4, io.EOF)
		}
	})
	wg.Wait()
	if st.one && st.kind == endsByReset { // what was under way may be dropped
		if got.n > there.n {
			st.t.Errorf("%s: y read %d bytes, x wrote %d", st.name, got.n, there.n)
		}
	} else if got.n != there.n || got.crc.Sum64() != there.crc.Sum64() {
		st.t.Errorf("%s: y read %d bytes (%x), x wrote %d (%x)", st.name, got.n, got.crc.Sum64(), there.n, there.crc.Sum64())
	}
	if st.kind <= endsByCloseWriteToo && (over.n != back.n || over.crc.Sum64() != back.crc.Sum64()) {
		st.t.Errorf("%s: x read %d bytes (%x), y wrote %d (%x)", st.name, over.n, over.crc.Sum64(), back.n, back.crc.Sum64())
	}
}

// A streamSum is the running sum of a stream.
type streamSum struct {
	n   int64
	crc hash.Hash64
}

var stressTable = crc64.MakeTable(crc64.ECMA)

func newSum() streamSum { return streamSum{crc: crc64.New(stressTable)} }

func (s *streamSum) add(p []byte) {
	s.n += int64(len(p))
	s.crc.Write(p)
}

// write writes pieces of all sizes, closes half when it is half done, and ends c's
// half.
func (st *stressed) write(c *Conn, seed uint64, half chan struct{}) (sum streamSum) {
	random := rand.New(rand.NewPCG(st.seed, seed))
	sum = newSum()
	defer c.CloseWrite()
	buf := make([]byte, 400<<10)
	for turn := range st.turns {
		if turn == st.turns/2 && half != nil {
			close(half)
		}
		size := 1 + random.IntN(200)
		switch random.IntN(4) {
		case 0:
			size = 1 + random.IntN(20<<10)
		case 1:
			size = 1 + random.IntN(len(buf))
		}
		p := buf[:size]
		fillRandom(p, random)
		want := bytes.Clone(p)
		c.SetWriteDeadline(stressDeadline(random))
		n, err := c.Write(p)
		clear(p)
		sum.add(want[:n])
		switch {
		case n < size && err == nil:
			st.t.Errorf("%s: Write: %d of %d and no error", st.name, n, size)
		case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case st.kind == endsByClose && errors.Is(err, net.ErrClosed), st.kind == endsByReset && errors.Is(err, syscall.ECONNRESET):
		case st.one && c == st.y && st.kind >= endsByClose && errors.Is(err, syscall.EPIPE): // x reads no more
		default:
			st.t.Errorf("%s: Write: %v", st.name, err)
		}
		return sum
	}
	return sum
}

func (st *stressed) read(c *Conn, seed uint64, end error) (sum streamSum) {
	random := rand.New(rand.NewPCG(st.seed, seed))
	sum = newSum()
	buf := make([]byte, 128<<10)
	for {
		if random.IntN(2) == 0 {
			c.SetReadDeadline(stressDeadline(random))
		}
		size := 1 + random.IntN(len(buf))
		if random.IntN(3) == 0 {
			size = 1 + random.IntN(1000)
		}
		n, err := c.Read(buf[:size])
		sum.add(buf[:n])
		switch {
		case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != io.EOF && !errors.Is(err, end): // a closed end may have read to the end before
			st.t.Errorf("%s: Read: %v, want %v", st.name, err, end)
		}
		return sum
	}
}

func fillRandom(p []byte, random *rand.Rand) {
	var b [8]byte
	for i := 0; i < len(p); i += 8 {
		binary.NativeEndian.PutUint64(b[:], random.Uint64())
		copy(p[i:], b[:])
	}
}

// stressDeadline returns mostly none, and else one that is near or has passed.
func stressDeadline(random *rand.Rand) time.Time {
	switch random.IntN(8) {
	case 0:
		return time.Now().Add(time.Duration(random.IntN(2000)) * time.Microsecond)
	case 1:
		return time.Now().Add(time.Duration(random.IntN(100)) * time.Microsecond)
	case 2:
		return time.Now()
	}
	return time.Time{}
}
