package xport

import (
	"net"

	"github.com/vtmux/vtmux/pool"
)

// A layer is a TLS connection, crypto/tls's or another's that tells what it runs over.
type layer interface {
	net.Conn
	handshaker
	NetConn() net.Conn
}

// maxRecord is the most plaintext that a TLS record carries (RFC 8446, 5.1). crypto/tls makes
// no larger ones, and writes each by a system call of its own.
const maxRecord = 16 << 10

// A layerWriter is the writer's scratch for TLS.
type layerWriter struct {
	one net.Buffers // Write's vector
	p   [1][]byte
}

// writeBelow writes all of p over TLS, and waits until the socket below has taken it.
func (t *Transport) writeBelow(p []byte) (int, error) {
	w := &t.tls
	w.p[0] = p
	w.one = w.p[:]
	n, err := t.writeVecBelow(&w.one)
	w.one, w.p[0] = nil, nil
	return int(n), err
}

// writeVecBelow is writeBelow for a vector, which it consumes. Where a deadline ends the wait,
// what TLS has been given counts as written, and may be Pending.
//
// Records are full but for the last, as far as crypto/tls makes full ones: it begins with
// small ones. What does not fill a record by itself is put together by copying; a header
// would else cost as much as 16 KiB of payload.
func (t *Transport) writeVecBelow(v *net.Buffers) (total int64, err error) {
	for {
		if err = t.below.flushAll(); err != nil {
			return total, err
		}
		dropEmpty(v)
		if len(*v) == 0 {
			return total, nil
		}
		var slab *pool.Slab // not held while the socket has no room
		p := (*v)[0]
		switch {
		case len(*v) == 1 || len(p) >= keptPlain:
			p = p[:min(len(p), keptPlain)]
		case len(p) >= maxRecord:
			p = p[:len(p)&^(maxRecord-1)]
		default:
			slab = pool.GetSlab(maxRecord)
			p = gather(slab.Bytes()[:maxRecord], *v)
		}
		n, err := t.conn.Write(p)
		if slab != nil {
			slab.Release()
		}
		total += int64(n)
		consume(v, n)
		if err != nil {
			return total, err
		}
	}
}

// gather fills p with the first bytes of v, and returns what is filled.
func gather(p []byte, v net.Buffers) []byte {
	n := 0
	for i := 0; i < len(v) && n < len(p); i++ {
		n += copy(p[n:], v[i])
	}
	return p[:n]
}

// consume takes n bytes off v.
func consume(v *net.Buffers, n int) {
	for n > 0 {
		p := (*v)[0]
		if n < len(p) {
			(*v)[0] = p[n:]
			return
		}
		n -= len(p)
		(*v)[0] = nil
		*v = (*v)[1:]
	}
}

// tryBelow is writeBelow without waiting: it returns as soon as something is Pending.
func (t *Transport) tryBelow(p []byte) (n int, err error) {
	for {
		if err = t.below.flush(); err != nil || len(p) == 0 || t.below.pending() {
			return n, err
		}
		m, err := t.conn.Write(p[:min(len(p), keptPlain)])
		n += m
		p = p[m:]
		if err != nil {
			return n, err
		}
	}
}
