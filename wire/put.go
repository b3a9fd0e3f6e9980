package wire

import (
	"fmt"

	"github.com/vtmux/vtmux/addr"
)

// Lengths of whole frames without their metadata, reason or text, in bytes: what the
// Put functions write.
const (
	OpenLen   = HeaderLen + OpenBodyLen
	WindowLen = HeaderLen + WindowBodyLen
	ResetLen  = HeaderLen + CodeBodyLen
	StopLen   = HeaderLen + CodeBodyLen
	PingLen   = HeaderLen + PingBodyLen
	GoAwayLen = HeaderLen + GoAwayBodyLen
)

// PutHeader writes a header for n bytes of payload to the first HeaderLen bytes of b,
// and returns HeaderLen. It panics if b is shorter, or if n is not in 0 to
// MaxPayload. Beyond that it checks nothing, unlike the functions that write one type.
func PutHeader(b []byte, t FrameType, flags Flags, n int, id ID) int {
	if uint(n) > MaxPayload {
		badPayloadLen(n)
	}
	ViewHeader(b).set(t, flags, n, id)
	return HeaderLen
}

// PutDataHeader writes the header of a DATA frame with n bytes of payload to the
// first HeaderLen bytes of b, and returns HeaderLen. It panics if b is shorter, or if
// the header breaks a rule: n is in 0 to MaxPayload, flags in FlagYours|FlagFin, id
// not 0.
func PutDataHeader(b []byte, flags Flags, id ID, n int) int {
	if uint(n) > MaxPayload || flags&^(FlagYours|FlagFin) != 0 || id == 0 {
		badData(flags, id, n)
	}
	ViewHeader(b).set(TypeData, flags, n, id)
	return HeaderLen
}

// badData keeps fmt out of PutDataHeader, which every write goes through.
//
//go:noinline
func badData(flags Flags, id ID, n int) {
	panic(fmt.Sprintf("BUG: wire: DATA with flags %v, length %d, ID %d", flags, n, id))
}

// PutOpen writes an OPEN of a to b, and returns its length, OpenLen+len(metadata). It
// panics if b is shorter, id is 0, or metadata is longer than MaxMetadata: the caller
// tells the application.
func PutOpen(b []byte, id ID, a addr.SocketAddr, metadata []byte) int {
	body, n := begin(b, TypeOpen, 0, OpenBodyLen+len(metadata), id)
	View[OpenBody](body).Addr = a
	copy(body[OpenBodyLen:], metadata)
	return n
}

// PutWindow writes a WINDOW to the first WindowLen bytes of b, and returns WindowLen.
// It panics if b is shorter, flags are not in FlagYours, id is 0, or limit is above
// MaxLimit: the caller saturates.
func PutWindow(b []byte, flags Flags, id ID, limit uint64) int {
	if limit > MaxLimit {
		panic(fmt.Sprintf("BUG: wire: WINDOW with limit %d, want at most %d", limit, uint64(MaxLimit)))
	}
	body, n := begin(b, TypeWindow, flags, WindowBodyLen, id)
	View[WindowBody](body).Limit.Set(limit)
	return n
}

// PutReset writes a RESET to the first ResetLen bytes of b, and returns ResetLen. It
// panics if b is shorter, id is 0, or flags are other than 0, FlagYours, and
// FlagYours|FlagRefused: that is a refusal without a reason, see [PutRefused].
func PutReset(b []byte, flags Flags, id ID, code uint32) int {
	body, n := begin(b, TypeReset, flags, CodeBodyLen, id)
	View[CodeBody](body).Code.Set(code)
	return n
}

// PutRefused writes a RESET that refuses the peer's connection id to b, with the
// flags YOURS and REFUSED, and returns its length, ResetLen+len(CutText(reason)). A
// longer reason is cut. It panics if b is shorter, or id is 0. reason should be UTF-8.
func PutRefused(b []byte, id ID, code uint32, reason string) int {
	reason = CutText(reason)
	body, n := begin(b, TypeReset, FlagYours|FlagRefused, CodeBodyLen+len(reason), id)
	View[CodeBody](body).Code.Set(code)
	copy(body[CodeBodyLen:], reason)
	return n
}

// PutStop writes a STOP to the first StopLen bytes of b, and returns StopLen. It
// panics if b is shorter, flags are not in FlagYours, or id is 0.
func PutStop(b []byte, flags Flags, id ID, code uint32) int {
	body, n := begin(b, TypeStop, flags, CodeBodyLen, id)
	View[CodeBody](body).Code.Set(code)
	return n
}

// PutPing writes a PING to the first PingLen bytes of b, and returns PingLen. With
// ack it is the answer to the peer's PING that had the same opaque. It panics if b is
// shorter.
func PutPing(b []byte, ack bool, opaque [8]byte) int {
	flags := Flags(0)
	if ack {
		flags = FlagAck
	}
	body, n := begin(b, TypePing, flags, PingBodyLen, 0)
	View[PingBody](body).Opaque = opaque
	return n
}

// PutGoAway writes a GOAWAY to b, and returns its length,
// GoAwayLen+len(CutText(text)). A longer text is cut. It panics if b is shorter.
// text should be UTF-8.
func PutGoAway(b []byte, lastID ID, code uint32, text string) int {
	text = CutText(text)
	body, n := begin(b, TypeGoAway, 0, GoAwayBodyLen+len(text), 0)
	g := View[GoAwayBody](body)
	g.LastID.Set(uint32(lastID))
	g.Code.Set(code)
	copy(body[GoAwayBodyLen:], text)
	return n
}

// begin writes the header of a frame with n bytes of payload to b, and returns the
// room for the payload and the length of the frame. It panics, with b unchanged, if
// the header breaks a rule or b is shorter than the frame.
func begin(b []byte, t FrameType, flags Flags, n int, id ID) (body []byte, length int) {
	if uint(n) > MaxPayload {
		badPayloadLen(n)
	}
	var h Header
	h.set(t, flags, n, id)
	if rule := h.breaks(); rule != "" {
		panic(fmt.Sprintf("BUG: wire: %s; asked to write %v", rule, h))
	}
	length = HeaderLen + n
	b = b[:len(b):len(b)][:length]
	ViewHeader(b).set(t, flags, n, id)
	return b[HeaderLen:], length
}
