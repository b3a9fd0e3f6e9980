package mux

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/vtmux/vtmux/addr"
)

// Errors that callers test with errors.Is. Beside them: net.ErrClosed after a
// local Close, os.ErrDeadlineExceeded for deadlines, syscall.EPIPE on writing
// where the write half has ended, io.EOF for a clean end and for nothing else.
var (
	// ErrAddrInUse: the address names a connection that both ends have not ended
	// yet. (The vt-muxer protocol tells connections apart by address alone.)
	ErrAddrInUse = errors.New("mux: address is in use by another connection of this session")

	// ErrRefused: the peer refused the connection. See RefusedError.
	ErrRefused = errors.New("mux: connection refused by the peer")

	// ErrDraining: Shutdown has begun, here or at the peer, so nothing new can be
	// opened. Nothing has been sent: it is safe to open elsewhere.
	ErrDraining = errors.New("mux: session is shutting down; open on another session")

	// ErrTooManyConns: Config.MaxConns is reached, or the peer's limit.
	ErrTooManyConns = errors.New("mux: too many connections; close some, raise MaxConns at both ends, or use another session")

	// ErrExhausted: the session has used up its 4,294,967,295 connection IDs.
	ErrExhausted = errors.New("mux: connection IDs are used up; open on another session")

	// ErrNoPreface: the peer did not begin with a preface of protocol 1.
	ErrNoPreface = errors.New("mux: the peer sent no preface of protocol 1; if it is a vt-muxer, set Config.Protocol to ProtocolVT")

	// ErrSilent: the transport was silent both ways for too long.
	ErrSilent = errors.New("mux: the peer is silent: nothing came within Config.KeepAliveInterval and KeepAliveTimeout")

	// ErrWriteTimeout: the transport took nothing for too long while something waited
	// to be sent: the peer does not read.
	ErrWriteTimeout = errors.New("mux: the peer does not read: the transport took no byte within Config.WriteTimeout")

	// ErrProtocol: the peer broke the protocol. See ProtocolError.
	ErrProtocol = errors.New("mux: protocol violation by the peer")
)

// A Code says why a connection was reset or refused, or a session ended. Codes below 256
// are the package's own (PROTOCOL.md, 2.14); the rest is the application's.
type Code uint32

const (
	// CodeNone is no reason.
	CodeNone Code = 0
	// CodeCrossedOpen: both ends opened the same address at the same time. It comes with
	// the vt-muxer protocol alone, and the library never sends it.
	CodeCrossedOpen Code = 1
	// CodeProtocol: the peer broke the protocol.
	CodeProtocol Code = 2
	// CodeFlowControl: more was sent on a connection than was granted.
	CodeFlowControl Code = 3
	// CodeTooManyConns: as many connections are open as the receiver allows.
	CodeTooManyConns Code = 4
	// CodeBacklog: as many connections wait to be accepted as the receiver allows.
	CodeBacklog Code = 5
	// CodeDraining: the session is shutting down.
	CodeDraining Code = 6
	// CodeCalm: too many frames that brought nothing forward.
	CodeCalm Code = 7
	// CodeTimeout: the peer was silent for too long.
	CodeTimeout Code = 8
	// CodeClosed: the application closed the connection or the session.
	CodeClosed Code = 9
	// CodeInternal: the sender has not the means to go on.
	CodeInternal Code = 10
	// CodeNotAccepting: the receiver accepts no connections: it is a Pipe.
	CodeNotAccepting Code = 11
)

// A ResetError is what a connection's calls return after a local Reset, and its Reads
// after the peer's, where Writes return a *StoppedError. It answers
// errors.Is(err, syscall.ECONNRESET).
type ResetError struct {
	Code   Code
	Remote bool // whether the peer gave it up
}

func (e *ResetError) Error() string {
	if e.Code == CodeCrossedOpen {
		return "mux: connection reset: both ends opened its address at once; let one end open, or use disjoint addresses"
	}
	who := "locally"
	if e.Remote {
		who = "by the peer"
	}
	return fmt.Sprintf("mux: connection reset %s, code %d", who, e.Code)
}

// Is reports whether target is syscall.ECONNRESET.
func (e *ResetError) Is(target error) bool { return target == syscall.ECONNRESET }

