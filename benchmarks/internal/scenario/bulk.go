package scenario

import (
	"io"
	"net"
)

// Bulk is one stream that writes 64 KiB blocks, as fast as a reader with a 64 KiB buffer takes them. An operation is a
// batch of blocks, and counts when the reader has had all of it.
var Bulk = Scenario{
	Name:    "Bulk",
	Streams: 1,
	OpBytes: batchBytes,
	Serve:   eachStream(swallow),
	Drive: func(streams []net.Conn, b Budget) (Sample, error) {
		return drive(streams, b, pour)
	},
}

const (
	blockBytes  = 64 << 10
	batchBlocks = 256
	batchBytes  = batchBlocks * blockBytes // a few milliseconds
)

// pour writes batches. It waits for the acknowledgement of one only when it has written the next, so that the stream
// never runs dry, and for the last one at the end.
func pour(c net.Conn, q quota) (n int64, err error) {
	block := make([]byte, blockBytes)
	ack := make([]byte, 1)
	for ; q.allows(n); n++ {
		for range batchBlocks {
			if _, err := c.Write(block); err != nil {
				return n, err
			}
		}
		if n == 0 {
			continue
		}
		if _, err := io.ReadFull(c, ack); err != nil {
			return n, err
		}
	}
	if n > 0 {
		_, err = io.ReadFull(c, ack)
	}
	return n, err
}

// swallow reads, and acknowledges each batch with a byte.
func swallow(c net.Conn) error {
	p := make([]byte, blockBytes)
	for unacked := 0; ; {
		n, err := c.Read(p)
		if err != nil {
			return err
		}
		for unacked += n; unacked >= batchBytes; unacked -= batchBytes {
			if _, err := c.Write(p[:1]); err != nil {
				return err
			}
		}
	}
}
