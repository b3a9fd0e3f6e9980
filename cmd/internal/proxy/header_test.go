package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// TestHeaderConnHasOnlyWhatItsConnectionHas: any listener can be given to ListenHeader. What its connections cannot do
// is an error for the relay to report, and not a panic that ends the process.
//
// To see it fail: assert *net.TCPConn in CloseWrite or in SetLinger.
func TestHeaderConnHasOnlyWhatItsConnectionHas(t *testing.T) {
	tcp := func(t *testing.T) net.Listener { return listen(t, "127.0.0.1:0") }
	for _, tt := range []struct {
		name               string
		listen             func(*testing.T) net.Listener
		closeWrite, linger string // a part of the error, or empty for none
	}{
		{"tcp", tcp, "", ""},
		{"unix", listenUnix, "", "a *net.UnixConn cannot be reset"},
		{"neither", func(t *testing.T) net.Listener { return barely{tcp(t)} }, "a struct { net.Conn } cannot end one direction alone", "a struct { net.Conn } cannot be reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := tt.listen(t)
			peer, err := net.Dial(l.Addr().Network(), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			c, err := ListenHeader(l).Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			h := c.(headerConn)
			if err := h.SetLinger(0); !says(err, tt.linger) {
				t.Errorf("SetLinger returned %v, want %q", err, tt.linger)
			}
			if err := h.CloseWrite(); !says(err, tt.closeWrite) {
				t.Errorf("CloseWrite returned %v, want %q", err, tt.closeWrite)
			}
		})
	}
}

// TestWithoutAHeaderThereIsNoClient: the peer's own address is not the client's, and must not be passed on as such.
//
// To see it fail: take headerError out of clientOf.
func TestWithoutAHeaderThereIsNoClient(t *testing.T) {
	for _, tt := range []struct{ name, sent string }{
		{"nothing", ""},
		{"another protocol", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"version 1, garbled", "PROXY TCP4 1.2.3.4\r\n"},
		{"version 1, cut short", "PROXY TCP4 1.2.3.4 5"},
		{"version 2, garbled", "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02"},
		{"version 2, cut short", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, err := relayFrom(t, tt.sent, connectNobody(t))
			if client.IsValid() || !says(err, "did not begin with a PROXY header: ") || errors.Unwrap(err) == nil {
				t.Errorf("OnError was told of client %v and of %v", client, err)
			}
		})
	}
}

// TestHeaderThatNamesNobodyIsValid: a balancer's health check says LOCAL, and is to be served as the peer that it is
// (PROXY protocol, section 2.2).
//
// To see it fail: have headerError refuse a header whose Command.IsLocal().
func TestHeaderThatNamesNobodyIsValid(t *testing.T) {
	asked := make(chan netip.AddrPort, 1)
	refused := errors.New("refused")
	_, err := relayFrom(t, "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", func(_ context.Context, client netip.AddrPort) (Conn, error) {
		asked <- client
		return nil, refused
	})
	if err != refused {
		t.Fatalf("OnError was told of %v, want it to be asked to connect onward", err)
	}
	if client := <-asked; !client.Addr().IsLoopback() {
		t.Errorf("it connects onward for client %v, want the peer", client)
	}
}

// relayFrom has a Server relay a connection that sends so much and ends, and gives what OnError is told.
func relayFrom(t *testing.T, sent string, connect Connector) (client netip.AddrPort, err error) {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	s := &Server{Connect: connect, OnError: func(c netip.AddrPort, err error) {
		client = c
		failed <- err
	}}
	ended := serve(t, func() error { return s.Serve(ctx, ListenHeader(l)) })
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	write(t, peer, sent)
	peer.(*net.TCPConn).CloseWrite()
	err = receive(t, "OnError", failed)
	cancel()
	receive(t, "Serve to end", ended)
	return client, err
}

// says reports whether err tells of what, or is nil if what is empty.
func says(err error, what string) bool {
	if err == nil || what == "" {
		return err == nil && what == ""
	}
	return strings.Contains(err.Error(), what)
}

func listenUnix(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A barely listener gives connections that can do nothing but what a net.Conn must.
type barely struct{ net.Listener }

func (l barely) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return struct{ net.Conn }{c}, err
}
