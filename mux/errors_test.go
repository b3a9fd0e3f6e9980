package mux

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// sentinels are all that an error of the package may claim to be.
var sentinels = []error{
	ErrAddrInUse, ErrRefused, ErrDraining, ErrTooManyConns, ErrExhausted, ErrNoPreface, ErrSilent, ErrWriteTimeout, ErrProtocol,
	net.ErrClosed, os.ErrDeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, errors.ErrUnsupported,
	syscall.EPIPE, syscall.ECONNRESET, syscall.ECONNREFUSED,
}

// TestErrorsAreWhatTheySay goes over every error and every sentinel: each error is
// exactly those that are listed, also where it is wrapped.
func TestErrorsAreWhatTheySay(t *testing.T) {
	for _, tt := range []struct {
		err  error
		is   []error
		text []string
	}{
		{ErrAddrInUse, []error{ErrAddrInUse}, []string{"address is in use", "this session"}},
		{ErrRefused, []error{ErrRefused}, []string{"refused by the peer"}},
		{ErrDraining, []error{ErrDraining}, []string{"shutting down"}},
		{ErrTooManyConns, []error{ErrTooManyConns}, []string{"too many connections"}},
		{ErrExhausted, []error{ErrExhausted}, []string{"IDs are used up", "another session"}},
		{ErrNoPreface, []error{ErrNoPreface}, []string{"no preface", "ProtocolVT"}},
		{ErrSilent, []error{ErrSilent}, []string{"silent", "KeepAlive"}},
		{ErrWriteTimeout, []error{ErrWriteTimeout}, []string{"does not read", "WriteTimeout"}},
		{&TransportError{Op: "write", Err: ErrWriteTimeout}, []error{ErrWriteTimeout}, []string{"transport write", "WriteTimeout"}},
		{ErrProtocol, []error{ErrProtocol}, []string{"protocol violation by the peer"}},
		{errNoMetadata, []error{errors.ErrUnsupported}, []string{"vt-muxer protocol", "metadata"}},
		{errNoPing, []error{errors.ErrUnsupported}, []string{"no ping", "round-trip time"}},
		{&ResetError{}, []error{syscall.ECONNRESET}, []string{"reset locally", "code 0"}},
		{&ResetError{Code: 300}, []error{syscall.ECONNRESET}, []string{"reset locally", "code 300"}},
		{&ResetError{Code: 300, Remote: true}, []error{syscall.ECONNRESET}, []string{"reset by the peer", "code 300"}},
		{&ResetError{Code: CodeCrossedOpen, Remote: true}, []error{syscall.ECONNRESET},
			[]string{"both ends opened its address at once", "let one end open, or use disjoint addresses"}},
		{&RefusedError{Code: 300, Reason: "no such host"}, []error{ErrRefused},
			[]string{"refused by the peer", "code 300", `"no such host"`}},
		{&StoppedError{Code: 300}, []error{syscall.EPIPE}, []string{"stopped reading", "code 300"}},
		{&GoAwayError{Code: CodeClosed, Text: "bye"}, []error{io.ErrUnexpectedEOF}, []string{"the peer ended the session", "code 9", `"bye"`}},
		{&ProtocolError{Offset: 60, Frame: "DATA 1, 5 bytes", Code: CodeFlowControl, Rule: "above the limit"}, []error{ErrProtocol},
			[]string{"protocol violation", "above the limit", "DATA 1, 5 bytes", "byte 60"}},
		{&ProtocolError{Offset: 60, Addr: vtB, Rule: "the peer may not"}, []error{ErrProtocol},
			[]string{"protocol violation", "the peer may not", vtB.String(), "byte 60"}},
		{&ProtocolError{Rule: "one more than MaxConns", Err: ErrTooManyConns}, []error{ErrProtocol, ErrTooManyConns},
			[]string{"protocol violation", "one more than MaxConns"}},
		{&TransportError{Op: "read", Err: io.EOF}, []error{io.EOF}, []string{"peer closed the transport"}},
		{&TransportError{Op: "read", Err: io.ErrUnexpectedEOF}, []error{io.ErrUnexpectedEOF},
			[]string{"transport read", "unexpected EOF"}},
		{&TransportError{Op: "write", Err: os.NewSyscallError("writev", syscall.EPIPE)}, []error{syscall.EPIPE},
			[]string{"transport write", "writev", "broken pipe"}},
		{&TransportError{Op: "handshake", Err: tls.AlertError(42)}, nil, []string{"transport handshake", "bad certificate"}},
	} {
		for _, s := range sentinels {
			want := false
			for _, is := range tt.is {
				want = want || s == is
			}
			for _, err := range []error{tt.err, fmt.Errorf("while testing: %w", tt.err)} {
				if errors.Is(err, s) != want {
					t.Errorf("errors.Is(%v, %v) is %v", err, s, !want)
				}
			}
		}
		wantText(t, tt.err, append(tt.text, "mux: ")...)
	}
}

