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
	"sync/atomic"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// environment names the variable that makes a process a server, and holds its spec.
const environment = "VTMUX_BENCHMARK_SERVER"

// A spec says what a server does.
type spec struct {
	Adapter  string
	Scenario string
	Profiles Profiles
}

// The questions that a server answers, on standard input. The end of the input ends the server.
const (
	askMemory = "memory"
	askUsage  = "usage"
)

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
	sc, err := scenario.Lookup(sp.Scenario)
	if err != nil {
		return err
	}
	if sc.OneCore {
		if _, err := useOneCore(); err != nil {
			return err
		}
	}
	stop, err := sp.Profiles.start("server")
	if err != nil {
		return err
	}
	address, session, err := a.Listen(sc.Options())
	if err != nil {
		return err
	}
	var serving atomic.Value
	go func() {
		s, err := session()
		if err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
			return
		}
		serving.Store(&s)
		sc.Serve(s) // ends with its client, just before this process is told to
	}()
	if err := answer(address, &serving); err != nil {
		return err
	}
	return stop()
}

// answer prints the server's address, and then answers questions until there are no more. serving holds the session.
func answer(address string, serving *atomic.Value) error {
	fmt.Println(address)
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() {
		var a any
		switch in.Text() {
		case askMemory:
			a = ReadMemory()
		case askUsage:
			u, err := serverUsage(serving)
			if err != nil {
				return err
			}
			a = u
		default:
			return fmt.Errorf("unknown question %q", in.Text())
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

// serverUsage gives what this process has used, or the one that does the work for it.
func serverUsage(serving *atomic.Value) (Usage, error) {
	s, ok := serving.Load().(*adapter.Session)
	if !ok {
		return ReadUsage(nil), nil
	}
	if foreign, ok := (*s).(interface{ PID() int }); ok {
		return foreignUsage(foreign.PID())
	}
	return ReadUsage(*s), nil
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

func (s *server) memory() (m Memory, err error) { err = s.ask(askMemory, &m); return m, err }
func (s *server) usage() (u Usage, err error)   { err = s.ask(askUsage, &u); return u, err }

// ask puts a question to the server.
func (s *server) ask(question string, answer any) error {
	if _, err := fmt.Fprintln(s.stdin, question); err != nil {
		return err
	}
	line, err := s.stdout.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, answer)
}

func (s *server) stop() error {
	s.stdin.Close()
	return s.command.Wait()
}
