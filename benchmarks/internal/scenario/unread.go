package scenario

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// Bulk8 is Bulk on 8 streams at once.
var Bulk8 = bulk8("Bulk8", 0)

// Bulk8Unread is Bulk8 beside 100 streams that the client writes to and nobody reads.
var Bulk8Unread = bulk8("Bulk8Unread", 100)

const bulkStreams = 8

func bulk8(name string, unread int) Scenario {
	return Scenario{
		Name:    name,
		Streams: bulkStreams + unread,
		OpBytes: batchBytes,
		Serve:   firstStreams(bulkStreams, swallow),
		Drive: func(streams []net.Conn, b Budget) (Sample, error) {
			stop := stuff(streams[bulkStreams:])
			s, err := drive(streams[:bulkStreams], b, pour)
			return s, errors.Join(err, stop())
		},
	}
}

// firstStreams is a server that serves the first n streams and leaves the others alone.
func firstStreams(n int64, serve func(net.Conn) error) func(adapter.Session) error {
	var accepted atomic.Int64
	all := eachStream(serve)
	return func(s adapter.Session) error { return all(leaving{s, n, &accepted}) }
}

// leaving is a session whose Accept keeps all but the first n streams to itself.
type leaving struct {
	adapter.Session
	n        int64
	accepted *atomic.Int64
}

func (l leaving) Accept() (net.Conn, error) {
	for {
		c, err := l.Session.Accept()
		if err != nil || l.accepted.Add(1) <= l.n {
			return c, err
		}
		go func() { // holds c, so that it is not collected
			<-make(chan struct{})
			c.Close()
		}()
	}
}

// stuff writes to the streams for as long as they take it, until stop, which waits for that.
func stuff(streams []net.Conn) (stop func() error) {
	var wg sync.WaitGroup
	errs := make([]error, len(streams))
	for i, c := range streams {
		wg.Go(func() {
			c.SetWriteDeadline(time.Time{})
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
			if errors.Is(err, os.ErrDeadlineExceeded) {
				errs[i] = nil
			}
		}
		return errors.Join(errs...)
	}
}
