package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vtmux/vtmux/addr"
)

// TestProxyIsTwoCopies: two loops of io.Copy, with CloseWrite passed on and failures
// passed on as resets, carry TCP connections so that both ends see what they would see
// without: every byte, ends of one direction, and resets that don't look like ends.
func TestProxyIsTwoCopies(t *testing.T) {
	total, batch := 1000, 50 // a batch has 6 sockets a connection
	if raceEnabled || testing.Short() {
		total = 200
	}
	needSockets(t)
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	chain := startProxyChain(t, backend.Addr().String())
	for first := 0; first < total; first += batch {
		var wg sync.WaitGroup
		for i := first; i < first+batch; i++ {
			script := newProxyScript(uint64(i))
			direct := dialThrough(t, backend.Addr().String(), backend)
			proxied := dialThrough(t, chain.front, backend)
			wg.Go(func() {
				want, got := script.play(direct), script.play(proxied)
				if got != want {
					t.Errorf("connection %d, %s: through the proxy\n%swithout it\n%s", i, script.ending.name, got, want)
				}
				if strings.Contains(want, "timeout") {
					t.Errorf("connection %d, %s: it hangs without the proxy\n%s", i, script.ending.name, want)
				}
			})
		}
		wait(t, "a batch", async(func() error { wg.Wait(); return nil }))
		if t.Failed() {
			return
		}
	}
	waitUntil(t, "the end of all", func() bool { return chain.p.Stats().Conns == 0 && chain.l.Stats().Conns == 0 })
	if n := chain.l.Stats().Accepted; n != uint64(total) {
		t.Errorf("%d connections were carried, want %d", n, total)
	}
}

// ---- The proxy.

// A proxyChain carries what connects to front over one transport to the backend.
type proxyChain struct {
	front string
	p     *Pipe
	l     *Listener
}

func startProxyChain(t *testing.T, backend string) *proxyChain {
	t.Helper()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, l := sessionPair(t, overTCP.speaking(Protocol1))
	c := &proxyChain{front.Addr().String(), p, l}
	var relays sync.WaitGroup
	ends := []<-chan error{
		async(func() error { // the edge
			for {
				client, err := front.Accept()
				if err != nil {
					return nil
				}
				conn, err := p.Open(context.Background(), addr.SocketAddrFromAddrPort(client.RemoteAddr().(*net.TCPAddr).AddrPort()))
				if err != nil {
					return err
				}
				relays.Go(func() { proxyRelay(client.(*net.TCPConn), conn) })
			}
		}),
		async(func() error { // the origin
			for {
				conn, err := l.AcceptConn(context.Background())
				if err != nil {
					return nil
				}
				server, err := net.Dial("tcp", backend)
				if err != nil { // the backend may have closed by now, with the dial in its queue
					conn.Reset(CodeNone)
					continue
				}
				relays.Go(func() { proxyRelay(server.(*net.TCPConn), conn) })
			}
		}),
	}
	t.Cleanup(func() {
		front.Close()
		closeBoth(p, l)
		for _, end := range ends {
			wantErr(t, "the proxy", wait(t, "the proxy", end), nil)
		}
		relays.Wait()
	})
	return c
}

// proxyRelay copies both ways. A half that ends well ends well on the other side; if
// one fails, all is given up.
func proxyRelay(tcp *net.TCPConn, conn *Conn) {
	defer tcp.Close()
	defer conn.Close()
	finish := func(dst interface{ CloseWrite() error }, err error) {
		if err == nil {
			err = dst.CloseWrite()
		}
		if err != nil {
			tcp.SetLinger(0)
			tcp.Close()
			conn.Reset(CodeNone)
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, err := io.Copy(conn, tcp)
		finish(conn, err)
	})
	both.Go(func() {
		_, err := io.Copy(tcp, conn)
		finish(tcp, err)
	})
	both.Wait()
}

// ---- What the ends do.

// proxyEnds are the client's and the server's end of a connection.
type proxyEnds [2]*net.TCPConn

