package mux

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	stoppedEnv   = "VTMUX_TEST_STOPPED" // the address to connect to, in the process that is stopped
	stoppedProto = "VTMUX_TEST_STOPPED_PROTOCOL"
)

// TestStoppedProcess stops a process that has a session, and lets it go on (F25). A stop
// that keep-alive bears harms nothing; a longer one ends the session at both ends, each
// with an error that says so. Nothing here waits for a time: the stop lasts until a PING
// has gone unanswered, or until the session has ended.
func TestStoppedProcess(t *testing.T) {
	if to := os.Getenv(stoppedEnv); to != "" {
		beStopped(to)
	}
	t.Run("shorter", func(t *testing.T) {
		overTCP.withEach(t, func(t *testing.T, tr transport) {
			v := startStopped(t, tr, &Config{KeepAliveInterval: 50 * time.Millisecond, KeepAliveTimeout: patience})
			v.stop()
			want := testBytes(1<<20, 1)
			sent := async(func() error {
				_, err := v.c.Write(want)
				return errors.Join(err, v.c.CloseWrite())
			})
			if tr.one() { // until keep-alive has asked, and the answer has not come
				waitUntil(t, "a PING", func() bool {
					v.l.s.watch.mu.Lock()
					defer v.l.s.watch.mu.Unlock()
					return v.l.s.watch.pingedAt != 0
				})
			}
			v.goOn()
			g := wait(t, "the echo", readAll(v.c))
			wantErr(t, "the echo", g.err, nil)
			wantBytes(t, "the echo", g.b, want)
			wantErr(t, "Write", wait(t, "Write", sent), nil)
			wantErr(t, "Shutdown", v.l.Shutdown(bounded(t)), nil)
			v.wantSays("the session is over: mux: the peer closed the transport")
		})
	})
	t.Run("longer", func(t *testing.T) {
		v := startStopped(t, overTCP.speaking(Protocol1), &Config{KeepAliveInterval: 100 * time.Millisecond, KeepAliveTimeout: time.Second})
		v.stop()
		sent := async(func() error { return writeUntilError(v.c, 100_000) })
		got := readAll(eofKeeper{v.c})
		for what, err := range map[string]error{"Read": wait(t, "Read", got).err, "Write": wait(t, "Write", sent)} {
			if !errors.Is(err, ErrSilent) {
				t.Errorf("%s: %v", what, err)
			}
		}
		wait(t, "the session's end", v.l.Done())
		v.goOn()
		v.wantSays("the session is over: mux: ", "transport", "peer ended")
	})
}

// A stoppedProcess is this test's binary, run again, that echoes.
type stoppedProcess struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Reader
	l   *Listener
	c   *Conn // whose bytes it sends back
}

func startStopped(t *testing.T, tr transport, cfg *Config) *stoppedProcess {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	v := &stoppedProcess{t: t, cmd: exec.Command(os.Args[0], "-test.run=^TestStoppedProcess$")}
	v.cmd.Env = append(os.Environ(), stoppedEnv+"="+ln.Addr().String(), stoppedProto+"="+tr.protocol.String())
	v.cmd.Stderr = os.Stderr
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.out = bufio.NewReader(out)
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		v.cmd.Process.Kill()
		v.cmd.Wait()
	})
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if v.l, err = NewListener(conn, tr.config(cfg)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.l.Close() })
	if v.c, err = v.l.AcceptConn(bounded(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.c.Close() })
	if _, err := v.c.Read(make([]byte, 1)); err != nil { // so that its Open has returned
		t.Fatal(err)
	}
	return v
}

// stop stops the process and waits until it is.
func (v *stoppedProcess) stop() {
	v.t.Helper()
	if err := v.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		v.t.Fatal(err)
	}
	var status syscall.WaitStatus
	for err := error(syscall.EINTR); err == syscall.EINTR; {
		_, err = syscall.Wait4(v.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
	}
	if !status.Stopped() {
		v.t.Fatalf("the process did not stop: %v", status)
	}
}

func (v *stoppedProcess) goOn() {
	v.t.Helper()
	if err := v.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		v.t.Fatal(err)
	}
}

// wantSays fails the test unless the process's last line begins with prefix, and has one of
// the words if there are any.
func (v *stoppedProcess) wantSays(prefix string, words ...string) {
	v.t.Helper()
	line, err := v.out.ReadString('\n')
	ok := len(words) == 0
	for _, w := range words {
		ok = ok || strings.Contains(line, w)
	}
	if !strings.HasPrefix(line, prefix) || !ok {
		v.t.Errorf("the process says %q, %v; want %q and one of %q", line, err, prefix, words)
	}
}

// beStopped is the process: it opens a connection, sends back what comes on it, and tells
// how the session has ended.
func beStopped(to string) {
	conn, err := net.Dial("tcp", to)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	cfg := &Config{Protocol: Protocol1}
	if os.Getenv(stoppedProto) == ProtocolVT.String() {
		cfg.Protocol = ProtocolVT
	}
	p, err := NewPipe(conn, cfg)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	c, err := p.Open(context.Background(), testAddr(1))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	c.Write([]byte("!"))
	if _, err := io.Copy(c, c); err == nil {
		c.Close()
	}
	<-p.Done()
	fmt.Printf("the session is over: %v\n", p.Err())
	os.Exit(0)
}
