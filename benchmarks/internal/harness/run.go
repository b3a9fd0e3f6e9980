package harness

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// A Run is a session between this process and a server, for one scenario.
type Run struct {
	scenario scenario.Scenario
	server   *server
	session  adapter.Session
	streams  []net.Conn
	restore  func() // undoes what the scenario wants of the process
	hung     atomic.Bool
}

// patience is what a session may take for anything but measuring.
const patience = 60 * time.Second

// Start starts a server, and a session to it without streams.
func Start(a adapter.Adapter, sc scenario.Scenario, p Profiles) (*Run, error) {
	if why := a.Can(sc.Name, sc.TLS); why != "" {
		return nil, fmt.Errorf("%s can't do %s: %s", a.Name, sc.Name, why)
	}
	r := &Run{scenario: sc, restore: func() {}}
	if sc.OneCore {
		restore, err := useOneCore()
		if err != nil {
			return nil, fmt.Errorf("one core: %w", err)
		}
		r.restore = restore
	}
	var err error
	if r.server, err = startServer(spec{Adapter: a.Name, Scenario: sc.Name, Profiles: p}); err != nil {
		r.restore()
		return nil, err
	}
	defer r.watch(patience)()
	if r.session, err = a.Dial(r.server.address, sc.Options()); err != nil {
		r.restore()
		return nil, errors.Join(err, r.server.stop())
	}
	return r, nil
}

// watch kills the server when the time is over, so that a library that hangs does not hang the run; unless done is
// called before.
func (r *Run) watch(limit time.Duration) (done func()) {
	t := time.AfterFunc(limit, func() {
		r.hung.Store(true)
		r.server.command.Process.Kill()
		if s := r.session; s != nil {
			s.Close()
		}
	})
	return func() { t.Stop() }
}

// explain adds to an error that watch was its cause.
func (r *Run) explain(err error) error {
	if err != nil && r.hung.Load() {
		return fmt.Errorf("it hung, and was ended: %w", err)
	}
	return err
}

// Open opens the scenario's streams.
func (r *Run) Open() error {
	defer r.watch(patience)()
	for range r.scenario.Streams {
		if err := r.add(r.session.Open()); err != nil {
			return r.explain(err)
		}
	}
	return nil
}

// Reserve makes room for n streams, so that the list of them is not taken for a part of what they cost.
func (r *Run) Reserve(n int) { r.streams = slices.Grow(r.streams, n) }

// Use opens n streams and uses each once, as the idle scenario does.
func (r *Run) Use(n int) error {
	defer r.watch(patience + time.Duration(n)*time.Millisecond)()
	for range n {
		if err := r.add(scenario.Use(r.session)); err != nil {
			return r.explain(fmt.Errorf("stream %d: %w", len(r.streams)+1, err))
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
	limit := patience + b.Time
	if b.Ops > 0 {
		limit = 5 * time.Minute
	}
	defer r.watch(limit)()
	drive := func() (scenario.Sample, error) { return r.scenario.Drive(r.streams, b) }
	if r.scenario.DriveSession != nil {
		drive = func() (scenario.Sample, error) { return r.scenario.DriveSession(r.session, b) }
	}
	s, err := drive()
	return s, r.explain(err)
}

// A Measurement is what a Drive did and what it cost.
type Measurement struct {
	scenario.Sample
	Usage Usage // of both processes
	// Wire is what TCP or UDP carried, both directions together; 0 where nobody counted.
	Wire uint64
}

// Measure is Drive, with what it costs.
func (r *Run) Measure(b scenario.Budget) (m Measurement, err error) {
	server, err := r.server.usage()
	if err != nil {
		return m, err
	}
	wire, counted := adapter.WireBytes(r.session, r.streams)
	client := ReadUsage(r.session)
	if m.Sample, err = r.Drive(b); err != nil {
		return m, err
	}
	m.Usage = ReadUsage(r.session).Sub(client)
	if counted {
		now, _ := adapter.WireBytes(r.session, r.streams)
		m.Wire = now - wire
	}
	after, err := r.server.usage()
	if err != nil {
		return m, err
	}
	m.Usage = m.Usage.Add(after.Sub(server))
	return m, nil
}

// Memory gives what both ends hold.
func (r *Run) Memory() (client, server Memory, err error) {
	defer r.watch(patience)()
	server, err = r.server.memory()
	return ReadMemory(), server, err
}

// Close ends the session and the server.
func (r *Run) Close() error {
	defer r.restore()
	defer r.watch(patience)()
	for _, c := range r.streams {
		c.Close()
	}
	r.session.Close()
	return r.explain(r.server.stop())
}
