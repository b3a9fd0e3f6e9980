package mux

import (
	"errors"
	"fmt"
	"io"
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

	// ErrDraining: Shutdown has begun, so nothing new can be opened.
	ErrDraining = errors.New("mux: session is shutting down")

	// ErrTooManyConns: Config.MaxConns is reached.
	ErrTooManyConns = errors.New("mux: too many connections")

	// ErrProtocol: the peer broke the protocol. See ProtocolError.
	ErrProtocol = errors.New("mux: protocol violation by the peer")
)

// A Code says why a connection was reset. Codes below 256 are the package's own;
// the rest is the application's.
type Code uint32

const (
	// CodeNone is a reset without a reason.
	CodeNone Code = 0
	// CodeCrossedOpen: both ends opened the same address at the same time.
	CodeCrossedOpen Code = 1
)

// A ResetError is what a connection's calls return once it was given up by either end.
// It answers errors.Is(err, syscall.ECONNRESET).
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

// A RefusedError is what the opener's first Read or Write returns when the peer
// refused the connection. It answers errors.Is(err, ErrRefused). (A vt-muxer peer
// can't say so: there the opener reads io.EOF.)
type RefusedError struct {
	Code   Code
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%v, code %d: %q", ErrRefused, e.Code, e.Reason)
}

// Is reports whether target is ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// A ProtocolError tells which rule the peer broke and where. It answers
// errors.Is(err, ErrProtocol), and the sentinel of the rule where there is one.
type ProtocolError struct {
	Offset uint64          // of the first byte after the offending header, in bytes from the session's first
	Addr   addr.SocketAddr // the connection the frame named
	Rule   string          // what was broken
	Err    error           // the rule's sentinel, or nil
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("%v: %s (frame for %v, ends at byte %d)", ErrProtocol, e.Rule, e.Addr, e.Offset)
}

// Is reports whether target is ErrProtocol.
func (e *ProtocolError) Is(target error) bool { return target == ErrProtocol }

// Unwrap returns the rule's sentinel.
func (e *ProtocolError) Unwrap() error { return e.Err }

// A TransportError is why a session ended when its transport failed or ended.
// Err is the transport's own error. It is io.EOF only when the transport ended
// between two frames and with no connection open; where something was cut, it is
// io.ErrUnexpectedEOF, which is not io.EOF.
type TransportError struct {
	Op  string // "read", "write" or "handshake"
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
