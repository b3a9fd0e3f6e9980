package harness

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// A Run is a session between this process and a server, for one scenario.
type Run struct {
	scenario scenario.Scenario
	server   *server
	session  adapter.Session
	streams  []net.Conn
}

// Start starts a server, and a session to it without streams.
func Start(a adapter.Adapter, sc scenario.Scenario, p Profiles) (*Run, error) {
	s, err := startServer(spec{Adapter: a.Name, Scenario: sc.Name, Streams: sc.Streams, Profiles: p})
	if err != nil {
		return nil, err
	}
	session, err := a.Dial(s.address)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return &Run{scenario: sc, server: s, session: session}, nil
}

// Open opens the scenario's streams.
func (r *Run) Open() error {
	for range r.scenario.Streams {
		if err := r.add(r.session.Open()); err != nil {
			return err
		}
	}
	return nil
}

// Reserve makes room for n streams, so that the list of them is not taken for a part of what they cost.
func (r *Run) Reserve(n int) { r.streams = slices.Grow(r.streams, n) }

// Use opens n streams and uses each once, as the idle scenario does.
func (r *Run) Use(n int) error {
	for range n {
		if err := r.add(scenario.Use(r.session)); err != nil {
			return fmt.Errorf("stream %d: %w", len(r.streams)+1, err)
		}
	}
	return nil
}

func (r *Run) add(c net.Conn, err error) error {
	if err == nil {
		r.streams = append(r.streams, c)
	}
	return err
}

// Drive works through a budget on the open streams.
func (r *Run) Drive(b scenario.Budget) (scenario.Sample, error) {
	if r.scenario.DriveSession != nil {
		return r.scenario.DriveSession(r.session, b)
	}
	return r.scenario.Drive(r.streams, b)
}

// Memory gives what both ends hold.
func (r *Run) Memory() (client, server Memory, err error) {
	server, err = r.server.memory()
	return ReadMemory(), server, err
}

// Close ends the session and the server.
func (r *Run) Close() error {
	for _, c := range r.streams {
		c.Close()
	}
	r.session.Close()
	return r.server.stop()
}
