package mux

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/vtmux/vtmux/addr"
)

// A vtTranscript is what a vt-muxer end was told to do, and what it then wrote.
type vtTranscript struct {
	name   string
	stream []byte
	ops    []vtTranscriptOp
}

// A vtTranscriptOp is an operation and what it returned to the vt-muxer program.
type vtTranscriptOp struct {
	words  []string
	result string
}

const vtTranscriptDir = "../wire/testdata/vtmuxer"

// vtTranscripts reads the recorded streams, and from their README the operations.
func vtTranscripts(t *testing.T) (all []vtTranscript) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(vtTranscriptDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(string(readme), "\n## ") {
		name, body, _ := strings.Cut(section, " ")
		if !strings.HasSuffix(name, ".hex") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(vtTranscriptDir, name))
		if err != nil {
			t.Fatal(err)
		}
		tr := vtTranscript{name: strings.TrimSuffix(name, ".hex")}
		if tr.stream, err = hex.DecodeString(strings.Join(strings.Fields(string(text)), "")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, body, _ = strings.Cut(body, "\nops (")
		ops, _, _ := strings.Cut(body, "\nframes:")
		for line := range strings.Lines(ops) {
			if line, ok := strings.CutPrefix(line, "    "); ok {
				op, result, _ := strings.Cut(strings.TrimSpace(line), " -> ")
				tr.ops = append(tr.ops, vtTranscriptOp{strings.Fields(op), result})
			}
		}
		if len(tr.ops) == 0 {
			t.Fatalf("%s: no operations in the README", name)
		}
		all = append(all, tr)
	}
	if len(all) != 26 {
		t.Fatalf("%d transcripts, want 26", len(all))
	}
	return all
}

// vtDiffers names the transcripts that vtmux must not repeat, and what it sends
// there. vt-muxer keeps what was written until a flush and loses it when the
// connection is dropped; a Write of vtmux is under way when it returns.
var vtDiffers = map[string][]vtFrame{
	"08-write1-noflush":      {vtOpen(vtA), vtData(vtA, "a")},
	"11-write-65535-noflush": {vtOpen(vtA), vtData(vtA, strings.Repeat("a", 65535))},
	"12-write-65536-noflush": {vtOpen(vtA), vtData(vtA, strings.Repeat("a", 65535)), vtData(vtA, "a")},
	"19-drop-unflushed":      {vtOpen(vtA), vtData(vtA, "aaaaa"), vtEnd(vtA)},
}

// vtCut returns frames as they go over a transport without writev: there payloads
// are copied, and cut at copyMax. Frames that came from one Write are joined first.
func vtCut(frames []vtFrame) (cut []vtFrame) {
	var joined []vtFrame
	for _, f := range frames {
		if n := len(joined) - 1; n >= 0 && f.data != "" && joined[n].addr == f.addr && len(joined[n].data) == 65535 {
			joined[n].data += f.data
		} else {
			joined = append(joined, f)
		}
	}
	for _, f := range joined {
		for len(f.data) > copyMax {
			cut = append(cut, vtData(f.addr, f.data[:copyMax]))
			f.data = f.data[copyMax:]
		}
		cut = append(cut, f)
	}
	return cut
}

// A vtProgram does with a session what a transcript's program did with vt-muxer.
type vtProgram struct {
	t        *testing.T
	l        *Listener // nil where there is none
	p        *Pipe
	peerSays func([]byte)
	settle   func()

	conns   map[string]*Conn
	pending map[string]string // what vt-muxer has not flushed yet
}

func (g *vtProgram) run(ops []vtTranscriptOp) {
	g.conns = map[string]*Conn{}
	g.pending = map[string]string{}
	for _, op := range ops {
		g.do(op)
		g.settle()
	}
	for name := range g.pending {
		g.flush(name)
	}
	g.settle()
}

