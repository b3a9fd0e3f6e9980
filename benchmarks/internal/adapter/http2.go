package adapter

//lint:file-ignore SA1019 x/net is what is compared; that its successor is net/http does not matter here

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// HTTP2 is golang.org/x/net/http2 as a tunnel: a stream is a POST whose two bodies are the two directions.
var HTTP2 = overTCP(Adapter{
	Name:   "http2",
	Module: "golang.org/x/net",
	Config: "a stream is a POST; frames up to 1 MiB, windows of 4 MiB a stream and 1 GiB a connection, limits of streams raised",
	TLS:    true,
	Lacks:  lacksUnread("its streams have no deadlines"),
}, dialHTTP2, serveHTTP2)

// h2Frame is the largest frame. The default, 16 KiB, cuts a 64 KiB write in four. But each stream has a buffer of its
// peer's frame size for what it sends: with the megabyte that is sometimes advised, 1,000 idle streams hold 512 MB.
const h2Frame = 64 << 10

func dialHTTP2(c net.Conn) (Session, error) {
	t := &http2.Transport{
		AllowHTTP:          true, // over plain TCP: with prior knowledge
		DisableCompression: true,
		MaxReadFrameSize:   h2Frame,
	}
	cc, err := t.NewClientConn(c)
	if err != nil {
		return nil, err
	}
	// The server's settings come before the answer. Until then no more than 100 streams may be opened.
	if err := cc.Ping(context.Background()); err != nil {
		return nil, err
	}
	scheme := "http"
	if _, ok := c.(*net.TCPConn); !ok {
		scheme = "https"
	}
	return &h2Client{cc, c, scheme + "://localhost/"}, nil
}

type h2Client struct {
	conn      *http2.ClientConn
	transport net.Conn
	url       string
}

// Open starts the request. It does not wait for the response's header: the first Read does.
func (c *h2Client) Open() (net.Conn, error) {
	r, w := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, c.url, r)
	if err != nil {
		return nil, err
	}
	s := &h2Stream{h2Addrs: h2Addrs{c.transport}, w: w, answered: make(chan struct{})}
	go func() {
		defer close(s.answered)
		resp, err := c.conn.RoundTrip(req)
		if err != nil {
			s.err = err
			r.CloseWithError(err)
			return
		}
		s.body = resp.Body
	}()
	return s, nil
}

func (c *h2Client) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }
func (c *h2Client) Close() error              { return c.conn.Close() }

// h2Stream is the client's end of a stream.
type h2Stream struct {
	h2Addrs
	w        *io.PipeWriter
	answered chan struct{} // closed when what follows is set
	body     io.ReadCloser
	err      error
}

func (s *h2Stream) Read(p []byte) (int, error) {
	<-s.answered
	if s.err != nil {
		return 0, s.err
	}
	return s.body.Read(p)
}

// Write gives as its error why the request has failed, which comes after the pipe has been closed for it.
func (s *h2Stream) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		<-s.answered
		err = cmp.Or(s.err, err)
	}
	return n, err
}

// Close ends our half and takes what is left of the other in the background. To close the body before its end would be
// a RST_STREAM, which this transport follows with a PING, and with a wait for its answer before the next open.
func (s *h2Stream) Close() error {
	s.w.Close()
	go func() {
		<-s.answered
		if s.err == nil {
			io.Copy(io.Discard, s.body)
			s.body.Close()
		}
	}()
	return nil
}

func serveHTTP2(c net.Conn) (Session, error) {
	s := &h2Server{transport: c, accepted: make(chan net.Conn), done: make(chan struct{})}
	server := &http2.Server{
		MaxConcurrentStreams:         1 << 20,
		MaxReadFrameSize:             h2Frame,
		MaxUploadBufferPerStream:     4 << 20, // the default, 1 MiB for a connection too, makes bulk wait for updates
		MaxUploadBufferPerConnection: 1 << 30, // what the client's side has by default
	}
	go func() {
		defer close(s.done)
		server.ServeConn(c, &http2.ServeConnOpts{Handler: s})
	}()
	return s, nil
}

// h2Server gives the streams of a server's connection to who accepts.
type h2Server struct {
	transport net.Conn
	accepted  chan net.Conn
	done      chan struct{}
}

// ServeHTTP lasts as long as its stream.
func (s *h2Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st := &h2Handler{h2Addrs: h2Addrs{s.transport}, body: r.Body, w: w, flush: w.(http.Flusher), closed: make(chan struct{})}
	st.flush.Flush() // the header
	select {
	case s.accepted <- st:
		<-st.closed
	case <-s.done:
	}
}

func (s *h2Server) Open() (net.Conn, error) { return nil, errors.ErrUnsupported }

func (s *h2Server) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *h2Server) Close() error { return s.transport.Close() }

// h2Handler is the server's end of a stream.
type h2Handler struct {
	h2Addrs
	body   io.ReadCloser
	w      io.Writer
	flush  http.Flusher
	once   sync.Once
	closed chan struct{}
}

func (s *h2Handler) Read(p []byte) (int, error) { return s.body.Read(p) }

// Write flushes, since nobody else would: the writer waits for 4 KiB.
func (s *h2Handler) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.flush.Flush()
	return n, err
}

func (s *h2Handler) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// h2Addrs is what an HTTP/2 stream has of a net.Conn besides its bytes. It has no deadlines.
type h2Addrs struct{ transport net.Conn }

func (a h2Addrs) LocalAddr() net.Addr              { return a.transport.LocalAddr() }
func (a h2Addrs) RemoteAddr() net.Addr             { return a.transport.RemoteAddr() }
func (a h2Addrs) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (a h2Addrs) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (a h2Addrs) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
