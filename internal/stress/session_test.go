package stress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vtmux/vtmux/addr"
	"github.com/vtmux/vtmux/mux"
)

// A face is what *mux.Pipe and *mux.Listener have in common.
type face interface {
	Open(context.Context, addr.SocketAddr) (*mux.Conn, error)
	Ping(context.Context) (time.Duration, error)
	Shutdown(context.Context) error
	Close() error
	Done() <-chan struct{}
	Err() error
	Stats() mux.Stats
}

// A session is both ends of one, with all its links.
type session struct {
	// Constant.
	run      *round
	n        int
	seed     uint64
	one      bool // protocol 1
	fault    fault
	network  string
	bothOpen bool // both ends are Listeners
	tight    bool // few may wait to be accepted
	breakAt  int64

	faces     [2]face
	listeners [2]*mux.Listener // side 1's, and side 0's if both open
	sockets   [2]socket

	broken   atomic.Bool // connections may be cut from now on
	draining atomic.Bool // and opens refused
	whole    bool        // it has ended with nothing cut: all must have come that was sent
	worked   chan struct{}
	breakNow chan struct{} // closed at operation breakAt

	ops      atomic.Int64
	opened   [2]atomic.Int64
	accepted [2]atomic.Int64
	drops    [2]atomic.Int64

	unserved sync.WaitGroup // links that are to be served by the acceptor
	serving  sync.WaitGroup

	mu    sync.Mutex
	links []*link
}

func newSession(run *round, n int, seed uint64) *session {
	r := rand.New(rand.NewPCG(seed, 0))
	s := &session{run: run, n: n, seed: seed, one: n&1 == 0, network: "tcp", fault: fault(n / 2 % int(faults)),
		worked: make(chan struct{}), breakNow: make(chan struct{})}
	if r.IntN(4) == 0 {
		s.network = "unix"
	}
	s.bothOpen = r.IntN(3) == 0
	s.tight = s.one && r.IntN(4) == 0
	s.breakAt = 1 + r.Int64N(int64(run.conns)*60)
	s.broken.Store(s.fault == cut || s.fault == stalls)
	return s
}

func (s *session) text() string {
	p := "vt"
	if s.one {
		p = "1"
	}
	return fmt.Sprintf("protocol %s, %s, %v, seed %d", p, s.network, s.fault, s.seed)
}

// mayRefuse reports whether a connection may be refused before it is accepted.
func (s *session) mayRefuse() bool { return s.tight || s.draining.Load() }

// op counts one operation.
func (s *session) op() {
	s.run.ops.Add(1)
	if s.ops.Add(1) == s.breakAt {
		close(s.breakNow)
	}
}

func (s *session) config(r *rand.Rand) *mux.Config {
	c := &mux.Config{Protocol: mux.ProtocolVT}
	if s.one {
		c.Protocol = mux.Protocol1
		if r.IntN(2) == 0 {
			c.Protocol = mux.ProtocolAuto
		}
	}
	if r.IntN(2) == 0 {
		c.MaxWindow = 131070
	}
	if s.tight {
		c.AcceptBacklog = 1 + r.IntN(2)
	}
	if r.IntN(3) == 0 {
		c.KeepAliveInterval = 20 * time.Millisecond
	}
	c.KeepAliveTimeout = time.Hour // a machine that is busy is no dead peer
	c.PrefaceTimeout = time.Hour
	return c
}

