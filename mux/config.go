package mux

import (
	"fmt"
	"time"
)

// A Protocol says what a session speaks on the wire.
type Protocol uint8

const (
	// ProtocolAuto is the default: the vt-muxer protocol.
	ProtocolAuto Protocol = iota
	// ProtocolVT is the protocol of the Rust crate vt-muxer 0.1 (PROTOCOL.md, 1).
	ProtocolVT
)

// String returns the protocol's name.
func (p Protocol) String() string {
	switch p {
	case ProtocolAuto:
		return "auto"
	case ProtocolVT:
		return "vt"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// A Config holds a session's settings. The zero value of each field, and a nil
// *Config, mean the default. A Config is copied: changing it later has no effect.
type Config struct {
	// Protocol is what to speak. Default: ProtocolAuto.
	Protocol Protocol

	// MaxConns bounds the connections of a session, opened and accepted together,
	// those included that are closed here and not yet by the peer. Open fails with
	// ErrTooManyConns at the limit; a peer that goes beyond it ends the session,
	// since the vt-muxer protocol has no way to refuse without keeping state.
	// Default: 65,536. An idle connection costs about 270 bytes.
	MaxConns int

	// AcceptBacklog bounds the connections that the peer has opened and nobody has
	// accepted yet. One beyond it is refused, and stalls nothing. Default: as
	// MaxConns, since a vt-muxer peer can't tell a refusal from an empty answer.
	AcceptBacklog int

	// MaxWindow is how many bytes a connection may hold unread. The vt-muxer
	// protocol has no flow control, so when one more byte comes for a connection
	// that holds that much, the session stops reading until its reader has caught
	// up or closed it; vt-muxer itself does so at 131,070. Default: 16 MiB.
	MaxWindow int

	// HandshakeTimeout bounds the transport's own handshake (TLS), which runs
	// before the first byte of the session. Default: 10 s. Below zero: no bound.
	HandshakeTimeout time.Duration
}

const (
	defaultMaxConns         = 1 << 16
	defaultMaxWindow        = 16 << 20
	defaultHandshakeTimeout = 10 * time.Second

	// minMaxWindow is what a vt-muxer end holds for a connection at least: two
	// payloads of the largest size.
	minMaxWindow = 2 * 65535
)

// withDefaults returns cfg with every default filled in, or what is wrong with it.
func (cfg *Config) withDefaults() (Config, error) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	switch c.Protocol {
	case ProtocolAuto:
		c.Protocol = ProtocolVT
	case ProtocolVT:
	default:
		return c, fmt.Errorf("mux: Config.Protocol is %v: use ProtocolAuto or ProtocolVT", c.Protocol)
	}
	backlog := c.MaxConns
	if backlog == 0 {
		backlog = defaultMaxConns
	}
	for _, f := range []struct {
		name string
		v    *int
		def  int
		min  int
	}{
		{"MaxConns", &c.MaxConns, defaultMaxConns, 1},
		{"AcceptBacklog", &c.AcceptBacklog, backlog, 1},
		{"MaxWindow", &c.MaxWindow, defaultMaxWindow, minMaxWindow},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < f.min {
			return c, fmt.Errorf("mux: Config.%s is %d: it must be at least %d, or 0 for the default", f.name, *f.v, f.min)
		}
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = defaultHandshakeTimeout
	}
	return c, nil
}
