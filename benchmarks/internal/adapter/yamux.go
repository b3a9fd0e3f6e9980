package adapter

import (
	"io"
	"net"

	"github.com/hashicorp/yamux"
)

// Yamux is hashicorp/yamux.
var Yamux = overTCP(Adapter{
	Name:   "yamux",
	Module: "github.com/hashicorp/yamux",
	Config: "window 4 MiB, accept backlog 16,384, no timeout of an open, no keep-alive",
	TLS:    true,
},
	func(c net.Conn) (Session, error) { return yamux.Client(c, yamuxConfig()) },
	func(c net.Conn) (Session, error) { return yamux.Server(c, yamuxConfig()) },
)

func yamuxConfig() *yamux.Config {
	cfg := yamux.DefaultConfig()
	cfg.MaxStreamWindowSize = 4 << 20 // the default, 256 KiB, makes a bulk stream wait for updates
	cfg.AcceptBacklog = 16 << 10      // it also bounds the opens that are not acknowledged yet
	cfg.StreamOpenTimeout = 0         // its default costs a goroutine and a timer an open
	cfg.EnableKeepAlive = false
	cfg.LogOutput = io.Discard
	return cfg
}
