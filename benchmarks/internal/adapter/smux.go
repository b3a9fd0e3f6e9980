package adapter

import (
	"net"

	"github.com/xtaci/smux"
)

// Smux is xtaci/smux with version 2 of its protocol, which has flow control for each stream, and SmuxV1 with version 1,
// its default, which has not.
var (
	Smux = ofSmux(Adapter{
		Name:   "smux",
		Module: "github.com/xtaci/smux",
		Config: "version 2, frames of 65,535 bytes, buffers of 1 MiB a stream and 16 MiB a session, no keep-alive",
		TLS:    true,
		Lacks:  lacksUnread("streams that nobody reads use up the buffer of the session"),
	}, 2)
	SmuxV1 = ofSmux(Adapter{
		Name:   "smux-v1",
		Module: "github.com/xtaci/smux",
		Config: "version 1, otherwise the same",
		Lacks:  lacksFlowControl,
	}, 1)
)

func ofSmux(a Adapter, version int) Adapter {
	cfg := smux.DefaultConfig()
	cfg.Version = version
	cfg.MaxFrameSize = 65535        // fewer frames for 64 KiB writes
	cfg.MaxStreamBuffer = 1 << 20   // the default, 64 KiB, makes a bulk stream wait for updates
	cfg.MaxReceiveBuffer = 16 << 20 // shared by all streams
	cfg.KeepAliveDisabled = true
	return overTCP(a,
		func(c net.Conn) (Session, error) {
			s, err := smux.Client(c, cfg)
			return smuxSession{s}, err
		},
		func(c net.Conn) (Session, error) {
			s, err := smux.Server(c, cfg)
			return smuxSession{s}, err
		},
	)
}

type smuxSession struct{ *smux.Session }

func (s smuxSession) Open() (net.Conn, error)   { return s.OpenStream() }
func (s smuxSession) Accept() (net.Conn, error) { return s.AcceptStream() }
