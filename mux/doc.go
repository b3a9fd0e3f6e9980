// Package mux carries many logical connections over one transport connection.
//
// A transport is any net.Conn that is a byte stream: TCP, TLS, a Unix socket, net.Pipe.
// [NewPipe] wraps one to open connections over it; [NewListener] wraps one to accept them,
// and can open as well. Each connection is a [Conn], a full net.Conn, and bears a socket
// address: in a proxy, the real client's.
//
// TLS runs best over what [BelowTLS] makes of a socket. A transport that wraps TLS should have
// the methods HandshakeContext and NetConn of what it wraps. Without the former, a write that one
// connection's deadline interrupts is taken for one that can be resumed, which TLS can't, and
// the session ends. If the transport's Close takes longer than 0.1 s, what NetConn returned is
// closed.
//
// # Protocol
//
// Two protocols are spoken (docs/PROTOCOL.md). Protocol 1 is vtmux's own, and the default:
// connections with flow control, resets, refusals and metadata, keep-alive, and a
// graceful end. The other is that of the Rust crate vt-muxer 0.1, which has none of
// these; each method says what it does there. A Listener serves peers of either on the
// same port: their first bytes tell. See [Config].
//
// # Goroutines
//
// No goroutine stands between a connection and the transport. Whoever waits in
// Read reads the transport for everybody; whoever writes sends for everybody.
// docs/ARCHITECTURE.md tells how. A session has at most two goroutines of its own,
// both parked while it is idle, and over TLS one more for a moment when it fails; a
// connection has none.
//
// # Concurrency
//
// Every method of Listener, Pipe, PendingConn and Conn may be called from any goroutine at any
// time. No method keeps a slice that it was given once it has returned.
package mux