func TestErrorsKeepWhatTheyTell(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("while testing: %w", err) }

	var reset *ResetError
	if !errors.As(wrap(&ResetError{Code: 300, Remote: true}), &reset) || reset.Code != 300 || !reset.Remote {
		t.Errorf("reset: %+v", reset)
	}
	var refused *RefusedError
	if !errors.As(wrap(&RefusedError{Code: 300, Reason: "why"}), &refused) || refused.Code != 300 || refused.Reason != "why" {
		t.Errorf("refused: %+v", refused)
	}
	var stopped *StoppedError
	if !errors.As(wrap(&StoppedError{Code: 300}), &stopped) || stopped.Code != 300 {
		t.Errorf("stopped: %+v", stopped)
	}
	var gone *GoAwayError
	if !errors.As(wrap(&GoAwayError{Code: 300, Text: "why"}), &gone) || gone.Code != 300 || gone.Text != "why" {
		t.Errorf("gone: %+v", gone)
	}
	var broken *ProtocolError
	if !errors.As(wrap(&ProtocolError{Offset: 1 << 40, Addr: vtA}), &broken) || broken.Offset != 1<<40 || broken.Addr != vtA {
		t.Errorf("protocol: %+v", broken)
	}
	var cut *TransportError
	var op *net.OpError
	err := wrap(&TransportError{Op: "read", Err: &net.OpError{Op: "read", Net: "tcp", Err: syscall.ETIMEDOUT}})
	if !errors.As(err, &cut) || cut.Op != "read" || !errors.As(err, &op) || op.Net != "tcp" {
		t.Errorf("transport: %+v, %+v", cut, op)
	}
}

// TestReasonIsQuoted: a peer's text can't forge a log line.
func TestReasonIsQuoted(t *testing.T) {
	const forged = "no\nlevel=fatal\x1b[31m"
	for _, err := range []error{&RefusedError{Reason: forged}, &GoAwayError{Text: forged}} {
		if text := err.Error(); strings.ContainsAny(text, "\n\x1b") {
			t.Errorf("control characters in %q", text)
		}
	}
}

func TestWriteErrorOfTheTransportEndsTheSession(t *testing.T) {
	for name, call := range map[string]func(p *Pipe, x *Conn) error{
		"Write":      func(_ *Pipe, x *Conn) error { _, err := x.Write([]byte("x")); return err },
		"long Write": func(_ *Pipe, x *Conn) error { _, err := x.Write(make([]byte, 1<<20)); return err },
		"Open":       func(p *Pipe, _ *Conn) error { _, err := p.Open(context.Background(), testAddr(2)); return err },
		"Close":      func(_ *Pipe, x *Conn) error { x.Close(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			overTCP.withEach(t, func(t *testing.T, tr transport) { writeErrorEndsTheSession(t, tr, name, call) })
		})
	}
}

func writeErrorEndsTheSession(t *testing.T, tr transport, name string, call func(*Pipe, *Conn) error) {
	near, far := tr.dial(t)
	defer far.Close()
	p, err := NewPipe(near, tr.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	x, err := p.Open(bounded(t), testAddr(1))
	if err != nil {
		t.Fatal(err)
	}
	near.(*net.TCPConn).CloseWrite() // reading goes on
	callErr := call(p, x)
	wait(t, "the session's end", p.Done())
	var te *TransportError
	if err := p.Err(); !errors.As(err, &te) || te.Op != "write" || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Err is %v, want a transport's write that failed with EPIPE", err)
	}
	if name != "Close" {
		if name != "Open" { // which is sent later
			wantErr(t, "the call", callErr, syscall.EPIPE)
		}
		wantErr(t, "the Conn's next Write", second(x.Write([]byte("x"))), syscall.EPIPE)
	}
	wantErr(t, "Open", second(p.Open(bounded(t), testAddr(3))), syscall.EPIPE)
	wantErr(t, "Ping", second(p.Ping(bounded(t))), syscall.EPIPE)
	x.Close()
}

