package interop

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// An exchange is one case of the matrix: one TCP connection, and so many connections opened by each end, each of which carries size
// bytes either way.
type exchange struct {
	family
	goOpens, rustOpens int
	size               int
	opener, acceptor   Order
}

// Sizes around what matters on the way: one byte, a frame header, vt-muxer's read buffer of 8 KiB with a header in it, the largest
// payload, and many frames.
var (
	tinySizes  = []int{1, 19, 20, 21}
	frameSizes = []int{1, 19, 20, 21, 8171, 8172, 8173, 65534, 65535, 65536, 70000}
	allSizes   = append(frameSizes[:len(frameSizes):len(frameSizes)], 10<<20)
)

// volumes says which sizes go with how many connections, such that the whole matrix takes seconds.
var volumes = []struct {
	conns int
	sizes []int
}{
	{1, allSizes},
	{2, allSizes},
	{64, frameSizes},
	{500, tinySizes},
}

// orders are what the ends do that complement each other.
var orders = []struct {
	name             string
	opener, acceptor Order
}{
	{"both at once", Duplex, Duplex},
	{"opener ends first", WriteFirst, ReadFirst},
	{"acceptor ends first", ReadFirst, WriteFirst},
	{"echo", Duplex, Echo},
}

// Without flow control, two ends that both echo can stop each other for good: each has stopped reading since its echo can't write.
// That is the protocol's, so where both open, nobody echoes.
const echoIsLast = 1

func TestGoPipeToRustListener(t *testing.T) {
	forMatrix(t, len(orders), func(x *exchange, conns int) { x.goOpens = conns })
}

func TestRustPipeToGoListener(t *testing.T) {
	forMatrix(t, len(orders), func(x *exchange, conns int) { x.rustOpens = conns })
}

func TestBothEndsOpen(t *testing.T) {
	forMatrix(t, len(orders)-echoIsLast, func(x *exchange, conns int) { x.goOpens, x.rustOpens = conns, conns })
}

// forMatrix runs the matrix with the first n orders.
func forMatrix(t *testing.T, n int, set func(x *exchange, conns int)) {
	for _, f := range []family{ipv4, ipv6} {
		for _, o := range orders[:n] {
			for _, v := range volumes {
				for _, size := range v.sizes {
					x := exchange{family: f, size: size, opener: o.opener, acceptor: o.acceptor}
					set(&x, v.conns)
					t.Run(fmt.Sprintf("%s/%s/%dx%d", f.name, o.name, v.conns, size), func(t *testing.T) {
						t.Parallel()
						x.run(t)
					})
				}
			}
		}
	}
}

func (x exchange) run(t *testing.T) {
	goRole, setup := Listener, Setup{Role: Pipe}
	if x.goOpens > 0 {
		accept := Say(x.acceptor, x.size)
		setup = Setup{Role: Listener, Accept: &accept}
	}
	if x.rustOpens == 0 {
		goRole = Pipe
	}
	e := newEnd(t, x.family, goRole, setup)
	e.bounded(t, caseLimit, func(ctx context.Context) error {
		var g group
		g.run(func() error { return x.open(ctx, e) })
		g.run(func() error { return x.accept(ctx, e) })
		g.run(func() error { return x.peerOpens(e) })
		if err := g.wait(); err != nil {
			return err
		}
		if err := e.wantFinished(ctx, x.goOpens+x.rustOpens, x.size, x.acceptor); err != nil {
			return err
		}
		return e.wantOver(ctx, setup.Role)
	})
}

// say is Say for the Go end: there all is written at once, and the multiplexer cuts it.
func say(order Order, n int) Script { return Script{Order: order, Send: n, WriteSize: n} }

func (x exchange) open(ctx context.Context, e *end) error {
	var g group
	for i := range x.goOpens {
		g.run(func() error {
			return e.open(ctx, logical(x.goAddrs, i), 0, say(x.opener, x.size), x.acceptor)
		})
	}
	return g.wait()
}

func (x exchange) accept(ctx context.Context, e *end) error {
	var g group
	for range x.rustOpens {
		k, err := e.accept(ctx, 0, say(x.acceptor, x.size), x.opener)
		if err != nil {
			return errors.Join(err, g.wait())
		}
		g.run(k.run)
	}
	return g.wait()
}

func (x exchange) peerOpens(e *end) error {
	for i := range x.rustOpens {
		if err := e.peer.Open(logical(x.rustAddrs, i), Say(x.opener, x.size)); err != nil {
			return err
		}
	}
	return nil
}
