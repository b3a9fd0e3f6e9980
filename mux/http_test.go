package mux

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// An httpRig is a server on a Listener, and clients that dial by Pipe.Open.
type httpRig struct {
	p     *Pipe
	l     *Listener
	dials atomic.Int32

	mu     sync.Mutex
	dialed map[string]bool // the logical address of each connection
}

// serveHTTP starts the rig, and ends it with the test.
func serveHTTP(t *testing.T, tr transport, h http.HandlerFunc) *httpRig {
	t.Helper()
	p, l := sessionPair(t, tr)
	rig := &httpRig{p: p, l: l, dialed: make(map[string]bool)}
	server := &http.Server{Handler: h}
	served := async(func() error { return server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		if err := wait(t, "Serve", served); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return rig
}

// client returns a client with connections of its own.
func (rig *httpRig) client(t *testing.T) *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			a := testAddr(int(rig.dials.Add(1)))
			rig.mu.Lock()
			rig.dialed[a.String()] = true
			rig.mu.Unlock()
			c, err := rig.p.Open(ctx, a)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		DisableCompression: true,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// echoSum answers a POST with its body's sum, and a GET with as many bytes as asked.
func echoSum(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			return
		}
		w.Write(h.Sum(nil))
	default:
		var size int
		var seed uint32
		fmt.Sscanf(r.URL.RawQuery, "%d,%d", &size, &seed)
		w.Header().Set("Content-Length", fmt.Sprint(size))
		w.Header().Set("X-Remote", r.RemoteAddr)
		w.Write(testBytes(size, seed))
	}
}

// get asks for size bytes and checks them.
func get(c *http.Client, size int, seed uint32) (remote string, err error) {
	r, err := c.Get(fmt.Sprintf("http://vtmux.test/?%d,%d", size, seed))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(b, testBytes(size, seed)) {
		return "", fmt.Errorf("GET of %d bytes: other bytes", size)
	}
	return r.Header.Get("X-Remote"), nil
}

func post(c *http.Client, size int, seed uint32) error {
	body := testBytes(size, seed)
	r, err := c.Post("http://vtmux.test/", "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if want := sha256.Sum256(body); !bytes.Equal(b, want[:]) {
		return fmt.Errorf("POST of %d bytes: other bytes came", size)
	}
	return nil
}

func TestHTTPBodiesOfAllSizes(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		rig := serveHTTP(t, tr, echoSum)
		c := rig.client(t)
		for i, size := range []int{0, 1, 1000, 65_535, 65_536, 1 << 20, 10 << 20} {
			_, err := get(c, size, uint32(i))
			wantErr(t, fmt.Sprintf("GET of %d bytes", size), err, nil)
			wantErr(t, fmt.Sprintf("POST of %d bytes", size), post(c, size, uint32(i)), nil)
		}
		// More than one is rare: see TestHTTPManyClients.
		if n := rig.dials.Load(); n > 3 {
			t.Errorf("%d connections for 14 requests one after the other: they are not kept alive", n)
		}
	})
}

func TestHTTPManyClients(t *testing.T) {
	const clients, each = 64, 20
	overEach(t, func(t *testing.T, tr transport) {
		rig := serveHTTP(t, tr, echoSum)
		// net/http gives a connection up where its own request takes 50 ms longer
		// to send than to be answered, so on a slow machine a client may need two.
		var mu sync.Mutex
		owner := make(map[string]int)
		var wg sync.WaitGroup
		for i := range clients {
			c := rig.client(t)
			wg.Go(func() {
				for j := range each {
					size := (i*each + j) * 37 % 100_000
					remote, err := get(c, size, uint32(i))
					wantErr(t, "GET", err, nil)
					wantErr(t, "POST", post(c, size, uint32(j)), nil)
					mu.Lock()
					if was, ok := owner[remote]; ok && was != i {
						t.Errorf("clients %d and %d were both seen as %s", was, i, remote)
					}
					owner[remote] = i
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for remote := range owner {
			if !rig.dialed[remote] {
				t.Errorf("RemoteAddr %q is no address that was dialed", remote)
			}
		}
		if len(owner) < clients {
			t.Errorf("the server saw %d addresses of %d clients", len(owner), clients)
		}
	})
}

// TestHTTPClientThatCancelsHoldsUpNobody has clients go away in the middle of a
// response that never ends.
func TestHTTPClientThatCancelsHoldsUpNobody(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		const clients = 8
		ended := make(chan struct{}, clients)
		rig := serveHTTP(t, tr, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/endless" {
				echoSum(w, r)
				return
			}
			defer func() { ended <- struct{}{} }()
			for block := make([]byte, 64<<10); ; {
				if _, err := w.Write(block); err != nil || r.Context().Err() != nil {
					return
				}
			}
		})
		for range clients {
			ctx, cancel := context.WithCancel(bounded(t))
			req, err := http.NewRequestWithContext(ctx, "GET", "http://vtmux.test/endless", nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := rig.client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, r.Body, 1<<20); err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := io.Copy(io.Discard, r.Body); !errors.Is(err, context.Canceled) {
				t.Errorf("Read of the canceled response: %v", err)
			}
			r.Body.Close()
		}
		other := rig.client(t)
		_, err := get(other, 100_000, 1)
		wantErr(t, "GET of another client", err, nil)
		for range clients {
			wait(t, "a handler's end", ended)
		}
	})
}

func TestHTTPHijack(t *testing.T) {
	overEach(t, func(t *testing.T, tr transport) {
		rig := serveHTTP(t, tr, func(w http.ResponseWriter, r *http.Request) {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("Hijack: %v", err)
				return
			}
			defer c.Close()
			if _, ok := c.(*Conn); !ok {
				t.Errorf("the hijacked connection is a %T, want *Conn", c)
			}
			fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			rw.Flush()
			io.Copy(c, rw) // until the client ends its half
		})
		x, err := rig.p.Open(bounded(t), testAddr(1))
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		want := testBytes(1<<20, 1)
		sent := async(func() error {
			if _, err := io.WriteString(x, "GET / HTTP/1.1\r\nHost: vtmux.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); err != nil {
				return err
			}
			_, err := x.Write(want)
			return errors.Join(err, x.CloseWrite())
		})
		r := bufio.NewReader(x)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("status %s", resp.Status)
		}
		g := wait(t, "the echo", readAll(r))
		wantErr(t, "Write", wait(t, "Write", sent), nil)
		wantErr(t, "the echo", g.err, nil)
		wantBytes(t, "the echo", g.b, want)
	})
}
