package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// An Uplink opens logical connections over one transport to an origin. It dials the transport when it is first
// needed, and again when it has ended, until Shutdown. It is safe for concurrent use.
type Uplink struct {
	dial   func(context.Context) (net.Conn, error)
	config *mux.Config

	// dialling is held, by a value in it, by the one who may dial. It is taken before mu.
	dialling chan struct{}

	mu   sync.Mutex
	pipe *mux.Pipe // the last session, nil before the first
	shut bool      // no session comes after pipe
}

var errShut = fmt.Errorf("proxy: the uplink has been shut down; make a new one: %w", net.ErrClosed)

// NewUplink returns an Uplink to the origin at a TCP address.
func NewUplink(address string, config *mux.Config) *Uplink {
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
	return &Uplink{dial: dial, config: config, dialling: make(chan struct{}, 1)}
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

// session gives the session to open in, and dials if there is none that lives.
func (u *Uplink) session(ctx context.Context) (*mux.Pipe, error) {
	select {
	case u.dialling <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-u.dialling }()
	if pipe, err := u.current(); pipe != nil || err != nil {
		return pipe, err
	}
	transport, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	pipe, err := mux.NewPipe(transport, u.config)
	if err != nil {
		transport.Close()
		return nil, err
	}
	if err := u.replace(pipe); err != nil {
		pipe.Close()
		return nil, err
	}
	return pipe, nil
}

// current gives the session, or nil if it is time to dial.
func (u *Uplink) current() (*mux.Pipe, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.shut {
		return nil, errShut
	}
	if u.pipe != nil {
		select {
		case <-u.pipe.Done():
			return nil, nil
		default:
		}
	}
	return u.pipe, nil
}

// replace makes pipe the session. If it fails, Shutdown has come meanwhile and does not know of pipe.
func (u *Uplink) replace(pipe *mux.Pipe) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.shut {
		return errShut
	}
	u.pipe = pipe
	return nil
}

// Shutdown lets the connections end, until ctx does, and then closes the session. No Connect succeeds from then on.
// Shutdown does not wait for one that dials: that one fails when it has dialled, or when its own context ends.
func (u *Uplink) Shutdown(ctx context.Context) error {
	u.mu.Lock()
	u.shut = true
	pipe := u.pipe
	u.mu.Unlock()
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
