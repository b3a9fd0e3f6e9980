package hostile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/mux"
)

// A setup is how a victim runs.
type setup struct {
	App    app
	Config mux.Config    // of the hostile port's sessions
	Work   time.Duration // how long a handler of appWork is at it. 0: until the session ends
	Buffer int           // of the hostile sockets, for what is sent. 0: the system's choice
}

// An app is what the victim's application does with the connections of the hostile port.
type app string

const (
	appEcho  app = "echo"  // sends back what comes, 256 bytes at a time
	appWork  app = "work"  // holds on to each connection for a while, then closes it
	appHoard app = "hoard" // accepts, and neither reads nor closes before the session's end
	appNone  app = "none"  // never accepts
	appFlood app = "flood" // writes for as long as it may
	appDrain app = "drain" // reads until the end, then closes

	appRaw    app = "raw"    // reads the transport, without vtmux
	appHash   app = "hash"   // as appRaw, and hashes what it reads, which keeps it as busy as an attack
	appGreedy app = "greedy" // reads much, as fast as it can, and then nothing
)

// greed is how much appGreedy reads.
const greed = 8 << 20

// A state is what the victim tells of itself.
type state struct {
	Heap, Stack int64         // live, in bytes. After a garbage collection, if asked for
	Library     int           // goroutines that the library has started. If asked for
	Handlers    int           // of the application, on the hostile port
	CPU         time.Duration // used since the start

	Open   int            // sessions of the hostile port that have not ended
	Ended  map[string]int // the others, by how they ended
	Rules  []string       // what the peers were told, each once
	Frames uint64         // headers that these sessions have parsed
	Most   uint64         // of a session that has ended
	Least  uint64
	Peak   int // most handlers at once of one session
	RSS    int // KiB, the most ever; 0: not known
}

// A victim serves honest and hostile peers.
type victim struct {
	setup    setup
	handlers atomic.Int32 // that run
	raw      atomic.Int32 // transports of appRaw and appHash

	mu     sync.Mutex
	open   map[*served]bool
	ended  map[string]int
	rules  map[string]bool
	frames uint64 // of ended sessions
	most   uint64
	least  uint64
	peak   int
}

// A served is a session of the hostile port.
type served struct {
	l        *mux.Listener
	handlers atomic.Int32
	peak     atomic.Int32

	mu    sync.Mutex
	hoard []net.Conn
}

func newVictim() *victim {
	return &victim{open: make(map[*served]bool), ended: make(map[string]int), rules: make(map[string]bool)}
}

func (v *victim) call(c call) (a answer, err error) {
	switch c.Op {
	case "start":
		v.setup = c.Setup
		if a.Honest, err = v.listen(v.serveHonest); err == nil {
			a.Hostile, err = v.listen(v.serveHostile)
		}
	case "let go":
		v.mu.Lock()
		defer v.mu.Unlock()
		for s := range v.open {
			s.letGo()
		}
	case "state":
		a.State = v.state()
	case "collected":
		a.State = v.collected()
	default:
		err = errors.New("unknown call")
	}
	return a, err
}

func (v *victim) listen(serve func(net.Conn)) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				panic(err)
			}
			go serve(conn)
		}
	}()
	return l.Addr().String(), nil
}

func (v *victim) serveHonest(conn net.Conn) {
	l, err := mux.NewListener(conn, nil)
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			echo(c)
		}()
	}
}

func echo(c net.Conn) {
	buf := make([]byte, 256)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (v *victim) serveHostile(conn net.Conn) {
	if n := v.setup.Buffer; n > 0 {
		_ = conn.(*net.TCPConn).SetWriteBuffer(n)
	}
	if app := v.setup.App; app == appRaw || app == appHash {
		v.raw.Add(1)
		sink := io.Discard
		if app == appHash {
			sink = sha256.New()
		}
		_, _ = io.CopyBuffer(struct{ io.Writer }{sink}, struct{ io.Reader }{conn}, make([]byte, 64<<10))
		conn.Close()
		v.raw.Add(-1)
		return
	}
	cfg := v.setup.Config
	l, err := mux.NewListener(conn, &cfg)
	if err != nil {
		panic(err)
	}
	s := &served{l: l}
	v.mu.Lock()
	v.open[s] = true
	v.mu.Unlock()
	v.accept(s)
	<-l.Done()
	s.letGo()
	l.Close()
	v.end(s)
}

// accept runs the application until it can accept no more.
func (v *victim) accept(s *served) {
	for v.setup.App != appNone {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		if v.setup.App == appHoard {
			s.mu.Lock()
			s.hoard = append(s.hoard, c)
			s.mu.Unlock()
			continue
		}
		v.handlers.Add(1)
		n := s.handlers.Add(1)
		for p := s.peak.Load(); n > p && !s.peak.CompareAndSwap(p, n); p = s.peak.Load() {
		}
		go func() {
			defer v.handlers.Add(-1)
			v.handle(s, c)
			s.handlers.Add(-1) // before the peer knows, and opens another
			c.Close()
		}()
	}
}

// letGo closes what the application hoards.
func (s *served) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.hoard {
		c.Close()
	}
	s.hoard = nil
}

