package adapter

import (
	"errors"
	"net"
)

// TCP is no multiplexer: one TCP connection a stream, as Go makes it (TCP_NODELAY on, kernel's buffer sizes).
var TCP = Adapter{
	Name: "tcp",
	Listen: func() (string, func() (Session, error), error) {
		l, err := listenLoopback()
		if err != nil {
			return "", nil, err
		}
		return l.Addr().String(), func() (Session, error) { return tcpServer{l}, nil }, nil
	},
	Dial: func(address string) (Session, error) { return tcpClient(address), nil },
}

type tcpServer struct{ net.Listener }

func (tcpServer) Open() (net.Conn, error) { return nil, errors.ErrUnsupported }

type tcpClient string

func (c tcpClient) Open() (net.Conn, error) { return net.Dial("tcp", string(c)) }
func (tcpClient) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }
func (tcpClient) Close() error              { return nil }
