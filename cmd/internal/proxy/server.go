package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// A Connector makes the connection that a client's bytes go on to. client is the client's own address.
type Connector func(ctx context.Context, client netip.AddrPort) (Conn, error)

// A Server relays every connection that it accepts to one that Connect makes.
type Server struct {
	Connect Connector

	// Grace is how long the relays may go on when Serve is told to end.
	Grace time.Duration

	// OnError, if not nil, is told of each relay that failed. It may be called by many goroutines at once. A client
	// that is not known is the zero AddrPort.
	OnError func(client netip.AddrPort, err error)
}

// acceptPause is how long a process that is out of file descriptors is left to its relays, which return some.
const acceptPause = 20 * time.Millisecond

// Serve accepts from l until l ends or ctx does, lets the relays finish, and closes l. It returns nil if it was ctx
// that ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	relays, abortRelays := context.WithCancel(context.WithoutCancel(ctx))
	defer abortRelays()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		time.AfterFunc(s.Grace, abortRelays)
		s.stopAccepting(l)
	})

	var wg sync.WaitGroup
	err := s.accept(l, func(c Conn) {
		wg.Go(func() { s.serve(relays, c) })
	})
	if ctx.Err() != nil {
		err = nil
	}
	wg.Wait()
	if !stop() {
		<-stopped
	}
	l.Close()
	return err
}

// stopAccepting ends l's Accept. A multiplexer's listener is drained, since closing it would close its connections.
func (s *Server) stopAccepting(l net.Listener) {
	drainer, ok := l.(interface{ Shutdown(context.Context) error })
	if !ok {
		l.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.Grace)
	defer cancel()
	drainer.Shutdown(ctx)
	l.Close()
}

func (s *Server) accept(l net.Listener, serve func(Conn)) error {
	for {
		c, err := accept(l)
		if err != nil {
			return err
		}
		conn, ok := c.(Conn)
		if !ok {
			c.Close()
			return fmt.Errorf("proxy: a %T cannot end one direction alone", c)
		}
		serve(conn)
	}
}

// accept accepts from l. A lack of file descriptors is not the end of l: it passes, and accept waits for that.
func accept(l net.Listener) (net.Conn, error) {
	for {
		c, err := l.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return c, err
		}
		time.Sleep(acceptPause)
	}
}

func (s *Server) serve(ctx context.Context, c Conn) {
	client, err := s.relay(ctx, c)
	if err != nil && s.OnError != nil {
		s.OnError(client, err)
	}
}

func (s *Server) relay(ctx context.Context, c Conn) (client netip.AddrPort, err error) {
	client, err = clientOf(ctx, c)
	if err != nil {
		abort(c)
		return client, err
	}
	next, err := s.Connect(ctx, client)
	if err != nil {
		abort(c)
		return client, err
	}
	return client, Relay(ctx, c, next)
}

// clientOf returns the address of c's client. That may take a PROXY header, for which RemoteAddr waits with no regard
// to ctx, so the end of ctx aborts c.
func clientOf(ctx context.Context, c Conn) (client netip.AddrPort, err error) {
	stop := context.AfterFunc(ctx, func() { abort(c) })
	defer stop()
	if h, ok := c.(headerConn); ok {
		if err := h.headerError(); err != nil {
			return client, err
		}
	}
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return client, fmt.Errorf("proxy: client address %v is not an IP address and port", c.RemoteAddr())
	}
	// An IPv4 client of a listener on all addresses comes as [::ffff:1.2.3.4]:5.
	client = tcp.AddrPort()
	return netip.AddrPortFrom(client.Addr().Unmap(), client.Port()), nil
}
