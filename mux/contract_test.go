package mux

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Promises of the documentation that no other test holds the code to.

// TestShutdownAgain: it says again what it has said, and several at once say the same.
func TestShutdownAgain(t *testing.T) {
	for _, tr := range []transport{overTCP, overPipe, overTLS} {
		tr.withEach(t, func(t *testing.T, tr transport) {
			for range 10 {
				p, l := sessionPair(t, tr)
				x, y := connPair(t, p, l, 1)
				var calls [3]<-chan error
				for i := range calls {
					calls[i] = async(func() error { return p.Shutdown(bounded(t)) })
				}
				x.Close()
				y.Close()
				for _, c := range calls {
					wantErr(t, "one of three at once", wait(t, "Shutdown", c), nil)
				}
				wantErr(t, "another", p.Shutdown(bounded(t)), nil)
				wantErr(t, "Close", p.Close(), nil)
				wantErr(t, "the peer's", l.Shutdown(bounded(t)), nil)
			}
		})
	}
}

// TestAcceptOrReject: one of them decides, when both are called at once.
func TestAcceptOrReject(t *testing.T) {
	p, l := sessionPair(t, overPipe.speaking(Protocol1))
	for i := range 500 {
		x, err := p.Open(bounded(t), testAddr(i))
		if err != nil {
			t.Fatal(err)
		}
		pending, err := l.AcceptPending(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		var c *Conn
		var wg sync.WaitGroup
		begin := make(chan struct{})
		wg.Go(func() {
			<-begin
			if c, err = pending.Accept(); err == nil {
				c.Write([]byte("hello"))
			}
		})
		wg.Go(func() {
			<-begin
			pending.Reject(300, "no")
		})
		close(begin)
		wg.Wait()
		b, xerr := io.ReadAll(x)
		var reset *ResetError
		var refused *RefusedError
		switch {
		case err == nil && !errors.As(xerr, &reset):
			t.Fatalf("it was accepted, and the opener reads %q, %v", b, xerr)
		case err != nil && (len(b) > 0 || !errors.As(xerr, &refused) || !errors.Is(err, net.ErrClosed)):
			t.Fatalf("Accept returned %v, and the opener reads %q, %v", err, b, xerr)
		}
		x.Close()
	}
}

// TestAcceptAgain: it returns the same connection, closed or not.
func TestAcceptAgain(t *testing.T) {
	overPipe.withEach(t, func(t *testing.T, tr transport) {
		p, l := sessionPair(t, tr)
		x, err := p.Open(bounded(t), testAddr(1))
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		pending, err := l.AcceptPending(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		c, err := pending.Accept()
		wantErr(t, "Accept", err, nil)
		c.Close()
		again, err := pending.Accept()
		if again != c || err != nil {
			t.Errorf("Accept again returned %v, %v", again, err)
		}
	})
}

// A miscounter writes and reads what it is given, and says that it was more by that many bytes.
type miscounter struct {
	bytes.Buffer
	by int
}

func (m *miscounter) Write(p []byte) (int, error) {
	n, err := m.Buffer.Write(p)
	return n + m.by, err
}

func (m *miscounter) Read(p []byte) (int, error) {
	if m.Len() == 0 {
		return 0, io.EOF
	}
	m.Next(len(p))
	return len(p) + m.by, nil
}

// TestWriterThatMiscounts: what looks like the whole is the whole, as with io.Copy.
func TestWriterThatMiscounts(t *testing.T) {
	for _, tt := range []struct {
		by   int
		n    int64
		want error
	}{{-1, 9, io.ErrShortWrite}, {1, 0, errInvalidWrite}, {-20, 0, errInvalidWrite}} {
		x, y := conns(t, overPipe.speaking(Protocol1))
		sent := async(func() error {
			if _, err := x.Write([]byte("0123456789")); err != nil {
				return err
			}
			return x.CloseWrite()
		})
		if n, err := y.WriteTo(&miscounter{by: tt.by}); n != tt.n || !errors.Is(err, tt.want) {
			t.Errorf("by %d: WriteTo returned %d, %v, want %d, %v", tt.by, n, err, tt.n, tt.want)
		}
		wantErr(t, "the writer", wait(t, "Write", sent), nil)
	}
}

// TestReaderThatMiscounts: what else is in a pooled buffer is never sent.
func TestReaderThatMiscounts(t *testing.T) {
	for _, by := range []int{1, -readFromMax - 1} {
		x, y := conns(t, overPipe.speaking(Protocol1))
		got := readAll(y)
		m := &miscounter{by: by}
		m.WriteString("x")
		if n, err := x.ReadFrom(m); n != 0 || !errors.Is(err, errInvalidRead) {
			t.Errorf("by %d: ReadFrom returned %d, %v", by, n, err)
		}
		x.CloseWrite()
		if g := wait(t, "the peer", got); len(g.b) != 0 || g.err != nil {
			t.Errorf("by %d: the peer read %d bytes, %v", by, len(g.b), g.err)
		}
	}
}

// TestReadFromOfWhatCantWrite: nothing is taken from a reader that can't be sent.
// To see it fail: in readFrom, don't ask cantWrite.
func TestReadFromOfWhatCantWrite(t *testing.T) {
	overPipe.withEach(t, func(t *testing.T, tr transport) {
		for name, tt := range map[string]struct {
			do   func(*Conn)
			want error
		}{
			"deadline":   {func(x *Conn) { x.SetWriteDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
			"Close":      {func(x *Conn) { x.Close() }, net.ErrClosed},
			"CloseWrite": {func(x *Conn) { x.CloseWrite() }, syscall.EPIPE},
			"Reset":      {func(x *Conn) { x.Reset(300) }, syscall.ECONNRESET},
		} {
			t.Run(name, func(t *testing.T) {
				x, _ := conns(t, tr)
				tt.do(x)
				for _, content := range []string{"", "some bytes"} {
					r := strings.NewReader(content)
					if n, err := x.ReadFrom(onlyReader{r}); n != 0 || !errors.Is(err, tt.want) || r.Len() != len(content) {
						t.Errorf("ReadFrom of %q returned %d, %v, want %v; %d bytes are left", content, n, err, tt.want, r.Len())
					}
				}
			})
		}
	})
}

// A nothingReader says for ever that there is nothing.
type nothingReader struct{}

func (nothingReader) Read([]byte) (int, error) {
	<-time.After(time.Millisecond)
	return 0, nil
}

// TestReadFromOfNothingEnds: with the deadline, for it does not wait for its reader.
func TestReadFromOfNothingEnds(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		c := tc.open(vtA)
		c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		op := tc.start("ReadFrom", func() (int, error) { n, err := c.ReadFrom(nothingReader{}); return int(n), err })
		<-op.done
		wantErr(tc.t, "ReadFrom", op.err, os.ErrDeadlineExceeded)
		tc.sent()
	})
}

// TestAcceptWithoutContext: it panics, and stands in nobody's way.
func TestAcceptWithoutContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := sessionPair(t, overPipe.speaking(Protocol1))
		func() {
			defer func() {
				if recover() == nil {
					t.Error("AcceptConn(nil) does not panic")
				}
			}()
			var none context.Context
			l.AcceptConn(none)
		}()
		began := time.Now()
		connPair(t, p, l, 1)
		if took := time.Since(began); took >= time.Second {
			t.Errorf("the next Accept took %v", took)
		}
		closeBoth(p, l)
	})
}

