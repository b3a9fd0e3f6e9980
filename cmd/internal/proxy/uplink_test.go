package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
)

var someClient = netip.MustParseAddrPort("192.0.2.1:1234")

// dialStop gives an Uplink whose dial waits until the test gives it a transport, or its context ends.
func dialStop() (*Uplink, chan<- net.Conn) {
	u := NewUplink("", nil)
	transports := make(chan net.Conn)
	u.dial = func(ctx context.Context) (net.Conn, error) {
		select {
		case c := <-transports:
			return c, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return u, transports
}

// connect has u connect, in the background, until ctx ends.
func connect(t *testing.T, ctx context.Context, u *Uplink) <-chan error {
	return serve(t, func() error {
		c, err := u.Connect(ctx, someClient)
		if err == nil {
			c.Close()
		}
		return err
	})
}

// TestShutdownWaitsForNoDial: an origin that does not answer is dialled for minutes; Shutdown has ctx, and no session.
//
// To see it fail: have Shutdown hold dialling, as session does.
func TestShutdownWaitsForNoDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _ := dialStop()
		ctx, giveUp := context.WithCancel(t.Context())
		connected := connect(t, ctx, u)
		synctest.Wait()
		shut := serve(t, func() error { return u.Shutdown(t.Context()) })
		synctest.Wait()
		select {
		case err := <-shut:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("Shutdown waits for a Connect that dials")
		}
		giveUp()
		if err := <-connected; !errors.Is(err, context.Canceled) {
			t.Errorf("Connect returned %v, want its context's error", err)
		}
	})
}

// TestWhatIsDialledDuringShutdownIsClosed: Shutdown could not close that session, so Connect must.
//
// To see it fail: have replace ignore shut, or session leave out pipe.Close.
func TestWhatIsDialledDuringShutdownIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, transports := dialStop()
		connected := connect(t, t.Context(), u)
		queued := connect(t, t.Context(), u)
		synctest.Wait()
		if err := u.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		near, origin := net.Pipe()
		defer origin.Close()
		ended := serve(t, func() error {
			_, err := io.Copy(io.Discard, origin)
			return err
		})
		transports <- near
		for _, c := range []<-chan error{connected, queued} {
			if err := <-c; !errors.Is(err, errShut) {
				t.Errorf("Connect returned %v, want %v", err, errShut)
			}
		}
		synctest.Wait()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the transport that Connect dialled is open, and nobody will close it")
		}
	})
}

// TestUplinkStaysShut: a session made after Shutdown would be closed by nobody.
//
// To see it fail: have current ignore shut.
func TestUplinkStaysShut(t *testing.T) {
	u := NewUplink("", nil)
	u.dial = func(context.Context) (net.Conn, error) {
		t.Error("Connect dials after Shutdown")
		return nil, net.ErrClosed
	}
	for range 2 { // a second Shutdown finds nothing to do
		if err := u.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Connect(t.Context(), someClient); err != errShut {
			t.Errorf("Connect returned %v, want %v", err, errShut)
		}
	}
}
