package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/vtmux/vtmux/mux"
)

// The model of a session is strings of bytes: what one application has written on a
// connection is what the other one reads, to the last byte if it reads io.EOF, and its
// front if it reads anything else at the end.

// pattern is what all streams are made of, each from a place of its own. The length is
// a prime, so that no slip by a power of two goes unseen.
const patternLen = 65521

var pattern = func() []byte {
	b := make([]byte, patternLen+3<<16)
	x := uint32(1)
	for i := range b {
		if i >= patternLen {
			b[i] = b[i-patternLen]
			continue
		}
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}()

// An ending is how a half ends, by what its writer's application has asked for first.
type ending uint8

const (
	open ending = iota
	clean
	aborted // by Reset, or Reject
)

// A stream is one direction of a connection. Its world's mu guards it.
type stream struct {
	seed    int
	written int  // bytes that Writes have counted
	tried   int  // bytes that Writes have been given at most
	unsure  bool // or more: the session ended in the middle
	ending  ending
	code    mux.Code

	read    int
	eof     bool
	readErr error // other than a deadline's
	given   bool  // the reader has given up, by CloseRead, Close or Reset
	served  bool  // the reader's end has been handed to an application

	// mayRefuse: of the vt-muxer protocol, from an acceptor whose application has not
	// got it: its session may refuse it, and then the opener reads io.EOF at once.
	mayRefuse bool
}

// at returns n bytes of the stream from offset off on.
func (s *stream) at(off, n int) []byte {
	from := (s.seed*7919 + off) % patternLen
	return pattern[from : from+n]
}

// reads takes what a Read has returned. The error is of the model.
func (s *stream) reads(p []byte, err error) error {
	for q := p; len(q) > 0; {
		n := min(len(q), 1<<16)
		if want := s.at(s.read, n); !bytes.Equal(q[:n], want) {
			return fmt.Errorf("%d bytes were read at offset %d, and are not those that were written there", len(p), s.read)
		}
		s.read += n
		q = q[n:]
	}
	switch {
	case s.read > s.tried:
		return fmt.Errorf("%d bytes were read, %d had been written", s.read, s.tried)
	case len(p) > 0 && s.eof:
		return fmt.Errorf("%d bytes were read behind io.EOF", len(p))
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err == io.EOF:
		if s.eof = true; s.ending == open && !s.mayRefuse {
			return fmt.Errorf("io.EOF after %d of %d bytes, and nobody has ended the half", s.read, s.tried)
		}
		return nil
	case s.eof && !s.given:
		return fmt.Errorf("Read returned io.EOF, and then %w", err)
	}
	s.readErr = err
	return typed(err)
}

// wrote takes what a Write of size bytes has returned.
func (s *stream) wrote(n, size int, err error) error {
	s.written += n
	switch {
	case n < 0 || n > size || n < size && err == nil:
		return fmt.Errorf("Write of %d bytes returned %d, %v", size, n, err)
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	// Where the session has ended meanwhile, nobody knows what was sent.
	s.unsure = s.unsure || !errors.Is(err, syscall.EPIPE) && !isReset(err)
	return typed(err)
}

func isReset(err error) bool {
	var reset *mux.ResetError
	return errors.As(err, &reset)
}

// ended holds the stream against the model when nothing more will come. whole: neither
// the transport nor an application has cut the sessions.
func (s *stream) ended(whole bool) error {
	switch {
	case s.eof && s.read < s.written, s.eof && s.read > s.written && (whole || !s.unsure):
		return fmt.Errorf("io.EOF after %d bytes, %d had been written", s.read, s.written)
	case s.eof && s.ending == aborted:
		return fmt.Errorf("io.EOF after %d bytes of a half that was reset", s.read)
	case !whole || !s.served || s.given:
		return nil
	case s.eof:
		return nil
	case s.readErr == nil:
		return errors.New("nothing ended it")
	case s.ending == clean:
		return fmt.Errorf("%d of %d bytes were read, and then %w", s.read, s.written, s.readErr)
	}
	var reset *mux.ResetError
	if errors.As(s.readErr, &reset) && (reset.Code != s.code || !reset.Remote) {
		return fmt.Errorf("Read returned %w, want code %d of the peer", s.readErr, s.code)
	}
	return nil
}

// typed returns nil if err is one of those that errors.go promises, and of those that
// an honest peer may cause.
func typed(err error) error {
	var (
		reset     *mux.ResetError
		refused   *mux.RefusedError
		stopped   *mux.StoppedError
		goAway    *mux.GoAwayError
		transport *mux.TransportError
		protocol  *mux.ProtocolError
	)
	switch {
	case errors.Is(err, io.EOF) && err != io.EOF:
		return fmt.Errorf("error %T %w wraps io.EOF", err, err)
	case errors.As(err, &protocol):
		if protocol.Code == mux.CodeTimeout && errors.Is(err, mux.ErrNoPreface) {
			return nil // the transport stalls
		}
		return fmt.Errorf("an honest peer has broken the protocol: %w", err)
	case errors.As(err, &reset), errors.As(err, &refused), errors.As(err, &stopped), errors.As(err, &goAway), errors.As(err, &transport),
		errors.Is(err, net.ErrClosed), errors.Is(err, syscall.EPIPE), errors.Is(err, mux.ErrDraining):
		return nil
	}
	return fmt.Errorf("error %T %w is none that is promised", err, err)
}
