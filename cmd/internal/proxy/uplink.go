package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// An Uplink opens logical connections over one transport to an origin. It dials the transport when it is first
// needed, and again when it has ended. It is safe for concurrent use.
type Uplink struct {
	address string
	config  *mux.Config

	// pipe holds the one session, nil before the first. Who took it out may replace it, and must put it back.
	pipe chan *mux.Pipe
}

// NewUplink returns an Uplink to the origin at a TCP address.
func NewUplink(address string, config *mux.Config) *Uplink {
	u := &Uplink{address: address, config: config, pipe: make(chan *mux.Pipe, 1)}
	u.pipe <- nil
	return u
}

// Connect is a [Connector]: it opens a logical connection that bears the client's address.
func (u *Uplink) Connect(ctx context.Context, client netip.AddrPort) (Conn, error) {
	pipe, err := u.session(ctx)
	if err != nil {
		return nil, err
	}
	c, err := pipe.Open(ctx, addr.SocketAddrFromAddrPort(client))
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (u *Uplink) session(ctx context.Context) (*mux.Pipe, error) {
	var pipe *mux.Pipe
	select {
	case pipe = <-u.pipe:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { u.pipe <- pipe }()
	if pipe != nil {
		select {
		case <-pipe.Done():
		default:
			return pipe, nil
		}
	}
	var d net.Dialer
	transport, err := d.DialContext(ctx, "tcp", u.address)
	if err != nil {
		return nil, err
	}
	fresh, err := mux.NewPipe(transport, u.config)
	if err != nil {
		transport.Close()
		return nil, err
	}
	pipe = fresh
	return pipe, nil
}

// Shutdown lets the connections end, until ctx does, and then closes the session.
func (u *Uplink) Shutdown(ctx context.Context) error {
	pipe := <-u.pipe
	defer func() { u.pipe <- pipe }()
	if pipe == nil {
		return nil
	}
	err := pipe.Shutdown(ctx)
	pipe.Close()
	return err
}

// ServeTransports runs a session on every transport that l accepts and has s serve its logical connections, until ctx
// ends or l does. What ends one session is told to ended, if that is not nil, and does not touch the others.
func ServeTransports(ctx context.Context, l net.Listener, config *mux.Config, s *Server, ended func(error)) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		transport, err := accept(l)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		wg.Go(func() {
			if err := serveTransport(ctx, transport, config, s); err != nil && ended != nil {
				ended(err)
			}
		})
	}
}

func serveTransport(ctx context.Context, transport net.Conn, config *mux.Config, s *Server) error {
	l, err := mux.NewListener(transport, config)
	if err != nil {
		transport.Close()
		return err
	}
	return s.Serve(ctx, l)
}
