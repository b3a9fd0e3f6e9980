package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// A port is a TCP port on which every transport gets a Listener of the same Config. All their connections are echoed.
type port struct {
	ln  net.Listener
	cfg *mux.Config

	sessions group         // each ends with its transport
	accepted chan net.Conn // the transports, as many as there is room for

	mu   sync.Mutex
	with map[string]int // connections by their metadata
}

func listenPort(t *testing.T, f family, cfg *mux.Config) *port {
	t.Helper()
	f.require(t)
	ln, err := net.Listen("tcp", f.loopback)
	if err != nil {
		t.Fatal(err)
	}
	p := &port{ln: ln, cfg: cfg, accepted: make(chan net.Conn, 1), with: make(map[string]int)}
	p.sessions.run(func() error {
		for {
			transport, err := ln.Accept()
			if err != nil {
				return nil // the test is over
			}
			p.sessions.run(func() error { return p.serve(transport) })
			select {
			case p.accepted <- transport:
			default:
			}
		}
	})
	t.Cleanup(func() { ln.Close() })
	return p
}

// serve echoes what one peer says, until its transport ends, which must be in good order.
func (p *port) serve(transport net.Conn) error {
	ln, err := mux.NewListener(transport, p.cfg)
	if err != nil {
		return err
	}
	defer ln.Close()
	var echoes group
	for {
		pending, err := ln.AcceptPending(context.Background())
		if err != nil {
			if !errors.Is(err, io.EOF) {
				err = fmt.Errorf("a session ended with %w, want %v", err, io.EOF)
			} else {
				err = nil
			}
			return errors.Join(err, echoes.wait())
		}
		p.mu.Lock()
		p.with[string(pending.Metadata())]++
		p.mu.Unlock()
		conn, err := pending.Accept()
		if err != nil {
			return err
		}
		echoes.run(func() error {
			return errors.Join(talk{conn: conn}.echo(), conn.Close())
		})
	}
}

// A guest is a peer of a port.
type guest struct {
	open func(i int) error // opens the i-th connection and has what it says echoed
	wait func(ctx context.Context, conns int) error
	end  func(ctx context.Context) error
}

// rustGuest is vt-muxer.
func (p *port) rustGuest(t *testing.T, f family, size int) guest {
	at := p.ln.Addr().(*net.TCPAddr).AddrPort()
	peer := startPeer(t, Setup{Role: Pipe, Transport: Transport{Connect: &at}, Driver: OneTask})
	return guest{
		open: func(i int) error { return peer.Open(logical(f.goAddrs, i), Say(Duplex, size)) },
		wait: func(ctx context.Context, conns int) error {
			finished, err := peer.Finished(ctx, conns)
			for _, c := range finished {
				err = errors.Join(err, c.check(size, NewPattern(c.Addr, true, 0)))
			}
			return err
		},
		end: func(context.Context) error { return peer.Close() },
	}
}

// goGuest is vtmux, with either protocol. What it opens has metadata where that can be.
func (p *port) goGuest(t *testing.T, f family, size int, protocol mux.Protocol) guest {
	t.Helper()
	transport, err := net.Dial("tcp", p.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := mux.NewPipe(transport, &mux.Config{Protocol: protocol})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pipe.Close() })
	var talks group
	return guest{
		open: func(i int) error {
			at := logical(f.goAddrs, i)
			o := mux.OpenOptions{Addr: addr.SocketAddrFromAddrPort(at)}
			if protocol != mux.ProtocolVT {
				o.Metadata = []byte("protocol 1")
			}
			conn, err := pipe.OpenWith(t.Context(), o)
			if err != nil {
				return err
			}
			talks.run(talk{conn, at, true, 0, say(Duplex, size), Echo}.run)
			return nil
		},
		wait: func(context.Context, int) error { return talks.wait() },
		end:  pipe.Shutdown,
	}
}

// One port serves vt-muxer's peers and those of protocol 1 at the same time, with Listeners of the same Config. All use the same
// addresses, and none is disturbed by another's protocol.
func TestBothProtocolsOnOnePort(t *testing.T) {
	for _, f := range []family{ipv4, ipv6} {
		for _, tt := range []struct{ conns, size int }{{50, 21}, {20, 70_000}, {4, 1 << 20}} {
			t.Run(fmt.Sprintf("%s/%dx%d", f.name, tt.conns, tt.size), func(t *testing.T) {
				const each = 3 // of each kind
				p := listenPort(t, f, nil)
				var guests []guest
				for range each { // all are connected before the first of them says anything
					guests = append(guests, p.rustGuest(t, f, tt.size), p.goGuest(t, f, tt.size, mux.ProtocolAuto), p.goGuest(t, f, tt.size, mux.ProtocolVT))
				}
				ctx, cancel := context.WithTimeout(t.Context(), caseLimit)
				defer cancel()
				for i := range tt.conns { // one of each in turn
					for _, g := range guests {
						if err := g.open(i); err != nil {
							t.Fatal(err)
						}
					}
				}
				for i, g := range guests {
					if err := g.wait(ctx, tt.conns); err != nil {
						t.Errorf("guest %d: %v", i, err)
					}
				}
				for i, g := range guests {
					if err := g.end(ctx); err != nil {
						t.Errorf("the end of guest %d: %v", i, err)
					}
				}
				p.ln.Close()
				if err := p.sessions.wait(); err != nil {
					t.Error(err)
				}
				if with := p.with["protocol 1"]; with != each*tt.conns || p.with[""] != 2*each*tt.conns {
					t.Errorf("%v connections by metadata, want %d with it and %d without", p.with, each*tt.conns, 2*each*tt.conns)
				}
			})
		}
	}
}

// A Listener that follows waits for a vt-muxer peer that says nothing at first, and one that only serves protocol 1 turns it away.
func TestVTPeerAtAListenerOfProtocol1(t *testing.T) {
	p := listenPort(t, ipv4, &mux.Config{Protocol: mux.Protocol1})
	at := p.ln.Addr().(*net.TCPAddr).AddrPort()
	peer := startPeer(t, Setup{Role: Pipe, Transport: Transport{Connect: &at}, Driver: OneTask})
	if err := peer.Open(logical(ipv4.goAddrs, 0), Say(Duplex, 1)); err != nil {
		t.Fatal(err)
	}
	<-p.accepted
	p.ln.Close()
	if err := p.sessions.wait(); !errors.Is(err, mux.ErrNoPreface) {
		t.Errorf("the session has ended with %v, want %v", err, mux.ErrNoPreface)
	}
	if len(p.with) != 0 {
		t.Errorf("connections were accepted: %v", p.with)
	}
}
