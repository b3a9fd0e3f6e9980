package mux

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

func TestProtocolNames(t *testing.T) {
	for p, want := range map[Protocol]string{ProtocolAuto: "auto", ProtocolVT: "vt", Protocol1: "1", 7: "Protocol(7)"} {
		if p.String() != want {
			t.Errorf("protocol %d is %q, want %q", uint8(p), p, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	defaults := Config{
		Protocol:          ProtocolAuto,
		MaxConns:          65536,
		InitialWindow:     65536,
		MaxWindow:         16 << 20,
		KeepAliveInterval: 15 * time.Second,
		KeepAliveTimeout:  30 * time.Second,
		PrefaceTimeout:    10 * time.Second,
		SilenceTimeout:    5 * time.Minute,
		HandshakeTimeout:  10 * time.Second,
	}
	with := func(f func(*Config)) Config {
		c := defaults
		f(&c)
		return c
	}
	for _, tt := range []struct {
		name string
		cfg  *Config
		want Config
	}{
		{"nil", nil, defaults},
		{"zero", &Config{}, defaults},
		{"vt-muxer's protocol", &Config{Protocol: ProtocolVT}, with(func(c *Config) { c.Protocol = ProtocolVT })},
		{"protocol 1", &Config{Protocol: Protocol1}, with(func(c *Config) { c.Protocol = Protocol1 })},
		{"few connections", &Config{MaxConns: 1}, with(func(c *Config) { c.MaxConns = 1 })},
		{"many connections", &Config{MaxConns: 1 << 20}, with(func(c *Config) { c.MaxConns = 1 << 20 })},
		{"a backlog of its own", &Config{MaxConns: 10, AcceptBacklog: 1}, with(func(c *Config) { c.MaxConns, c.AcceptBacklog = 10, 1 })},
		{"the least window", &Config{MaxWindow: 131070}, with(func(c *Config) { c.MaxWindow = 131070 })},
		{"a window", &Config{MaxWindow: 1 << 20}, with(func(c *Config) { c.MaxWindow = 1 << 20 })},
		{"a window from the start", &Config{InitialWindow: 1 << 20}, with(func(c *Config) { c.InitialWindow = 1 << 20 })},
		{"more than the default of MaxWindow", &Config{InitialWindow: 32 << 20}, with(func(c *Config) { c.InitialWindow, c.MaxWindow = 32<<20, 32<<20 })},
		{"a window that never grows", &Config{InitialWindow: 1 << 20, MaxWindow: 1 << 20}, with(func(c *Config) { c.InitialWindow, c.MaxWindow = 1<<20, 1<<20 })},
		{"no bounds in time", &Config{KeepAliveInterval: -1, PrefaceTimeout: -1, SilenceTimeout: -1},
			with(func(c *Config) { c.KeepAliveInterval, c.PrefaceTimeout, c.SilenceTimeout = -1, -1, -1 })},
		{"the shortest keep-alive", &Config{KeepAliveInterval: 20 * time.Millisecond}, with(func(c *Config) { c.KeepAliveInterval = 20 * time.Millisecond })},
		{"a write timeout of its own", &Config{WriteTimeout: 1}, with(func(c *Config) { c.WriteTimeout = 1 })},
		{"a short handshake", &Config{HandshakeTimeout: 1}, with(func(c *Config) { c.HandshakeTimeout = 1 })},
		{"a handshake without bound", &Config{HandshakeTimeout: -1}, with(func(c *Config) { c.HandshakeTimeout = -1 })},
	} {
		got, err := tt.cfg.withDefaults()
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
}

// TestDefaultOfTheBacklog: what waits to be accepted has a bound of its own with
// protocol 1, where the excess can be told so.
func TestDefaultOfTheBacklog(t *testing.T) {
	for _, tt := range []struct {
		cfg     Config
		vt, one int
	}{
		{Config{}, 65536, 4096},
		{Config{MaxConns: 1}, 1, 1},
		{Config{MaxConns: 1 << 20}, 1 << 20, 4096},
		{Config{MaxConns: 10, AcceptBacklog: 1}, 1, 1},
		{Config{AcceptBacklog: 5000}, 5000, 5000},
	} {
		cfg, err := tt.cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if vt, one := cfg.backlog(false), cfg.backlog(true); vt != tt.vt || one != tt.one {
			t.Errorf("%+v: a backlog of %d and %d, want %d and %d", tt.cfg, vt, one, tt.vt, tt.one)
		}
	}
}

// TestDefaultOfTheWriteTimeout: a vt-muxer peer may have a good reason to take nothing.
func TestDefaultOfTheWriteTimeout(t *testing.T) {
	for _, tt := range []struct{ set, vt, one time.Duration }{
		{0, 5 * time.Minute, 30 * time.Second}, {time.Second, time.Second, time.Second}, {-1, 0, 0},
	} {
		cfg, err := (&Config{WriteTimeout: tt.set}).withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if vt, one := cfg.writeTimeout(false), cfg.writeTimeout(true); vt != tt.vt || one != tt.one {
			t.Errorf("%v: %v and %v, want %v and %v", tt.set, vt, one, tt.vt, tt.one)
		}
	}
}

// TestSettingsOfThePreface: what is announced is what is configured, and no less than
// the protocol allows.
func TestSettingsOfThePreface(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want wire.Settings
	}{
		{Config{}, wire.Settings{Version: 1, InitialWindow: 65536, MaxConns: 65536, MaxPayload: 65535, KeepAlive: 15000}},
		{Config{MaxConns: 3, KeepAliveInterval: -1}, wire.Settings{Version: 1, InitialWindow: 65536, MaxConns: 128, MaxPayload: 65535}},
		{Config{InitialWindow: 1 << 20, MaxConns: 1000, KeepAliveInterval: time.Minute},
			wire.Settings{Version: 1, InitialWindow: 1 << 20, MaxConns: 1000, MaxPayload: 65535, KeepAlive: 60000}},
	} {
		cfg, err := tt.cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.settings(); got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.cfg, got, tt.want)
		}
	}
}

// TestRefusedConfigs: both constructors refuse each bad value, name the field, the
// value and what is allowed, and leave the transport alone.
func TestRefusedConfigs(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		text []string
	}{
		{Config{Protocol: 7}, []string{"Config.Protocol", "Protocol(7)", "ProtocolAuto", "ProtocolVT", "Protocol1"}},
		{Config{MaxConns: -1}, []string{"Config.MaxConns", "-1", "at least 1", "0 for the default"}},
		{Config{AcceptBacklog: -5}, []string{"Config.AcceptBacklog", "-5", "at least 1"}},
		{Config{MaxWindow: -1}, []string{"Config.MaxWindow", "-1", "at least 131070"}},
		{Config{MaxWindow: 1}, []string{"Config.MaxWindow", "1", "at least 131070"}},
		{Config{MaxWindow: 131069}, []string{"Config.MaxWindow", "131069", "at least 131070"}},
		{Config{InitialWindow: 65535}, []string{"Config.InitialWindow", "65535", "at least 65536"}},
		{Config{InitialWindow: -1}, []string{"Config.InitialWindow", "-1", "at least 65536"}},
		{Config{KeepAliveInterval: 19 * time.Millisecond}, []string{"Config.KeepAliveInterval", "19ms", "at least 20ms", "below zero"}},
		{Config{KeepAliveInterval: 1}, []string{"Config.KeepAliveInterval", "1ns", "at least 20ms"}},
		{Config{InitialWindow: 1 << 20, MaxWindow: 1 << 19}, []string{"Config.MaxWindow", "524288", "at least 1048576"}},
	} {
		before := tt.cfg
		near, far := net.Pipe()
		p, perr := NewPipe(near, &tt.cfg)
		l, lerr := NewListener(near, &tt.cfg)
		if p != nil || l != nil {
			t.Fatalf("%+v is taken", tt.cfg)
		}
		for _, err := range []error{perr, lerr} {
			wantText(t, err, append(tt.text, "mux: ")...)
		}
		if tt.cfg != before {
			t.Errorf("the caller's %+v has become %+v", before, tt.cfg)
		}
		go far.Write([]byte("x"))
		if n, err := near.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("the transport reads %d, %v after the refusal", n, err)
		}
		near.Close()
		far.Close()
	}
}

