package xport

import (
	"io"
	"net"
	"reflect"
	"syscall"
)

// A Source reads from r for ReadFrom. Where r is a TCP or Unix socket, it takes a
// buffer only when there is something to read, so that ten thousand proxied
// connections that are idle hold none.
type Source struct {
	r   io.Reader
	raw syscall.RawConn
	rawSource
}

// NewSource returns a Source that reads from r.
func NewSource(r io.Reader) *Source {
	s := &Source{r: r}
	switch c := r.(type) {
	case *net.TCPConn:
		s.raw, _ = c.SyscallConn()
	case *net.UnixConn:
		s.raw = rawStream(c)
	case net.Conn:
		// io.Copy from a *net.TCPConn calls its WriteTo, which hands on a struct of
		// package net that hides WriteTo and is otherwise the connection. It is known
		// by its package: a type of anyone else's may embed a connection too, and read
		// in a way of its own.
		if reflect.TypeOf(r).PkgPath() == "net" {
			s.raw = rawStream(c)
		}
	}
	s.rawSource.init()
	return s
}

// rawStream returns the socket below conn, or nil if conn has none or is no stream: then
// no bytes are an empty message, not the end.
func rawStream(conn net.Conn) (raw syscall.RawConn) {
	if c, ok := conn.(syscall.Conn); ok && IsStream(conn) {
		raw, _ = c.SyscallConn()
	}
	return raw
}

// Read waits until there is something to read, calls get for a buffer, and reads
// into it once. It may call get and then put for a buffer that it did not use; the
// last buffer that it got is the caller's to put.
func (s *Source) Read(get func() []byte, put func()) (int, error) {
	if s.raw == nil || !canReadVec {
		return s.r.Read(get())
	}
	return s.read(s.raw, get, put)
}