// begin makes the transport and both ends.
func (s *session) begin(r *rand.Rand) error {
	var err error
	if s.sockets[0], s.sockets[1], err = socketPair(s.network); err != nil {
		return err
	}
	if s.fault == narrow || s.fault == stalls || r.IntN(8) == 0 {
		squeeze(r, s.sockets[:]...)
	}
	faulty := r.IntN(2) // of the two ends
	for side, c := range s.sockets {
		transport, cfg := net.Conn(c), s.config(r)
		if side == faulty || s.fault == pieces {
			transport = s.fault.wrap(r, c, s.run.gate)
		}
		if side == 0 && !s.bothOpen {
			s.faces[0], err = mux.NewPipe(transport, cfg)
		} else {
			if !s.one && !s.bothOpen && r.IntN(2) == 0 {
				cfg.Protocol = mux.ProtocolAuto
			}
			s.listeners[side], err = mux.NewListener(transport, cfg)
			s.faces[side] = s.listeners[side]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// do runs the session from its begin to its end.
func (s *session) do() {
	r := rand.New(rand.NewPCG(s.seed, 1))
	if err := s.begin(r); err != nil {
		s.run.fails("session %d (%s): %v", s.n, s.text(), err)
		return
	}
	var accepting, working sync.WaitGroup
	for side, l := range s.listeners {
		if l != nil {
			for range 1 + r.IntN(2) {
				seed := r.Uint64()
				accepting.Go(func() { s.accept(side, l, seed) })
			}
		}
	}
	workers := 2 + r.IntN(4)
	for i := range workers {
		seed, conns := r.Uint64(), (s.run.conns+i)/workers
		working.Go(func() { s.work(conns, seed) })
	}
	meddling := make(chan struct{})
	seed := r.Uint64()
	go func() {
		defer close(meddling)
		s.meddle(rand.New(rand.NewPCG(seed, 0)))
	}()
	working.Wait()
	close(s.worked)
	<-meddling
	s.finish(r)
	accepting.Wait()
	s.serving.Wait()
	for _, k := range s.links {
		k.check()
	}
	s.run.opened.Add(int64(len(s.links)))
}

// newLink makes a link that the given side opens.
func (s *session) newLink(side int, r *rand.Rand) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &link{s: s, n: len(s.links)}
	k.addr = addr.SocketAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(side), byte(k.n >> 16), byte(k.n >> 8)}), uint16(k.n)))
	there, back := &lane{stream: newStream(r)}, &lane{stream: newStream(r)}
	k.x = end{k: k, name: "the opener", side: side, peer: &k.y, in: back, out: there, does: newPlan(r, true, !s.bothOpen)}
	k.y = end{k: k, name: "the acceptor", side: 1 - side, peer: &k.x, in: there, out: back, does: newPlan(r, false, false)}
	s.links = append(s.links, k)
	return k
}

// find returns the link of an address, or nil.
func (s *session) find(a addr.SocketAddr) *link {
	ip := a.AddrPort().Addr().Unmap().As4()
	n := int(ip[2])<<16 | int(a.AddrPort().Port())
	s.mu.Lock()
	defer s.mu.Unlock()
	if n >= len(s.links) || s.links[n].addr != a {
		return nil
	}
	return s.links[n]
}

// work opens connections, one after another.
func (s *session) work(conns int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	for range conns {
		s.op()
		side := 0
		if s.bothOpen {
			side = r.IntN(2)
		}
		k := s.newLink(side, r)
		s.unserved.Add(1)
		ctx, cancel := bounded(r)
		c, err := s.faces[side].Open(ctx, k.addr)
		late := ctx.Err() != nil
		cancel()
		if err != nil {
			k.isServed()
			switch {
			case errors.Is(err, mux.ErrProtocol), errors.Is(err, io.EOF) && !s.broken.Load() && !s.draining.Load():
				k.x.fails("Open: %v", err)
				return
			case late && errors.Is(err, context.DeadlineExceeded):
				continue
			case s.broken.Load(), s.draining.Load():
				return
			}
			k.x.fails("Open: %v", err)
			return
		}
		k.opened = true
		s.opened[side].Add(1)
		k.x.serve(c, r.Uint64())
		switch r.IntN(16) {
		case 0:
			ctx, cancel := bounded(r)
			switch rtt, err := s.faces[side].Ping(ctx); {
			case err == nil && rtt <= 0 && s.one:
				k.x.fails("Ping: %v", rtt)
			case err == nil, s.broken.Load(), s.draining.Load(), ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded):
			case errors.Is(err, errors.ErrUnsupported) && !s.one: // not over TCP
			default:
				k.x.fails("Ping: %v", err)
			}
			cancel()
		case 1:
			s.faces[1-side].Stats()
		}
	}
}