// wantText fails the test unless err's text has all the words.
func wantText(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("the error lacks %q: %v", w, err)
		}
	}
}

func TestRefusedTransports(t *testing.T) {
	udp, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, tt := range []struct {
		name      string
		transport net.Conn
		text      []string
	}{
		{"nil", nil, []string{"mux: ", "transport is nil"}},
		{"UDP", udp, []string{"mux: ", "*net.UDPConn", "udp", "not a byte stream"}},
	} {
		p, perr := NewPipe(tt.transport, nil)
		l, lerr := NewListener(tt.transport, nil)
		if p != nil || l != nil {
			t.Fatalf("%s is taken", tt.name)
		}
		wantText(t, perr, tt.text...)
		wantText(t, lerr, tt.text...)
	}
}

func TestConfigIsCopied(t *testing.T) {
	cfg := &Config{MaxConns: 2}
	vtRun(t, false, cfg, func(tc *vtTest) {
		cfg.MaxConns = 1
		tc.open(vtA)
		tc.open(vtB)
		wantTooMany := func() {
			_, err := tc.p.Open(context.Background(), testAddr(1))
			wantErr(tc.t, "a third Open", err, ErrTooManyConns)
		}
		wantTooMany()
		cfg.MaxConns = 100
		wantTooMany()
	})
}

