package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/vtmux/vtmux/cmd/internal/demo"
)

func runDemo(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("vtmux demo", flag.ContinueOnError)
	dir := flags.String("dir", "", "fetch the files under this directory (default: the Go standard library's source)")
	files := flags.Int("files", 0, "fetch at most so many files (default: all)")
	clients := flags.Int("clients", 64, "concurrent HTTP clients, each with its own TCP connection")
	direct := flags.Bool("direct", true, "measure the same without the multiplexer too")
	timeout := flags.Duration("timeout", 10*time.Minute, "give up after this long")
	protocol := protocolFlag(flags)
	if err := parse(flags, args); err != nil {
		return err
	}
	config := demo.Config{Files: *files, Clients: *clients, Direct: *direct}
	var err error
	if config.Mux, err = muxConfig(*protocol); err != nil {
		return err
	}
	if config.Dir, err = tree(*dir); err != nil {
		return err
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		config.Progress = os.Stdout
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()

	fmt.Printf("fetching %s with %d clients\n", config.Dir, config.Clients)
	report, err := demo.Execute(ctx, config)
	if report != nil {
		report.Print(os.Stdout)
	}
	if err != nil {
		return err
	}
	fmt.Println("every byte is as on disk")
	return nil
}

// tree gives the directory to fetch: dir, or the source of the Go toolchain at hand.
func tree(dir string) (string, error) {
	if dir == "" {
		goroot, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return "", fmt.Errorf("go env GOROOT: %w; name a directory with -dir", err)
		}
		dir = filepath.Join(strings.TrimSpace(string(goroot)), "src")
	}
	// Some systems install the source behind a symbolic link, which a walk does not follow.
	return filepath.EvalSymlinks(dir)
}
