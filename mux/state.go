package mux

// halves says which halves of a vt-muxer address are open here. The protocol has
// one frame of length zero, which opens or ends depending on what the receiver
// knows, so both ends' halves must be right for ever: PROTOCOL.md, 1.
//
//	bit 0  recv: opened by either end, and the peer has not ended its half.
//	             This is vt-muxer's "key": it outlives a local Close.
//	bit 1  send: opened by either end, and we have not ended our half
//
// Zero means that the address is free.
type halves uint32

const (
	recvOpen halves = 1 << iota
	sendOpen
)

// A zeroEvent is what a received frame of length zero means.
type zeroEvent uint8

const (
	// zeroOpens: the peer opens a connection.
	zeroOpens zeroEvent = iota
	// zeroEnds: the peer ends its half.
	zeroEnds
	// zeroCrosses: the peer opened an address that we have open, at the same
	// time, and each took the other's open for an end. Neither connection works.
	zeroCrosses
)

// onZero returns what a frame of length zero means for an address in state h, and
// the state after it.
func (h halves) onZero() (halves, zeroEvent) {
	switch {
	case h&recvOpen != 0:
		return h &^ recvOpen, zeroEnds
	case h&sendOpen != 0:
		// A vt-muxer end that has not seen our end can't open again (it would
		// answer AddrInUse), so this is its end of a connection that we took for
		// ended. Its key is gone: an end from us would open a ghost there.
		return 0, zeroCrosses
	}
	return recvOpen | sendOpen, zeroOpens
}

// onEndSent returns the state after our end went out.
func (h halves) onEndSent() halves { return h &^ sendOpen }
