package adapter

import (
	"context"
	"net"

	"github.com/quic-go/quic-go"
)

// QUIC is quic-go: a protocol of its own over UDP, always encrypted.
var QUIC = Adapter{
	Name:   "quic-go",
	Module: "github.com/quic-go/quic-go",
	Config: "packets from 1,452 bytes up, windows from 4 to 16 MiB a stream and 64 MiB a connection, limits of streams raised; encrypted, as always",
	TLS:    true,
	UDP:    true,
	Lacks:  lacksUnread("streams that nobody reads use up the window of the connection"),
	Listen: func(Options) (string, func() (Session, error), error) {
		config, err := serverTLS()
		if err != nil {
			return "", nil, err
		}
		l, err := quic.ListenAddr("127.0.0.1:0", config, quicConfig())
		if err != nil {
			return "", nil, err
		}
		return l.Addr().String(), func() (Session, error) {
			c, err := l.Accept(context.Background())
			return quicSession{c}, err
		}, nil
	},
	Dial: func(address string, _ Options) (Session, error) {
		c, err := quic.DialAddr(context.Background(), address, clientTLS(), quicConfig())
		return quicSession{c}, err
	},
}

func quicConfig() *quic.Config {
	return &quic.Config{
		MaxIncomingStreams: 1 << 20,
		// The default begins with 1,280; loopback takes more, and every packet costs.
		InitialPacketSize:              1452,
		InitialStreamReceiveWindow:     4 << 20,
		MaxStreamReceiveWindow:         16 << 20,
		InitialConnectionReceiveWindow: 16 << 20,
		MaxConnectionReceiveWindow:     64 << 20,
	}
}

type quicSession struct{ *quic.Conn }

func (s quicSession) Open() (net.Conn, error) {
	st, err := s.OpenStreamSync(context.Background())
	return quicStream{st, s.Conn}, err
}

func (s quicSession) Accept() (net.Conn, error) {
	st, err := s.AcceptStream(context.Background())
	return quicStream{st, s.Conn}, err
}

func (s quicSession) Close() error { return s.CloseWithError(0, "") }

func (s quicSession) WireBytes() (uint64, bool) {
	stats := s.ConnectionStats()
	return stats.BytesSent + stats.BytesReceived, true
}

// quicStream is a stream as a net.Conn.
type quicStream struct {
	*quic.Stream
	conn *quic.Conn
}

func (s quicStream) LocalAddr() net.Addr  { return s.conn.LocalAddr() }
func (s quicStream) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Close ends both halves, as that of a net.Conn does: a stream of which only the sending half is closed stays in the
// library's tables until somebody reads its end.
func (s quicStream) Close() error {
	err := s.Stream.Close()
	s.CancelRead(0)
	return err
}
