package adapter

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// VTMux is this library with protocol 1, VTMuxVT with the vt-muxer protocol. The defaults are what its users get; only
// the limits of connections are raised, for the scenarios that have more of them than a proxy should let one peer open.
var (
	VTMux = ours(Adapter{
		Name:   "vtmux",
		Config: "protocol 1, defaults; limits of connections raised; BelowTLS, where TLS is",
		TLS:    true,
		Below:  mux.BelowTLS,
	}, mux.Protocol1)
	VTMuxVT = ours(Adapter{
		Name:   "vtmux-vt",
		Config: "vt-muxer protocol, defaults; limits of connections raised",
		Lacks:  lacksFlowControl,
	}, mux.ProtocolVT)
)

func ours(a Adapter, protocol mux.Protocol) Adapter {
	cfg := &mux.Config{Protocol: protocol, MaxConns: 1 << 20, AcceptBacklog: 1 << 20}
	return overTCP(a,
		func(c net.Conn) (Session, error) {
			p, err := mux.NewPipe(c, cfg)
			return &vtClient{Pipe: p}, err
		},
		func(c net.Conn) (Session, error) {
			l, err := mux.NewListener(c, cfg)
			return vtServer{l}, err
		},
	)
}

// lacksFlowControl is the Lacks of a protocol where a stream that nobody reads stops the others.
var lacksFlowControl = lacksUnread("streams that nobody reads stop all others")

// callsOf counts what the kernel does not.
func callsOf(s mux.Stats) uint64 { return s.Reads + s.Writes }

type vtClient struct {
	*mux.Pipe
	opened atomic.Uint32
}

func (c *vtClient) Calls() uint64 { return callsOf(c.Stats()) }

// Open gives each connection an address of its own, as if each were another client's.
func (c *vtClient) Open() (net.Conn, error) {
	n := c.opened.Add(1)
	ip := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return c.Pipe.Open(context.Background(), addr.SocketAddrFromAddrPort(netip.AddrPortFrom(ip, 443)))
}

func (*vtClient) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }

type vtServer struct {
	*mux.Listener
}

func (s vtServer) Calls() uint64 { return callsOf(s.Stats()) }

func (vtServer) Open() (net.Conn, error) { return nil, errors.ErrUnsupported }
