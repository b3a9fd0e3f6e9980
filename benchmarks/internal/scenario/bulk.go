package scenario

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

const (
	blockBytes  = 64 << 10
	batchBlocks = 256
	batchBytes  = batchBlocks * blockBytes // a few milliseconds
)

// Bulk is n streams, on each of which a writer with 64 KiB blocks goes as fast as a reader with a 64 KiB buffer. An
// operation is a batch of blocks, and counts when the reader has had all of it.
func Bulk(n int) Scenario {
	what := fmt.Sprintf("bulk, %d streams of 64 KiB writes", n)
	if n == 1 {
		what = "bulk, 1 stream of 64 KiB writes"
	}
	return Scenario{
		Name:    fmt.Sprintf("Bulk%d", n),
		What:    what,
		Streams: n,
		OpBytes: batchBytes,
		Unit:    Megabytes,
		Task:    adapter.Task{Read: blockBytes, AckEvery: batchBytes},
		Serve:   eachStream(blockBytes, func(c net.Conn, p []byte) error { return swallow(c, p, 0) }),
		Drive: func(streams []net.Conn, b Budget) (Sample, error) {
			return drive(streams, b, pour)
		},
	}
}

// pour writes batches. It waits for the acknowledgement of one only when it has written the next, so that the stream
// never runs dry, and for the last one at the end.
func pour(c net.Conn, q quota) (n int64, err error) {
	block := make([]byte, blockBytes)
	ack := make([]byte, 1)
	for ; q.allows(n); n++ {
		for i := range batchBlocks {
			binary.LittleEndian.PutUint64(block, blockMark(i))
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

// blockMark begins the i-th block of a batch. No byte of it is 0, as all others of the block are.
func blockMark(i int) uint64 { return 0x0101010101010101 * uint64(i%255+1) }

// swallow reads from byte at of a batch on, and acknowledges each batch with a byte.
func swallow(c net.Conn, p []byte, at int) error {
	for {
		n, err := c.Read(p)
		if err != nil {
			return err
		}
		if err := checkBlocks(p[:n], at); err != nil {
			return err
		}
		for at += n; at >= batchBytes; at -= batchBytes {
			if _, err := c.Write(p[:1]); err != nil {
				return err
			}
		}
	}
}

// checkBlocks looks at the beginnings of the blocks in p, which starts at byte at of a batch, and at the byte before each.
func checkBlocks(p []byte, at int) error {
	next := (blockBytes - at%blockBytes) % blockBytes
	for ; next < len(p); next += blockBytes {
		i := (at + next) / blockBytes % batchBlocks
		if p[next] != byte(blockMark(i)) || next > 0 && p[next-1] != 0 {
			return fmt.Errorf("%w: block %d of a batch", errContent, i)
		}
	}
	return nil
}
