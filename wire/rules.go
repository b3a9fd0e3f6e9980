package wire

import "fmt"

// A rule says which headers of a type are well formed.
type rule struct {
	min, max uint16 // of the payload's length
	flags    Flags  // that may be set
	session  bool   // whether the frame is the session's: then the ID is 0, and else not
}

// rules are the rules of the known types. That a RESET is longer only if it refuses,
// and refuses only what the other end opened, is in breaks.
var rules = [TypeGoAway + 1]rule{
	TypeOpen:   {OpenBodyLen, OpenBodyLen + MaxMetadata, 0, false},
	TypeData:   {0, MaxPayload, FlagYours | FlagFin, false},
	TypeWindow: {WindowBodyLen, WindowBodyLen, FlagYours, false},
	TypeReset:  {CodeBodyLen, CodeBodyLen + MaxText, FlagYours | FlagRefused, false},
	TypeStop:   {CodeBodyLen, CodeBodyLen, FlagYours, false},
	TypePing:   {PingBodyLen, PingBodyLen, FlagAck, true},
	TypeGoAway: {GoAwayBodyLen, GoAwayBodyLen + MaxText, 0, true},
}

// breaks returns the rule that h breaks, the first one of type, flags, length and ID,
// as text for the peer's log. It is "", and nothing is allocated, if h breaks none.
func (h *Header) breaks() string {
	switch {
	case h.Type == 0:
		return "no frame has type 0"
	case h.Type > TypeGoAway:
		return ""
	}
	r := rules[h.Type]
	n := h.Len.Get()
	refused := h.Flags&FlagRefused != 0
	if h.Type == TypeReset && !refused {
		r.max = r.min
	}
	switch {
	case h.Flags&^r.flags != 0 && r.flags == 0:
		return fmt.Sprintf("%v allows no flags", h.Type)
	case h.Flags&^r.flags != 0:
		return fmt.Sprintf("%v allows no flags but %v", h.Type, r.flags)
	case refused && h.Flags&FlagYours == 0:
		return fmt.Sprintf("%v allows REFUSED only with YOURS", h.Type)
	case n >= r.min && n <= r.max:
		// as it should be
	case h.Type == TypeReset && !refused:
		return fmt.Sprintf("length of %v without REFUSED is %d", h.Type, r.min)
	case r.min == r.max:
		return fmt.Sprintf("length of %v is %d", h.Type, r.min)
	default:
		return fmt.Sprintf("length of %v is %d to %d", h.Type, r.min, r.max)
	}
	switch {
	case r.session && h.ID != U32{}:
		return fmt.Sprintf("ID of %v is 0", h.Type)
	case !r.session && h.ID == U32{}:
		return fmt.Sprintf("ID of %v is not 0", h.Type)
	}
	return ""
}

// limitRule is the one rule that a header cannot break.
const limitRule = "limit of WINDOW is below 2^63"

// FrameError says that a frame of protocol 1 is malformed: it breaks a rule that
// holds whatever was sent before it.
type FrameError struct {
	Offset uint64 // of the frame's first byte, since the first one behind the preface
	Header Header
	Rule   string // what the frame should be, as text for the peer's log
	Flow   bool   // whether the rule is one of flow control
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("wire: malformed frame at offset %d: %s; got %v", e.Offset, e.Rule, e.Header)
}
