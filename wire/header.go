package wire

import (
	"fmt"
	"strings"
)

const (
	// HeaderLen is the size of a header of protocol 1 in bytes.
	HeaderLen = 8

	// MaxPayload is the most payload that a frame of protocol 1 can have, in bytes:
	// what its length field can say. A peer may announce less for DATA.
	MaxPayload = 1<<16 - 1
)

// Header is the header of a frame of protocol 1:
//
//	offset  size  field
//	0       1     type
//	1       1     flags
//	2       2     length of the payload, 0 to 65535
//	4       4     connection ID, 0 in a frame that concerns the whole session
//
// Integers are big endian. Which flags, lengths and IDs go with which type is in
// the table of [FrameType]. The zero value is no header that may be sent.
//
// Source: docs/PROTOCOL.md, protocol 1.
type Header struct {
	Type  FrameType
	Flags Flags
	Len   U16 // bytes of payload that follow
	ID    U32 // the connection that the frame is for, an [ID]
}

// ViewHeader returns the first HeaderLen bytes of b as a header. It panics if b is
// shorter. The result aliases b.
func ViewHeader(b []byte) *Header { return View[Header](b) }

// Bytes returns the HeaderLen bytes of h. The result aliases h.
func (h *Header) Bytes() []byte { return BytesOf(h) }

// String returns h's fields for people. It allocates.
func (h Header) String() string {
	return fmt.Sprintf("%v, flags %v, length %d, ID %d", h.Type, h.Flags, h.Len.Get(), h.ID.Get())
}

// set sets all fields of h. n is in 0 to MaxPayload.
func (h *Header) set(t FrameType, flags Flags, n int, id ID) {
	h.Type = t
	h.Flags = flags
	h.Len.Set(uint16(n))
	h.ID.Set(uint32(id))
}

// isData reports whether h is the header of a DATA frame that keeps the rules. It
// says in a few compares what breaks says of all types, and is to be inlined.
func (h *Header) isData() bool {
	return h.Type == TypeData && h.Flags&^(FlagYours|FlagFin) == 0 && h.ID != (U32{})
}

// ID is the number of a connection within those that the same end has opened. 0 is
// none.
type ID uint32

// FrameType says what a frame of protocol 1 means, and with it which payload, flags
// and connection ID the frame may have:
//
//	type      payload                              flags              ID
//	OPEN      OpenBody, metadata of 0 to 1024      none               not 0
//	DATA      0 to 65535 bytes                     YOURS, FIN         not 0
//	WINDOW    WindowBody                           YOURS              not 0
//	RESET     CodeBody                             YOURS              not 0
//	          CodeBody, reason of 0 to 256         YOURS and REFUSED  not 0
//	STOP      CodeBody                             YOURS              not 0
//	PING      PingBody                             ACK                0
//	GOAWAY    GoAwayBody, text of 0 to 256         none               0
//
// Type 0 is malformed. Types above TypeGoAway are unknown, and are skipped whatever
// the rest of the frame is.
type FrameType uint8

// The types of protocol 1.
const (
	TypeOpen   FrameType = 1 // opens a connection
	TypeData   FrameType = 2 // bytes of a connection, and perhaps their end
	TypeWindow FrameType = 3 // grants the receiver of the frame bytes to send
	TypeReset  FrameType = 4 // gives up the sender's half, or refuses a connection
	TypeStop   FrameType = 5 // says that the sender will read no more
	TypePing   FrameType = 6 // asks for an answer, or answers
	TypeGoAway FrameType = 7 // announces the end of the session
)

var typeNames = [...]string{
	TypeOpen: "OPEN", TypeData: "DATA", TypeWindow: "WINDOW", TypeReset: "RESET",
	TypeStop: "STOP", TypePing: "PING", TypeGoAway: "GOAWAY",
}

// String returns the name of t, such as "OPEN", and "type 9" for one without a name.
func (t FrameType) String() string {
	if t == 0 || t > TypeGoAway {
		return fmt.Sprintf("type %d", uint8(t))
	}
	return typeNames[t]
}

// Flags are the flags of a frame of protocol 1:
//
//	bit   7..4   3    2        1    0
//	      0      ACK  REFUSED  FIN  YOURS
type Flags uint8

const (
	// FlagYours: the receiver of the frame has allotted its connection ID. Without
	// it, the sender has.
	FlagYours Flags = 1 << iota
	// FlagFin: the payload of this DATA is the last of the sender's half.
	FlagFin
	// FlagRefused: this RESET answers an OPEN, and ends both halves.
	FlagRefused
	// FlagAck: this PING is an answer.
	FlagAck
)

var flagNames = [...]string{"YOURS", "FIN", "REFUSED", "ACK"}

// String returns the names of the flags in f, such as "YOURS|FIN", what has no name
// in hexadecimal, and "none" for 0.
func (f Flags) String() string {
	if f == 0 {
		return "none"
	}
	var names []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if rest := f >> len(flagNames) << len(flagNames); rest != 0 {
		names = append(names, fmt.Sprintf("%#02x", uint8(rest)))
	}
	return strings.Join(names, "|")
}