// accept accepts connections until there are no more.
func (s *session) accept(side int, l *mux.Listener, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	for {
		ctx, cancel := bounded(r)
		pending, err := l.AcceptPending(ctx)
		late := ctx.Err() != nil
		cancel()
		if err != nil {
			switch {
			case late && errors.Is(err, context.DeadlineExceeded):
				continue
			case errors.Is(err, mux.ErrProtocol), !s.broken.Load() && !s.draining.Load():
				s.run.fails("session %d (%s): accepting: %v", s.n, s.text(), err)
			}
			return
		}
		s.accepted[side].Add(1)
		k := s.find(pending.Addr())
		if k == nil || k.y.side != side || k.accepted.Swap(true) {
			s.run.fails("session %d (%s): accepted %v, which is not open or was accepted before", s.n, s.text(), pending.Addr())
			return
		}
		if r.IntN(16) == 0 {
			k.y.out.ended.Store(!s.one)
			k.y.did.Or(didReject | didClose)
			if err := pending.Reject(rejectCode, rejectReason); err != nil {
				k.y.fails("Reject: %v", err)
			}
			k.isServed()
			continue
		}
		c, err := pending.Accept()
		if err != nil {
			k.y.fails("Accept: %v", err)
			return
		}
		seed := r.Uint64()
		s.serving.Go(func() {
			defer k.isServed()
			k.y.serve(c, seed)
		})
	}
}

// meddle does in the middle what the session's fault is.
func (s *session) meddle(r *rand.Rand) {
	var patience <-chan time.Time
	if s.fault == stalls || s.fault == cut {
		patience = time.After(time.Second) // there may be no operations any more
	}
	select {
	case <-s.breakNow:
	case <-s.worked:
	case <-patience:
	}
	side := r.IntN(2)
	switch s.fault {
	case closes:
		s.broken.Store(true)
		if r.IntN(2) == 0 {
			s.close()
		} else {
			s.faces[side].Close()
		}
	case stalls, cut:
		s.close()
	case reset:
		s.broken.Store(true)
		breakOff(s.sockets[side])
	case halfClosed:
		s.broken.Store(true)
		s.sockets[side].CloseWrite()
	case shutsDown:
		s.draining.Store(true)
		if !s.one {
			s.broken.Store(true) // the peer can't know, and what it opens at the very end is cut
		}
		s.shutdown(side)
	case cutsShort:
		s.draining.Store(true)
		s.broken.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(30))*time.Millisecond)
		s.faces[side].Shutdown(ctx)
		cancel()
	}
}

// close closes both ends at once: one after the other, the first might wait for the transport to take what the second
// does not read.
func (s *session) close() {
	var wg sync.WaitGroup
	for _, f := range s.faces {
		wg.Go(func() {
			if err := f.Close(); err != nil {
				s.run.fails("session %d (%s): Close: %v", s.n, s.text(), err)
			}
		})
	}
	wg.Wait()
}

// shutdown shuts one side down, which must not lose anything.
func (s *session) shutdown(side int) {
	if err := s.faces[side].Shutdown(context.Background()); err != nil && !s.broken.Load() {
		s.run.fails("session %d (%s): Shutdown of side %d: %v (the other side: %v)", s.n, s.text(), side, err, s.faces[1-side].Err())
	}
}

// finish ends the session when all has been opened.
func (s *session) finish(r *rand.Rand) {
	if !s.broken.Load() || s.fault == shutsDown {
		if !s.one && s.fault != shutsDown {
			s.unserved.Wait() // else what nobody has accepted would be refused
		}
		s.draining.Store(true)
		how := r.IntN(3)
		var wg sync.WaitGroup
		for side, f := range s.faces {
			if s.fault != shutsDown && (how == side || how == 2) {
				wg.Go(func() { s.shutdown(side) })
			} else {
				wg.Go(func() { <-f.Done() })
			}
		}
		wg.Wait()
	}
	s.whole = !s.broken.Swap(true)
	s.close()
	for side, f := range s.faces {
		switch err := f.Err(); {
		case err == nil || errors.Is(err, mux.ErrProtocol):
			s.run.fails("session %d (%s): side %d has ended: %v", s.n, s.text(), side, err)
		case s.whole && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF):
			s.run.fails("session %d (%s): side %d was shut down and ended with: %v", s.n, s.text(), side, err)
		}
	}
}

// counted checks the counters, when all Conns that were dropped may have been noticed.
func (s *session) counted() error {
	for side, f := range s.faces {
		st := f.Stats()
		opened, accepted, dropped := s.opened[side].Load(), s.accepted[side].Load(), s.drops[side].Load()
		if int64(st.Opened) != opened || int64(st.Accepted) != accepted || int64(st.Dropped) != dropped {
			return fmt.Errorf("session %d (%s): side %d counts %d opened, %d accepted and %d dropped; there were %d, %d and %d", s.n, s.text(), side,
				st.Opened, st.Accepted, st.Dropped, opened, accepted, dropped)
		}
	}
	return nil
}
