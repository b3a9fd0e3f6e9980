package interop

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// A Peer is a running vt-muxer process. Its methods may be called from several goroutines.
type Peer struct {
	cmd *exec.Cmd

	writing sync.Mutex // one command at a time
	stdin   io.WriteCloser

	mu      sync.Mutex
	changed chan struct{} // closed at the next change of what follows, and replaced

	addr      netip.AddrPort // set by the event "ready"
	finished  []Conversation
	transport string // what accept failed with
	states    []State
	exited    bool
	err       error // the reason for exited
}

// Start runs the program bin, and returns when it listens or is connected. The caller must Close it.
func Start(ctx context.Context, bin string, setup Setup) (*Peer, error) {
	cmd := exec.Command(bin)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Peer{cmd: cmd, stdin: stdin, changed: make(chan struct{})}
	go p.listen(stdout, &stderr)
	if err := p.send(setup); err != nil {
		p.Close()
		return nil, err
	}
	if err := p.wait(ctx, func() bool { return p.addr.IsValid() }); err != nil {
		p.Close()
		return nil, fmt.Errorf("the peer is not ready: %w", err)
	}
	return p, nil
}

// listen takes the peer's events until it exits.
func (p *Peer) listen(stdout io.Reader, stderr *bytes.Buffer) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20) // the state of a thousand connections is one line
	var err error
	for err == nil && lines.Scan() {
		err = p.take(lines.Bytes())
	}
	err = errors.Join(err, lines.Err())
	if err != nil {
		p.cmd.Process.Kill()
	}
	if werr := p.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("%w\n%s", werr, stderr))
	}
	p.change(func() { p.exited, p.err = true, err })
}

func (p *Peer) take(line []byte) error {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("event %q: %w", line, err)
	}
	p.change(func() {
		switch e.Event {
		case "ready":
			p.addr = e.Addr
		case "finished":
			p.finished = append(p.finished, e.Conversation)
		case "transport":
			p.transport = e.Error
		case "state":
			p.states = append(p.states, e.State)
		}
	})
	return nil
}

func (p *Peer) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait returns when cond, called with mu held, holds, when the peer has exited, or when ctx is done.
func (p *Peer) wait(ctx context.Context, cond func() bool) error {
	for {
		p.mu.Lock()
		ok, exited, err, changed := cond(), p.exited, p.err, p.changed
		p.mu.Unlock()
		switch {
		case ok:
			return nil
		case exited:
			return fmt.Errorf("the peer has exited: %w", cmp.Or(err, io.EOF))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *Peer) send(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	_, err = p.stdin.Write(append(line, '\n'))
	return err
}

// Addr returns the address that the peer listens on or is connected to.
func (p *Peer) Addr() netip.AddrPort {
	return p.addr
}

// PID returns the process's number, for who wants to know what it uses.
func (p *Peer) PID() int {
	return p.cmd.Process.Pid
}

// Open makes the peer open a connection and do what the script says.
func (p *Peer) Open(addr netip.AddrPort, s Script) error {
	return p.send(command{Command: "open", Addr: &addr, Script: &s})
}

// Poke makes the peer poll accept once more.
func (p *Peer) Poke() error {
	return p.send(command{Command: "poke"})
}

// Finished waits until n conversations are finished, and returns all that are.
func (p *Peer) Finished(ctx context.Context, n int) ([]Conversation, error) {
	var all []Conversation
	err := p.wait(ctx, func() bool {
		all = slices.Clone(p.finished)
		return len(all) >= n
	})
	if err != nil {
		return all, fmt.Errorf("%d of %d conversations are finished at the peer: %w", len(all), n, err)
	}
	return all, nil
}

// TransportError waits until the peer's accept fails, and returns the error's text.
func (p *Peer) TransportError(ctx context.Context) (string, error) {
	var text string
	err := p.wait(ctx, func() bool {
		text = p.transport
		return text != ""
	})
	return text, err
}

// State asks for the peer's state. It doesn't wake any of its tasks.
func (p *Peer) State(ctx context.Context) (State, error) {
	p.mu.Lock()
	seen := len(p.states)
	p.mu.Unlock()
	if err := p.send(command{Command: "state"}); err != nil {
		return State{}, err
	}
	var s State
	err := p.wait(ctx, func() bool {
		if len(p.states) == seen {
			return false
		}
		s = p.states[len(p.states)-1]
		return true
	})
	return s, err
}

// closeGrace is what a peer gets to exit by itself. It has nothing left to do, so this is for loaded machines.
const closeGrace = 5 * time.Second

// Close ends the process, by force if need be, and reports what went wrong with it.
func (p *Peer) Close() error {
	p.stdin.Close()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	exited := func() bool { return p.exited }
	if err := p.wait(ctx, exited); err != nil {
		p.cmd.Process.Kill()
		return errors.New("the peer did not exit by itself")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
