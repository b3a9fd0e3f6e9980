package scenario

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

const (
	smallBytes = 100
	smallBatch = 4096 // messages between two acknowledgements, of all streams together
	// smallAsk in a message's number asks the reader to acknowledge.
	smallAsk = 1 << 63
)

// Small is n streams of 100-byte messages, each one Write and one Read of 100 bytes, as fast as they go. A message
// counts when the reader has had it, which it says now and then.
func Small(n int) Scenario {
	what := fmt.Sprintf("%d streams of 100 B writes", n)
	if n == 1 {
		what = "1 stream of 100 B writes, read by 100 B"
	}
	batch := int64(max(smallBatch/n, 64))
	return Scenario{
		Name:    fmt.Sprintf("Small%d", n),
		What:    what,
		Streams: n,
		OpBytes: smallBytes,
		Unit:    Messages,
		Serve:   eachStream(smallBytes, takeSmall),
		Drive: func(streams []net.Conn, b Budget) (Sample, error) {
			return drive(streams, b, func(c net.Conn, q quota) (int64, error) { return sendSmall(c, q, batch) })
		},
	}
}

// sendSmall asks for an acknowledgement with each batch, and waits for it only at the end of the next, so that the
// stream never runs dry; and with the last message, and waits for that.
func sendSmall(c net.Conn, q quota, batch int64) (n int64, err error) {
	p := make([]byte, smallBytes)
	ack := make([]byte, 1)
	unanswered := 0
	send := func(ask bool) error {
		number := uint64(n)
		if ask {
			number |= smallAsk
			unanswered++
		}
		binary.LittleEndian.PutUint64(p, number)
		if _, err := c.Write(p); err != nil {
			return err
		}
		n++
		if ask && unanswered > 1 {
			unanswered--
			_, err := io.ReadFull(c, ack)
			return err
		}
		return nil
	}
	asked := true
	for q.allows(n) {
		asked = (n+1)%batch == 0 || q.last(n)
		if err := send(asked); err != nil {
			return n, err
		}
	}
	if !asked { // the time was over
		if err := send(true); err != nil {
			return n, err
		}
	}
	for ; unanswered > 0; unanswered-- {
		if _, err := io.ReadFull(c, ack); err != nil {
			return n, err
		}
	}
	return n, nil
}

// takeSmall reads message by message. A new Drive counts from 0 again.
func takeSmall(c net.Conn, p []byte) error {
	for want := uint64(0); ; want++ {
		if _, err := io.ReadFull(c, p); err != nil {
			return err
		}
		number := binary.LittleEndian.Uint64(p)
		ask := number&smallAsk != 0
		if number &^= smallAsk; number == 0 {
			want = 0
		}
		if number != want {
			return fmt.Errorf("%w: message %d instead of %d", errContent, number, want)
		}
		if ask {
			if _, err := c.Write(p[:1]); err != nil {
				return err
			}
		}
	}
}
