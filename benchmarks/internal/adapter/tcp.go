package adapter

import (
	"errors"
	"net"
)

// TCP is no multiplexer: one TCP connection a stream, as Go makes it.
var TCP = Adapter{
	Name:   "tcp",
	Config: "one TCP connection a stream; TCP_NODELAY, as Go sets it, and the kernel's buffer sizes, for all",
	TLS:    true,
	Listen: func(o Options) (string, func() (Session, error), error) {
		l, err := listenLoopback()
		if err != nil {
			return "", nil, err
		}
		return l.Addr().String(), func() (Session, error) { return tcpServer{l, o.TLS}, nil }, nil
	},
	Dial: func(address string, o Options) (Session, error) { return tcpClient{address, o.TLS}, nil },
}

type tcpServer struct {
	net.Listener
	tls bool
}

func (tcpServer) Open() (net.Conn, error) { return nil, errors.ErrUnsupported }

// Accept finishes the handshake itself, one connection after the other: no scenario over TLS opens while it measures.
func (s tcpServer) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil || !s.tls {
		return c, err
	}
	return secureServer(c)
}

type tcpClient struct {
	address string
	tls     bool
}

func (c tcpClient) Open() (net.Conn, error) {
	conn, err := net.Dial("tcp", c.address)
	if err != nil || !c.tls {
		return conn, err
	}
	return secureClient(conn)
}

func (tcpClient) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }
func (tcpClient) Close() error              { return nil }
