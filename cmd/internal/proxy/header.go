package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// DialTCP connects to address, and first sends a PROXY header (version 2) that names the client.
func DialTCP(address string) Connector {
	plain := DialPlainTCP(address)
	return func(ctx context.Context, client netip.AddrPort) (Conn, error) {
		c, err := plain(ctx, client)
		if err != nil {
			return nil, err
		}
		header := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(client), c.RemoteAddr())
		if _, err := header.WriteTo(c); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	}
}

// DialPlainTCP connects to address and does not tell it who the client is.
func DialPlainTCP(address string) Connector {
	return func(ctx context.Context, _ netip.AddrPort) (Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
}

// ListenHeader gives connections whose RemoteAddr is the client named by the PROXY header that each must begin with.
// It trusts whoever can connect to l. A connection that begins otherwise cannot be read or written, its RemoteAddr is
// the peer, and a Server does not connect it onward.
func ListenHeader(l net.Listener) net.Listener {
	return headerListener{&proxyproto.Listener{Listener: l}}
}

type headerListener struct{ *proxyproto.Listener }

func (l headerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return headerConn{c.(*proxyproto.Conn)}, nil
}

// headerConn gives back the methods of a connection that proxyproto.Conn hides. It has them all, and those that the
// connection itself has not return an error.
type headerConn struct{ *proxyproto.Conn }

// headerError waits for the header, and returns what is wrong with it. RemoteAddr does not tell.
func (c headerConn) headerError() error {
	if c.ProxyHeader() != nil {
		return nil
	}
	_, err := c.Read(nil) // why there is no header; this reads nothing
	return fmt.Errorf("proxy: %v did not begin with a PROXY header: %w; have it send one, of version 1 or 2", c.Raw().RemoteAddr(), err)
}

func (c headerConn) CloseWrite() error {
	raw, ok := c.Raw().(Conn)
	if !ok {
		return fmt.Errorf("proxy: a %T cannot end one direction alone; listen for TCP or Unix connections", c.Raw())
	}
	return raw.CloseWrite()
}

func (c headerConn) SetLinger(sec int) error {
	raw, ok := c.Raw().(interface{ SetLinger(int) error })
	if !ok {
		return fmt.Errorf("proxy: a %T cannot be reset, only closed; listen for TCP connections", c.Raw())
	}
	return raw.SetLinger(sec)
}
