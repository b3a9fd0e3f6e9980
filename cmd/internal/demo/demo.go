// Package demo fetches a tree of files over HTTP through an edge and an origin that share one transport, checks every
// byte, and measures what the multiplexer adds.
//
//	clients --64 TCP--> edge --1 TCP--> origin --64 TCP--> net/http file server
//
// The same run without the multiplexer has the same edge and origin, and 64 TCP connections in the middle too.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/vtmux/vtmux/mux"
)

// Config says what to fetch, and how.
type Config struct {
	Dir     string // the tree to serve and fetch
	Files   int    // fetch at most so many files; 0 means all
	Clients int    // concurrent HTTP clients, each with one TCP connection and an address of its own
	Direct  bool   // run without the multiplexer too

	Mux *mux.Config

	// Progress, if not nil, is a terminal that shows how far the run is.
	Progress io.Writer

	// wrap, if not nil, comes between the backend's HTTP server and its files, so that a test can break it.
	wrap func(http.Handler) http.Handler
}

// A Report has what the runs measured. Direct is nil if that run was not asked for.
type Report struct {
	Mux, Direct *Run
}

// Execute does the runs. It returns an error if anything was not as it must be: a byte, an address, a count.
func Execute(ctx context.Context, config Config) (*Report, error) {
	if config.Clients < 1 {
		return nil, errors.New("demo: at least one client is needed")
	}
	files, err := readTree(ctx, config.Dir, config.Files)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("demo: no files under %s", config.Dir)
	}
	// A client without a file would not connect, and its address would be missed at the backend.
	config.Clients = min(config.Clients, len(files))

	if config.Direct {
		warmUp(ctx, config, files)
	}
	report := &Report{}
	if report.Mux, err = run(ctx, config, files, startMux); err != nil {
		return report, fmt.Errorf("through vtmux: %w", err)
	}
	if n := report.Mux.Transports; n != 1 {
		return report, fmt.Errorf("through vtmux: %d transport connections, want 1", n)
	}
	if !config.Direct {
		return report, nil
	}
	if report.Direct, err = run(ctx, config, files, startDirect); err != nil {
		return report, fmt.Errorf("without vtmux: %w", err)
	}
	if r := report.Direct; r.Transports != r.Clients {
		return report, fmt.Errorf("without vtmux: %d transport connections for %d clients", r.Transports, r.Clients)
	}
	return report, nil
}

// warmUp makes the process allocate what only its first requests need, which would count as the multiplexer's since
// that run comes first. A failure here fails the measured runs too.
func warmUp(ctx context.Context, config Config, files []file) {
	const requests = 8 // a client
	config.Progress = nil
	run(ctx, config, files[:min(len(files), requests*config.Clients)], startDirect)
}
