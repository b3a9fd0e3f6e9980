package wire

import "github.com/vtmux/vtmux/addr"

// Sizes of the fixed parts of payloads, in bytes.
const (
	OpenBodyLen   = 18
	WindowBodyLen = 8
	CodeBodyLen   = 4
	PingBodyLen   = 8
	GoAwayBodyLen = 8
)

const (
	// MaxMetadata is the most metadata that an OPEN can have, in bytes.
	MaxMetadata = 1024

	// MaxText is the longest reason of a refusal and the longest text of a GOAWAY,
	// in bytes.
	MaxText = 256

	// MaxControlLen is the longest payload of a known frame that is not DATA, in
	// bytes: that of an OPEN.
	MaxControlLen = OpenBodyLen + MaxMetadata

	// MaxLimit is the highest limit that a WINDOW can grant: 2^63-1, so that offsets
	// fit an int64.
	MaxLimit = 1<<63 - 1
)

// OpenBody begins the payload of an OPEN. The rest is metadata, 0 to MaxMetadata
// bytes that mean nothing to the protocol. Any bytes are valid.
type OpenBody struct {
	Addr addr.SocketAddr // what the connection is called
}

// WindowBody is the payload of a WINDOW.
type WindowBody struct {
	// Limit is absolute: the receiver of the frame may send the bytes of this
	// connection whose offsets are below it. At most MaxLimit.
	Limit U64
}

// CodeBody is the payload of a STOP, and begins that of a RESET. With FlagRefused a
// reason follows, 0 to MaxText bytes of UTF-8: see [Text]. Any bytes are valid.
type CodeBody struct {
	Code U32 // why; codes from 256 on are the application's
}

// PingBody is the payload of a PING. Any bytes are valid.
type PingBody struct {
	Opaque [8]byte // returned unchanged in the answer
}

// GoAwayBody begins the payload of a GOAWAY. The rest is text, 0 to MaxText bytes of
// UTF-8: see [Text]. Any bytes are valid.
type GoAwayBody struct {
	LastID U32 // the last connection of the receiver's that is served, an [ID]
	Code   U32 // why; 0 lets the connections that are open go on
}
