package mux

import (
	"context"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/addr"
)

// A Listener accepts the connections that the peer opens over one transport. It
// can open connections as well. It is a net.Listener: http.Server and others serve
// on it as it is. But its Close ends the connections too that were accepted, unlike that of
// a TCP listener, and http.Server calls it when its Serve or Shutdown begins to end. To
// let requests be served to their end, give the server a net.Listener whose Close begins
// Shutdown instead:
//
//	type drainingListener struct{ *mux.Listener }
//
//	func (l drainingListener) Close() error {
//		go l.Shutdown(context.Background())
//		return nil
//	}
type Listener struct{ s *session }

var _ net.Listener = (*Listener)(nil)

// NewListener starts a session over transport, a stream, which is the session's from
// then on: nothing else may read, write or close it, or set its deadlines, and the
// session closes it when it ends. On an error the transport stays the caller's, as it
// was. A nil cfg means the defaults. NewListener does not wait for the peer.
func NewListener(transport net.Conn, cfg *Config) (*Listener, error) {
	s, err := newSession(transport, cfg, true)
	if err != nil {
		return nil, err
	}
	return &Listener{s}, nil
}

// Accept waits for the next connection and returns it, a *Conn. When no more come, it
// returns why: ErrDraining while Shutdown runs, net.ErrClosed after Close and once
// Shutdown has ended the session, else a *TransportError, *ProtocolError or
// *GoAwayError.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptConn(context.Background())
	if err != nil {
		return nil, err // a nil *Conn must not become a net.Conn
	}
	return c, nil
}

// AcceptConn is Accept with a context, whose error it returns when that is done
// first.
func (l *Listener) AcceptConn(ctx context.Context) (*Conn, error) {
	c, err := l.s.acceptState(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

// AcceptPending waits for the next connection and returns it before it is
// accepted, so that its address can be looked at first.
func (l *Listener) AcceptPending(ctx context.Context) (*PendingConn, error) {
	c, err := l.s.acceptState(ctx)
	if err != nil {
		return nil, err
	}
	return &PendingConn{h: newConn(c)}, nil
}

// Addr returns the transport's local address.
func (l *Listener) Addr() net.Addr { return l.s.t.Conn().LocalAddr() }

// Pipe returns the opening face of the same session.
func (l *Listener) Pipe() *Pipe { return &Pipe{l.s} }

// Open opens a connection that bears a. See Pipe.Open.
func (l *Listener) Open(ctx context.Context, a addr.SocketAddr) (*Conn, error) {
	return l.s.open(ctx, a)
}

// Close ends the session at once, and all of its connections. See Pipe.Close.
func (l *Listener) Close() error { return l.s.close() }

// Shutdown ends the session when its connections have ended. See Pipe.Shutdown.
func (l *Listener) Shutdown(ctx context.Context) error { return l.s.shutdown(ctx) }

// Done returns a channel that is closed when the session has ended.
func (l *Listener) Done() <-chan struct{} { return l.s.done }

// Err returns why the session has ended, or nil while it has not.
func (l *Listener) Err() error { return l.s.err() }

// Ping measures the round-trip time. See Pipe.Ping.
func (l *Listener) Ping(ctx context.Context) (time.Duration, error) { return l.s.ping(ctx) }

// Stats returns a snapshot of the session's counters.
func (l *Listener) Stats() Stats { return l.s.stats() }

// A PendingConn is a connection that the peer has opened and that is neither accepted nor
// rejected yet. Accept can be taken back by Reject, which is Reset then; Reject is final.
// One that is dropped without either is closed as a Conn is.
type PendingConn struct {
	h       *Conn
	decided atomic.Uint32 // set once to accepted, or to rejected for good
}

const (
	accepted = 1
	rejected = 2
)

// Addr returns the address that the connection bears.
func (p *PendingConn) Addr() addr.SocketAddr { return p.h.Addr() }

// Metadata returns what the opener sent along, at most 1,024 bytes. It is the caller's
// to read, not to change. The vt-muxer protocol can't carry any, so there it is empty.
func (p *PendingConn) Metadata() []byte {
	c := p.h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rare == nil {
		return nil
	}
	return c.rare.metadata
}

// Accept returns the connection, the same one each time; net.ErrClosed after Reject.
func (p *PendingConn) Accept() (*Conn, error) {
	if p.decided.CompareAndSwap(0, accepted) || p.decided.Load() == accepted {
		return p.h, nil
	}
	return nil, net.ErrClosed
}

// Reject refuses the connection. The opener's calls return a *RefusedError with code
// and reason, of which 256 bytes of UTF-8 are sent; a vt-muxer peer reads io.EOF. After
// Accept it is Reset with code.
func (p *PendingConn) Reject(code Code, reason string) error {
	switch p.decided.Swap(rejected) {
	case accepted:
		return p.h.Reset(code)
	case rejected:
		return nil
	}
	if p.h.c.s.refuse(p.h.c, code, reason) {
		runtime.SetFinalizer(p.h, nil)
	}
	runtime.KeepAlive(p.h)
	return nil
}