// TestAcceptQueueIsBounded: a peer that opens, ends and crosses its own open again
// leaves the table each time, and must not fill the accept queue beyond MaxConns.
func TestAcceptQueueIsBounded(t *testing.T) {
	const most = 3
	vtRun(t, true, &Config{MaxConns: most}, func(tc *vtTest) {
		for i := range 10 * most {
			a := testAddr(i)
			tc.send(vtOpen(a), vtData(a, "kept until it is accepted"), vtEnd(a), vtOpen(a))
		}
		q := &tc.s.accept
		q.mu.Lock()
		n := q.n
		q.mu.Unlock()
		if n > most {
			tc.t.Errorf("%d connections wait to be accepted, with MaxConns %d", n, most)
		}
	})
}

// TestPrefaceTimeoutBehindTheHandshake: the time for the preface begins when the transport's
// handshake is over.
// To see it fail: call awaitPeer at the start of the session.
func TestPrefaceTimeoutBehindTheHandshake(t *testing.T) {
	for _, speaks := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			server := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{testCert()}})
			client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
			start := time.Now()
			l, err := NewListener(server, &Config{Protocol: Protocol1, HandshakeTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(20 * time.Second)
			if !speaks {
				if err := client.Handshake(); err != nil {
					t.Fatal(err)
				}
				go io.Copy(io.Discard, client)
				<-l.Done()
				if took := time.Since(start); took != 30*time.Second {
					t.Errorf("the session ended after %v, want 20s and 10s: %v", took, l.Err())
				}
				wantErr(t, "Err", l.Err(), ErrProtocol)
				l.Close()
				client.NetConn().Close()
				return
			}
			p, err := NewPipe(client, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer closeBoth(p, l)
			if _, err := p.Open(context.Background(), vtA); err != nil {
				t.Fatal(err)
			}
			if _, err := l.AcceptConn(context.Background()); err != nil {
				t.Errorf("AcceptConn after a handshake of 20s: %v", err)
			}
		})
	}
}

// A stubborn transport's handshake returns when it is told to, whatever its context says.
type stubborn struct {
	net.Conn
	over chan struct{}
}

func (c stubborn) HandshakeContext(context.Context) error {
	<-c.over
	return io.EOF
}

// TestHandshakeThatDoesNotReturn: the session ends in time also where the transport's
// handshake does not, as with a callback of crypto/tls that waits for something.
// To see it fail: leave AfterFunc out of handshake.
func TestHandshakeThatDoesNotReturn(t *testing.T) {
	for _, protocol := range []Protocol{Protocol1, ProtocolVT, ProtocolAuto} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			over := make(chan struct{})
			start := time.Now()
			l, err := NewListener(stubborn{near, over}, &Config{Protocol: protocol})
			if err != nil {
				t.Fatal(err)
			}
			<-l.Done()
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("%v: ended after %v, want 10s", protocol, took)
			}
			wantErr(t, "Err", l.Err(), errHandshakeTimeout)
			close(over)
			l.Close()
		})
	}
}

// TestHandshakeTimeout: a TLS peer that says nothing costs the session no more time
// than allowed.
func TestHandshakeTimeout(t *testing.T) {
	for _, tt := range []struct{ set, want time.Duration }{
		{0, 10 * time.Second},
		{3 * time.Second, 3 * time.Second},
		{-1, 0},
	} {
		t.Run(fmt.Sprint(tt.set), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				go io.Copy(io.Discard, far)
				start := time.Now()
				p, err := NewPipe(tls.Client(near, &tls.Config{ServerName: "vtmux.test"}), &Config{HandshakeTimeout: tt.set, PrefaceTimeout: -1})
				if err != nil {
					t.Fatal(err)
				}
				if tt.want == 0 {
					select {
					case <-p.Done():
						t.Fatalf("ended after %v: %v", time.Since(start), p.Err())
					case <-time.After(24 * time.Hour):
					}
					p.Close()
					wantErr(t, "Err", p.Err(), net.ErrClosed)
					return
				}
				<-p.Done()
				if took := time.Since(start); took != tt.want {
					t.Errorf("ended after %v, want %v", took, tt.want)
				}
				var te *TransportError
				var ne net.Error
				if err := p.Err(); !errors.As(err, &te) || te.Op != "handshake" || !errors.As(err, &ne) || !ne.Timeout() {
					t.Errorf("Err is %v, want a handshake that timed out", err)
				}
				if err := p.Err(); errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Err %v is a deadline's, as if a caller's had passed", err)
				}
				p.Close()
			})
		})
	}
}
