// Package xport is the session's view of a transport: one reader and one writer
// at a time, with vectored and non-blocking calls where the transport has them.
package xport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A Transport wraps a net.Conn. Read and ReadVec belong to one goroutine at a
// time (who leads), Write, WriteVec and TryWrite to one (who flushes); the
// deadline methods and Close may be called at any time.
type Transport struct {
	conn net.Conn
	raw  syscall.RawConn // nil where the socket is out of reach
	tcp  syscall.RawConn // the TCP connection's, TLS's below it included; or nil
	soft Socket          // nil but in tests

	below *Below // what TLS runs over, if it is one
	tls   layerWriter

	vectored  bool
	resumable bool
	deadlines bool

	rd rawReader // the reader's scratch
	wr rawWriter // the writer's scratch
	wv vecWriter // the same, for vectors
}

// handshaker is what a TLS connection has, crypto/tls's or another's.
type handshaker interface {
	HandshakeContext(context.Context) error
}

// IsStream reports whether conn is, as far as can be told, a byte stream, as a
// transport must be: one that keeps message boundaries would lose bytes.
func IsStream(conn net.Conn) bool {
	if _, ok := conn.(net.PacketConn); !ok {
		return true
	}
	local := conn.LocalAddr()
	return local == nil || local.Network() == "unix"
}

// New wraps conn and finds out what it can do.
func New(conn net.Conn) *Transport {
	t := &Transport{conn: conn, resumable: true}
	switch c := conn.(type) {
	case *net.TCPConn:
		t.vectored = true
		t.raw, _ = c.SyscallConn()
		t.tcp = t.raw
	case *net.UnixConn:
		t.vectored = true
		t.raw, _ = c.SyscallConn()
	case Socket:
		t.vectored, t.soft = true, c
	case layer:
		under := c.NetConn()
		if b, ok := under.(*Below); ok {
			t.below, t.vectored = b, true
			under = b.conn
		} else {
			t.resumable = false // a TLS write that timed out has left half a record behind
		}
		if below, ok := under.(*net.TCPConn); ok {
			t.tcp, _ = below.SyscallConn()
		}
	case handshaker:
		t.resumable = false
	}
	// A zero time takes a deadline away, so it disturbs nobody.
	t.deadlines = conn.SetReadDeadline(time.Time{}) == nil && conn.SetWriteDeadline(time.Time{}) == nil
	t.rd.init()
	t.wr.init()
	t.wv.init()
	return t
}

// Conn returns the wrapped transport.
func (t *Transport) Conn() net.Conn { return t.conn }

// Vectored reports whether WriteVec sends several slices by one system call.
func (t *Transport) Vectored() bool { return t.vectored }

// Resumable reports whether writing may go on after a write that timed out.
func (t *Transport) Resumable() bool { return t.resumable && t.deadlines }

// Deadlines reports whether a blocked call can be interrupted.
func (t *Transport) Deadlines() bool { return t.deadlines }

// NeedsHandshake reports whether Handshake has work to do.
func (t *Transport) NeedsHandshake() bool {
	_, ok := t.conn.(handshaker)
	return ok
}

// Handshake finishes the transport's own handshake, if it has one.
func (t *Transport) Handshake(ctx context.Context) error {
	h, ok := t.conn.(handshaker)
	if !ok {
		return nil
	}
	err := h.HandshakeContext(ctx)
	if err == nil && t.below != nil {
		t.below.attach()
	}
	return err
}

// Read reads once.
func (t *Transport) Read(p []byte) (int, error) {
	if !direct || t.raw == nil || len(p) == 0 {
		return t.conn.Read(p)
	}
	return t.rd.read(t.raw, p)
}

// ReadVec reads once, into a and, when a is full, on into b, and then into c. It fills
// no more than a unless CanReadVec. It returns the bytes read in all.
func (t *Transport) ReadVec(a, b, c []byte) (int, error) {
	switch {
	case t.soft != nil:
		return t.soft.ReadVec(a, b, c)
	case !t.CanReadVec(), len(a)+len(b)+len(c) == 0: // where readv's 0 is not the end
		return t.conn.Read(a)
	}
	return t.rd.readVec(t.raw, a, b, c)
}

// ReadCalls returns how many system calls have been made for a Read or ReadVec that has
// returned, also those that found nothing to read, and whether it waited: 1 and false where
// that is not known. It belongs to the reader.
func (t *Transport) ReadCalls() (n uint64, waited bool) {
	rd, least := &t.rd, uint64(1)
	if t.below != nil && t.below.raw != nil && direct {
		rd, least = &t.below.rd, 0 // TLS may have had it already
	}
	n, waited = rd.calls, rd.waited
	rd.calls, rd.waited = 0, false
	return max(n, least), waited
}

// WriteCalls is ReadCalls for a Write, WriteVec or TryWrite. It belongs to the writer.
func (t *Transport) WriteCalls() uint64 {
	n := t.wr.calls + t.wv.calls
	t.wr.calls, t.wv.calls = 0, 0
	if t.below != nil {
		n = t.below.now.calls.Swap(0)
	}
	return max(n, 1)
}

