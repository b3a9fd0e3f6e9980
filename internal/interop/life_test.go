package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// These tests are about connections and transports that end in other ways than in good order.

// lifeSize is more than both ends buffer for one connection that nobody reads: vt-muxer 131,070 bytes.
const lifeSize = 1 << 20

// A connection that vt-muxer's application drops ends cleanly at the Go end, and what that still sends is discarded.
func TestRustDropsConnection(t *testing.T) {
	t.Run("it accepted", func(t *testing.T) {
		accept := Say(Abandon, lifeSize)
		e := newEnd(t, ipv4, Pipe, Setup{Role: Listener, Accept: &accept})
		e.bounded(t, caseLimit, func(ctx context.Context) error {
			at := logical(ipv4.goAddrs, 0)
			for round := range 3 { // the address is free again each time
				conn, err := e.Open(ctx, addr.SocketAddrFromAddrPort(at))
				if err != nil {
					return fmt.Errorf("round %d: %w", round, err)
				}
				if err := outlive(conn, at, true, round); err != nil {
					return err
				}
			}
			if err := e.wantFinished(ctx, 3, 1, Abandon); err != nil {
				return err
			}
			return e.wantOver(ctx, Listener)
		})
	})
	t.Run("it opened", func(t *testing.T) {
		e := newEnd(t, ipv4, Listener, Setup{Role: Pipe})
		e.bounded(t, caseLimit, func(ctx context.Context) error {
			at := logical(ipv4.rustAddrs, 0)
			if err := e.peer.Open(at, Say(Abandon, lifeSize)); err != nil {
				return err
			}
			conn, err := e.listener.AcceptConn(ctx)
			if err != nil {
				return err
			}
			// A pipe without connections reads nothing, so there is nobody to discard: send the one byte only.
			k := talk{conn, at, false, 0, say(Duplex, 1), Abandon}
			if err := k.send(); err != nil {
				return err
			}
			if err := k.wantAll(lifeSize); err != nil {
				return err
			}
			if err := conn.Close(); err != nil {
				return err
			}
			if err := e.wantFinished(ctx, 1, 1, Duplex); err != nil {
				return err
			}
			// Our end is unread there, so the peer's exit would reset the transport: no good order to check.
			return e.untilFree(ctx)
		})
	})
}

// outlive talks to a peer that drops the connection, and goes on sending after that.
func outlive(conn *mux.Conn, at netip.AddrPort, opened bool, round int) error {
	k := talk{conn, at, opened, round, say(Duplex, lifeSize), Abandon}
	first := NewPattern(at, opened, round).Bytes(1)
	if _, err := conn.Write(first); err != nil {
		return err
	}
	if err := k.wantAll(lifeSize); err != nil {
		return err
	}
	if err := k.send(); err != nil {
		return err
	}
	return conn.Close()
}

// wantAll reads n bytes, checks them, and then reads the end.
func (k talk) wantAll(n int) error {
	k.script.Send = n
	return k.receive()
}

// A connection that the Go application closes or resets early ends cleanly at vt-muxer's end, which can send all it has.
func TestGoClosesEarly(t *testing.T) {
	for name, quit := range map[string]func(*mux.Conn) error{
		"close": (*mux.Conn).Close,
		"reset": func(c *mux.Conn) error { return c.Reset(mux.CodeNone) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			accept := Say(WriteFirst, lifeSize)
			e := newEnd(t, ipv4, Pipe, Setup{Role: Listener, Accept: &accept})
			e.bounded(t, caseLimit, func(ctx context.Context) error {
				return closeEarly(ctx, e, quit)
			})
		})
	}
}

func closeEarly(ctx context.Context, e *end, quit func(*mux.Conn) error) error {
	at := logical(ipv4.goAddrs, 0)
	for round := range 3 {
		conn, err := e.Open(ctx, addr.SocketAddrFromAddrPort(at))
		if err != nil {
			return fmt.Errorf("open, round %d: %w", round, err)
		}
		if _, err := conn.Write(NewPattern(at, true, round).Bytes(1)); err != nil {
			return err
		}
		// The peer speaks, so it has accepted, and has more to say than fits anywhere.
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			return err
		}
		if err := quit(conn); err != nil {
			return err
		}
		if _, err := e.peer.Finished(ctx, round+1); err != nil {
			return err
		}
		if err := e.untilFree(ctx); err != nil {
			return err
		}
	}
	if err := e.wantFinished(ctx, 3, 1, WriteFirst); err != nil {
		return err
	}
	return e.wantOver(ctx, Listener)
}

// untilFree waits until the Go end has seen the peer's ends of all connections. It takes no part in that: no call of its application
// waits to read.
func (e *end) untilFree(ctx context.Context) error {
	for e.Stats().Conns > 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d connections are left: %w", e.Stats().Conns, ctx.Err())
		}
	}
	return nil
}

// vt-muxer's pipe leaves an open towards it unanswered for ever. vtmux's answers with an end.
func TestGoPipeRefusesOpens(t *testing.T) {
	accept := Say(Echo, 0)
	e := newEnd(t, ipv4, Pipe, Setup{Role: Listener, Accept: &accept})
	e.bounded(t, caseLimit, func(ctx context.Context) error {
		if err := e.peer.Open(logical(ipv4.rustAddrs, 0), Say(Duplex, lifeSize)); err != nil {
			return err
		}
		if err := e.wantFinished(ctx, 1, 0, Duplex); err != nil {
			return err
		}
		if err := e.untilFree(ctx); err != nil {
			return err
		}
		// The session is in step: what goes on beside and after it is not disturbed.
		if err := e.open(ctx, logical(ipv4.goAddrs, 0), 0, say(Duplex, 1), Echo); err != nil {
			return err
		}
		return e.wantOver(ctx, Listener)
	})
}

// Small writes come in small frames: thousands in each of vt-muxer's reads, whose edges cut their headers everywhere.
func TestSmallWrites(t *testing.T) {
	const conns = 8
	for _, n := range []int{1, 7, 100, 1000} {
		size := min(5_000*n, 200_000)
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			theirs, ours := Say(Duplex, size), say(Duplex, size)
			theirs.WriteSize, ours.WriteSize = n, n
			e := newEnd(t, ipv4, Listener, Setup{Role: Listener, Accept: &theirs})
			e.bounded(t, caseLimit, func(ctx context.Context) error {
				var g group
				for i := range conns {
					g.run(func() error { return e.open(ctx, logical(ipv4.goAddrs, i), 0, ours, Duplex) })
					g.run(func() error { return e.peer.Open(logical(ipv4.rustAddrs, i), theirs) })
					g.run(func() error { return e.acceptOne(ctx, 0, ours, Duplex) })
				}
				if err := g.wait(); err != nil {
					return err
				}
				if err := e.wantFinished(ctx, 2*conns, size, Duplex); err != nil {
					return err
				}
				return e.wantOver(ctx, Listener)
			})
		})
	}
}

// A connection that is cut off never looks like one that has ended.
func TestRustExits(t *testing.T) {
	e := newEnd(t, ipv4, Listener, Setup{Role: Pipe})
	e.bounded(t, caseLimit, func(ctx context.Context) error {
		if err := e.peer.Open(logical(ipv4.rustAddrs, 0), Say(ReadFirst, 1)); err != nil {
			return err
		}
		conn, err := e.listener.AcceptConn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := e.peer.Close(); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read: %v, want %v", err, io.ErrUnexpectedEOF)
		}
		return nil
	})
}