// second returns the error of a call that returns two values.
func second[T any](_ T, err error) error { return err }

func TestHandshakeThatFailsEndsTheSession(t *testing.T) {
	overTCP.withEach(t, handshakeThatFailsEndsTheSession)
}

func handshakeThatFailsEndsTheSession(t *testing.T, tr transport) {
	near, far := tr.dial(t)
	peer := async(func() error {
		_, err := far.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		io.Copy(io.Discard, far)
		return errors.Join(err, far.Close())
	})
	p, err := NewPipe(tls.Client(near, &tls.Config{ServerName: "vtmux.test"}), tr.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	x, err := p.Open(bounded(t), testAddr(1)) // does not wait for the handshake
	wait(t, "the session's end", p.Done())
	var te *TransportError
	var record tls.RecordHeaderError
	if err := p.Err(); !errors.As(err, &te) || te.Op != "handshake" || !errors.As(err, &record) {
		t.Errorf("Err is %v, want what the handshake failed of", err)
	}
	if err == nil {
		for what, err := range map[string]error{
			"Read":  second(x.Read(make([]byte, 1))),
			"Write": second(x.Write([]byte("x"))),
		} {
			if !errors.As(err, &te) {
				t.Errorf("%s: %v", what, err)
			}
		}
		x.Close()
	}
	p.Close()
	wait(t, "peer", peer)
}

func TestCallsWithAContextThatIsDone(t *testing.T) {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	vtRunBoth(t, func(tc *vtTest) {
		wantErr(tc.t, "Open", second(tc.p.Open(done, vtA)), context.Canceled)
		wantErr(tc.t, "OpenWith", second(tc.p.OpenWith(done, OpenOptions{Addr: vtA})), context.Canceled)
		wantErr(tc.t, "Ping", second(tc.p.Ping(done)), context.Canceled)
		if tc.l != nil {
			wantErr(tc.t, "AcceptConn", second(tc.l.AcceptConn(done)), context.Canceled)
			wantErr(tc.t, "AcceptPending", second(tc.l.AcceptPending(done)), context.Canceled)
			wantErr(tc.t, "Listener.Ping", second(tc.l.Ping(done)), context.Canceled)
		}
		tc.wantIdle("nothing was opened")
		tc.wantHalves("nothing was opened", vtA, 0)
	})
}

// TestOpenThatWaitsForAnEndEndsWithItsContext: the address is free as soon as our end
// is on its way, which a deaf peer holds up.
func TestOpenThatWaitsForAnEndEndsWithItsContext(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		c := tc.open(vtA)
		other := tc.open(vtB)
		tc.send(vtEnd(vtA))
		tc.peer.setDeaf(true)
		tc.settle()
		blocked := tc.startWrite(other, "it takes the flusher's role and waits")
		c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := tc.p.Open(ctx, vtA)
		wantErr(tc.t, "Open", err, context.DeadlineExceeded)
		if took := time.Since(start); took != time.Minute {
			tc.t.Errorf("Open took %v, want its context's minute", took)
		}
		tc.peer.setDeaf(false)
		tc.settle()
		blocked.want("the peer listens again", -1, nil)
		tc.open(vtA)
	})
}

func TestUnsupportedCallsSaySo(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		_, err := tc.p.OpenWith(context.Background(), OpenOptions{Addr: vtA, Metadata: []byte("x")})
		wantErr(tc.t, "OpenWith and metadata", err, errors.ErrUnsupported)
		tc.wantIdle("it opened nothing")
		_, err = tc.p.Ping(context.Background())
		wantErr(tc.t, "Ping over a pipe", err, errors.ErrUnsupported)

		c, err := tc.p.OpenWith(context.Background(), OpenOptions{Addr: vtA})
		if err != nil {
			tc.t.Fatal(err)
		}
		tc.want("OpenWith without metadata opens", vtOpen(vtA))
		c.Close()
	})
}

