package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/vtmux/vtmux/cmd/internal/proxy"
	"github.com/vtmux/vtmux/mux"
)

func edge(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("vtmux edge", flag.ContinueOnError)
	listen := flags.String("listen", "localhost:8080", "accept clients at this address")
	connect := flags.String("connect", "localhost:7000", "the origin's address")
	grace := flags.Duration("grace", 10*time.Second, "how long connections may go on after SIGTERM or an interrupt")
	verbose := flags.Bool("v", false, "log each connection that fails")
	protocol := protocolFlag(flags)
	if err := parse(flags, args); err != nil {
		return err
	}
	config, err := muxConfig(*protocol)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	slog.Info("edge", "listen", l.Addr(), "connect", *connect)
	uplink := proxy.NewUplink(*connect, config)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), *grace)
		defer cancel()
		uplink.Shutdown(ctx)
	}()
	return newServer(uplink.Connect, *grace, *verbose).Serve(ctx, l)
}

func origin(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("vtmux origin", flag.ContinueOnError)
	listen := flags.String("listen", "localhost:7000", "accept edges at this address; whoever can connect is believed about its clients' addresses")
	backend := flags.String("backend", "localhost:80", "the backend's address")
	header := flags.Bool("proxy-header", true, "begin each connection to the backend with a PROXY header (version 2)")
	grace := flags.Duration("grace", 10*time.Second, "how long connections may go on after SIGTERM or an interrupt")
	verbose := flags.Bool("v", false, "log each connection that fails")
	protocol := flags.String("protocol", "auto", "wire protocol to take from edges: auto (each may choose), 1, vt")
	if err := parse(flags, args); err != nil {
		return err
	}
	config := &mux.Config{Protocol: mux.ProtocolAuto}
	if *protocol != "auto" {
		var err error
		if config, err = muxConfig(*protocol); err != nil {
			return fmt.Errorf("%w, or auto", err)
		}
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	slog.Info("origin", "listen", l.Addr(), "backend", *backend)
	dial := proxy.DialPlainTCP(*backend)
	if *header {
		dial = proxy.DialTCP(*backend)
	}
	return proxy.ServeTransports(ctx, l, config, newServer(dial, *grace, *verbose), func(err error) {
		slog.Info("session ended", "err", err)
	})
}

func newServer(connect proxy.Connector, grace time.Duration, verbose bool) *proxy.Server {
	s := &proxy.Server{Connect: connect, Grace: grace}
	if verbose {
		s.OnError = func(client netip.AddrPort, err error) {
			slog.Warn("connection failed", "client", client, "err", err)
		}
	}
	return s
}