// A drainingListener is what the documentation of Listener tells to give an http.Server.
type drainingListener struct{ *Listener }

func (l drainingListener) Close() error {
	go l.Shutdown(context.Background())
	return nil
}

// TestHTTPShutdownDrains: with it, a request is served to its end.
func TestHTTPShutdownDrains(t *testing.T) {
	for _, tr := range []transport{overTCP, overPipe, overTLS} {
		tr.withEach(t, func(t *testing.T, tr transport) {
			p, l := sessionPair(t, tr)
			reached, goOn := make(chan struct{}), make(chan struct{})
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(reached)
				<-goOn
				io.WriteString(w, "served")
			})}
			serving := async(func() error { return server.Serve(drainingListener{l}) })
			x, err := p.Open(bounded(t), testAddr(1))
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(x, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			<-reached
			stopping := async(func() error { return server.Shutdown(bounded(t)) })
			wantErr(t, "Serve", wait(t, "Serve", serving), http.ErrServerClosed)
			close(goOn)
			resp, err := http.ReadResponse(bufio.NewReader(x), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if string(body) != "served" || err != nil {
				t.Errorf("the body is %q, %v", body, err)
			}
			x.Close()
			wantErr(t, "Server.Shutdown", wait(t, "Server.Shutdown", stopping), nil)
			wantErr(t, "Listener.Shutdown", l.Shutdown(bounded(t)), nil)
		})
	}
}
