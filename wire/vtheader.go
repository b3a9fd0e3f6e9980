package wire

import (
	"fmt"

	"github.com/vtmux/vtmux/addr"
)

const (
	// VTHeaderLen is the size of a vt-muxer header in bytes.
	VTHeaderLen = 20

	// VTMaxPayload is the most payload that a vt-muxer frame can have, in bytes:
	// what its length field can say.
	VTMaxPayload = 1<<16 - 1
)

// VTHeader is the header of a frame of the vt-muxer protocol:
//
//	offset  size  field
//	0       16    IP address, IPv4 mapped into ::ffff:0:0/96
//	16      2     port
//	18      2     length of the payload, 0 to 65535
//
// Integers are big endian. Any 20 bytes are a valid header. A frame without
// payload opens the address or ends the sender's half of it; the header doesn't
// tell which.
//
// The zero value is the header of a frame for [::]:0 without payload.
//
// Source: docs/PROTOCOL.md, the vt-muxer protocol.
type VTHeader struct {
	Addr addr.SocketAddr // the connection that the frame is for
	Len  U16             // bytes of payload that follow
}

// ViewVTHeader returns the first VTHeaderLen bytes of b as a header. It panics if
// b is shorter. The result aliases b.
func ViewVTHeader(b []byte) *VTHeader { return View[VTHeader](b) }

// VTHeaders returns b as a slice of headers, one after the other without
// payload. Bytes that remain at the end are left out. The result aliases b.
func VTHeaders(b []byte) []VTHeader { return SliceOf[VTHeader](b) }

// Bytes returns the VTHeaderLen bytes of h. The result aliases h.
func (h *VTHeader) Bytes() []byte { return BytesOf(h) }

// PutVTHeader writes the header of a frame for a with n bytes of payload to the
// first VTHeaderLen bytes of b. It panics if b is shorter, or if n is not in 0 to
// VTMaxPayload: the caller cuts payloads.
func PutVTHeader(b []byte, a addr.SocketAddr, n int) {
	if uint(n) > VTMaxPayload {
		badPayloadLen(n)
	}
	h := ViewVTHeader(b)
	h.Addr = a
	h.Len.Set(uint16(n))
}

// badPayloadLen keeps fmt out of PutVTHeader and PutHeader, which every write goes
// through.
//
//go:noinline
func badPayloadLen(n int) {
	panic(fmt.Sprintf("BUG: wire: payload of %d bytes, want 0 to %d", n, VTMaxPayload))
}