// dialThrough connects to address, and returns that end and the backend's.
func dialThrough(t *testing.T, address string, backend net.Listener) (ends proxyEnds) {
	t.Helper()
	client, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	backend.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	server, err := backend.Accept()
	if err != nil {
		client.Close()
		t.Fatalf("the backend's accept: %v", err)
	}
	ends = proxyEnds{client.(*net.TCPConn), server.(*net.TCPConn)}
	for _, c := range ends {
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience / 2))
	}
	return ends
}

// A proxyScript is what two ends of a connection do. All of it follows from the seed.
type proxyScript struct {
	seed   uint64
	turns  []proxyTurn
	ending proxyEnding
	by     int // who does the ending's first step: 0 the client, 1 the server
	size   int // of what the ending sends
}

// A proxyTurn is what each end sends, at once; both read it before the next turn.
type proxyTurn [2]int

func newProxyScript(seed uint64) *proxyScript {
	rnd := rand.New(rand.NewPCG(seed, 17))
	size := func() int {
		switch rnd.IntN(8) {
		case 0:
			return rnd.IntN(300_000)
		case 1:
			return 0
		}
		return rnd.IntN(5000)
	}
	s := &proxyScript{seed: seed, ending: proxyEndings[rnd.IntN(len(proxyEndings))], by: rnd.IntN(2), size: 1 + size()}
	for range rnd.IntN(4) {
		s.turns = append(s.turns, proxyTurn{size(), size()})
	}
	return s
}

// A proxyPlay is one run of a script over one connection.
type proxyPlay struct {
	ends proxyEnds
	log  strings.Builder
}

// play has both ends do what the script says, and returns what they saw.
func (s *proxyScript) play(ends proxyEnds) string {
	p := &proxyPlay{ends: ends}
	for i, turn := range s.turns {
		var wg sync.WaitGroup
		var saw [4]string
		for end, size := range turn {
			data := testBytes(size, uint32(s.seed<<8)+uint32(2*i+end))
			wg.Go(func() { saw[2*end] = p.send(end, data) })
			wg.Go(func() { saw[2*end+1] = p.expect(1-end, data) })
		}
		wg.Wait()
		fmt.Fprintf(&p.log, "turn %d: %q\n", i, saw)
	}
	s.ending.run(p, s.by, 1-s.by, testBytes(s.size, uint32(s.seed)))
	for _, c := range ends {
		c.Close()
	}
	return p.log.String()
}

func (p *proxyPlay) see(end int, what string) {
	fmt.Fprintf(&p.log, "%s: %s\n", []string{"client", "server"}[end], what)
}

func (p *proxyPlay) send(end int, data []byte) string {
	_, err := p.ends[end].Write(data)
	return "sent, " + proxyError(err)
}

// expect reads as much as data has, and compares.
func (p *proxyPlay) expect(end int, data []byte) string {
	got := make([]byte, len(data))
	n, err := io.ReadFull(p.ends[end], got)
	if !bytes.Equal(got[:n], data[:n]) {
		return "read other bytes"
	}
	return fmt.Sprintf("read %d, %s", n, proxyError(err))
}

// end reads to the end, and says whether what came is data, or with partly a front of it.
func (p *proxyPlay) end(end int, data []byte, partly bool) {
	got, err := io.ReadAll(eofKeeper{p.ends[end]})
	switch {
	case partly && bytes.HasPrefix(data, got):
		p.see(end, "read a part, "+proxyError(err))
	default:
		p.see(end, fmt.Sprintf("read %d, right %t, %s", len(got), bytes.Equal(got, data), proxyError(err)))
	}
}

func (p *proxyPlay) closeWrite(end int) {
	p.see(end, "CloseWrite, "+proxyError(p.ends[end].CloseWrite()))
}

func (p *proxyPlay) reset(end int) {
	p.ends[end].SetLinger(0)
	p.ends[end].Close()
}

