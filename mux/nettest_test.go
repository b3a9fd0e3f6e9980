package mux

import (
	"context"
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

// TestConn runs the conformance suite of net.Conn with each protocol, over
// every kind of transport, with the opening and then the accepting end as the suite's
// first.
func TestConn(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		t.Run("opener", func(t *testing.T) { nettest.TestConn(t, nettestPipe(t, tr, false)) })
		t.Run("acceptor", func(t *testing.T) { nettest.TestConn(t, nettestPipe(t, tr, true)) })
	})
}

func nettestPipe(t *testing.T, tr transport, swap bool) nettest.MakePipe {
	return func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := tr.dial(t)
		p, err := NewPipe(a, tr.config(nil))
		if err != nil {
			return
		}
		l, err := NewListener(b, nil)
		if err != nil {
			return
		}
		x, err := p.Open(context.Background(), testAddr(1))
		if err != nil {
			return
		}
		y, err := l.Accept()
		if err != nil {
			return
		}
		stop = func() {
			x.Close()
			y.Close()
			closeBoth(p, l)
		}
		if swap {
			return y, x, stop, nil
		}
		return x, y, stop, nil
	}
}
