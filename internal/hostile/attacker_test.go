package hostile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A budget is how long an attack lasts: until Frames have been sent and AtLeast has passed, but no longer than AtMost.
type budget struct {
	Frames          int
	Sessions        int // at most. 0: any number
	AtLeast, AtMost time.Duration
}

// A report is what an attacker has seen.
type report struct {
	Sent     int // frames, as far as the transport has taken them
	Sessions int
	Codes    map[int]int // of the GOAWAYs that came
	Seen     seen
	Amiss    []string // what the victim should have done otherwise
	Took     time.Duration
}

// seen counts the frames that came.
type seen struct{ Data, Fin, Window, Reset, Refused, Stop, Ack, Ping int64 }

const (
	// dialLimit and endLimit bound waits that end early unless something is wrong.
	dialLimit = 10 * time.Second
	endLimit  = 20 * time.Second
	// stallLimit is how long a write may last before the attacker takes it that the victim reads no more. A deaf one does not
	// always hear that the transport has been closed.
	stallLimit = 5 * time.Second
	// batchSize is how many bytes the attacker writes at a time.
	batchSize = 16 << 10
)

// An attacker runs one attack.
type attacker struct {
	attack *attack
	addr   string
	budget budget
	began  time.Time

	mu     sync.Mutex
	report report
	held   []*link
	reader sync.WaitGroup
}

func newAttacker() *attacker { return &attacker{report: report{Codes: make(map[int]int)}} }

func (a *attacker) call(c call) (answer, error) {
	switch c.Op {
	case "attack":
		a.attack = findAttack(c.Attack)
		a.addr, a.budget, a.began = c.Addr, c.Budget, time.Now()
		if err := a.run(); err != nil {
			return answer{}, err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.report.Took = time.Since(a.began)
		return answer{Report: a.report}, nil
	case "leave":
		for _, l := range a.held {
			l.conn.Close()
		}
		a.reader.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		return answer{Report: a.report}, nil
	}
	return answer{}, errors.New("unknown call")
}

// run attacks, again and again where the victim ends the session.
func (a *attacker) run() error {
	for i := 0; ; i++ {
		l, err := a.dial(i)
		if err != nil {
			return err
		}
		a.attack.script(l)
		l.flush()
		if a.attack.seesEnd() {
			l.waitEnd()
		}
		again := a.more()
		if !a.attack.again {
			again = i+1 < a.budget.Sessions
		}
		if a.attack.seesEnd() || a.attack.again && again {
			l.conn.Close() // else the victim would wait for that, a second long
		} else {
			a.held = append(a.held, l)
		}
		if !again {
			return nil
		}
	}
}

// more reports whether the budget allows another frame.
func (a *attacker) more() bool {
	a.mu.Lock()
	sent, sessions := a.report.Sent, a.report.Sessions
	a.mu.Unlock()
	took := time.Since(a.began)
	if took >= a.budget.AtMost || a.budget.Sessions > 0 && sessions >= a.budget.Sessions {
		return false
	}
	return sent < a.budget.Frames || took < a.budget.AtLeast
}

func (a *attacker) amiss(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.report.Amiss) < 5 {
		a.report.Amiss = append(a.report.Amiss, fmt.Sprintf(format, args...))
	}
}

// A link is one session, from the attacker's side.
type link struct {
	a     *attacker
	index int // the how manieth
	conn  net.Conn
	b     []byte // frames that are not written yet
	n     int    // how many
	made  int    // frames of this session
	gone  bool   // nothing can be written any more
	over  chan struct{}
	pings int64        // that a script waits for
	code  atomic.Int32 // of the victim's GOAWAY; -1: none
	ends  atomic.Int64 // ends of connections that came: FIN, RESET or END
	acks  atomic.Int64
	talks atomic.Int64 // connections that the victim has sent DATA on

	windows atomic.Int64 // WINDOWs that came
	limit   atomic.Int64 // that the latest of them said

	event chan struct{} // capacity 1: one of these rose
}

