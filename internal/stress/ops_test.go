package stress

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/vtmux/vtmux/mux"
)

// A plan says what an end does with its Conn.
type plan struct {
	size   int64 // that it writes
	most   int   // in one call
	ending act   // when that is done
	sudden act   // what its reader does when it has read from bytes
	from   int64
	last   act // when both its goroutines are done
}

// An act is a call, or a way to leave.
type act int

const (
	nothing act = iota
	doClose
	doReset
	doCloseRead
	doCloseWrite
	doJolt // set a deadline that has passed, and take it away
	doQuit // read no more
	doSink // WriteTo where nothing more can be written
	doDrop // lose the Conn
)

// draw draws an act: of acts as they come, or else nothing.
func draw(r *rand.Rand, acts ...act) act { return acts[r.IntN(len(acts))] }

// newPlan draws what an end does. Only one end of a session may quit, else both might wait for the other.
func newPlan(r *rand.Rand, opener, mayQuit bool) (p plan) {
	switch r.IntN(16) {
	default:
		p.size, p.most = r.Int64N(300), 300
	case 5, 6, 7, 8:
		p.size, p.most = r.Int64N(12<<10), 8<<10
	case 9, 10, 11, 12, 13:
		p.size, p.most = r.Int64N(128<<10), 48<<10
	case 14:
		p.size, p.most = r.Int64N(512<<10), 300<<10
	case 15:
		p.size, p.most = r.Int64N(2<<20), 200<<10
	}
	p.ending = draw(r, doCloseWrite, doCloseWrite, doCloseWrite, doCloseWrite, doCloseWrite, doClose, doReset)
	if !opener && r.IntN(4) == 0 {
		p.ending = nothing // until the opener has ended
	}
	p.last = draw(r, doClose, doClose, doClose, doReset, doDrop)
	if r.IntN(3) == 0 {
		p.sudden = draw(r, doClose, doReset, doCloseRead, doCloseWrite, doJolt, doSink)
		p.from = r.Int64N(1 << (4 + r.IntN(15)))
	} else if mayQuit && r.IntN(6) == 0 {
		p.sudden = doQuit
		p.from = r.Int64N(1 << (4 + r.IntN(15)))
	}
	return p
}

// serve does with c what the plan says. It is the only one who knows c.
func (e *end) serve(c *mux.Conn, seed uint64) {
	read := make(chan struct{})
	go func() {
		defer close(read)
		e.read(c, rand.New(rand.NewPCG(seed, 1)))
	}()
	e.write(c, rand.New(rand.NewPCG(seed, 2)))
	<-read
	e.act(c, e.does.last)
}

func (e *end) act(c *mux.Conn, a act) {
	s := e.k.s
	switch a {
	case doClose:
		e.out.ended.Store(true)
		e.did.Or(didClose)
		if err := c.Close(); err != nil {
			e.fails("Close: %v", err)
		}
	case doReset:
		if !s.one {
			e.out.ended.Store(true) // the vt-muxer protocol ends the half, without losing what was counted
		}
		e.did.Or(didReset | didClose)
		if err := c.Reset(e.k.resetCode()); err != nil {
			e.fails("Reset: %v", err)
		}
	case doCloseRead:
		e.did.Or(didCloseRead)
		if err := c.CloseRead(); err != nil && !e.has(didClose) {
			e.fails("CloseRead: %v", err)
		}
	case doCloseWrite:
		e.out.ended.Store(true)
		e.did.Or(didCloseWrite)
		e.writeOver(c.CloseWrite(), deadline{})
	case doJolt:
		e.did.Or(didJolt)
		c.SetDeadline(time.Unix(1, 0))
		runtime.Gosched()
		c.SetDeadline(time.Time{})
	case doDrop:
		e.out.ended.Store(true)
		if !e.has(didClose) {
			s.drops[e.side].Add(1)
			s.run.drops.Store(true)
		}
		e.did.Or(didClose)
	}
}

// deadlineAt draws a deadline: mostly none, and else one that is near or has passed.
func deadlineAt(r *rand.Rand) (at deadline) {
	switch r.IntN(10) {
	case 0:
		at.Time = time.Now().Add(time.Duration(r.IntN(3000)) * time.Microsecond)
	case 1:
		at.Time = time.Now().Add(time.Duration(r.IntN(100)) * time.Microsecond)
	case 2:
		at.Time = time.Now().Add(-time.Second)
	}
	return at
}

// read reads to the end, or until the plan says otherwise.
func (e *end) read(c *mux.Conn, r *rand.Rand) {
	most := 1 << (4 + r.IntN(14))
	buf := make([]byte, most)
	var at deadline
	for over := false; !over; {
		e.k.s.op()
		if p := &e.does; p.sudden != nothing && e.in.read.Load() >= p.from {
			a := p.sudden
			p.sudden = nothing
			switch a {
			case doQuit:
				e.did.Or(didQuit)
				return
			case doSink:
				e.did.Or(didQuit)
				e.sink(c)
				e.act(c, doClose)
				return
			}
			e.act(c, a)
		}
		if r.IntN(2) == 0 {
			at = deadlineAt(r)
			c.SetReadDeadline(at.Time)
		}
		switch n := r.IntN(64); {
		case n < 4:
			over = e.readOver(e.writeTo(c), at)
		case n == 4:
			over = e.readOver(e.writeToSocket(c, r), at)
		case n == 5:
			n, err := c.Read(nil)
			if n != 0 {
				e.fails("Read of nothing: %d", n)
			}
			over = err != nil && err != io.EOF && e.readOver(err, at)
		case n == 6:
			e.k.s.run.pause()
		default:
			p := buf[:1+r.IntN(most)]
			n, err := c.Read(p)
			if n == 0 && err == nil {
				e.fails("Read: 0 bytes and no error")
			}
			e.got(p[:n])
			over = e.readOver(err, at)
		}
	}
}

