package mux

import (
	"errors"
	"io"
	"net"
	"testing"
)

// What errors say, for tests that take more than errors.Is can tell.

// wantErrAs fails the test unless err is ok.
func wantErrAs(t testing.TB, sentence string, err error, ok func(error) bool) {
	t.Helper()
	if err == nil || !ok(err) {
		t.Fatalf("%s: error %T %v", sentence, err, err)
	}
}

// isReset reports whether err is a reset by the peer with code.
func isReset(code Code, remote bool) func(error) bool {
	return func(err error) bool {
		var e *ResetError
		return errors.As(err, &e) && *e == ResetError{code, remote}
	}
}

// isRefused reports whether err is a refusal.
func isRefused(code Code, reason string) func(error) bool {
	return func(err error) bool {
		var e *RefusedError
		return errors.As(err, &e) && *e == RefusedError{code, reason} && errors.Is(err, ErrRefused)
	}
}

// isStopped reports whether err says that the peer reads no more.
func isStopped(code Code) func(error) bool {
	return func(err error) bool {
		var e *StoppedError
		return errors.As(err, &e) && e.Code == code
	}
}

// errorsIs is errors.Is, with io.EOF from Read as eofKeeper has it.
func errorsIs(err, target error) bool {
	return errors.Is(err, target) || target == io.EOF && err == errCleanEnd
}

// isProtocolError reports whether err is a *ProtocolError of code.
func isProtocolError(err error, code Code) bool {
	var pe *ProtocolError
	return errors.As(err, &pe) && pe.Code == code && pe.Rule != "" && errors.Is(err, ErrProtocol) && !errors.Is(err, io.EOF)
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func all(oks ...func(error) bool) func(error) bool {
	return func(err error) bool {
		for _, ok := range oks {
			if !ok(err) {
				return false
			}
		}
		return true
	}
}

// isRefusedWith is isRefused with any reason.
func isRefusedWith(code Code) func(error) bool {
	return func(err error) bool {
		var e *RefusedError
		return errors.As(err, &e) && e.Code == code && errors.Is(err, ErrRefused)
	}
}

// isGoAway reports whether err says that the peer has ended the session.
func isGoAway(code Code, text string) func(error) bool {
	return func(err error) bool {
		var e *GoAwayError
		return errors.As(err, &e) && e.Code == code && e.Text == text
	}
}

// isGoAwayWith is isGoAway with any text.
func isGoAwayWith(code Code) func(error) bool {
	return func(err error) bool {
		var e *GoAwayError
		return errors.As(err, &e) && e.Code == code
	}
}

// isSilence reports whether err says that the peer was silent for too long.
func isSilence(err error) bool {
	return errors.Is(err, ErrSilent) && !errors.Is(err, io.EOF) && !errors.Is(err, ErrProtocol) && !errors.Is(err, net.ErrClosed)
}