// flush writes what the program has written since the last flush, by one Write.
func (g *vtProgram) flush(name string) error {
	data := g.pending[name]
	delete(g.pending, name)
	if data == "" {
		return nil
	}
	_, err := g.conns[name].Write([]byte(data))
	return err
}

func (g *vtProgram) do(op vtTranscriptOp) {
	g.t.Helper()
	verb := op.words[0]
	name := ""
	if len(op.words) > 1 {
		name = op.words[1]
	}
	c := g.conns[name]
	var err error
	result := "ok"
	switch verb {
	case "open":
		var a addr.SocketAddr
		if a, err = addr.ParseSocketAddr(op.words[2]); err != nil {
			break
		}
		if c, err = g.p.Open(context.Background(), a); err == nil {
			g.conns[name] = c
			result += " " + c.Addr().String()
		}
	case "accept":
		if c, err = g.l.AcceptConn(context.Background()); err == nil {
			g.conns[name] = c
			result += " " + c.Addr().String()
		}
	case "write":
		n, _ := strconv.Atoi(op.words[2])
		if op.result != "ok" {
			_, err = c.Write(make([]byte, n)) // vt-muxer failed at once, so it has buffered nothing
			break
		}
		g.pending[name] += strings.Repeat(name, n)
	case "flush":
		if op.result != "ok" {
			return // a flush of nothing has no counterpart that could fail
		}
		err = g.flush(name)
	case "shutdown":
		if err = g.flush(name); err == nil {
			err = c.CloseWrite()
		}
	case "drop":
		if err = g.flush(name); err == nil {
			err = c.Close()
		}
	case "read":
		var n int
		if n, err = c.Read(make([]byte, 1)); err == io.EOF {
			result, err = "eof "+strconv.Itoa(n), nil
		}
	case "peer":
		b, herr := hex.DecodeString(op.words[2])
		if herr != nil {
			g.t.Fatal(herr)
		}
		g.peerSays(b)
		return
	case "dropmux":
		g.l, g.p = nil, nil // a live connection keeps the session
		runtime.GC()
	default:
		g.t.Fatalf("operation %q is unknown", verb)
	}
	want := map[string]error{
		"err BrokenPipe: broken pipe":           syscall.EPIPE,
		"err AddrInUse: duplicate socket entry": ErrAddrInUse,
	}[op.result]
	switch {
	case want != nil && !errors.Is(err, want):
		g.t.Fatalf("%v: %v, want %v", op.words, err, want)
	case want == nil && (err != nil || result != op.result):
		g.t.Fatalf("%v: %q, %v, want %q", op.words, result, err, op.result)
	}
}

// TestSameOperationsSameBytes does what the recorded programs did, over
// every kind of session, and wants the recorded bytes. Over TCP payloads are as long as
// vt-muxer's; over a net.Pipe the long ones are cut shorter.
func TestSameOperationsSameBytes(t *testing.T) {
	for _, tr := range vtTranscripts(t) {
		want, rest := vtDecode(tr.stream)
		if len(rest) > 0 {
			t.Fatalf("%s ends in a frame", tr.name)
		}
		if frames, differs := vtDiffers[tr.name]; differs {
			if slices.Equal(frames, want) {
				t.Errorf("%s: it is said to differ, and does not", tr.name)
			}
			want = frames
		}
		for _, side := range vtSides {
			if tr.name == "24-accept-reply" && !side.listen {
				continue
			}
			t.Run(tr.name+"/"+side.name, func(t *testing.T) {
				t.Run("pipe", func(t *testing.T) { vtOperatePipe(t, tr, side.listen, vtCut(want)) })
				t.Run("tcp", func(t *testing.T) { vtOperateTCP(t, tr, side.listen, vtBytes(want...)) })
			})
		}
	}
}

