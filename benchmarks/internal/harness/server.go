// Package harness runs a scenario's two ends in two processes, since one process would let the scheduler hand
// messages over without the kernel.
//
// The server is this same program, started again; a program that uses the package calls [Main] before anything else.
package harness

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// environment names the variable that makes a process a server, and holds its spec.
const environment = "VTMUX_BENCHMARK_SERVER"

// A spec says what a server does.
type spec struct {
	Adapter  string
	Scenario string
	Streams  int
	Profiles Profiles
}

// askMemory is the one question that a server answers, on standard input. The end of the input ends the server.
const askMemory = "memory"

// Main does not return in a process that was started as a server.
func Main() {
	encoded, ok := os.LookupEnv(environment)
	if !ok {
		return
	}
	if err := serverMain(encoded); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serverMain(encoded string) error {
	var sp spec
	if err := json.Unmarshal([]byte(encoded), &sp); err != nil {
		return err
	}
	a, err := adapter.Lookup(sp.Adapter)
	if err != nil {
		return err
	}
	sc, err := scenario.Lookup(sp.Scenario, sp.Streams)
	if err != nil {
		return err
	}
	stop, err := sp.Profiles.start("server")
	if err != nil {
		return err
	}
	address, session, err := a.Listen()
	if err != nil {
		return err
	}
	go func() {
		s, err := session()
		if err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
			return
		}
		sc.Serve(s) // ends with its client, just before this process is told to
	}()
	if err := answer(address); err != nil {
		return err
	}
	return stop()
}

// answer prints the server's address, and then answers questions until there are no more.
func answer(address string) error {
	fmt.Println(address)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if in.Text() != askMemory {
			return fmt.Errorf("unknown question %q", in.Text())
		}
		if err := json.NewEncoder(os.Stdout).Encode(ReadMemory()); err != nil {
			return err
		}
	}
	return in.Err()
}

// A server is a process that serves one session.
type server struct {
	command *exec.Cmd
	stdin   io.WriteCloser
	stdout  *bufio.Reader
	address string
}

func startServer(sp spec) (*server, error) {
	encoded, err := json.Marshal(sp)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{command: exec.Command(self)}
	s.command.Env = append(os.Environ(), environment+"="+string(encoded))
	s.command.Stderr = os.Stderr
	if s.stdin, err = s.command.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.stdout = bufio.NewReader(stdout)
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	line, err := s.stdout.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the server did not start: %w", err), s.stop())
	}
	s.address = strings.TrimSpace(line)
	return s, nil
}

// memory asks the server for its own.
func (s *server) memory() (m Memory, err error) {
	if _, err := fmt.Fprintln(s.stdin, askMemory); err != nil {
		return m, err
	}
	line, err := s.stdout.ReadBytes('\n')
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(line, &m)
}

func (s *server) stop() error {
	s.stdin.Close()
	return s.command.Wait()
}
