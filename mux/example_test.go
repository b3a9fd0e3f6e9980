package mux_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// The regions between the README marks stand in README.md word for word; a test keeps them equal.

// README: opening

// edge carries every client over one transport. Each keeps its own address.
func edge(ctx context.Context, clients *net.TCPListener, transport net.Conn) error {
	pipe, err := mux.NewPipe(transport, nil)
	if err != nil {
		return err
	}
	defer pipe.Close()
	for {
		client, err := clients.AcceptTCP()
		if err != nil {
			return err
		}
		conn, err := pipe.Open(ctx, addr.SocketAddrFromAddrPort(client.RemoteAddr().(*net.TCPAddr).AddrPort()))
		switch {
		case err == nil:
			go relay(client, conn) // copies both ways
		case errors.Is(err, mux.ErrDraining):
			client.Close()
			return pipe.Shutdown(ctx) // nothing more can be opened here; what is open goes on
		case pipe.Err() != nil:
			client.Close()
			return err
		default:
			client.Close() // this one could not be opened; others can
		}
	}
}

// README: end

// README: accepting

// origin serves HTTP to all clients that the edge carries to it.
func origin(transport net.Conn) error {
	listener, err := mux.NewListener(transport, nil)
	if err != nil {
		return err
	}
	defer listener.Close()
	return http.Serve(listener, http.HandlerFunc(hello))
}

func hello(w http.ResponseWriter, r *http.Request) {
	// The address is the client's, as the edge saw it, and not the transport's.
	fmt.Fprintf(w, "hello, %s\n", r.RemoteAddr)
}

// README: end

// README: relay

// relay copies both ways. A half that ends well ends well on the other side; if one fails, all is given up.
func relay(client *net.TCPConn, conn *mux.Conn) {
	defer client.Close()
	defer conn.Close()
	finish := func(dst interface{ CloseWrite() error }, err error) {
		if err == nil {
			err = dst.CloseWrite()
		}
		if err != nil {
			client.SetLinger(0) // a reset: what was cut must not look complete
			client.Close()
			conn.Reset(mux.CodeNone)
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, err := io.Copy(conn, client)
		finish(conn, err)
	})
	both.Go(func() {
		_, err := io.Copy(client, conn)
		finish(client, err)
	})
	both.Wait()
}

// README: end

// An edge and an origin with one TCP connection between them.
func Example() {
	far, near := tcpPair()
	clients, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	var ends sync.WaitGroup
	ends.Go(func() { origin(far) })
	ends.Go(func() { edge(context.Background(), clients, near) })

	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + clients.Addr().String())
	if err != nil {
		panic(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	greeting, _, _ := strings.Cut(string(body), ":") // the port is another each time
	fmt.Println(greeting, err)

	clients.Close() // ends edge, which closes the transport, which ends origin
	ends.Wait()
	// Output: hello, 127.0.0.1 <nil>
}

// A session over TLS.
func ExampleBelowTLS() {
	keys := httptest.NewTLSServer(nil) // for its certificate
	defer keys.Close()
	trust := keys.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trust.ServerName = "example.com"

	far, near := tcpPair()
	pipe, err := mux.NewPipe(tls.Client(mux.BelowTLS(near), trust), nil)
	if err != nil {
		panic(err)
	}
	listener, err := mux.NewListener(tls.Server(mux.BelowTLS(far), keys.TLS), nil)
	if err != nil {
		panic(err)
	}
	conn, err := pipe.Open(context.Background(), addr.MustParseSocketAddr("192.0.2.1:80"))
	if err != nil {
		panic(err)
	}
	io.WriteString(conn, "hello")
	conn.CloseWrite()
	accepted, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	text, err := io.ReadAll(accepted)
	fmt.Println(accepted.RemoteAddr(), string(text), err)

	pipe.Close()
	listener.Close()
	// Output: 192.0.2.1:80 hello <nil>
}

// tcpPair returns both ends of a TCP connection.
func tcpPair() (a, b net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		panic(err)
	}
	if b, err = l.Accept(); err != nil {
		panic(err)
	}
	return a, b
}
