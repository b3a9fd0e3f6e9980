package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestALackOfFilesEndsNoListener: clients and edges come again once relays have returned their file descriptors.
//
// To see it fail: have ServeTransports call l.Accept itself.
func TestALackOfFilesEndsNoListener(t *testing.T) {
	for name, serve := range map[string]func(context.Context, net.Listener) error{
		"Serve": (&Server{}).Serve,
		"ServeTransports": func(ctx context.Context, l net.Listener) error {
			return ServeTransports(ctx, l, nil, &Server{}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := errors.New("the end of the listener")
				l := &failingListener{errs: []error{acceptError(syscall.EMFILE), acceptError(syscall.ENFILE), end}}
				if err := serve(t.Context(), l); err != end {
					t.Errorf("it ended with %q, want %q", err, end)
				}
			})
		})
	}
}

// A failingListener fails to accept in the given ways.
type failingListener struct {
	net.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func (l *failingListener) Close() error { return nil }

// acceptError is what a TCP listener makes of a failed system call.
func acceptError(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", errno)}
}

// TestGraceBoundsTheWaitForAHeader: a client that has not yet said who it is gets no longer than the others.
//
// To see it fail: take the AfterFunc out of clientOf. Serve then lasts as long as a header may take.
func TestGraceBoundsTheWaitForAHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent, accepted := net.Pipe()
		defer silent.Close()
		ctx, cancel := context.WithCancel(t.Context())
		s := &Server{Connect: connectNobody(t), Grace: time.Second}
		ended := serve(t, func() error { return s.Serve(ctx, ListenHeader(listenTo(accepted))) })
		synctest.Wait()
		cancel()
		start := time.Now()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != s.Grace {
			t.Errorf("Serve ended %v after its context, want %v", took, s.Grace)
		}
	})
}

// TestClientHasItsOwnAddress: an IPv4 client is named as such, although a listener on all addresses has it mapped.
//
// To see it fail: take the Unmap out of clientOf.
func TestClientHasItsOwnAddress(t *testing.T) {
	for _, tt := range []struct{ remote, want string }{
		{"[::ffff:1.2.3.4]:5", "1.2.3.4:5"},
		{"1.2.3.4:5", "1.2.3.4:5"},
		{"[2001:db8::1]:5", "[2001:db8::1]:5"},
		{"[fe80::1%eth0]:5", "[fe80::1%eth0]:5"},
	} {
		peer, accepted := net.Pipe()
		defer peer.Close()
		refused := errors.New("refused")
		var asked, told netip.AddrPort
		s := &Server{
			Connect: func(_ context.Context, client netip.AddrPort) (Conn, error) { asked = client; return nil, refused },
			OnError: func(client netip.AddrPort, _ error) { told = client },
		}
		s.serve(t.Context(), connFrom{accepted, netip.MustParseAddrPort(tt.remote)})
		if want := netip.MustParseAddrPort(tt.want); asked != want || told != want {
			t.Errorf("client %v: Connect was given %v and OnError %v, want %v", tt.remote, asked, told, want)
		}
	}
}

// A connFrom is a Conn with a remote address of the test's choice.
type connFrom struct {
	net.Conn
	remote netip.AddrPort
}

func (c connFrom) CloseWrite() error { return c.Close() }

func (c connFrom) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// connectNobody is a Connector that must not be asked.
func connectNobody(t *testing.T) Connector {
	return func(_ context.Context, client netip.AddrPort) (Conn, error) {
		t.Errorf("it connects onward for client %v", client)
		return nil, net.ErrClosed
	}
}

// A connListener gives one connection, and then none until it is closed.
type connListener struct {
	net.Listener
	conns chan net.Conn
	once  sync.Once
}

func listenTo(c net.Conn) net.Listener {
	l := &connListener{conns: make(chan net.Conn, 1)}
	l.conns <- c
	return l
}

func (l *connListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *connListener) Close() error {
	l.once.Do(func() { close(l.conns) })
	return nil
}
