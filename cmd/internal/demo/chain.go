package demo

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/vtmux/vtmux/cmd/internal/proxy"
)

// A chain is a backend, an origin before it and an edge before that, all in this process.
type chain struct {
	backend *backend
	front   string       // the edge's address, where clients connect
	between atomic.Int64 // TCP connections that the origin accepted from the edge

	cancel context.CancelFunc
	wg     sync.WaitGroup
	errs   chan error // the first thing that failed
}

// graceOnStop is long enough for idle connections to be closed, and short enough to wait for.
const graceOnStop = 2 * time.Second

func newChain(ctx context.Context, config Config) (*chain, context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &chain{cancel: cancel, errs: make(chan error, 1)}
	b, err := startBackend(config.Dir, config.wrap)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	c.backend = b
	return c, ctx, nil
}

// startMux starts a chain with one transport between edge and origin.
func startMux(ctx context.Context, config Config) (*chain, error) {
	c, ctx, err := newChain(ctx, config)
	if err != nil {
		return nil, err
	}
	between, front, err := c.listen()
	if err != nil {
		return nil, err
	}
	origin := c.server(proxy.DialTCP(c.backend.address))
	c.serve(func() error { return proxy.ServeTransports(ctx, between, config.Mux, origin, c.fail) })

	uplink := proxy.NewUplink(between.Addr().String(), config.Mux)
	edge := c.server(uplink.Connect)
	c.serve(func() error {
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), graceOnStop)
			defer cancel()
			uplink.Shutdown(ctx)
		}()
		return edge.Serve(ctx, front)
	})
	return c, nil
}

// startDirect starts the same chain with one TCP connection a client between edge and origin.
func startDirect(ctx context.Context, config Config) (*chain, error) {
	c, ctx, err := newChain(ctx, config)
	if err != nil {
		return nil, err
	}
	between, front, err := c.listen()
	if err != nil {
		return nil, err
	}
	origin := c.server(proxy.DialTCP(c.backend.address))
	c.serve(func() error { return origin.Serve(ctx, proxy.ListenHeader(between)) })
	edge := c.server(proxy.DialTCP(between.Addr().String()))
	c.serve(func() error { return edge.Serve(ctx, front) })
	return c, nil
}

// listen gives the origin's listener, which counts, and the edge's.
func (c *chain) listen() (between, front net.Listener, err error) {
	if between, err = listenLoopback(); err != nil {
		c.stop()
		return nil, nil, err
	}
	if front, err = listenLoopback(); err != nil {
		between.Close()
		c.stop()
		return nil, nil, err
	}
	c.front = front.Addr().String()
	return countingListener{between, &c.between}, front, nil
}

func (c *chain) server(connect proxy.Connector) *proxy.Server {
	return &proxy.Server{Connect: connect, Grace: graceOnStop}
}

func (c *chain) serve(f func() error) {
	c.wg.Go(func() {
		if err := f(); err != nil {
			c.fail(err)
		}
	})
}

func (c *chain) fail(err error) {
	select {
	case c.errs <- err:
	default:
	}
}

// stop ends the chain and returns the first thing in it that failed.
func (c *chain) stop() error {
	c.cancel()
	c.wg.Wait()
	c.backend.close()
	select {
	case err := <-c.errs:
		return err
	default:
		return nil
	}
}

// A backend is a net/http file server that notes which clients it served.
type backend struct {
	address string
	server  *http.Server
	seen    sync.Map // client addresses, as strings
}

func startBackend(dir string, wrap func(http.Handler) http.Handler) (*backend, error) {
	l, err := listenLoopback()
	if err != nil {
		return nil, err
	}
	b := &backend{address: l.Addr().String()}
	files := http.FileServerFS(os.DirFS(dir))
	if wrap != nil {
		files = wrap(files)
	}
	b.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.seen.LoadOrStore(r.RemoteAddr, nil)
		files.ServeHTTP(w, r)
	})}
	go b.server.Serve(&proxyproto.Listener{Listener: l})
	return b, nil
}

func (b *backend) close() { b.server.Close() }

// clients gives the distinct client addresses that the backend saw.
func (b *backend) clients() map[string]bool {
	seen := make(map[string]bool)
	b.seen.Range(func(address, _ any) bool {
		seen[address.(string)] = true
		return true
	})
	return seen
}

type countingListener struct {
	net.Listener
	accepted *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

// listenLoopback listens at IPv4's loopback, or at IPv6's where there is no other.
func listenLoopback() (net.Listener, error) { return listenFirst("127.0.0.1:0", "[::1]:0") }

// listenFirst listens at the first of the addresses that it can have. Its error tells of them all.
func listenFirst(addresses ...string) (net.Listener, error) {
	var errs []error
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err == nil {
			return l, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