func TestPingOverTCP(t *testing.T) {
	overTCP.withEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		x, y := connPair(t, p, l, 1)
		exchange(t, x, y)
		for _, ping := range []func(context.Context) (time.Duration, error){p.Ping, l.Ping} {
			if d, err := ping(bounded(t)); err != nil || d <= 0 || d > patience {
				t.Errorf("Ping: %v, %v", d, err)
			}
		}
	})
}

func TestRejectedConnCantBeAccepted(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		tc.send(vtOpen(vtA))
		pending, err := tc.l.AcceptPending(context.Background())
		if err != nil {
			tc.t.Fatal(err)
		}
		if pending.Addr() != vtA || len(pending.Metadata()) != 0 {
			tc.t.Errorf("pending %v with %q", pending.Addr(), pending.Metadata())
		}
		first, err := pending.Accept()
		wantErr(tc.t, "Accept", err, nil)
		again, err := pending.Accept()
		wantErr(tc.t, "Accept again", err, nil)
		if first != again {
			tc.t.Error("Accept gives another connection each time")
		}
		pending.Reject(300, "no")
		_, err = pending.Accept()
		wantErr(tc.t, "Accept after Reject", err, net.ErrClosed)
		tc.want("Reject ends our half", vtEnd(vtA))
	})
}

// TestEmptyReadTellsTheState: a Read of nothing returns at once, with what would
// stop a Read of something whatever has been received.
func TestEmptyReadTellsTheState(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		empty := func(sentence string, target error) {
			tc.t.Helper()
			if n, err := c.Read(nil); n != 0 || !errors.Is(err, target) {
				tc.t.Errorf("%s: %d, %v; want 0, %v", sentence, n, err, target)
			}
		}
		empty("nothing has come", nil)
		tc.send(vtData(vtA, "x"))
		empty("something has come", nil)
		c.SetReadDeadline(time.Now())
		empty("the deadline has passed", os.ErrDeadlineExceeded)
		c.SetReadDeadline(time.Time{})
		tc.wantRead("an empty Read takes nothing", c, "x", nil)
		c.CloseRead()
		empty("after CloseRead", net.ErrClosed)
		wantErr(tc.t, "CloseRead again", c.CloseRead(), nil)
		c.Close()
		wantErr(tc.t, "CloseRead after Close", c.CloseRead(), net.ErrClosed)
		for what, set := range map[string]func(time.Time) error{
			"SetDeadline": c.SetDeadline, "SetReadDeadline": c.SetReadDeadline, "SetWriteDeadline": c.SetWriteDeadline,
		} {
			wantErr(tc.t, what+" after Close", set(time.Now()), net.ErrClosed)
		}
	})
}

// A brokenReader gives bytes and an error at once; a brokenWriter takes a few.
type (
	brokenReader struct{}
	brokenWriter struct{ left int }
)

func (brokenReader) Read(p []byte) (int, error) { return copy(p, "some"), io.ErrNoProgress }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if n := min(w.left, len(p)); n < len(p) {
		w.left -= n
		return n, io.ErrShortWrite
	}
	w.left -= len(p)
	return len(p), nil
}

func TestCopiesPassOnTheOtherEndsError(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.want("an open", vtOpen(vtA))
		n, err := c.ReadFrom(brokenReader{})
		if n != 4 || err != io.ErrNoProgress {
			tc.t.Errorf("ReadFrom a reader that breaks: %d, %v", n, err)
		}
		tc.want("its bytes are sent", vtData(vtA, "some"))

		tc.send(vtData(vtA, "0123456789"))
		n, err = c.WriteTo(&brokenWriter{left: 4})
		if n != 4 || err != io.ErrShortWrite {
			tc.t.Errorf("WriteTo a writer that breaks: %d, %v", n, err)
		}
		c.SetReadDeadline(time.Now())
		_, err = c.WriteTo(io.Discard)
		wantErr(tc.t, "WriteTo after the deadline", err, os.ErrDeadlineExceeded)
		c.SetReadDeadline(time.Time{})

		c.SetWriteDeadline(time.Now())
		_, err = c.ReadFrom(bytes.NewReader([]byte("x")))
		wantErr(tc.t, "ReadFrom after the deadline", err, os.ErrDeadlineExceeded)
		v := net.Buffers{[]byte("x")}
		_, err = c.WriteBuffers(&v)
		wantErr(tc.t, "WriteBuffers after the deadline", err, os.ErrDeadlineExceeded)
		if len(v) != 1 || string(v[0]) != "x" {
			tc.t.Errorf("WriteBuffers that failed took of its buffers: %q", v)
		}
		tc.wantIdle("nothing of it was sent")
	})
}

