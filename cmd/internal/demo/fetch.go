package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// mostNamed is how many wrong files an error names; the rest are counted.
const mostNamed = 10

// A fetcher divides the files among its clients and gathers what they find.
type fetcher struct {
	front    string
	files    []file
	next     atomic.Int64 // the next file that nobody has taken
	progress func(file)

	mu        sync.Mutex // guards what follows
	addresses []string   // of the clients' TCP connections
	latencies []time.Duration
	wrong     []string
}

// fetch gets every file once, by so many clients at once. A wrong file is noted and the run goes on; a request that
// fails ends it.
func (f *fetcher) fetch(ctx context.Context, clients int) error {
	f.next.Store(int64(clients))
	g, ctx := errgroup.WithContext(ctx)
	for i := range clients {
		g.Go(func() error { return f.client(ctx, i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return f.verdict()
}

// client fetches first, so that every client connects, and then what is left.
func (f *fetcher) client(ctx context.Context, first int) error {
	transport := &http.Transport{
		DialContext:        f.dialer(first),
		MaxConnsPerHost:    1,
		DisableCompression: true, // what counts is the bytes on the wire
	}
	defer transport.CloseIdleConnections()
	c := &client{
		http:   &http.Client{Transport: transport},
		hash:   sha256.New(),
		buffer: make([]byte, 32<<10),
	}
	latencies := make([]time.Duration, 0, len(f.files)/8)
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.latencies = append(f.latencies, latencies...)
	}()
	for i := first; i < len(f.files); i = int(f.next.Add(1) - 1) {
		file := f.files[i]
		start := time.Now()
		err := c.check(ctx, f.front, file)
		if wrong := (*wrongError)(nil); errors.As(err, &wrong) {
			f.noteWrong(wrong)
		} else if err != nil {
			return err
		}
		latencies = append(latencies, time.Since(start))
		f.progress(file)
	}
	return nil
}

// dialer gives client i a source address of its own where the system has more than one on loopback; elsewhere its
// port alone is its own.
func (f *fetcher) dialer(i int) func(context.Context, string, string) (net.Conn, error) {
	var d net.Dialer
	if ip := net.IPv4(127, 0, byte(1+i>>8), byte(i)); canBind(ip) {
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.addresses = append(f.addresses, c.LocalAddr().String())
		return c, nil
	}
}

func canBind(ip net.IP) bool {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip})
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func (f *fetcher) noteWrong(err *wrongError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = append(f.wrong, err.Error())
}

func (f *fetcher) verdict() error {
	if len(f.wrong) == 0 {
		return nil
	}
	errs := []error{fmt.Errorf("%d of %d files differ", len(f.wrong), len(f.files))}
	for _, wrong := range f.wrong[:min(len(f.wrong), mostNamed)] {
		errs = append(errs, errors.New(wrong))
	}
	return errors.Join(errs...)
}

// A wrongError tells of a file that did not come as it is on disk.
type wrongError struct {
	path, what string
}

func (e *wrongError) Error() string { return e.path + ": " + e.what }

// A client fetches one file at a time over one TCP connection.
type client struct {
	http   *http.Client
	hash   hash.Hash
	buffer []byte
}

// check fetches a file and compares it with the one on disk.
func (c *client) check(ctx context.Context, front string, want file) error {
	target := url.URL{Scheme: "http", Host: front, Path: "/" + want.path}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return &wrongError{want.path, response.Status}
	}
	c.hash.Reset()
	n, err := io.CopyBuffer(c.hash, response.Body, c.buffer)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &wrongError{want.path, fmt.Sprintf("ended after %d of %d bytes", n, want.size)}
	case err != nil:
		return fmt.Errorf("%s: %w", want.path, err)
	case n != want.size:
		return &wrongError{want.path, fmt.Sprintf("%d bytes, want %d", n, want.size)}
	}
	var sum [sha256.Size]byte
	if got := c.hash.Sum(sum[:0]); !bytes.Equal(got, want.sum[:]) {
		return &wrongError{want.path, fmt.Sprintf("SHA-256 is %x, want %x", got, want.sum)}
	}
	return nil
}
