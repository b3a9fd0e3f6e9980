package scenario

import (
	"io"
	"net"
	"time"
)

// RTT is one lone conversation: 64 bytes there and the same back, nothing else going on.
var RTT = Scenario{
	Name:    "RTT",
	Streams: 1,
	OpBytes: rttBytes,
	Serve:   eachStream(echo(rttBytes)),
	Drive: func(streams []net.Conn, b Budget) (Sample, error) {
		latencies := make([]time.Duration, 0, 1<<18)
		s, err := drive(streams, b, func(c net.Conn, q quota) (n int64, err error) {
			p := make([]byte, rttBytes)
			for then := time.Now(); q.allows(n); n++ {
				if err := turn(c, p); err != nil {
					return n, err
				}
				now := time.Now()
				latencies = append(latencies, now.Sub(then))
				then = now
			}
			return n, nil
		})
		s.Latencies = latencies
		return s, err
	},
}

// Crowd128 is 128 conversations at once, each waiting for its own answer before it goes on.
var Crowd128 = crowd("Crowd128", 128)

const (
	rttBytes   = 64
	crowdBytes = 128
)

func crowd(name string, streams int) Scenario {
	return Scenario{
		Name:    name,
		Streams: streams,
		OpBytes: crowdBytes,
		Serve:   eachStream(echo(crowdBytes)),
		Drive: func(streams []net.Conn, b Budget) (Sample, error) {
			return drive(streams, b, func(c net.Conn, q quota) (n int64, err error) {
				p := make([]byte, crowdBytes)
				for ; q.allows(n); n++ {
					if err := turn(c, p); err != nil {
						return n, err
					}
				}
				return n, nil
			})
		},
	}
}

// turn sends p and waits for as much.
func turn(c net.Conn, p []byte) error {
	if _, err := c.Write(p); err != nil {
		return err
	}
	_, err := io.ReadFull(c, p)
	return err
}

// echo answers each message of size bytes with itself.
func echo(size int) func(net.Conn) error {
	return func(c net.Conn) error {
		p := make([]byte, size)
		for {
			if _, err := io.ReadFull(c, p); err != nil {
				return err
			}
			if _, err := c.Write(p); err != nil {
				return err
			}
		}
	}
}
