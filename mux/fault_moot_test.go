package mux

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

// brokenAt is a transport whose Write fails while broken is set, after one byte.
func brokenAt(broken *atomic.Bool) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn {
		return oddConn{Conn: c, write: func(c net.Conn, p []byte) (int, error) {
			if broken.Load() {
				n, _ := c.Write(p[:1])
				return n, syscall.EPIPE
			}
			return c.Write(p)
		}}
	}
}

// A session that drains bears a write that fails, where it was of control frames alone:
// the peer may have gone because all is done. But what is written after that is lost.

// TestNothingFollowsAWriteThatFailed, though the transport would take it again: the peer
// would read it as the rest of the frame that was cut.
func TestNothingFollowsAWriteThatFailed(t *testing.T) {
	var broken atomic.Bool
	oneRun(t, oneSetup{wrap: brokenAt(&broken)}, func(tc *oneTest) {
		c := tc.openIDs(1)[0]
		down := tc.startErr("Shutdown", func() error { return tc.p.Shutdown(context.Background()) })
		tc.wantNow("the first step", "GOAWAY 4294967295 0", "GOAWAY 0 0")
		broken.Store(true)
		tc.sendNow("PING 0102030405060708") // its ACK fails
		broken.Store(false)
		sent := tc.p.s.count.bytesOut.Load()
		op := tc.startWrite(c, "what the peer must not take for the rest of the ACK")
		op.want("Write", 0, syscall.EPIPE)
		wantTransportError(tc.t, "Write", op.err, syscall.EPIPE)
		wantTransportError(tc.t, "Err", tc.p.Err(), syscall.EPIPE)
		if n := tc.p.s.count.bytesOut.Load() - sent; n != 0 {
			tc.t.Errorf("%d bytes follow", n)
		}
		tc.settle()
		down.want("Shutdown", 0, syscall.EPIPE)
	})
}

// TestLargeWriteAfterAWriteThatFailed ends: it is not tried for ever.
func TestLargeWriteAfterAWriteThatFailed(t *testing.T) {
	var broken atomic.Bool
	oneRun(t, oneSetup{wrap: brokenAt(&broken)}, func(tc *oneTest) {
		tc.p.s.lending = true
		c := tc.openIDs(1)[0]
		down := tc.startErr("Shutdown", func() error { return tc.p.Shutdown(context.Background()) })
		tc.wantNow("the first step", "GOAWAY 4294967295 0", "GOAWAY 0 0")
		broken.Store(true)
		tc.sendNow("PING 0102030405060708")
		op := tc.start("Write", func() (int, error) { return c.Write(make([]byte, lendFrom)) })
		op.want("Write", 0, syscall.EPIPE)
		tc.settle()
		down.want("Shutdown", 0, syscall.EPIPE)
	})
}
