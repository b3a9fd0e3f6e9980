package proxy

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
)

// TestALackOfFilesEndsNoListener: clients and edges come again once relays have returned their file descriptors.
//
// To see it fail: have ServeTransports call l.Accept itself.
func TestALackOfFilesEndsNoListener(t *testing.T) {
	for name, serve := range map[string]func(context.Context, net.Listener) error{
		"Serve": (&Server{}).Serve,
		"ServeTransports": func(ctx context.Context, l net.Listener) error {
			return ServeTransports(ctx, l, nil, &Server{}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := errors.New("the end of the listener")
				l := &failingListener{errs: []error{acceptError(syscall.EMFILE), acceptError(syscall.ENFILE), end}}
				if err := serve(t.Context(), l); err != end {
					t.Errorf("it ended with %q, want %q", err, end)
				}
			})
		})
	}
}

// A failingListener fails to accept in the given ways.
type failingListener struct {
	net.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func (l *failingListener) Close() error { return nil }

// acceptError is what a TCP listener makes of a failed system call.
func acceptError(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", errno)}
}
