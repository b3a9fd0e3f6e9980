package sim

import (
	"context"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/vtmux/vtmux/internal/xport"
)

// A Kind is what an end can do, beside moving bytes.
type Kind int

const (
	Plain       Kind = iota // it has deadlines
	NoDeadlines             // only Close ends a wait
	Layered                 // like TLS: a handshake first, and no write after one that timed out
	Sock                    // like the kernel's: vectors, writes that do not wait, halves
	Below                   // a layer over a socket that keeps what has no room
)

func (k Kind) String() string {
	return [...]string{"plain", "without deadlines", "layered", "socket", "layer over a Below"}[k]
}

// Conn returns an end as the kind of connection that it is to be. The handshake of a
// layer takes delay.
func (k *Link) Conn(i int, kind Kind, delay time.Duration) net.Conn {
	e := k.End(i)
	switch kind {
	case NoDeadlines:
		return noDeadlines{e}
	case Layered:
		return &layered{End: e, delay: delay}
	case Sock:
		return sock{e}
	case Below:
		return &over{Conn: xport.NewBelow(sock{e}), delay: delay}
	}
	return e
}

type noDeadlines struct{ *End }

func (noDeadlines) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (noDeadlines) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (noDeadlines) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

type layered struct {
	*End
	delay time.Duration
}

func (l *layered) HandshakeContext(ctx context.Context) error { return handshake(ctx, l.delay) }

func handshake(ctx context.Context, delay time.Duration) error {
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *layered) Write(p []byte) (int, error) {
	n, err := l.End.Write(p)
	if err == os.ErrDeadlineExceeded {
		l.link.mu.Lock()
		l.brokenByExpiry = true
		l.link.mu.Unlock()
	}
	return n, err
}

// over is what TLS is over mux.BelowTLS, but for the records.
type over struct {
	net.Conn
	delay time.Duration
}

func (o *over) HandshakeContext(ctx context.Context) error { return handshake(ctx, o.delay) }

func (o *over) NetConn() net.Conn { return o.Conn }

type sock struct{ *End }

var _ xport.Socket = sock{}

func (s sock) Emulate(xport.Emulated) {}

func (s sock) TryWrite(p []byte) (int, error)      { return s.writeFrom(p, false) }
func (s sock) ReadVec(a, b, c []byte) (int, error) { return s.readInto(a, b, c) }

func (s sock) CloseWrite() error {
	k := s.link
	k.mu.Lock()
	defer k.mu.Unlock()
	w := &k.ways[s.i]
	switch {
	case s.closed:
		return net.ErrClosed
	case w.writeErr != nil:
		return syscall.ENOTCONN
	}
	w.fin = true
	poke(w.readable)
	return nil
}