func (a *attacker) dial(index int) (*link, error) {
	conn, err := net.DialTimeout("tcp", a.addr, dialLimit)
	if err != nil {
		return nil, err
	}
	if a.attack.deaf {
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	}
	l := &link{a: a, index: index, conn: conn, over: make(chan struct{}), event: make(chan struct{}, 1)}
	l.code.Store(-1)
	a.mu.Lock()
	a.report.Sessions++
	a.mu.Unlock()
	if !a.attack.deaf {
		a.reader.Add(1)
		go l.read()
	}
	if !a.attack.vt && !a.attack.bare {
		l.b = append(l.b, preface...)
	}
	return l, nil
}

// put sends a frame, or n of them, with others. It reports whether there is a point in going on.
func (l *link) put(n int, frames ...[]byte) bool {
	for _, f := range frames {
		l.b = append(l.b, f...)
	}
	l.n += n
	l.made += n
	if len(l.b) >= batchSize {
		l.flush()
	}
	return !l.gone
}

// flush writes what was put, and reports whether there is a point in going on.
func (l *link) flush() bool {
	select {
	case <-l.over:
		l.gone = true
	default:
	}
	if l.gone || len(l.b) == 0 {
		return !l.gone
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(stallLimit))
	if _, err := l.conn.Write(l.b); err != nil {
		l.gone = true
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	} else {
		l.a.mu.Lock()
		l.a.report.Sent += l.n
		l.a.mu.Unlock()
	}
	l.b, l.n = l.b[:0], 0
	return !l.gone
}

// more reports whether to send more: where the victim must end the session, until it has, for how many frames that takes
// depends on how fast they come.
func (l *link) more() bool {
	if l.gone {
		return false
	}
	if l.a.attack.mustEnd() {
		return time.Since(l.a.began) < l.a.budget.AtMost+endLimit
	}
	return len(l.b) > 0 && len(l.b) < batchSize || l.a.more()
}

// waitEnd waits until the victim has ended the session.
func (l *link) waitEnd() {
	t := time.NewTimer(endLimit)
	defer t.Stop()
	select {
	case <-l.over:
	case <-t.C:
		l.a.amiss("session %d goes on after %d frames", l.index, l.made)
	}
}

// await waits until the victim has brought n up to want, or ended the session.
func (l *link) await(n *atomic.Int64, want int64) bool {
	l.flush()
	t := time.NewTimer(endLimit)
	defer t.Stop()
	for n.Load() < want {
		select {
		case <-l.event:
		case <-l.over:
			return false
		case <-t.C:
			l.a.amiss("session %d: nothing comes after %d frames", l.index, l.made)
			return false
		}
	}
	return true
}

// roundTrip waits for the answer to a PING.
func (l *link) roundTrip() bool {
	l.pings++
	l.put(1, ping(uint64(l.pings)))
	return l.await(&l.acks, l.pings)
}

// read reads until the victim ends its half.
func (l *link) read() {
	defer l.a.reader.Done()
	defer close(l.over)
	var s seen
	r := bufio.NewReaderSize(l.conn, 64<<10)
	var err error
	switch {
	case l.a.attack.bare:
		_, err = io.Copy(io.Discard, r)
	case l.a.attack.vt:
		err = l.readVT(r, &s)
	default:
		err = l.readOne(r, &s)
	}
	l.a.mu.Lock()
	defer l.a.mu.Unlock()
	all := &l.a.report.Seen
	all.Data += s.Data
	all.Fin += s.Fin
	all.Window += s.Window
	all.Reset += s.Reset
	all.Refused += s.Refused
	all.Stop += s.Stop
	all.Ack += s.Ack
	all.Ping += s.Ping
	if code := l.code.Load(); code >= 0 {
		l.a.report.Codes[int(code)]++
	}
	cut := (l.a.attack.vt || l.a.attack.bare) && errors.Is(err, syscall.ECONNRESET) // nothing is said in farewell
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !cut && len(l.a.report.Amiss) < 5 {
		l.a.report.Amiss = append(l.a.report.Amiss, fmt.Sprintf("session %d: read: %v", l.index, err))
	}
}

// rose counts what the script may wait for.
func (l *link) rose(n *atomic.Int64) {
	n.Add(1)
	select {
	case l.event <- struct{}{}:
	default:
	}
}
