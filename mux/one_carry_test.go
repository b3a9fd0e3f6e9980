package mux

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Transports for tests of protocol 1 that run in bubbles: they hold what is under way
// until a time has passed or the test says so, and never make a writer wait.

// A carrier takes what one end of a transport writes to the other.
type carrier struct {
	from, to net.Conn
	lag      time.Duration // how long each byte is under way; unused by one that has a gate

	mu      sync.Mutex
	held    []cargo
	gated   bool // nothing goes but by deliver
	allowed int  // pieces that may go
	kick    chan struct{}
}

// cargo is what was written at once, or the end if b is nil.
type cargo struct {
	b  []byte
	at time.Time
}

// carriedPair is a transport with a carrier for each direction, the first that of a's
// writes. Both end with the transport.
func carriedPair(lag time.Duration, gated bool) (a, b net.Conn, ways [2]*carrier) {
	a, innerA := net.Pipe()
	b, innerB := net.Pipe()
	for i, ends := range [][2]net.Conn{{innerA, innerB}, {innerB, innerA}} {
		c := &carrier{from: ends[0], to: ends[1], lag: lag, gated: gated, kick: make(chan struct{}, 1)}
		ways[i] = c
		go c.take()
		go c.give()
	}
	return a, b, ways
}

func (c *carrier) take() {
	buf := make([]byte, 256<<10)
	for {
		n, err := c.from.Read(buf)
		c.mu.Lock()
		if n > 0 {
			c.held = append(c.held, cargo{append([]byte(nil), buf[:n]...), time.Now()})
		}
		if err != nil {
			c.held = append(c.held, cargo{nil, time.Now()})
		}
		c.mu.Unlock()
		c.wake()
		if err != nil {
			return
		}
	}
}

func (c *carrier) give() {
	for {
		c.mu.Lock()
		var next cargo
		ok := len(c.held) > 0 && (!c.gated || c.allowed > 0)
		if ok {
			next, c.held = c.held[0], c.held[1:]
			c.allowed--
		}
		gated := c.gated
		c.mu.Unlock()
		if !ok {
			<-c.kick
			continue
		}
		if !gated {
			// Not for what is due: each receiver runs a timer that is over by itself, and
			// two of a bubble at once crash the race detector (Go 1.26).
			if d := time.Until(next.at.Add(c.lag)); d > 0 {
				<-time.After(d)
			}
		}
		if next.b == nil {
			c.to.Close()
			return
		}
		c.to.Write(next.b) // who has closed its end hears nothing more
	}
}

func (c *carrier) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// deliver lets what is held through, and waits until it has been taken.
func (c *carrier) deliver() {
	synctest.Wait()
	c.mu.Lock()
	c.allowed = len(c.held)
	c.mu.Unlock()
	c.wake()
	synctest.Wait()
}

// openGate lets everything through from now on.
func (c *carrier) openGate() {
	c.mu.Lock()
	c.gated = false
	c.mu.Unlock()
	c.wake()
}

// settleOne waits until everything that can happen soon has happened.
func settleOne() {
	synctest.Wait()
	<-time.After(2 * lazyAfter << maxStandbyBackoff)
	synctest.Wait()
}

// carriedSessions are two Listeners in a bubble with protocol 1 between them.
func carriedSessions(t *testing.T, lag time.Duration, gated bool, cfg *Config) (ends [2]*Listener, ways [2]*carrier) {
	t.Helper()
	var transports [2]net.Conn
	transports[0], transports[1], ways = carriedPair(lag, gated)
	for i, tr := range transports {
		l, err := NewListener(tr, (transport{protocol: Protocol1}).config(cfg))
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = l
	}
	t.Cleanup(func() {
		for _, w := range ways {
			w.openGate()
		}
		closeBoth(ends[0], ends[1])
		<-time.After(2 * lag) // what is under way has arrived
		synctest.Wait()
	})
	return ends, ways
}

// tryAccept accepts a connection if there is one, and returns nil if not.
func tryAccept(l *Listener) (*Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	c, err := l.AcceptConn(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, nil
	}
	return c, err
}

// connectOne opens a connection from one end and accepts it at the other.
func connectOne(t *testing.T, from, to *Listener, i int) (x, y *Conn) {
	t.Helper()
	x, err := from.Open(bounded(t), testAddr(i))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if y, err = to.AcceptConn(bounded(t)); err != nil {
		t.Fatalf("AcceptConn: %v", err)
	}
	t.Cleanup(func() { x.Close(); y.Close() })
	return x, y
}

// interleavings calls f with every order of steps in which each row keeps its own.
// Rows are strings of letters, one a step. Under the race detector, and with -short,
// it leaves most of them out.
func interleavings(rows []string, f func(order string)) {
	n, every := 0, 1
	if raceEnabled || testing.Short() {
		every = 11
	}
	var merge func(order []byte, rows []string)
	merge = func(order []byte, rows []string) {
		done := true
		for i, r := range rows {
			if len(r) == 0 {
				continue
			}
			done = false
			rest := append([]string(nil), rows...)
			rest[i] = r[1:]
			merge(append(order, r[0]), rest)
		}
		if done {
			if n++; n%every == 0 {
				f(string(order))
			}
		}
	}
	merge(nil, rows)
}
