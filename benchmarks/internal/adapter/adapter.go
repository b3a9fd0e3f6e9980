// Package adapter gives the libraries under comparison one face. Each is one file.
package adapter

import (
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

// An Adapter makes the sessions of one library.
type Adapter struct {
	Name string

	// Listen makes a server ready on a free loopback port. session waits for the client and is called once.
	Listen func() (address string, session func() (Session, error), err error)

	// Dial makes the client's end of a session.
	Dial func(address string) (Session, error)
}

// All lists the adapters: raw TCP, which the others are measured against, and then they.
var All = []Adapter{TCP, VTMux, VTMuxVT}

// Lookup finds an adapter by its name.
func Lookup(name string) (Adapter, error) {
	i := slices.IndexFunc(All, func(a Adapter) bool { return a.Name == name })
	if i < 0 {
		var names []string
		for _, a := range All {
			names = append(names, a.Name)
		}
		return Adapter{}, fmt.Errorf("no adapter %q; there are %s", name, strings.Join(names, ", "))
	}
	return All[i], nil
}

// overTCP is an adapter of a library that multiplexes one TCP connection.
func overTCP(name string, client, server func(net.Conn) (Session, error)) Adapter {
	return Adapter{
		Name: name,
		Listen: func() (string, func() (Session, error), error) {
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
				return server(c)
			}, nil
		},
		Dial: func(address string) (Session, error) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return nil, err
			}
			return client(c)
		},
	}
}

func listenLoopback() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
