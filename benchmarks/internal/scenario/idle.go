package scenario

import (
	"fmt"
	"io"
	"net"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// Idle is n streams that are used once, with a byte each way, and then left alone. Nothing is driven: what counts is
// the memory that they hold. Neither end has a goroutine or buffer of its own that would count as the library's.
func Idle(n int) Scenario {
	return Scenario{
		Name:    fmt.Sprintf("Idle%d", n),
		What:    fmt.Sprintf("%d idle streams", n),
		Streams: n,
		OpBytes: 1,
		Serve: func(s adapter.Session) error {
			return hold(s, make([]net.Conn, 0, n))
		},
	}
}

// Use opens a stream of [Idle] and uses it.
func Use(s adapter.Session) (net.Conn, error) {
	c, err := s.Open()
	if err != nil {
		return nil, err
	}
	if _, err = c.Write([]byte{'?'}); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err = io.ReadFull(c, answer[:]); err == nil && answer[0] != '?' {
		err = errAnswer
	}
	return c, err
}

// hold echoes a byte on each stream and keeps it.
func hold(s adapter.Session, kept []net.Conn) error {
	p := make([]byte, 1)
	for {
		c, err := s.Accept()
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(c, p); err != nil {
			return err
		}
		if _, err := c.Write(p); err != nil {
			return err
		}
		kept = append(kept, c)
	}
}
