package adapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vtmux/vtmux/internal/interop"
)

// VTMuxer is the Rust crate vt-muxer as the server, in the program of the interoperability tests, and vtmux as its
// client: so half of what is measured is ours. The program polls all connections at each wake-up, which works around
// vt-muxer's lost wake-ups, and has one thread.
var VTMuxer = func() Adapter {
	a := VTMuxVT
	a.Name = "vt-muxer"
	a.Config = "the crate at the server, in the program of the interoperability tests, one thread; vtmux at the client"
	a.Lacks = vtMuxerLacks
	a.Ready = func() error { _, err := vtMuxerProgram(); return err }
	a.Listen = vtMuxerListen
	return a
}()

func vtMuxerLacks(scenario string) string {
	switch {
	case strings.HasPrefix(scenario, "Idle"):
		return "its memory can't be asked for"
	case strings.HasPrefix(scenario, "Small"):
		return "a frame header that a read cuts in two waits for the program's tick of 2 ms"
	case strings.HasPrefix(scenario, "Open"):
		return "the program keeps a record of every connection"
	case strings.HasPrefix(scenario, "Crowd") && len(scenario) > len("Crowd128"):
		return "the program polls all connections at each wake-up"
	}
	return lacksFlowControl(scenario)
}

// vtMuxerProgram builds the program, the first time for long, and then looks whether it is up to date.
var vtMuxerProgram = sync.OnceValues(func() (string, error) {
	crate, err := vtMuxerCrate()
	if err != nil {
		return "", err
	}
	program, err := interop.Build(context.Background(), crate)
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("cargo is not installed")
	}
	return program, err
})

// vtMuxerCrate finds the program's source from any folder of the tree.
func vtMuxerCrate() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		crate := filepath.Join(at, "internal", "interop", "peer")
		if _, err := os.Stat(filepath.Join(crate, "Cargo.toml")); err == nil {
			return crate, nil
		}
		if filepath.Dir(at) == at {
			return "", fmt.Errorf("%s is not in vtmux's tree, where the program's source is", dir)
		}
	}
}

func vtMuxerListen(o Options) (string, func() (Session, error), error) {
	program, err := vtMuxerProgram()
	if err != nil {
		return "", nil, err
	}
	script := interop.Script{Order: interop.Echo, WriteSize: o.Task.Read, Flush: true, Unsummed: true}
	if !o.Task.Echo {
		script.Order, script.Send = interop.Acknowledge, o.Task.AckEvery
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	peer, err := interop.Start(ctx, program, interop.Setup{
		Role:      interop.Listener,
		Transport: interop.Transport{Bind: &loopback},
		Driver:    interop.OneTask,
		Accept:    &script,
	})
	if err != nil {
		return "", nil, err
	}
	return peer.Addr().String(), func() (Session, error) {
		return &vtMuxerServer{Peer: peer, closed: make(chan struct{})}, nil
	}, nil
}

// vtMuxerServer is a session at whose other process everything happens.
type vtMuxerServer struct {
	*interop.Peer
	once   sync.Once
	closed chan struct{}
}

func (s *vtMuxerServer) Open() (net.Conn, error) { return nil, errors.ErrUnsupported }

// Accept gives none: the program deals with them.
func (s *vtMuxerServer) Accept() (net.Conn, error) {
	<-s.closed
	return nil, net.ErrClosed
}

func (s *vtMuxerServer) Close() (err error) {
	s.once.Do(func() {
		err = s.Peer.Close()
		close(s.closed)
	})
	return err
}