// A RefusedError is what the opener's calls return once the peer's refusal has come;
// Writes before that may have succeeded. It is also, with CodeDraining, for what a peer
// that shuts down did not serve. It answers errors.Is(err, ErrRefused). (A vt-muxer peer
// can't say so: there the opener reads io.EOF.)
//
// Who tries again should wait a little: a session that must refuse more than 6,400
// connections a second for long (12,800 with the default MaxConns) ends (PROTOCOL.md,
// 2.13).
type RefusedError struct {
	Code   Code
	Reason string // what the peer said; show it with %q
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%v, code %d: %q", ErrRefused, e.Code, e.Reason)
}

// Is reports whether target is ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// A StoppedError is what Write returns when the peer has stopped reading. It answers
// errors.Is(err, syscall.EPIPE).
type StoppedError struct{ Code Code }

// errStopped is what most peers stop with: it is not allocated for each.
var errStopped = &StoppedError{Code: CodeClosed}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("mux: the peer has stopped reading, code %d", e.Code)
}

// Is reports whether target is syscall.EPIPE.
func (e *StoppedError) Is(target error) bool { return target == syscall.EPIPE }

// A GoAwayError is why a session ended when the peer ended it and said why. It answers
// errors.Is(err, io.ErrUnexpectedEOF), for what was open has been cut.
type GoAwayError struct {
	Code Code
	Text string // what the peer said; show it with %q
}

func (e *GoAwayError) Error() string {
	return fmt.Sprintf("mux: the peer ended the session, code %d: %q", e.Code, e.Text)
}

// Is reports whether target is io.ErrUnexpectedEOF.
func (e *GoAwayError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// A ProtocolError tells which rule the peer broke and where. It answers
// errors.Is(err, ErrProtocol), and the sentinel of the rule where there is one.
type ProtocolError struct {
	Offset uint64          // bytes from the peer's first to the end of the offending header, or of its body where that is no payload
	Frame  string          // the header, or "preface"; empty with the vt-muxer protocol
	Addr   addr.SocketAddr // the connection the frame named, vt-muxer protocol; else zero
	Code   Code            // what the peer was told, protocol 1; before its preface it is told nothing
	Rule   string          // what was broken
	Err    error           // the rule's sentinel, a *wire.FrameError for a malformed frame, or nil
}

func (e *ProtocolError) Error() string {
	frame := e.Frame
	if frame == "" {
		frame = "frame for " + e.Addr.String()
	}
	return fmt.Sprintf("%v: %s (%s, ends at byte %d)", ErrProtocol, e.Rule, frame, e.Offset)
}

// Is reports whether target is ErrProtocol.
func (e *ProtocolError) Is(target error) bool { return target == ErrProtocol }

// Unwrap returns e.Err.
func (e *ProtocolError) Unwrap() error { return e.Err }

// errHandshakeTimeout is a timeout as net.Error has it, and no context's.
var errHandshakeTimeout net.Error = handshakeTimeout{}

type handshakeTimeout struct{}

func (handshakeTimeout) Error() string   { return "it took longer than Config.HandshakeTimeout" }
func (handshakeTimeout) Timeout() bool   { return true }
func (handshakeTimeout) Temporary() bool { return false }

// A TransportError is why a session ended when its transport failed or ended.
// Err is the transport's own error, or ErrSilent, ErrWriteTimeout or io.ErrNoProgress,
// which the session found by itself; with Op "handshake" a net.Error whose Timeout is
// true, where Config.HandshakeTimeout is over; syscall.EPIPE for a write after our half of
// the transport has ended. It is io.EOF only when the transport ended
// between two frames and with no connection open; where something was cut, it is
// io.ErrUnexpectedEOF, which is not io.EOF.
type TransportError struct {
	Op  string // "read", "write", "handshake" or "keep-alive"
	Err error
}

func (e *TransportError) Error() string {
	if e.Err == io.EOF {
		return "mux: the peer closed the transport"
	}
	return fmt.Sprintf("mux: transport %s: %v", e.Op, e.Err)
}

// Unwrap returns the transport's error.
func (e *TransportError) Unwrap() error { return e.Err }
