package scenario

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

var errAnswer = errors.New("the answer is not what was sent")

// A talk is the client's side of questions and answers on one stream.
type talk struct {
	question, answer []byte
	n                uint64
}

func newTalk(size int) *talk {
	t := &talk{question: make([]byte, size), answer: make([]byte, size)}
	for i := range t.question {
		t.question[i] = byte(i)
	}
	return t
}

// turn sends a question that differs from the last one, and waits for the same back.
func (t *talk) turn(c net.Conn) error {
	t.n++
	if len(t.question) >= 8 {
		binary.LittleEndian.PutUint64(t.question, t.n)
	}
	if _, err := c.Write(t.question); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, t.answer); err != nil {
		return err
	}
	if !bytes.Equal(t.answer, t.question) {
		return errAnswer
	}
	return nil
}

// echo answers each message with itself.
func echo(c net.Conn, p []byte) error {
	for {
		if _, err := io.ReadFull(c, p); err != nil {
			return err
		}
		if _, err := c.Write(p); err != nil {
			return err
		}
	}
}

// eachStream is a server that deals with every stream on a goroutine of its own, with a buffer of so many bytes. What it
// allocates for a stream it uses again, so that the allocations that are counted are the library's.
func eachStream(size int, serve func(net.Conn, []byte) error) func(adapter.Session) error {
	idle := sync.Pool{New: func() any {
		w := &worker{serve: serve, buf: make([]byte, size)}
		w.run = w.work
		return w
	}}
	return func(s adapter.Session) error {
		for {
			c, err := s.Accept()
			if err != nil {
				return err
			}
			w := idle.Get().(*worker)
			w.c, w.idle = c, &idle
			go w.run()
		}
	}
}

// A worker serves one stream at a time.
type worker struct {
	c     net.Conn
	buf   []byte
	serve func(net.Conn, []byte) error
	idle  *sync.Pool
	run   func() // work: a method value made once
}

// work serves. The client notices that a stream ended too early; why, only we know.
func (w *worker) work() {
	if err := w.serve(w.c, w.buf); errors.Is(err, errContent) {
		fmt.Fprintln(os.Stderr, "server:", err)
	}
	w.c.Close()
	w.c = nil
	w.idle.Put(w)
}

// errContent is what a server says when bytes have arrived that were not sent so.
var errContent = errors.New("what has arrived is not what was sent")