func vtOperatePipe(t *testing.T, tr vtTranscript, listen bool, want []vtFrame) {
	vtRun(t, listen, nil, func(tc *vtTest) {
		g := &vtProgram{t: tc.t, l: tc.l, p: tc.p, settle: synctest.Wait}
		g.peerSays = func(b []byte) { tc.sendRaw(b) }
		g.run(tr.ops)
		for _, c := range g.conns {
			tc.conns = append(tc.conns, c)
		}
		tc.want("the recorded frames", want...)
		tc.wantIdle("nothing follows")
	})
}

func vtOperateTCP(t *testing.T, tr vtTranscript, listen bool, want []byte) {
	near, far := tcpPair(t)
	defer far.Close()
	g := &vtProgram{t: t, settle: func() {}}
	g.peerSays = func(b []byte) { far.Write(b) }
	var s io.Closer
	if listen {
		l, err := NewListener(near, vtConfig)
		if err != nil {
			t.Fatal(err)
		}
		g.l, g.p, s = l, l.Pipe(), l
	} else {
		p, err := NewPipe(near, vtConfig)
		if err != nil {
			t.Fatal(err)
		}
		g.p, s = p, p
	}
	defer s.Close()
	var got []byte
	var wg sync.WaitGroup
	wg.Go(func() { got, _ = io.ReadAll(far) })
	g.run(tr.ops)
	s.Close() // adds no frames
	wg.Wait()
	for _, c := range g.conns {
		c.Close()
	}
	if !slices.Equal(got, want) {
		frames, rest := vtDecode(got)
		wanted, _ := vtDecode(want)
		t.Errorf("sent %v and %d bytes, want %v", frames, len(rest), wanted)
	}
}

// A vtConnSeen is what an application sees of an accepted connection.
type vtConnSeen struct {
	addr  addr.SocketAddr
	data  string
	ended bool // by io.EOF
}

// vtExpect plays a stream through the rules of PROTOCOL.md, for an end that ends
// its own half as soon as it has read the peer's end. holds are the offsets of
// frames that open an address again: a peer can send them only after that.
func vtExpect(stream []byte, opened []addr.SocketAddr) (seen []vtConnSeen, holds []int) {
	open := map[addr.SocketAddr]int{} // index in seen
	past := map[addr.SocketAddr]bool{}
	for _, a := range opened {
		open[a] = len(seen)
		seen = append(seen, vtConnSeen{addr: a})
	}
	frames, _ := vtDecode(stream)
	at := 0
	for _, f := range frames {
		i, isOpen := open[f.addr]
		switch {
		case f.data != "" && isOpen:
			seen[i].data += f.data
		case f.data != "":
		case isOpen:
			seen[i].ended = true
			delete(open, f.addr)
			past[f.addr] = true
		default:
			if past[f.addr] {
				holds = append(holds, at)
			}
			open[f.addr] = len(seen)
			seen = append(seen, vtConnSeen{addr: f.addr})
		}
		at += 20 + len(f.data)
	}
	return seen, holds
}

// A vtSink is an application that accepts everything, reads all of it to its end,
// and closes what has ended.
type vtSink struct {
	mu   sync.Mutex
	seen []*vtConnSeen
	errs []error // what ended each
	wg   sync.WaitGroup
}

func (k *vtSink) accept(tc *vtTest) {
	k.wg.Go(func() {
		for {
			c, err := tc.l.AcceptConn(context.Background())
			if err != nil {
				return
			}
			k.take(tc, c)
		}
	})
}

func (k *vtSink) take(tc *vtTest, c *Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	tc.conns = append(tc.conns, c)
	i := len(k.seen)
	k.seen = append(k.seen, &vtConnSeen{addr: c.Addr()})
	k.errs = append(k.errs, nil)
	k.wg.Go(func() {
		b, err := io.ReadAll(eofKeeper{c})
		c.Close()
		k.mu.Lock()
		defer k.mu.Unlock()
		k.seen[i].data = string(b)
		k.seen[i].ended = err == errCleanEnd
		k.errs[i] = err
	})
}

