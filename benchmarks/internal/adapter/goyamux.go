package adapter

import (
	"context"
	"io"
	"math"
	"net"

	goyamux "github.com/libp2p/go-yamux/v5"
)

// GoYamux is libp2p/go-yamux.
var GoYamux = overTCP(Adapter{
	Name:   "go-yamux",
	Module: "github.com/libp2p/go-yamux/v5",
	Config: "windows from 256 KiB to 16 MiB, read buffer 64 KiB, limits of streams raised, no keep-alive",
	TLS:    true,
},
	func(c net.Conn) (Session, error) {
		s, err := goyamux.Client(c, goYamuxConfig(), nil)
		return goYamux{s}, err
	},
	func(c net.Conn) (Session, error) {
		s, err := goyamux.Server(c, goYamuxConfig(), nil)
		return goYamux{s}, err
	},
)

func goYamuxConfig() *goyamux.Config {
	cfg := goyamux.DefaultConfig() // its windows grow by themselves, as libp2p wants them to
	cfg.MaxIncomingStreams = math.MaxUint32
	cfg.AcceptBacklog = 16 << 10
	cfg.ReadBufSize = 64 << 10 // the default, 4 KiB, halves what a reader takes from the kernel at a time
	cfg.EnableKeepAlive = false
	cfg.LogOutput = io.Discard
	return cfg
}

type goYamux struct{ *goyamux.Session }

func (s goYamux) Open() (net.Conn, error) { return s.Session.Open(context.Background()) }
