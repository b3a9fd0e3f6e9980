package mux

import (
	"net"

	"github.com/vtmux/vtmux/internal/xport"
)

// BelowTLS returns conn, a TCP or Unix socket, for TLS to run over below a session:
//
//	transport := tls.Client(mux.BelowTLS(conn), config)
//
// A TLS connection is lost when a write of it is interrupted half way. So over others a session
// copies whatever is written, and has a goroutine of its own write it. Over this one it writes
// as over TCP: at once where there is room, from the caller's slice where that is large, and with
// deadlines that interrupt a write and lose nothing. Records that the socket has no room for are
// kept below TLS, 128 KiB at most.
//
// What BelowTLS returns is TLS's alone to use, and closes conn. Until a session has it, behind
// TLS's handshake, it is what conn is. The session is to be given the TLS connection itself, or a
// transport that wraps it and has its methods HandshakeContext and NetConn; from then on write
// deadlines that are set on the TLS connection do nothing, and a server that renegotiates ends
// the session (TLS 1.2 with crypto/tls's Config.Renegotiation, which is off by default). The TLS
// connection's NetConn is what BelowTLS returned, and that one's NetConn is conn.
//
// On other systems than Linux, and where conn is anything else, BelowTLS returns conn itself.
func BelowTLS(conn net.Conn) net.Conn { return xport.NewBelow(conn) }
