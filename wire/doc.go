// Package wire holds the frame headers of vtmux as Go types, and cuts byte
// streams into frames. It does no I/O, takes no lock and reads no clock.
//
// A header is a struct of byte arrays, of alignment 1 and without padding, whose
// memory is what stands on the wire. [View] lays one over received bytes and
// [BytesOf] gives the bytes of one, both without a copy. The integers in it, [U16], [U32]
// and [U64], are big endian whatever the machine is.
//
// A view aliases the bytes it is laid over: it is good for as long as they are,
// and whoever owns the bytes owns the view.
//
// There are two protocols. vt-muxer's has one kind of frame: [VTHeader], written by
// [PutVTHeader] and read by [VTDecoder]. Protocol 1 begins with a [Preface] and goes
// on with frames of several types: [Header] and the bodies, written by the other Put
// functions and read by [Decoder]. The Put functions write only what the decoder of
// the other end accepts, and panic rather than write anything else; [PutHeader] alone
// checks nothing but the length.
//
// Source: docs/PROTOCOL.md.
package wire
