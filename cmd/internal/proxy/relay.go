// Package proxy is the reference proxy's machinery: an edge that gives each TCP client a logical connection, and an
// origin that gives each logical connection a TCP connection to the backend.
//
// Both are the same thing, a [Server] between a listener and a [Connector]; they differ in what they listen on and
// what they connect to:
//
//	edge    TCP listener  -> logical connections, named after the clients   (Uplink)
//	origin  mux.Listener  -> TCP, with the client's name in a PROXY header  (DialTCP)
package proxy

import (
	"context"
	"io"
	"net"

	"github.com/vtmux/vtmux/mux"
)

// Conn is what a relay needs of either side: a net.Conn whose two directions end one by one.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// codeAborted tells the peer of a logical connection that the TCP connection behind it broke. Codes below 256 are the
// multiplexer's own.
const codeAborted mux.Code = 256

// Relay copies between a and b until both directions have ended, and closes both.
//
// The end of one direction is passed on as the end of that direction alone. An error in either aborts both
// connections, since a receiver must not take what it got for the whole; so does the end of ctx. Relay returns the
// first error.
func Relay(ctx context.Context, a, b Conn) error {
	defer a.Close()
	defer b.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// An abort also wakes the direction that is still copying.
	aborted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(aborted)
		abort(a)
		abort(b)
	})

	other := make(chan struct{})
	go func() {
		defer close(other)
		if err := forward(b, a); err != nil {
			cancel(err)
		}
	}()
	if err := forward(a, b); err != nil {
		cancel(err)
	}
	<-other
	if stop() {
		return nil
	}
	<-aborted // or Close could overtake it, and end a broken connection as if it were whole
	return context.Cause(ctx)
}

// forward copies src to dst and then ends dst's direction.
func forward(dst, src Conn) error {
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return dst.CloseWrite()
}

// abort ends c so that its peer sees an error, not a clean end, as far as c can say so.
func abort(c Conn) {
	switch c := c.(type) {
	case interface{ Reset(mux.Code) error }:
		c.Reset(codeAborted)
	case interface{ SetLinger(int) error }:
		c.SetLinger(0) // Close then sends RST
	}
	c.Close()
}
