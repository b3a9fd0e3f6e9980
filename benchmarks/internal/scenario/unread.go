package scenario

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Bulk8Unread is Bulk on 8 streams, beside 100 that the client writes to and nobody reads.
var Bulk8Unread = bulk8Unread()

const (
	bulkStreams   = 8
	unreadStreams = 100
)

func bulk8Unread() Scenario {
	return Scenario{
		Name:    "Bulk8Unread",
		What:    "bulk, 8 streams beside 100 that nobody reads",
		Streams: bulkStreams + unreadStreams,
		OpBytes: batchBytes,
		Unit:    Megabytes,
		Serve:   eachStream(blockBytes, swallowOrLeave),
		Drive: func(streams []net.Conn, b Budget) (Sample, error) {
			stop := stuff(streams[bulkStreams:])
			s, err := drive(streams[:bulkStreams], b, pour)
			return s, errors.Join(err, stop())
		},
	}
}

// swallowOrLeave leaves a stream alone whose first byte is not a block's of [Bulk].
func swallowOrLeave(c net.Conn, p []byte) error {
	if _, err := io.ReadFull(c, p[:1]); err != nil {
		return err
	}
	if p[0] == 0 {
		<-make(chan struct{}) // holds c, so that it is not collected
	}
	return swallow(c, p, 1)
}

// stuff writes to the streams for as long as they take it, until stop, which waits for that. The blocks are all zeros.
func stuff(streams []net.Conn) (stop func() error) {
	var wg sync.WaitGroup
	errs := make([]error, len(streams))
	for i, c := range streams {
		wg.Go(func() {
			if errs[i] = c.SetWriteDeadline(time.Time{}); errs[i] != nil {
				return
			}
			for block := make([]byte, blockBytes); errs[i] == nil; {
				_, errs[i] = c.Write(block)
			}
		})
	}
	return func() error {
		for _, c := range streams {
			c.SetWriteDeadline(time.Unix(1, 0))
		}
		wg.Wait()
		for i, err := range errs {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() { // not all libraries give os.ErrDeadlineExceeded
				errs[i] = nil
			}
		}
		return errors.Join(errs...)
	}
}
