package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// A session is what a mux.Pipe and a mux.Listener have in common.
type session interface {
	Open(context.Context, addr.SocketAddr) (*mux.Conn, error)
	Stats() mux.Stats
	Done() <-chan struct{}
	Err() error
	Shutdown(context.Context) error
	Close() error
}

// An end is the Go end of a rig, with vtmux on it.
type end struct {
	*rig
	session
	listener *mux.Listener // nil for a pipe
}

// newEnd starts a peer, with the role and the script that its setup gives, and the Go end of the role given.
func newEnd(t *testing.T, f family, role Role, setup Setup) *end {
	t.Helper()
	setup.Driver = OneTask
	e := &end{rig: newRig(t, f, setup)}
	cfg := &mux.Config{Protocol: mux.ProtocolVT}
	if role == Pipe {
		p, err := mux.NewPipe(e.conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		e.session = p
	} else {
		ln, err := mux.NewListener(e.conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		e.session, e.listener = ln, ln
	}
	t.Cleanup(func() { e.session.Close() })
	e.describe = func() string { return fmt.Sprintf("%+v, error %v", e.Stats(), e.Err()) }
	return e
}

// open opens a connection and does what the script says; back is the order of the other end.
func (e *end) open(ctx context.Context, at netip.AddrPort, round int, s Script, back Order) error {
	conn, err := e.Open(ctx, addr.SocketAddrFromAddrPort(at))
	if err != nil {
		return fmt.Errorf("open %v, round %d: %w", at, round, err)
	}
	return talk{conn, at, true, round, s, back}.run()
}

// accept accepts the next connection, for the part in it that run plays.
func (e *end) accept(ctx context.Context, round int, s Script, back Order) (talk, error) {
	conn, err := e.listener.AcceptConn(ctx)
	if err != nil {
		return talk{}, fmt.Errorf("accept: %w", err)
	}
	return talk{conn, conn.Addr().AddrPort(), false, round, s, back}, nil
}

// acceptOne accepts a connection and does what the script says.
func (e *end) acceptOne(ctx context.Context, round int, s Script, back Order) error {
	k, err := e.accept(ctx, round, s, back)
	if err != nil {
		return err
	}
	return k.run()
}

// A talk is the Go end's part in one connection.
type talk struct {
	conn   *mux.Conn
	at     netip.AddrPort
	opened bool
	round  int
	script Script
	back   Order // what the other end does
}

// run does what the script says, and closes the connection.
func (k talk) run() error {
	if err := errors.Join(k.say(), k.conn.Close()); err != nil {
		return fmt.Errorf("%v, round %d: %w", k.at, k.round, err)
	}
	return nil
}

func (k talk) say() error {
	switch k.script.Order {
	case Duplex:
		var g group
		g.run(k.send)
		g.run(k.receive)
		return g.wait()
	case WriteFirst:
		if err := k.send(); err != nil {
			return err
		}
		return k.receive()
	case ReadFirst:
		if err := k.receive(); err != nil {
			return err
		}
		return k.send()
	case Echo:
		return k.echo()
	}
	panic("BUG: no such order for the Go end: " + k.script.Order)
}

// send sends what the script says and ends this half.
func (k talk) send() error {
	b := NewPattern(k.at, k.opened, k.round).Bytes(k.script.Send)
	for len(b) > 0 {
		n, err := k.conn.Write(b[:min(len(b), k.script.WriteSize)])
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b = b[n:]
	}
	return k.conn.CloseWrite()
}

// receive reads to the end, and checks each byte. As much must come as the script sends.
func (k talk) receive() error {
	want := NewPattern(k.at, k.opened == (k.back == Echo), k.round)
	buf := make([]byte, 64<<10)
	for received := 0; ; {
		n, err := k.conn.Read(buf)
		if bad := want.Diff(received, buf[:n]); bad >= 0 {
			return fmt.Errorf("byte %d is wrong", received+bad)
		}
		received += n
		switch {
		case err == io.EOF && received == k.script.Send:
			return nil
		case err != nil:
			return fmt.Errorf("read, after %d of %d bytes: %w", received, k.script.Send, err)
		}
	}
}

func (k talk) echo() error {
	// The types are hidden, so that this is Read and Write, as in the other scripts.
	if _, err := io.Copy(struct{ io.Writer }{k.conn}, struct{ io.Reader }{k.conn}); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	return k.conn.CloseWrite()
}

// A group runs functions at the same time.
type group struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	errs []error // guarded by mu
}

func (g *group) run(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.errs = append(g.errs, err)
		}
	})
}

// wait waits for all, and returns their errors.
func (g *group) wait() error {
	g.wg.Wait()
	return errors.Join(g.errs...)
}

// wantFinished waits for the peer's part in n conversations, and checks that each received size bytes, those that it should: what the
// acceptor sends is the opener's own if it echoes. It then checks that the peer knows of no other connections.
func (e *end) wantFinished(ctx context.Context, n, size int, acceptor Order) error {
	finished, err := e.peer.Finished(ctx, n)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range finished {
		errs = append(errs, c.check(size, NewPattern(c.Addr, c.Accepted || acceptor == Echo, c.Round)))
	}
	s, err := e.peer.State(ctx)
	if err == nil && len(s.Conversations) != n {
		err = fmt.Errorf("the Rust end has had %d connections, want %d", len(s.Conversations), n)
	}
	return errors.Join(append(errs, err)...)
}

// wantOver checks that the Go end has forgotten all connections, and that the session ends in good order. A listener hears of it when
// the Go end shuts down, and sees the transport end between two frames. A pipe without connections reads nothing, so there it is
// the peer that leaves.
func (e *end) wantOver(ctx context.Context, peer Role) error {
	if n := e.Stats().Conns; n != 0 {
		return fmt.Errorf("%d connections are left", n)
	}
	if peer == Pipe {
		return e.wantEOF(ctx)
	}
	if err := e.Shutdown(ctx); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	text, err := e.peer.TransportError(ctx)
	if err == nil && text != "eof on header read" {
		err = fmt.Errorf("the Rust end saw the transport end with %q", text)
	}
	return err
}

// wantEOF ends the peer, and checks that the session notices, and takes it for a clean end.
func (e *end) wantEOF(ctx context.Context) error {
	if err := e.peer.Close(); err != nil {
		return err
	}
	select {
	case <-e.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := e.Err(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the session ended with %v, want %v", err, io.EOF)
	}
	return nil
}
