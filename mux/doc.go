// Package mux carries many logical connections over one transport connection.
//
// A transport is any net.Conn: TCP, TLS, a Unix socket, net.Pipe. [NewPipe] wraps
// one to open connections over it; [NewListener] wraps one to accept them, and can
// open as well. Each connection is a [Conn], a full net.Conn, and bears a socket
// address: in a proxy, the real client's.
//
// # Protocol
//
// The package speaks the wire protocol of the Rust crate vt-muxer 0.1 (see
// docs/PROTOCOL.md). That protocol has no flow control, no reset and no answer to
// an open; each method says what it does where the protocol can't express it.
//
// # Goroutines
//
// No goroutine stands between a connection and the transport. Whoever waits in
// Read reads the transport for everybody; whoever writes sends for everybody.
// docs/ARCHITECTURE.md tells how. A session has at most two goroutines of its own,
// both parked while it is idle; a connection has none.
//
// # Concurrency
//
// Every method of Listener, Pipe and Conn may be called from any goroutine at any
// time. No method keeps a slice that it was given once it has returned.
package mux