func (v *victim) handle(s *served, c net.Conn) {
	switch v.setup.App {
	case appEcho:
		echo(c)
	case appGreedy:
		_, _ = io.CopyN(struct{ io.Writer }{io.Discard}, c, greed)
		work(s.l.Done(), 0)
	case appWork:
		work(s.l.Done(), v.setup.Work)
	case appFlood:
		for b := make([]byte, 4<<10); ; {
			if _, err := c.Write(b); err != nil {
				break
			}
		}
	case appDrain:
		_, _ = io.Copy(struct{ io.Writer }{io.Discard}, c)
	}
}

func work(over <-chan struct{}, d time.Duration) {
	if d == 0 {
		<-over
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-over:
	case <-t.C:
	}
}

// end takes down how a session ended.
func (v *victim) end(s *served) {
	err := s.l.Err()
	n := s.l.Stats().FramesIn
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.open, s)
	if len(v.ended) == 0 || n < v.least {
		v.least = n
	}
	v.most = max(v.most, n)
	v.frames += n
	v.peak = max(v.peak, int(s.peak.Load()))
	v.ended[howEnded(err)]++
	if e := (*mux.ProtocolError)(nil); errors.As(err, &e) {
		v.rules[e.Rule] = true
	}
}

// howEnded names a session's end: by its code, where the victim ended it.
func howEnded(err error) string {
	var p *mux.ProtocolError
	switch {
	case errors.Is(err, mux.ErrSilent):
		return codeName(mux.CodeTimeout)
	case errors.As(err, &p) && p.Code == 0:
		return "violation" // of the vt-muxer protocol, which has no codes
	case errors.As(err, &p):
		return codeName(p.Code)
	}
	return "peer" // it has gone
}

func codeName(c mux.Code) string { return fmt.Sprintf("code %d", c) }

func (v *victim) state() (st state) {
	v.mu.Lock()
	st = state{Open: len(v.open) + int(v.raw.Load()), Ended: maps.Clone(v.ended), Frames: v.frames, Most: v.most, Least: v.least, Peak: v.peak, CPU: cpuTime()}
	for s := range v.open {
		st.Frames += s.l.Stats().FramesIn
		st.Peak = max(st.Peak, int(s.peak.Load()))
	}
	for r := range v.rules {
		st.Rules = append(st.Rules, r)
	}
	v.mu.Unlock()
	sort.Strings(st.Rules)
	st.Handlers = int(v.handlers.Load())
	st.RSS = peakRSS()
	return st
}

// collected is state with what is live after a garbage collection. It takes several, since pools keep things for one more,
// and finalizers make garbage.
func (v *victim) collected() state {
	for range 4 {
		runtime.GC()
	}
	st := v.state()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	st.Heap, st.Stack = int64(m.HeapAlloc), int64(m.StackInuse)
	st.Library = libraryGoroutines()
	return st
}

// libraryGoroutines counts the goroutines that a function of the library has started.
func libraryGoroutines() (n int) {
	buf := make([]byte, 1<<20)
	for {
		m := runtime.Stack(buf, true)
		if m < len(buf) {
			buf = buf[:m]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	const module = "created by github.com/vtmux/vtmux/"
	for line := range bytes.Lines(buf) {
		if by, ok := bytes.CutPrefix(line, []byte(module)); ok && !bytes.HasPrefix(by, []byte("internal/hostile.")) {
			n++
		}
	}
	return n
}

// peakRSS returns the most memory that this process has ever had resident, in KiB; 0 where that is not known.
func peakRSS() (kib int) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	if _, rest, ok := strings.Cut(string(b), "VmHWM:"); ok {
		_, _ = fmt.Sscan(rest, &kib)
	}
	return kib
}
