package mux

import (
	"context"
	"net"
	"time"

	"github.com/vtmux/vtmux/addr"
)

// A Pipe opens connections over one transport. Connections that the peer opens
// towards a Pipe are refused.
type Pipe struct{ s *session }

// NewPipe starts a session over transport, a stream, which is the session's from then
// on: nothing else may read, write or close it, or set its deadlines, and the session
// closes it when it ends. On an error the transport stays the caller's, as it was. A nil
// cfg means the defaults. NewPipe does not wait for the peer.
func NewPipe(transport net.Conn, cfg *Config) (*Pipe, error) {
	s, err := newSession(transport, cfg, false)
	if err != nil {
		return nil, err
	}
	return &Pipe{s}, nil
}

// Open opens a connection that bears a, and waits for no answer: the connection can be
// written to at once. The peer hears of it by the first Write or Read, and within a
// millisecond if neither comes. Open returns ErrTooManyConns at Config.MaxConns and at
// the peer's limit, ErrDraining after Shutdown at either end, ErrExhausted when the
// session has no more IDs, and why the session ended after that. A peer that refuses
// makes the connection's calls return a *RefusedError.
//
// ctx bounds what Open itself waits for, and nothing later: room on the transport; on a
// Listener with ProtocolAuto the peer's first bytes, which tell the protocol; and beyond
// 128 connections the peer's preface, which tells its limit.
//
// With the vt-muxer protocol an address names one connection at a time: Open returns
// ErrAddrInUse while it belongs to one that both ends have not ended. And the two ends
// must not open the same address at the same time: neither could tell it from an
// end. Let one end open, or use disjoint addresses. Where it is noticed, the
// connection's calls return a *ResetError with CodeCrossedOpen.
func (p *Pipe) Open(ctx context.Context, a addr.SocketAddr) (*Conn, error) {
	return p.s.open(ctx, a)
}

// OpenOptions say how to open a connection.
type OpenOptions struct {
	// Addr is the address that the connection bears.
	Addr addr.SocketAddr
	// Metadata goes to the peer with the open, which has it by PendingConn.Metadata.
	// It is copied. At most 1,024 bytes: OpenWith fails with syscall.EMSGSIZE if it is
	// longer. The vt-muxer protocol can't carry any: OpenWith fails with
	// errors.ErrUnsupported if it is not empty.
	Metadata []byte
}

// OpenWith is Open with more to say.
func (p *Pipe) OpenWith(ctx context.Context, o OpenOptions) (*Conn, error) {
	return p.s.openWith(ctx, o.Addr, o.Metadata)
}

// Close ends the session at once: pending and later calls on it, and calls of Read, Write
// and their like on its connections, return net.ErrClosed, but Reads first return what
// was received, and io.EOF where the peer's half had ended. What was written before is
// still sent where the transport takes it within half a second. Connections that were
// open end with an error at the peer, never with io.EOF; with protocol 1 that is a
// *GoAwayError, if the transport takes it in that time.
func (p *Pipe) Close() error { return p.s.close() }

// Shutdown ends the session gracefully: nothing new is opened in either direction, and
// when all connections have ended both ways, the transport is closed, without losing a
// byte. If ctx is done before that, Shutdown does what Close does and returns the
// context's error. Where the session fails before that, and cuts connections, it returns
// why. It may be called again, also at the same time; after a Close, or a Shutdown that
// ctx cut short, that returns net.ErrClosed.
//
// With protocol 1 the peer is told first, so that its Open fails with ErrDraining. What
// it had opened before that is served: go on accepting until that fails, also when Shutdown
// has returned, for a peer may open, write and close before that. The vt-muxer
// protocol can't tell the peer; its opens are refused, those included that wait to be
// accepted. A Listener on ProtocolAuto whose peer has said nothing yet waits a second for
// its first words, which tell the protocol.
func (p *Pipe) Shutdown(ctx context.Context) error { return p.s.shutdown(ctx) }

// Done returns a channel that is closed when the session has ended.
func (p *Pipe) Done() <-chan struct{} { return p.s.done }

// Err returns why the session has ended, or nil while it has not.
func (p *Pipe) Err() error { return p.s.err() }

// Ping measures the round-trip time to the peer's session, waiting on the way
// included. Calls at the same time share one measurement, and the next begins a tenth of a
// second after it at the earliest. When ctx is done, Ping returns
// its error. The vt-muxer protocol has no ping, so there, and while a Listener does not
// know the protocol, it is the kernel's smoothed round-trip time of a TCP transport on
// Linux. With the vt-muxer protocol it is errors.ErrUnsupported elsewhere, and over TLS.
func (p *Pipe) Ping(ctx context.Context) (time.Duration, error) { return p.s.ping(ctx) }

// Stats returns a snapshot of the session's counters.
func (p *Pipe) Stats() Stats { return p.s.stats() }
