package mux

import (
	"fmt"
	"math"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// A Protocol says what a session speaks on the wire.
type Protocol uint8

const (
	// ProtocolAuto is the default. A Pipe speaks protocol 1. A Listener speaks what
	// the peer's first 20 bytes show, protocol 1 or vt-muxer's.
	ProtocolAuto Protocol = iota
	// ProtocolVT is the protocol of the Rust crate vt-muxer 0.1 (PROTOCOL.md, 1).
	ProtocolVT
	// Protocol1 is vtmux's own (PROTOCOL.md, 2).
	Protocol1
)

// String returns the protocol's name.
func (p Protocol) String() string {
	switch p {
	case ProtocolAuto:
		return "auto"
	case ProtocolVT:
		return "vt"
	case Protocol1:
		return "1"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// A Config holds a session's settings. The zero value of each field, and a nil
// *Config, mean the default. A Config is copied: changing it later has no effect. What is
// out of range is an error of NewPipe and NewListener; numbers may be up to 2,147,483,647.
type Config struct {
	// Protocol is what to speak. Default: ProtocolAuto.
	Protocol Protocol

	// MaxConns bounds the connections of a session. Default: 65,536. An idle
	// connection costs about 350 bytes.
	//
	// A connection counts until both ends have ended it and the application has closed
	// it.
	//
	// With protocol 1 it counts each way for itself. The peer is told, and what it
	// opens beyond is refused. Less than 128 is announced as 128. Open fails with
	// ErrTooManyConns at this limit and at the peer's.
	//
	// With the vt-muxer protocol it counts both ways together. A peer that goes beyond it
	// ends the session, since there is no way to refuse without keeping state; but what it
	// opens is refused where some have ended and only wait for the application to close
	// them.
	MaxConns int

	// AcceptBacklog bounds the connections that the peer has opened and no Accept,
	// AcceptConn or AcceptPending has returned yet. One beyond it is refused, and stalls
	// nothing. The peer does not know the number. Default: 4,096, or MaxConns if that is
	// less; with the vt-muxer protocol MaxConns, since such a peer can't tell a refusal
	// from an empty answer.
	AcceptBacklog int

	// InitialWindow is how many bytes the peer may send on a connection before any
	// has been read (protocol 1). At least 65,536, the default.
	InitialWindow int

	// MaxWindow is how many bytes a connection may hold unread. At least 131,070, and
	// InitialWindow. Default: 16 MiB, or InitialWindow if that is more.
	//
	// With protocol 1 a connection's window begins at InitialWindow, and doubles up
	// to this while the application reads a window within two round trips (4 ms at
	// least, 2 s at most).
	//
	// The vt-muxer protocol has no flow control, so when one more byte comes for a
	// connection that holds that much, the session stops reading until its reader
	// has caught up or closed it; vt-muxer itself does so at 131,070. The piece of a
	// payload that reaches the limit is taken whole, so it may be up to 65,534 bytes
	// more; and while a WriteTo has all of it with its writer, one more piece, of at most
	// 65,535, is taken.
	MaxWindow int

	// KeepAliveInterval is how long the transport may be silent before a PING is
	// sent, and KeepAliveTimeout how long after that it may be silent both ways
	// before the session ends (protocol 1; PROTOCOL.md, 2.10). Any byte that comes
	// counts as life. Default: 15 s and 30 s. An interval below zero: no keep-alive; else it
	// must be at least 20 ms. A timeout below zero is an error.
	KeepAliveInterval, KeepAliveTimeout time.Duration

	// PrefaceTimeout bounds the time for the peer's preface (protocol 1), from the
	// start of the session, or the end of the transport's handshake, where it must come,
	// and else from its first byte; and for a vt-muxer peer's first header. Default: 10 s. Below zero: no bound.
	PrefaceTimeout time.Duration

	// SilenceTimeout bounds how long a Listener on ProtocolAuto waits for the peer's
	// first byte. A vt-muxer peer says nothing until it opens a connection.
	// Default: 5 min. Below zero: no bound.
	SilenceTimeout time.Duration

	// WriteTimeout is how long the transport may take no byte while something waits to
	// be sent; then the session ends (ErrWriteTimeout), whatever the peer sends. Who
	// takes bytes at all, however slowly, is not cut off. (A write under way is seen into
	// by means of deadlines; over TLS only on Linux, where its NetConn is a TCP socket or
	// what BelowTLS returned. Where that can't be, each write, of at most 68 KiB, must be
	// taken whole in that time.) Default: 30 s with protocol 1, where a peer must go on
	// reading whatever its applications do; 5 min with the vt-muxer protocol, where to stop
	// reading is the only way to say that one of them does not read. Below zero: no bound.
	WriteTimeout time.Duration

	// HandshakeTimeout bounds the transport's own handshake (TLS), which runs
	// before the first byte of the session, and before the other times begin. Default:
	// 10 s. Below zero: no bound.
	HandshakeTimeout time.Duration
}

const (
	defaultMaxConns          = 1 << 16
	defaultBacklog           = 4 << 10
	defaultMaxWindow         = 16 << 20
	defaultKeepAliveInterval = 15 * time.Second
	defaultKeepAliveTimeout  = 30 * time.Second
	defaultPrefaceTimeout    = 10 * time.Second
	defaultSilenceTimeout    = 5 * time.Minute
	defaultHandshakeTimeout  = 10 * time.Second
	defaultWriteTimeout      = 30 * time.Second
	defaultWriteTimeoutVT    = 5 * time.Minute

	// minKeepAliveInterval: a PING costs the peer's tokens, of which there are 100 a second.
	minKeepAliveInterval = 20 * time.Millisecond
	// minMaxWindow is what a vt-muxer end holds for a connection at least: two
	// payloads of the largest size.
	minMaxWindow = 2 * 65535
)

// withDefaults returns cfg with every default filled in, or what is wrong with it.
// AcceptBacklog and WriteTimeout stay 0 where their defaults depend on the protocol.
func (cfg *Config) withDefaults() (Config, error) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	if c.Protocol > Protocol1 {
		return c, fmt.Errorf("mux: Config.Protocol is %v: use ProtocolAuto, ProtocolVT or Protocol1", c.Protocol)
	}
	for _, f := range []struct {
		name     string
		v        *int
		def      int
		min, max int
	}{
		{"MaxConns", &c.MaxConns, defaultMaxConns, 1, math.MaxInt32},
		{"AcceptBacklog", &c.AcceptBacklog, 0, 1, math.MaxInt32},
		{"InitialWindow", &c.InitialWindow, wire.MinWindow, wire.MinWindow, math.MaxInt32},
		{"MaxWindow", &c.MaxWindow, max(defaultMaxWindow, c.InitialWindow), max(minMaxWindow, c.InitialWindow), math.MaxInt32},
	} {
		if *f.v == 0 {
			*f.v = f.def
			continue
		}
		if *f.v < f.min || *f.v > f.max {
			return c, fmt.Errorf("mux: Config.%s is %d: it must be at least %d and at most %d, or 0 for the default", f.name, *f.v, f.min, f.max)
		}
	}
	for _, f := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.KeepAliveInterval, defaultKeepAliveInterval},
		{&c.KeepAliveTimeout, defaultKeepAliveTimeout},
		{&c.PrefaceTimeout, defaultPrefaceTimeout},
		{&c.SilenceTimeout, defaultSilenceTimeout},
		{&c.HandshakeTimeout, defaultHandshakeTimeout},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	if i := c.KeepAliveInterval; i > 0 && i < minKeepAliveInterval {
		return c, fmt.Errorf("mux: Config.KeepAliveInterval is %v: it must be at least %v, since a peer ends a session that sends too many PINGs; below zero for no keep-alive", i, minKeepAliveInterval)
	}
	if c.KeepAliveTimeout < 0 {
		return c, fmt.Errorf("mux: Config.KeepAliveTimeout is %v: it must be above zero, or 0 for the default; to have no keep-alive, set KeepAliveInterval below zero", c.KeepAliveTimeout)
	}
	return c, nil
}

// backlog returns how many connections may wait to be accepted.
func (cfg *Config) backlog(one bool) int {
	switch {
	case cfg.AcceptBacklog != 0:
		return cfg.AcceptBacklog
	case one:
		return min(defaultBacklog, cfg.MaxConns)
	}
	return cfg.MaxConns
}

// writeTimeout returns how long the transport may take nothing; 0: for ever.
func (cfg *Config) writeTimeout(one bool) time.Duration {
	switch {
	case cfg.WriteTimeout != 0:
		return max(cfg.WriteTimeout, 0)
	case one:
		return defaultWriteTimeout
	}
	return defaultWriteTimeoutVT
}

// settings returns what the preface tells the peer.
func (cfg *Config) settings() wire.Settings {
	return wire.Settings{
		Version:       wire.Version,
		InitialWindow: uint32(cfg.InitialWindow),
		MaxConns:      uint32(max(cfg.MaxConns, wire.MinConns)),
		MaxPayload:    wire.MaxPayload,
		KeepAlive:     uint32(min(max(cfg.KeepAliveInterval, 0).Milliseconds(), math.MaxUint32)),
	}
}
