package adapter

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// VTMux is this library with the vt-muxer protocol. Its defaults are what its users get; only the number of
// connections is raised, for the scenarios that have more of them than a proxy should let one peer open.
var VTMux = overTCP("vtmux",
	func(c net.Conn) (Session, error) {
		p, err := mux.NewPipe(c, &vtConfig)
		return &vtClient{Pipe: p}, err
	},
	func(c net.Conn) (Session, error) {
		l, err := mux.NewListener(c, &vtConfig)
		return vtServer{l}, err
	},
)

var vtConfig = mux.Config{Protocol: mux.ProtocolVT, MaxConns: 1 << 20}

type vtClient struct {
	*mux.Pipe
	opened uint32
}

// Open gives each connection an address of its own, as if each were another client's.
func (c *vtClient) Open() (net.Conn, error) {
	c.opened++
	ip := netip.AddrFrom4([4]byte{10, byte(c.opened >> 16), byte(c.opened >> 8), byte(c.opened)})
	return c.Pipe.Open(context.Background(), addr.SocketAddrFromAddrPort(netip.AddrPortFrom(ip, 443)))
}

func (*vtClient) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }

type vtServer struct{ *mux.Listener }

func (vtServer) Open() (net.Conn, error) { return nil, errors.ErrUnsupported }
