package fuzz

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A link carries bytes between two ends, late and in pieces of its own, as a network
// does. It can be paused. It holds up to 16 KiB each way.
type link struct {
	pausedUntil [2]atomic.Int64 // what end 0 says, and what end 1 says; nanoseconds since base
	base        time.Time
	wg          sync.WaitGroup
}

// newLink joins the far ends of two transports.
func newLink(far [2]net.Conn, seed uint64) *link {
	l := &link{base: time.Now()}
	for from := range far {
		l.wg.Go(func() { l.carry(from, far[from], far[1-from], rand.New(rand.NewPCG(seed, uint64(from)))) })
	}
	return l
}

// pause holds up what end from says.
func (l *link) pause(from int, d time.Duration) {
	l.pausedUntil[from].Store(int64(time.Since(l.base) + d))
}

func (l *link) carry(from int, src, dst net.Conn, rng *rand.Rand) {
	defer dst.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if d := time.Duration(l.pausedUntil[from].Load()) - time.Since(l.base); d > 0 {
			<-time.After(d)
		} else if r := rng.Uint32(); r&7 == 0 {
			<-time.After(time.Duration(r>>3&1023) * time.Microsecond)
		}
		for b := buf[:n]; len(b) > 0; {
			m := len(b)
			if r := rng.Uint32(); r&3 == 0 {
				m = 1 + int(r>>2)%m
			}
			if _, err := dst.Write(b[:m]); err != nil {
				return
			}
			b = b[m:]
		}
	}
}

// An opaqueConn is a transport whose interrupted Writes can't be resumed, like TLS.
type opaqueConn struct{ net.Conn }

func (opaqueConn) HandshakeContext(context.Context) error { return nil }