// writeUntilError writes on and on, as long as that succeeds.
func (p *proxyPlay) writeUntilError(end int) {
	for buf := make([]byte, 1000); ; {
		if _, err := p.ends[end].Write(buf); err != nil {
			p.see(end, "Write at last, "+proxyError(err))
			return
		}
		<-time.After(100 * time.Microsecond)
	}
}

// proxyError sorts errors into those that a program would treat alike.
func proxyError(err error) string {
	switch {
	case err == nil:
		return "no error"
	case err == errCleanEnd || err == io.EOF:
		return "a clean end"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "a timeout"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "an end too early"
	}
	return "broken" // ECONNRESET or EPIPE: which one depends on the moment
}

// A proxyEnding is how a connection ends. a is who begins, b the other end, and data
// what is sent on the way. What is seen must not depend on the moment.
type proxyEnding struct {
	name string
	run  func(p *proxyPlay, a, b int, data []byte)
}

var proxyEndings = []proxyEnding{
	{"one ends, and the other answers", func(p *proxyPlay, a, b int, data []byte) {
		p.closeWrite(a)
		p.end(b, nil, false)
		sent := async(func() error { _, err := p.ends[b].Write(data); return errors.Join(err, p.ends[b].CloseWrite()) })
		p.end(a, data, false)
		p.see(b, proxyError(<-sent))
	}},
	{"one sends and ends, and the other sends and ends", func(p *proxyPlay, a, b int, data []byte) {
		sent := async(func() error { _, err := p.ends[a].Write(data); return errors.Join(err, p.ends[a].CloseWrite()) })
		p.end(b, data, false)
		p.see(a, proxyError(<-sent))
		sent = async(func() error { _, err := p.ends[b].Write(data); return errors.Join(err, p.ends[b].Close()) })
		p.end(a, data, false)
		p.see(b, proxyError(<-sent))
	}},
	{"both end at once", func(p *proxyPlay, a, b int, data []byte) {
		sent := async(func() error { _, err := p.ends[a].Write(data); return errors.Join(err, p.ends[a].CloseWrite()) })
		p.closeWrite(b)
		p.end(a, nil, false)
		p.end(b, data, false)
		p.see(a, proxyError(<-sent))
	}},
	{"one resets", func(p *proxyPlay, a, b int, data []byte) {
		p.reset(a)
		p.end(b, nil, false)
	}},
	{"one sends, and resets when that is read", func(p *proxyPlay, a, b int, data []byte) {
		sent := async(func() error { _, err := p.ends[a].Write(data); return err })
		p.see(b, p.expect(b, data))
		p.see(a, proxyError(<-sent))
		p.reset(a)
		p.end(b, nil, false)
	}},
	{"one sends and resets", func(p *proxyPlay, a, b int, data []byte) {
		sent := async(func() error {
			_, err := p.ends[a].Write(data)
			p.reset(a)
			return err
		})
		p.end(b, data, true)
		p.see(a, proxyError(<-sent))
	}},
	{"one ends, the other answers and resets", func(p *proxyPlay, a, b int, data []byte) {
		p.closeWrite(a)
		p.end(b, nil, false)
		sent := async(func() error { _, err := p.ends[b].Write(data); return err })
		p.see(a, p.expect(a, data))
		p.see(b, proxyError(<-sent))
		p.reset(b)
		p.end(a, nil, false)
	}},
	{"one ends and resets, and the other writes", func(p *proxyPlay, a, b int, data []byte) {
		p.closeWrite(a)
		p.end(b, nil, false)
		p.reset(a)
		p.writeUntilError(b)
	}},
	{"one closes, and the other writes", func(p *proxyPlay, a, b int, data []byte) {
		p.ends[a].Close()
		p.end(b, nil, false)
		p.writeUntilError(b)
	}},
	{"one resets with bytes unread, and the other writes", func(p *proxyPlay, a, b int, data []byte) {
		more := async(func() error {
			for {
				if _, err := p.ends[b].Write(data); err != nil {
					return err
				}
			}
		})
		p.see(a, p.expect(a, data[:1]))
		p.reset(a)
		p.see(b, "Write, "+proxyError(<-more))
	}},
}
