package hostile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// The attacker's own encoder and decoder: it must be able to say what package wire refuses to.

// Types and flags of protocol 1 (PROTOCOL.md, 2.3).
const (
	typeOpen = 1 + iota
	typeData
	typeWindow
	typeReset
	typeStop
	typePing
	typeGoAway
)

const (
	flagYours = 1 << iota
	flagFin
	flagRefused
	flagAck
)

// frame makes a frame whose header says what body is.
func frame(typ, flags byte, id uint32, body ...byte) []byte {
	return append(header(typ, flags, id, len(body)), body...)
}

// header makes a header that says n.
func header(typ, flags byte, id uint32, n int) []byte {
	b := []byte{typ, flags}
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	return binary.BigEndian.AppendUint32(b, id)
}

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// address makes the 18 bytes of an address that differs for each i.
func address(i uint32) []byte {
	b := append(make([]byte, 0, 18), 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0)
	return append(append(b, u32(i)...), 1, 187)
}

func open(id uint32, metadata ...byte) []byte {
	return frame(typeOpen, 0, id, append(address(id), metadata...)...)
}

func data(id uint32, payload ...byte) []byte  { return frame(typeData, 0, id, payload...) }
func fin(id uint32) []byte                    { return frame(typeData, flagFin, id) }
func reset(id uint32) []byte                  { return frame(typeReset, 0, id, u32(256)...) }
func stop(id uint32) []byte                   { return frame(typeStop, 0, id, u32(9)...) }
func window64(id uint32, limit uint64) []byte { return frame(typeWindow, 0, id, u64(limit)...) }
func ping(v uint64) []byte                    { return frame(typePing, 0, 0, u64(v)...) }
func goAway(last, code uint32) []byte {
	return frame(typeGoAway, 0, 0, append(u32(last), u32(code)...)...)
}

// settings makes a preface (PROTOCOL.md, 2.2).
func settings(magic string, version uint16, window, conns uint32, payload uint16) []byte {
	b := append(make([]byte, 18), 0, 24)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, version)
	b = append(append(b, u32(window)...), u32(conns)...)
	b = binary.BigEndian.AppendUint16(b, payload)
	return append(b, 0, 0, 0, 0, 0, 0)
}

// preface is the attacker's.
var preface = settings("vtmux\n", 1, window, 1<<16, 65535)

// vt makes a vt-muxer frame for the address of i.
func vt(i uint32, payload ...byte) []byte { return append(vtHeader(i, len(payload)), payload...) }

func vtHeader(i uint32, n int) []byte { return binary.BigEndian.AppendUint16(address(i), uint16(n)) }

// readOne reads protocol 1.
func (l *link) readOne(r *bufio.Reader, s *seen) error {
	if _, err := r.Discard(len(preface)); err != nil {
		return err
	}
	var h [8]byte
	talked := make(map[uint32]bool)
	for {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint16(h[2:]))
		switch flags := h[1]; h[0] {
		case typeData:
			s.Data++
			if id := binary.BigEndian.Uint32(h[4:]); n > 0 && !talked[id] {
				talked[id] = true
				l.rose(&l.talks)
			}
			if flags&flagFin != 0 {
				s.Fin++
				l.rose(&l.ends)
			}
		case typeWindow:
			s.Window++
			b, err := r.Peek(8)
			if err != nil {
				return err
			}
			l.limit.Store(int64(binary.BigEndian.Uint64(b)))
			l.rose(&l.windows)
		case typeReset:
			if flags&flagRefused != 0 {
				s.Refused++
			} else {
				s.Reset++
			}
			l.rose(&l.ends)
		case typeStop:
			s.Stop++
		case typePing:
			if flags&flagAck != 0 {
				s.Ack++
				l.rose(&l.acks)
			} else {
				s.Ping++
			}
		case typeGoAway:
			b, err := r.Peek(8)
			if err != nil {
				return err
			}
			l.code.Store(int32(binary.BigEndian.Uint32(b[4:])))
		default:
			return fmt.Errorf("the victim sent a frame of type %d", h[0])
		}
		if _, err := r.Discard(n); err != nil {
			return err
		}
	}
}

// readVT reads the vt-muxer protocol.
func (l *link) readVT(r *bufio.Reader, s *seen) error {
	var h [20]byte
	for {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint16(h[18:]))
		s.Data++
		if n == 0 {
			s.Fin++
			l.rose(&l.ends)
		}
		if _, err := r.Discard(n); err != nil {
			return err
		}
	}
}
