package hostile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/vtmux/vtmux/internal/leakcheck"
)

// roleVar says what a process that runs this test binary is: a victim, an attacker, or, where it is not set, the tests.
const roleVar = "VTMUX_HOSTILE_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); role {
	case "":
		leakcheck.Main(m, leakcheck.OpenFiles())
	case "victim":
		serveCalls(newVictim().call)
	case "attacker":
		if err := giveWay(); err != nil {
			panic(err)
		}
		serveCalls(newAttacker().call)
	default:
		panic("unknown role " + role)
	}
}

// A call is what the test asks of a child process.
type call struct {
	Op     string
	Setup  setup  // of the victim
	Attack string // the name of the attack
	Addr   string // of the hostile port
	Budget budget
}

// An answer is what a child process says to a call.
type answer struct {
	Err             string
	Honest, Hostile string // the victim's ports
	State           state  // the victim's
	Report          report // the attacker's
}

// serveCalls is a child process: it answers the calls on its stdin, one at a time, until that ends.
func serveCalls(f func(call) (answer, error)) {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var c call
		if err := in.Decode(&c); err != nil {
			os.Exit(0) // the test has ended
		}
		a, err := f(c)
		if err != nil {
			a.Err = err.Error()
		}
		if err := out.Encode(a); err != nil {
			os.Exit(1)
		}
	}
}

// A child is a process of this package as the test sees it.
type child struct {
	cmd  *exec.Cmd
	mu   sync.Mutex // held during a call
	pipe io.Closer
	in   *json.Encoder
	out  *json.Decoder
}

// startChild starts a child process that the end of the test ends.
func startChild(t *testing.T, role string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, pipe: stdin, in: json.NewEncoder(stdin), out: json.NewDecoder(stdout)}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the %s: %v", role, err)
		}
	})
	return c
}

// ask makes a call.
func (c *child) ask(t *testing.T, q call) answer {
	t.Helper()
	a, err := c.tryAsk(q)
	if err != nil {
		t.Fatalf("%s: %v", q.Op, err)
	}
	return a
}

func (c *child) tryAsk(q call) (a answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.in.Encode(q); err != nil {
		return a, err
	}
	if err := c.out.Decode(&a); err != nil {
		return a, fmt.Errorf("no answer: %w", err)
	}
	if a.Err != "" {
		return a, errors.New(a.Err)
	}
	return a, nil
}
