package interop

import "net/netip"

// The types that follow are the lines spoken with the peer; peer/src/protocol.rs is their other half.

// A Setup tells a peer what it is.
type Setup struct {
	Role      Role      `json:"role"`
	Transport Transport `json:"transport"`
	Driver    Driver    `json:"driver"`
	Accept    *Script   `json:"accept,omitempty"` // for each connection that a listener accepts
}

// A Role is the type of vt-muxer's that owns the transport.
type Role string

const (
	Listener Role = "listener"
	Pipe     Role = "pipe"
)

// A Transport says where the TCP connection comes from. Exactly one field is set.
type Transport struct {
	Bind    *netip.AddrPort `json:"bind,omitempty"`
	Connect *netip.AddrPort `json:"connect,omitempty"`
}

// A Driver says who polls the peer's connections.
type Driver string

const (
	// OneTask polls them all from one task, at each wake-up and tick: vt-muxer at its best.
	OneTask Driver = "one-task"
	// TaskPerConnection is what vt-muxer's README shows, and hangs.
	TaskPerConnection Driver = "task-per-connection"
)

// A Script says what an end does with one connection.
type Script struct {
	Order     Order `json:"order"`
	Send      int   `json:"send"`       // bytes; without meaning for Echo, and for Acknowledge what one byte is for
	WriteSize int   `json:"write_size"` // bytes that one write offers
	Flush     bool  `json:"flush"`      // after each write
	Unsummed  bool  `json:"unsummed"`   // for measurements: what is received is counted only
}

// An Order is the order of a script's steps. "End" is to end one's own half: shutdown, CloseWrite.
type Order string

const (
	Duplex      Order = "duplex"      // send and end, and meanwhile read to the end
	WriteFirst  Order = "write-first" // send and end, then read to the end
	ReadFirst   Order = "read-first"  // read to the end, then send and end
	Echo        Order = "echo"        // send back what is read, and end at the end
	Acknowledge Order = "acknowledge" // read to the end, in reads of WriteSize, and send a byte for each Send bytes
	Abandon     Order = "abandon"     // read one byte, send, flush, drop the connection without ending it
)

// MaxFlushed is the most that the peer may offer in one write, flushed, without sending it twice (see B4 in the README).
const MaxFlushed = 65535

// Say returns the script of sending n bytes in that order, in the way that vt-muxer carries out faithfully.
func Say(order Order, n int) Script {
	return Script{Order: order, Send: n, WriteSize: MaxFlushed, Flush: true}
}

// A Conversation is what a peer reports of one connection.
type Conversation struct {
	Addr     netip.AddrPort `json:"addr"`
	Accepted bool           `json:"accepted"`
	Round    int            `json:"round"` // connections of this address that came before
	Phase    string         `json:"phase"`
	Sent     int            `json:"sent"`
	Received int            `json:"received"`
	Sum      uint64         `json:"sum"` // of the bytes received, as by Pattern.Sum
	Error    string         `json:"error"`
}

// A State is what a peer knows at one moment, also when all its tasks hang.
type State struct {
	AcceptPolls   int            `json:"accept_polls"` // polls of accept that have returned
	Conversations []Conversation `json:"conversations"`
}

// A command is a line to the peer after the first.
type command struct {
	Command string          `json:"command"`
	Addr    *netip.AddrPort `json:"addr,omitempty"`
	Script  *Script         `json:"script,omitempty"`
}

// An event is a line from the peer.
type event struct {
	Event string `json:"event"`
	State
	Conversation
	// Addr of the event "ready" is Conversation's, and so is Error of the event "transport".
}
