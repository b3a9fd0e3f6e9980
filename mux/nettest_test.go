package mux

import (
	"context"
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/vtmux/vtmux/addr"
)

func tcpPair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestConnTCP(t *testing.T) {
	for _, swap := range []bool{false, true} {
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			a, b := tcpPair(t)
			p, err := NewPipe(a, nil)
			if err != nil {
				return
			}
			l, err := NewListener(b, nil)
			if err != nil {
				return
			}
			x, err := p.Open(context.Background(), addr.MustParseSocketAddr("192.0.2.1:8080"))
			if err != nil {
				return
			}
			y, err := l.Accept()
			if err != nil {
				return
			}
			if swap {
				return y, x, func() { x.Close(); y.Close(); p.Close(); l.Close() }, nil
			}
			return x, y, func() { x.Close(); y.Close(); p.Close(); l.Close() }, nil
		})
	}
}
