package xport

import "net"

// A Socket is a transport that does what the kernel's sockets do, and is none: it writes
// without waiting and reads vectors, and is lent the callers' slices. Tests need one,
// since no real socket works in a testing/synctest bubble. Nobody outside this module
// can have one, for nobody can name Emulated.
type Socket interface {
	net.Conn
	// TryWrite writes what there is room for, without waiting. It fails where the
	// write deadline has passed.
	TryWrite(p []byte) (int, error)
	// ReadVec reads once, into a and, when a is full, on into b, and then into c.
	ReadVec(a, b, c []byte) (int, error)
	// Emulate does nothing.
	Emulate(Emulated)
}

// Emulated marks a Socket.
type Emulated struct{}