// A checker is written to by WriteTo.
type checker struct {
	e    *end
	left int // it takes no more than that many bytes; below zero: all
	took int64
}

var errFull = errors.New("the sink is full")

func (w *checker) Write(p []byte) (int, error) {
	n := len(p)
	if w.left >= 0 {
		n = min(n, w.left)
		w.left -= n
	}
	w.e.got(p[:n])
	w.took += int64(n)
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// writeTo reads with WriteTo to the end, or until the deadline.
func (e *end) writeTo(c *mux.Conn) error {
	w := &checker{e: e, left: -1}
	n, err := c.WriteTo(w)
	if n != w.took {
		e.fails("WriteTo: %d, but %d bytes came", n, w.took)
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

// sink reads with WriteTo until its destination fails. What was taken from the connection then is lost.
func (e *end) sink(c *mux.Conn) {
	w := &checker{e: e, left: 10_000}
	n, err := c.WriteTo(w)
	switch {
	case n != w.took:
		e.fails("WriteTo: %d, but %d bytes came", n, w.took)
	case err == nil:
		e.readOver(io.EOF, deadline{})
	case err != errFull:
		at := deadline{time.Unix(1, 0)} // there may be one
		e.readOver(err, at)
	}
}

// writeToSocket is writeTo by way of a socket, as a proxy does it.
func (e *end) writeToSocket(c *mux.Conn, r *rand.Rand) error {
	near, far, err := socketPair(mostlyUnix(r))
	if err != nil {
		e.fails("a socket: %v", err)
		return nil
	}
	defer far.Close()
	checked := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(&checker{e: e, left: -1}, struct{ io.Reader }{far})
		checked <- n
	}()
	n, err := c.WriteTo(near)
	near.Close()
	if got := <-checked; got != n {
		e.fails("WriteTo to a socket: %d, but %d bytes came", n, got)
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

// write writes what the plan says, and ends.
func (e *end) write(c *mux.Conn, r *rand.Rand) {
	buf := make([]byte, e.does.most)
	var at deadline
	for over := false; !over && e.out.written.Load() < e.does.size; {
		e.k.s.op()
		if r.IntN(2) == 0 {
			at = deadlineAt(r)
			c.SetWriteDeadline(at.Time)
		}
		off := e.out.written.Load()
		p := buf[:min(int64(1+r.IntN(len(buf))), e.does.size-off)]
		if r.IntN(2) == 0 {
			p = p[:min(len(p), 200)]
		}
		e.out.offered.Store(max(off+int64(len(p)), e.out.offered.Load()))
		copy(p, e.out.at(off, len(p)))
		var n int64
		var err error
		switch m := r.IntN(64); {
		case m < 6:
			n, err = e.writeBuffers(c, p, r)
		case m < 10:
			n, err = c.ReadFrom(&source{p: p, r: r})
		case m == 10:
			n, err = e.readFromSocket(c, p, r)
		case m == 11:
			if n, err := c.Write(nil); n != 0 {
				e.fails("Write of nothing: %d, %v", n, err)
			}
			continue
		default:
			m, werr := c.Write(p)
			n, err = int64(m), werr
		}
		clear(p) // it is ours again
		e.out.written.Add(n)
		if n < 0 || n > int64(len(p)) || n < int64(len(p)) && err == nil {
			e.fails("writing: %d of %d, %v", n, len(p), err)
		}
		over = e.writeOver(err, at)
	}
	e.act(c, e.does.ending)
}

// writeBuffers writes p in pieces.
func (e *end) writeBuffers(c *mux.Conn, p []byte, r *rand.Rand) (int64, error) {
	var v net.Buffers
	for rest := p; len(rest) > 0; {
		n := 1 + r.IntN(len(rest))
		v = append(v, rest[:n])
		rest = rest[n:]
	}
	n, err := c.WriteBuffers(&v)
	left := 0
	for _, b := range v {
		left += len(b)
	}
	if int(n)+left != len(p) {
		e.fails("WriteBuffers: %d written and %d left of %d", n, left, len(p))
	}
	return n, err
}

// A source gives p in pieces.
type source struct {
	p []byte
	r *rand.Rand
}

func (s *source) Read(b []byte) (int, error) {
	if len(s.p) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:1+s.r.IntN(len(b))], s.p)
	s.p = s.p[n:]
	return n, nil
}

// mostlyUnix draws a network: each TCP connection uses up a port for a minute.
func mostlyUnix(r *rand.Rand) string {
	if r.IntN(16) == 0 {
		return "tcp"
	}
	return "unix"
}

// readFromSocket writes p with ReadFrom, by way of a socket.
func (e *end) readFromSocket(c *mux.Conn, p []byte, r *rand.Rand) (int64, error) {
	near, far, err := socketPair(mostlyUnix(r))
	if err != nil {
		e.fails("a socket: %v", err)
		return 0, os.ErrDeadlineExceeded
	}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		far.Write(p)
		far.Close()
	}()
	n, err := c.ReadFrom(near)
	near.Close()
	<-fed
	return n, err
}

// bounded returns a context for what should not take long, though mostly one that never ends.
func bounded(r *rand.Rand) (context.Context, context.CancelFunc) {
	if r.IntN(8) > 0 {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), time.Duration(r.IntN(2000))*time.Microsecond)
}