// TestWriteBuffersConsumesWhatItSent: what is left in v after a deadline is exactly
// what was not sent.
func TestWriteBuffersConsumesWhatItSent(t *testing.T) {
	for _, tr := range []transport{overTCP.narrow(), overPipe} {
		run := func(t *testing.T, tr transport) {
			x, y := conns(t, tr)
			// Nobody reads y for a while, so it takes what it may hold and no more.
			const each, pieces = 100 << 10, 400
			all := testBytes(each*pieces, 1)
			var v net.Buffers
			for at := 0; at < len(all); at += each {
				v = append(v, all[at:at+each])
			}
			done := async(func() error {
				n, err := x.WriteBuffers(&v)
				left := 0
				for _, p := range v {
					left += len(p)
				}
				if int(n)+left != len(all) {
					return fmt.Errorf("%d bytes are counted and %d left, of %d", n, left, len(all))
				}
				if left > 0 && !bytes.Equal(v[0], all[n:int(n)+len(v[0])]) {
					return errors.New("what is left does not begin where the count ends")
				}
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					return fmt.Errorf("WriteBuffers: %w", err)
				}
				return x.CloseWrite()
			})
			waitStuck(t, &Pipe{x.c.s})
			x.SetWriteDeadline(time.Unix(1, 0))
			wantErr(t, "the writer", wait(t, "WriteBuffers", done), nil)
			got := wait(t, "the reader", readAll(y))
			wantErr(t, "the reader", got.err, nil)
			left := 0
			for _, p := range v {
				left += len(p)
			}
			wantBytes(t, "what arrived", got.b, all[:len(all)-left])
		}
		t.Run(tr.name, func(t *testing.T) { tr.withEach(t, run) })
	}
}

func TestWriteBuffersThatIsEmptySendsNothing(t *testing.T) {
	vtRunBoth(t, func(tc *vtTest) {
		c := tc.open(vtA)
		tc.want("an open", vtOpen(vtA))
		v := net.Buffers{nil, {}, nil}
		if n, err := c.WriteBuffers(&v); n != 0 || err != nil || len(v) != 0 {
			tc.t.Errorf("%d, %v, %d buffers are left", n, err, len(v))
		}
		tc.wantIdle("an empty frame would be an end")
	})
}

// TestEndThatComesWithTheLastBytes: a transport may give bytes and its end by one
// Read. Where the bytes fill a connection up, the end waits for its reader.
func TestEndThatComesWithTheLastBytes(t *testing.T) {
	stream := vtBytes(vtOpen(vtA))
	var want []byte
	// Two payloads fill the connection up. The last read brings one byte more.
	for i, size := range []int{wire.VTMaxPayload, wire.VTMaxPayload, 1} {
		data := testBytes(size, uint32(i))
		want = append(want, data...)
		stream = append(stream, vtBytes(vtData(vtA, string(data)))...)
	}
	wrap := func(c net.Conn) net.Conn {
		return oddConn{Conn: c, read: func(_ net.Conn, p []byte) (int, error) {
			n := copy(p, stream)
			stream = stream[n:]
			if len(stream) == 0 {
				return n, io.EOF
			}
			return n, nil
		}}
	}
	vtRunOver(t, true, &Config{MaxWindow: minMaxWindow}, wrap, func(tc *vtTest) {
		c := tc.accept(vtA)
		tc.settle()
		if err := tc.p.Err(); err != nil || len(stream) > 0 {
			tc.t.Fatalf("before the reader: %v, with %d bytes unread; want a stall after the last", err, len(stream))
		}
		got, err := io.ReadAll(eofKeeper{c})
		wantBytes(tc.t, "what came before the end", got, want)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			tc.t.Errorf("Read returned %v, want io.ErrUnexpectedEOF", err)
		}
		<-tc.p.Done()
		wantTransportError(tc.t, "Err", tc.p.Err(), io.ErrUnexpectedEOF)
	})
}
