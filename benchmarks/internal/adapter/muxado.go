package adapter

import (
	"net"

	"golang.ngrok.com/muxado/v2"
)

// Muxado is golang.ngrok.com/muxado.
var Muxado = overTCP(Adapter{
	Name:   "muxado",
	Module: "golang.ngrok.com/muxado/v2",
	Config: "window 4 MiB, accept backlog 16,384, no heartbeat",
	TLS:    true,
	Lacks:  lacksUnread("a deadline does not end a write that waits for the peer"),
},
	func(c net.Conn) (Session, error) { return muxado.Client(c, muxadoConfig()), nil },
	func(c net.Conn) (Session, error) { return muxado.Server(c, muxadoConfig()), nil },
)

func muxadoConfig() *muxado.Config {
	return &muxado.Config{
		MaxWindowSize: 4 << 20,  // the default, 256 KiB, makes a bulk stream wait for updates
		AcceptBacklog: 16 << 10, // beyond it, streams are refused
	}
}