// vtFeed sends a stream to a Listener, cut at the given offsets, ends the
// transport, and compares what the application has seen with the rules.
func vtFeed(t *testing.T, tr vtTranscript, cuts []int) {
	t.Helper()
	var opened []addr.SocketAddr
	if tr.name == "24-accept-reply" {
		opened = []addr.SocketAddr{vtA} // the stream is an acceptor's, so this end has opened
	}
	want, holds := vtExpect(tr.stream, opened)
	vtRun(t, true, nil, func(tc *vtTest) {
		var k vtSink
		for _, a := range opened {
			k.take(tc, tc.open(a))
		}
		k.accept(tc)
		from := 0
		for _, to := range append(slices.Clone(holds), len(tr.stream)) {
			var inside []int
			for _, cut := range cuts {
				if from < cut && cut < to {
					inside = append(inside, cut-from)
				}
			}
			tc.sendRaw(tr.stream[from:to], inside...)
			from = to
		}
		tc.wantAllTaken("a session reads on while the application does")
		tc.peer.close()
		k.wg.Wait()
		for i, c := range k.seen {
			if i >= len(want) || *c != want[i] {
				tc.t.Fatalf("cut at %v: connection %d is %v with %s, ended %t: want %v", vtFew(cuts), i, c.addr, vtShort(c.data), c.ended, want[min(i, len(want)-1)])
			}
			if !c.ended && !errors.Is(k.errs[i], io.ErrUnexpectedEOF) {
				tc.t.Fatalf("cut at %v: connection %d was cut by the transport's end and returned %v", vtFew(cuts), i, k.errs[i])
			}
		}
		if len(k.seen) != len(want) {
			tc.t.Fatalf("cut at %v: %d connections, want %d", vtFew(cuts), len(k.seen), len(want))
		}
	})
}

func vtFew(cuts []int) []int { return cuts[:min(len(cuts), 5)] }

// TestTranscriptsReadAlikeCutAnywhere feeds every recorded stream to a Listener: as
// one piece, in two pieces cut at every offset, and byte by byte. Of the three
// long ones, the two pieces are cut in and about the headers only.
func TestTranscriptsReadAlikeCutAnywhere(t *testing.T) {
	for _, tr := range vtTranscripts(t) {
		t.Run(tr.name, func(t *testing.T) {
			vtFeed(t, tr, nil)
			bytewise := make([]int, 0, len(tr.stream))
			header := 0 // where the next header ends
			frames, _ := vtDecode(tr.stream)
			for at := 1; at < len(tr.stream); at++ {
				bytewise = append(bytewise, at)
			}
			if len(tr.stream) <= 1000 {
				for _, at := range bytewise {
					vtFeed(t, tr, []int{at})
				}
			} else {
				for _, f := range frames {
					for at := max(header-3, 1); at < min(header+23, len(tr.stream)); at++ {
						vtFeed(t, tr, []int{at})
					}
					header += 20 + len(f.data)
				}
			}
			vtFeed(t, tr, bytewise)
		})
	}
}

// TestWhatCameBeforeTheTransportsEndIsAccepted: a peer opens, sends, ends and
// closes its transport before the application has called Accept.
func TestWhatCameBeforeTheTransportsEndIsAccepted(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		tc.send(vtOpen(vtA), vtData(vtA, "all of it"), vtEnd(vtA), vtOpen(vtB), vtData(vtB, "half"))
		tc.peer.close()
		tc.settle()
		tc.wantRead("an ended connection outlives the transport", tc.accept(vtA), "all of it", io.EOF)
		tc.wantRead("a cut one is told apart from it", tc.accept(vtB), "half", io.ErrUnexpectedEOF)
		var te *TransportError
		if _, err := tc.l.Accept(); !errors.As(err, &te) {
			tc.t.Errorf("Accept after that returned %v, want a *TransportError", err)
		}
	})
}
