// Command vtmux is the reference proxy, and a demonstration of it.
//
//	vtmux edge   -listen :8080 -connect origin:7000
//	vtmux origin -listen :7000 -backend localhost:80
//	vtmux demo
//
// The edge carries all its clients to the origin over one TCP connection; the origin makes one connection to the
// backend for each, and tells it the client's address in a PROXY header. The demo runs both, and a backend, in one
// process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/vtmux/vtmux/mux"
)

const usage = `usage: vtmux command [flags]

  edge     accept TCP clients and carry them to an origin over one TCP connection
  origin   accept edges and connect their clients to a backend
  demo     run edge, origin and a file server here, fetch a tree through them, and measure

vtmux command -h lists a command's flags.
`

var commands = map[string]func(ctx context.Context, args []string) error{
	"edge":   edge,
	"origin": origin,
	"demo":   runDemo,
}

// errUsage ends the program with status 2; what is wrong has been printed.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := dispatch(ctx, os.Args[1:]); {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "vtmux:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errUsage
	}
	command, ok := commands[args[0]]
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		return errUsage
	}
	return command(ctx, args[1:])
}

// parse reads a command's flags. It returns a nil error only if the command is to go on.
func parse(flags *flag.FlagSet, args []string) error {
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "unexpected argument %q\n", flags.Arg(0))
		flags.Usage()
		return errUsage
	}
	return nil
}

// protocolFlag defines -protocol for who opens, and so says which protocol it is.
func protocolFlag(flags *flag.FlagSet) *string {
	return flags.String("protocol", "1", "wire protocol between edge and origin: 1, vt")
}

func muxConfig(protocol string) (*mux.Config, error) {
	switch protocol {
	case "1":
		return &mux.Config{Protocol: mux.Protocol1}, nil
	case "vt":
		return &mux.Config{Protocol: mux.ProtocolVT}, nil
	}
	return nil, fmt.Errorf("-protocol %q: unknown; use 1 or vt", protocol)
}
