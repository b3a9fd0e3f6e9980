package fuzz

import "fmt"

// The plain decoders are written from docs/PROTOCOL.md alone, one rule after the other,
// and share no code with wire. They want the whole stream at once and don't care what
// that costs.

// A plainFrame is a frame of either protocol, as plain numbers and bytes.
type plainFrame struct {
	offset int    // of its first byte
	ip     string // vt-muxer: 16 bytes
	port   int    // vt-muxer
	typ    int    // protocol 1
	flags  int    // protocol 1
	id     uint32 // protocol 1
	length int    // that the header claims
	body   string // what has come of it
}

// A plainEnd is how a stream ends.
type plainEnd struct {
	shown    int  // bytes of the stream that belong to the frames that were found
	missing  int  // bytes of the frame that the stream ends in; 0: it ends between two
	inHeader bool // it ends in a header
}

// plainInt returns the big endian integer in b.
func plainInt(b []byte) (v uint64) {
	for _, x := range b {
		v = v*256 + uint64(x)
	}
	return v
}

// plainVT decodes a vt-muxer stream: PROTOCOL.md, 1.1.
func plainVT(stream []byte) (frames []plainFrame, end plainEnd) {
	for at := 0; at < len(stream); {
		rest := stream[at:]
		if len(rest) < 20 {
			return frames, plainEnd{at, 20 - len(rest), true}
		}
		f := plainFrame{offset: at, ip: string(rest[:16]), port: int(plainInt(rest[16:18])), length: int(plainInt(rest[18:20]))}
		body := rest[20:]
		if len(body) < f.length {
			end.missing = f.length - len(body)
		} else {
			body = body[:f.length]
		}
		f.body = string(body)
		frames = append(frames, f)
		at += 20 + len(body)
		end.shown = at
	}
	return frames, end
}

// The names of protocol 1's numbers: PROTOCOL.md, 2.3.
const (
	plainOpen    = 1
	plainData    = 2
	plainWindow  = 3
	plainReset   = 4
	plainStop    = 5
	plainPing    = 6
	plainGoAway  = 7
	plainYours   = 1
	plainFin     = 2
	plainRefused = 4
	plainAck     = 8
)

// A plainBad is a malformed frame.
type plainBad struct {
	frame plainFrame // without its body
	flow  bool       // code 3, not 2
}

// plainOne decodes the frames of protocol 1: PROTOCOL.md, 2.3 and 2.4. A frame that is
// cut off at the end of the stream is among the frames only if it is DATA, of which
// what has come counts, or of unknown type, of which nothing does.
func plainOne(stream []byte) (frames []plainFrame, bad *plainBad, end plainEnd) {
	for at := 0; at < len(stream); {
		rest := stream[at:]
		if len(rest) < 8 {
			return frames, nil, plainEnd{at, 8 - len(rest), true}
		}
		f := plainFrame{offset: at, typ: int(rest[0]), flags: int(rest[1]), length: int(plainInt(rest[2:4])), id: uint32(plainInt(rest[4:8]))}
		if plainMalformed(f) {
			return frames, &plainBad{frame: f}, plainEnd{shown: at}
		}
		body := rest[8:]
		whole := len(body) >= f.length
		if whole {
			body = body[:f.length]
		} else {
			end.missing = f.length - len(body)
		}
		switch {
		case f.typ > plainGoAway:
			frames = append(frames, f)
		case f.typ == plainWindow && whole && body[0] >= 0x80:
			return frames, &plainBad{f, true}, plainEnd{shown: at}
		case f.typ == plainData || whole:
			f.body = string(body)
			frames = append(frames, f)
		default:
			return frames, nil, plainEnd{at, end.missing, false}
		}
		at += 8 + len(body)
		end.shown = at
	}
	return frames, nil, end
}

// plainMalformed is the table of PROTOCOL.md, 2.3.
func plainMalformed(f plainFrame) bool {
	only := func(flags int) bool { return f.flags&^flags == 0 }
	from := func(least, most int) bool { return f.length >= least && f.length <= most }
	switch f.typ {
	case 0:
		return true
	case plainOpen:
		return !(from(18, 1042) && only(0) && f.id != 0)
	case plainData:
		return !(only(plainYours|plainFin) && f.id != 0)
	case plainWindow:
		return !(from(8, 8) && only(plainYours) && f.id != 0)
	case plainReset:
		if f.flags == plainRefused|plainYours {
			return !(from(4, 260) && f.id != 0)
		}
		return !(from(4, 4) && only(plainYours) && f.id != 0)
	case plainStop:
		return !(from(4, 4) && only(plainYours) && f.id != 0)
	case plainPing:
		return !(from(8, 8) && only(plainAck) && f.id == 0)
	case plainGoAway:
		return !(from(8, 264) && only(0) && f.id == 0)
	}
	return false
}

// A plainPreface is what stands at the beginning of a stream that should be protocol 1:
// PROTOCOL.md, 2.2.
type plainPreface struct {
	none    bool            // the first 20 bytes are vt-muxer's
	missing int             // bytes that are still to come
	wrong   map[string]bool // the fields that are not as they should be
	size    int             // of all of it, once nothing is missing

	version, payload         int
	window, conns, keepAlive uint32
}

func plainParsePreface(stream []byte) (p plainPreface) {
	p.wrong = make(map[string]bool)
	if len(stream) < 20 {
		p.missing = 20 - len(stream)
		return p
	}
	for _, b := range stream[:18] {
		p.none = p.none || b != 0
	}
	n := int(plainInt(stream[18:20]))
	if p.none = p.none || n == 0; p.none {
		return p
	}
	if n < 24 || n > 1024 {
		p.wrong["length"] = true
		return p
	}
	if p.size = 20 + n; len(stream) < p.size {
		p.missing = p.size - len(stream)
		return p
	}
	body := stream[20:]
	p.version, p.payload = int(plainInt(body[6:8])), int(plainInt(body[16:18]))
	p.window, p.conns = uint32(plainInt(body[8:12])), uint32(plainInt(body[12:16]))
	p.keepAlive = uint32(plainInt(body[20:24]))
	for name, bad := range map[string]bool{
		"magic":            string(body[:6]) != "vtmux\n",
		"version":          p.version < 1,
		"initial window":   p.window < 65536,
		"most connections": p.conns < 128,
		"most payload":     p.payload < 16384,
	} {
		if bad {
			p.wrong[name] = true
		}
	}
	return p
}

func (f plainFrame) String() string {
	if f.ip != "" {
		return fmt.Sprintf("@%d %x:%d length %d, %d came", f.offset, f.ip, f.port, f.length, len(f.body))
	}
	return fmt.Sprintf("@%d type %d flags %#x ID %d length %d, %d came", f.offset, f.typ, f.flags, f.id, f.length, len(f.body))
}
