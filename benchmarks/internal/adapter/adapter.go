// Package adapter gives the libraries under comparison one face. Each is one file, which also says how the library is
// configured and why.
package adapter

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
)

// A Session carries streams between two processes.
//
// The client opens and writes first, since some libraries announce a stream with its first bytes.
type Session interface {
	Open() (net.Conn, error)
	Accept() (net.Conn, error)
	Close() error
}

// Options are what a scenario wants of a session.
type Options struct {
	TLS bool // over TLS 1.3
	// Task is what the server does with each stream. Only an adapter whose server is not this program needs it.
	Task Task
}

// A Task is what a server does with each stream.
type Task struct {
	Echo     bool // send back what comes; otherwise take it, and acknowledge
	Read     int  // bytes that one Read asks for
	AckEvery int  // bytes that one byte acknowledges, counted anew for each stream
}

// An Adapter makes the sessions of one library.
type Adapter struct {
	Name   string
	Module string // the Go module whose version a report names, or ""
	Config string // how it is configured, in half a sentence

	TLS bool // it takes part in the scenarios over TLS 1.3
	// Below makes of the socket what TLS is to run over. Nil: the socket itself.
	Below func(net.Conn) net.Conn
	UDP   bool // not over TCP: the kernel does not count its system calls

	// Lacks says why the library can't do a scenario, or "". Nil: it can do all.
	Lacks func(scenario string) string

	// Ready says why the library can't be measured on this machine. Nil: it can be.
	Ready func() error

	// Listen makes a server ready on a free loopback port. session waits for the client and is called once.
	Listen func(Options) (address string, session func() (Session, error), err error)

	// Dial makes the client's end of a session.
	Dial func(address string, o Options) (Session, error)
}

// All lists the adapters: raw TCP, which the others are measured against, and then they.
var All = []Adapter{TCP, VTMux, VTMuxVT, VTMuxer, Yamux, GoYamux, Smux, SmuxV1, Muxado, HTTP2, QUIC}

// Lookup finds an adapter by its name.
func Lookup(name string) (Adapter, error) {
	i := slices.IndexFunc(All, func(a Adapter) bool { return a.Name == name })
	if i < 0 {
		return Adapter{}, fmt.Errorf("no library %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return All[i], nil
}

// Names gives the names of all adapters.
func Names() []string {
	var names []string
	for _, a := range All {
		names = append(names, a.Name)
	}
	return names
}

// Can gives why the library can't do a scenario, or "".
func (a Adapter) Can(scenario string, overTLS bool) (lacks string) {
	if overTLS && !a.TLS {
		return "not measured over TLS"
	}
	if a.Lacks == nil {
		return ""
	}
	return a.Lacks(scenario)
}

// lacksUnread gives a Lacks for what can't do without readers: why.
func lacksUnread(why string) func(scenario string) string {
	return func(scenario string) string {
		if strings.HasSuffix(scenario, "Unread") {
			return why
		}
		return ""
	}
}

func (a Adapter) below(c net.Conn) net.Conn {
	if a.Below == nil {
		return c
	}
	return a.Below(c)
}

// overTCP fills in an adapter of a library that multiplexes one TCP connection. Go sets TCP_NODELAY on it, and the kernel
// chooses the sizes of its buffers; no adapter changes either.
func overTCP(a Adapter, client, server func(net.Conn) (Session, error)) Adapter {
	a.Listen = func(o Options) (string, func() (Session, error), error) {
		l, err := listenLoopback()
		if err != nil {
			return "", nil, err
		}
		return l.Addr().String(), func() (Session, error) {
			defer l.Close()
			c, err := l.Accept()
			if err != nil {
				return nil, err
			}
			if o.TLS {
				if c, err = secureServer(a.below(c)); err != nil {
					return nil, err
				}
			}
			return server(c)
		}, nil
	}
	a.Dial = func(address string, o Options) (Session, error) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return nil, err
		}
		t := c
		if o.TLS {
			if t, err = secureClient(a.below(c)); err != nil {
				return nil, err
			}
		}
		s, err := client(t)
		if err != nil {
			return nil, err
		}
		return wired{s, c}, nil
	}
	return a
}

// wired is a session whose bytes on the wire the kernel has counted.
type wired struct {
	Session
	transport net.Conn
}

func (w wired) WireBytes() (uint64, bool) { return tcpBytes(w.transport) }

// WireBytes gives how many bytes the client's end of a session has sent and received: what TCP or UDP carries, without
// their own headers and those below.
func WireBytes(s Session, streams []net.Conn) (sum uint64, ok bool) {
	if w, ok := s.(interface{ WireBytes() (uint64, bool) }); ok {
		return w.WireBytes()
	}
	for _, c := range streams { // raw TCP
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		n, ok := tcpBytes(c)
		if !ok {
			return 0, false
		}
		sum += n
	}
	return sum, len(streams) > 0
}

// Calls gives how many system calls a session has made on its transport, where it counts those that the kernel does not.
func Calls(s Session) uint64 {
	if w, ok := s.(wired); ok {
		s = w.Session
	}
	if c, ok := s.(interface{ Calls() uint64 }); ok {
		return c.Calls()
	}
	return 0
}

func listenLoopback() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