// CanReadVec reports whether ReadVec fills all of its slices by one system call.
func (t *Transport) CanReadVec() bool { return t.raw != nil && canReadVec || t.soft != nil }

// Write writes all of p.
func (t *Transport) Write(p []byte) (int, error) {
	switch {
	case t.below != nil:
		return t.writeBelow(p)
	case !direct || t.raw == nil:
		return t.conn.Write(p)
	}
	return t.wr.all(t.raw, p)
}

// WriteVec writes all of v, which it consumes.
func (t *Transport) WriteVec(v *net.Buffers) (int64, error) {
	switch {
	case t.below != nil:
		return t.writeVecBelow(v)
	case direct && t.raw != nil:
		return t.wv.write(t.raw, v)
	}
	n, err := v.WriteTo(t.conn)
	if err == nil {
		dropEmpty(v) // of empty slices alone package net consumes none
	}
	return n, err
}

// dropEmpty consumes the empty slices in front.
func dropEmpty(v *net.Buffers) {
	for len(*v) > 0 && len((*v)[0]) == 0 {
		(*v)[0] = nil
		*v = (*v)[1:]
	}
}

// CanTry reports whether the transport's readiness can be seen.
func (t *Transport) CanTry() bool {
	return t.raw != nil && canTryWrite || t.soft != nil || t.below != nil
}

// Pending reports whether bytes that a call has counted as written wait for the transport to
// take them: they are sent by the next Write, WriteVec or TryWrite, be it of nothing.
func (t *Transport) Pending() bool { return t.below != nil && t.below.pending() }

// TryWrite writes what the transport takes without waiting, and returns fewer than
// len(p) bytes and no error where that is not all. CanTry must hold.
func (t *Transport) TryWrite(p []byte) (int, error) {
	switch {
	case t.below != nil:
		return t.tryBelow(p)
	case t.soft != nil:
		return t.soft.TryWrite(p)
	}
	return t.wr.try(t.raw, p)
}

// SetReadDeadline and SetWriteDeadline pass on; a session has one owner for each.
func (t *Transport) SetReadDeadline(at time.Time) error { return t.conn.SetReadDeadline(at) }

// SetWriteDeadline sets the deadline of the flusher's calls.
func (t *Transport) SetWriteDeadline(at time.Time) error {
	if t.below != nil {
		return t.below.setWriteDeadline(at, false)
	}
	return t.conn.SetWriteDeadline(at)
}

type halfCloser interface{ CloseWrite() error }

// HasHalves reports whether the sending half can end by itself.
func (t *Transport) HasHalves() bool {
	_, ok := t.conn.(halfCloser)
	return ok
}

// CloseWrite ends the sending half, and reports whether that was possible.
func (t *Transport) CloseWrite() bool {
	c, ok := t.conn.(halfCloser)
	if !ok || c.CloseWrite() != nil {
		return false
	}
	return t.below == nil || t.below.flushLast(lastWordsMax) == nil
}

// RTT returns the kernel's smoothed round-trip time where the transport is TCP.
func (t *Transport) RTT() (time.Duration, bool) {
	if _, ok := t.conn.(*net.TCPConn); !ok || t.raw == nil {
		return 0, false
	}
	return rtt(t.raw)
}

// Acked returns how many bytes the peer's kernel has acknowledged, where that can be
// told.
func (t *Transport) Acked() (uint64, bool) {
	if _, ok := t.conn.(*net.TCPConn); !ok || t.raw == nil {
		return 0, false
	}
	return acked(t.raw)
}

// Moved returns a number that grows when the peer's kernel acknowledges bytes, over TLS
// too, where that can be told; or else, where a Below keeps some, when the socket takes them.
func (t *Transport) Moved() (uint64, bool) {
	if t.tcp != nil {
		return acked(t.tcp)
	}
	return t.Drained()
}

// Drained returns a number that grows by the bytes that the transport takes of what is Pending,
// and whether there is such.
func (t *Transport) Drained() (n uint64, able bool) {
	if t.below == nil {
		return 0, false
	}
	return t.below.sent.Load(), true
}

// farewellMax is how long Close waits for a transport to take TLS's farewell. It is a few
// bytes, so that a transport which can take it takes it at once; crypto/tls waits 5 s.
const farewellMax = 100 * time.Millisecond

// lastWordsMax is how long CloseWrite waits for the transport to take it, as crypto/tls does.
const lastWordsMax = 5 * time.Second

// Close closes the transport and ends blocked calls.
func (t *Transport) Close() error {
	if c, ok := t.conn.(layer); ok {
		if under := c.NetConn(); under != nil {
			defer time.AfterFunc(farewellMax, func() { under.Close() }).Stop()
		}
	}
	return t.conn.Close()
}

// IsTimeout reports whether err means that a deadline passed.
func IsTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	// ETIMEDOUT says of itself that it is a timeout: the peer's death, noticed.
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout() && !errors.Is(err, syscall.ETIMEDOUT)
}

// eof turns the kernel's "nothing, no error" into io.EOF.
func eof(n int, err error) (int, error) {
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, err
}
