package sim

import (
	"fmt"
	"time"
)

// A Frame is what an end has said, as it went to the transport.
type Frame struct {
	At    time.Duration // since the simulation began
	From  int
	Name  string // of its type
	Yours bool
	ID    uint32
	Addr  [18]byte // vt-muxer's, and an OPEN's
	Len   int      // of the payload
	Arg   uint64   // code, limit, or what else it bears
	Sum   uint32   // of all that the end had said before, header included
}

// String tells the frame on a line.
func (f Frame) String() string {
	s := fmt.Sprintf("%12.6fms  %s %s", float64(f.At)/1e6, [...]string{"A ──▶", "      ◀── B"}[f.From], f.Name)
	if f.ID != 0 {
		s += fmt.Sprintf(" %d", f.ID)
		if f.Yours {
			s += " yours"
		}
	}
	if f.Addr != [18]byte{} {
		s += fmt.Sprintf(" %x", f.Addr[12:])
	}
	if f.Len > 0 {
		s += fmt.Sprintf(" %d bytes", f.Len)
	}
	if f.Arg != 0 {
		s += fmt.Sprintf(" %d", f.Arg)
	}
	return s
}
