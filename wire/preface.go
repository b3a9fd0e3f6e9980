package wire

import (
	"fmt"

	"github.com/vtmux/vtmux/addr"
)

const (
	// Version is the highest version of the protocol with a preface that this package
	// knows.
	Version = 1

	// PrefaceLen is the size of a Preface in bytes: the shortest body that a preface
	// can have.
	PrefaceLen = 24
	// MaxPreface is the longest body that a preface can have, in bytes. What is behind
	// PrefaceLen is unknown here.
	MaxPreface = 1024
	// PrefaceFrameLen is what PutPreface writes, in bytes: a vt-muxer header and a
	// Preface.
	PrefaceFrameLen = VTHeaderLen + PrefaceLen
)

// No peer may announce less. It is also what holds for a peer until its preface has
// arrived.
const (
	MinWindow  = 64 << 10 // bytes
	MinConns   = 128
	MinPayload = 16 << 10 // bytes
)

// magic is what the body of a preface begins with: 76 74 6d 75 78 0a.
const magic = "vtmux\n"

// Preface is the known part of what an end of protocol 1 sends first, behind a
// vt-muxer header for [::]:0 with the length of the body:
//
//	offset  size  field
//	0       6     magic, "vtmux\n"
//	6       2     version, from 1
//	8       4     initial window
//	12      4     most connections
//	16      2     most payload
//	18      2     reserved
//	20      4     keep-alive
//
// Integers are big endian. The fields are those of [Settings].
//
// Source: docs/PROTOCOL.md, protocol 1.
type Preface struct {
	Magic         [6]byte
	Version       U16
	InitialWindow U32
	MaxConns      U32
	MaxPayload    U16
	Reserved      U16 // sent as 0, ignored
	KeepAlive     U32
}

// Settings is what an end announces in its preface.
type Settings struct {
	// Version is the highest that the sender speaks. Both speak the lower one of
	// theirs. Not 0.
	Version uint16
	// InitialWindow is how many bytes the sender accepts on each connection before
	// any WINDOW. At least MinWindow.
	InitialWindow uint32
	// MaxConns is how many connections the receiver of the preface may have open
	// towards the sender. At least MinConns.
	MaxConns uint32
	// MaxPayload is the most payload of a DATA frame towards the sender, in bytes. At
	// least MinPayload.
	MaxPayload uint16
	// KeepAlive is the silence after which the sender sends a PING, in milliseconds; 0
	// is never. It obliges nobody.
	KeepAlive uint32
}

// MinSettings returns what holds for a peer until its preface has arrived.
func MinSettings() Settings {
	return Settings{Version: Version, InitialWindow: MinWindow, MaxConns: MinConns, MaxPayload: MinPayload}
}

// PutPreface writes a preface to the first PrefaceFrameLen bytes of b, and returns
// PrefaceFrameLen. It panics if b is shorter, or if s is less than it may be: the
// caller checks what the application has configured.
func PutPreface(b []byte, s Settings) int {
	if err := s.check(); err != nil {
		panic(fmt.Sprintf("BUG: wire: preface with %s %s, want %s", err.Field, err.Got, err.Want))
	}
	b = b[:len(b):len(b)][:PrefaceFrameLen]
	PutVTHeader(b, addr.SocketAddr{}, PrefaceLen)
	p := View[Preface](b[VTHeaderLen:])
	copy(p.Magic[:], magic)
	p.Version.Set(s.Version)
	p.InitialWindow.Set(s.InitialWindow)
	p.MaxConns.Set(s.MaxConns)
	p.MaxPayload.Set(s.MaxPayload)
	p.Reserved.Set(0)
	p.KeepAlive.Set(s.KeepAlive)
	return PrefaceFrameLen
}

// IsPreface reports whether h, the first header of a stream, is that of a preface: for
// [::]:0, with payload. If not, the stream is vt-muxer's, which cannot begin so, since
// the address is not open yet. The body's length is for [PrefaceBodyLen] to check.
func IsPreface(h *VTHeader) bool { return h.Addr == addr.SocketAddr{} && h.Len != U16{} }

// HasMagic reports whether body, the part of a preface's body that has come, begins with
// the whole magic.
func HasMagic(body []byte) bool {
	return len(body) >= len(magic) && string(body[:len(magic)]) == magic
}

// PrefaceBodyLen returns the length of the body that follows h, the header of a
// preface. The error is a *[PrefaceError]: no preface is so long, or so short, and
// the body is not worth waiting for.
func PrefaceBodyLen(h *VTHeader) (int, error) {
	n := int(h.Len.Get())
	if err := checkPrefaceLen(n); err != nil {
		return 0, err
	}
	return n, nil
}

// ParsePreface returns what a preface announces. body is all of its body; what is
// behind PrefaceLen is ignored. The error is a *[PrefaceError]. ParsePreface keeps no
// reference to body, and allocates nothing but the error.
func ParsePreface(body []byte) (Settings, error) {
	if err := checkPrefaceLen(len(body)); err != nil {
		return Settings{}, err
	}
	p := View[Preface](body)
	if string(p.Magic[:]) != magic {
		return Settings{}, &PrefaceError{"magic", fmt.Sprintf("%q", p.Magic[:]), fmt.Sprintf("%q", magic), notVtmux}
	}
	s := Settings{
		Version:       p.Version.Get(),
		InitialWindow: p.InitialWindow.Get(),
		MaxConns:      p.MaxConns.Get(),
		MaxPayload:    p.MaxPayload.Get(),
		KeepAlive:     p.KeepAlive.Get(),
	}
	if err := s.check(); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// What to do about a preface that is not as it should be.
const (
	notVtmux = "the other end does not speak vtmux's protocol: check where the transport leads to"
	update   = "the other end's implementation is wrong: update it"
	raise    = "the other end announces less than it may: raise it there"
)

// checkPrefaceLen returns what is wrong with a body of n bytes, nil if nothing is.
func checkPrefaceLen(n int) *PrefaceError {
	if n < PrefaceLen || n > MaxPreface {
		return &PrefaceError{"length", fmt.Sprint(n), fmt.Sprintf("%d to %d", PrefaceLen, MaxPreface), notVtmux}
	}
	return nil
}

// check returns what is wrong with s, nil if nothing is.
func (s *Settings) check() *PrefaceError {
	switch {
	case s.Version == 0:
		return tooLow("version", 0, 1, update)
	case s.InitialWindow < MinWindow:
		return tooLow("initial window", s.InitialWindow, MinWindow, raise)
	case s.MaxConns < MinConns:
		return tooLow("most connections", s.MaxConns, MinConns, raise)
	case s.MaxPayload < MinPayload:
		return tooLow("most payload", uint32(s.MaxPayload), MinPayload, raise)
	}
	return nil
}

func tooLow(field string, got, want uint32, advice string) *PrefaceError {
	return &PrefaceError{field, fmt.Sprint(got), fmt.Sprintf("at least %d", want), advice}
}

// PrefaceError says that a preface is malformed.
type PrefaceError struct {
	Field  string // what is wrong, such as "initial window"
	Got    string // what it is
	Want   string // what it should be
	Advice string // what to do about it
}

func (e *PrefaceError) Error() string {
	return fmt.Sprintf("wire: preface with %s %s, want %s; %s", e.Field, e.Got, e.Want, e.Advice)
}
