// Package addr holds the addresses that connections bear: [IPAddr], 16 bytes,
// and [SocketAddr], 18 bytes.
//
// They are the bytes that go over the wire, and nothing else: alignment 1, no
// pointer, no padding. So a header can hold one in place, a map can be keyed by
// one, and == is byte equality. The zero values are valid: [::] and [::]:0.
//
// An IPv4 address is kept as the IPv6 address it maps to. 1.2.3.4 and
// ::ffff:1.2.3.4 are therefore one value, whose text is 1.2.3.4. The addresses
// :: and 0.0.0.0 differ, and ::1.2.3.4 is an IPv6 address.
//
// # Zones
//
// The wire has no room for an IPv6 zone. Conversions from other address types
// drop it. [ParseIPAddr] refuses text with a zone. [ParseSocketAddr] accepts a
// decimal zone below 2^32, as in [fe80::1%3]:80, and drops it; it refuses any
// other. Parsing, order and text are those of the Rust crate vt-muxer 0.1
// (thin_addr.rs), which takes the first and the last from Rust's std::net.
//
// # Allocation
//
// Nothing here allocates but String and the errors. The functions that return
// a slice or a pointer by their nature (MarshalText, MarshalBinary, NetIP,
// TCPAddr) are written so that the compiler inlines them: the result lives on
// the caller's stack unless the caller lets it escape. AppendTo, AppendText,
// AppendBinary, AppendNetIP and CopyTCPAddr write to memory that the caller
// has.
//
// Source: docs/PROTOCOL.md, the address field of the vt-muxer header and of OPEN.
package addr
