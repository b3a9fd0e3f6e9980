package proxy

import (
	"net"
	"strings"
	"testing"
)

// TestHeaderConnHasOnlyWhatItsConnectionHas: any listener can be given to ListenHeader. What its connections cannot do
// is an error for the relay to report, and not a panic that ends the process.
//
// To see it fail: assert *net.TCPConn in CloseWrite or in SetLinger.
func TestHeaderConnHasOnlyWhatItsConnectionHas(t *testing.T) {
	tcp := func(t *testing.T) net.Listener { return listen(t, "127.0.0.1:0") }
	for _, tt := range []struct {
		name               string
		listen             func(*testing.T) net.Listener
		closeWrite, linger string // a part of the error, or empty for none
	}{
		{"tcp", tcp, "", ""},
		{"unix", listenUnix, "", "a *net.UnixConn cannot be reset"},
		{"neither", func(t *testing.T) net.Listener { return barely{tcp(t)} }, "a struct { net.Conn } cannot end one direction alone", "a struct { net.Conn } cannot be reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := tt.listen(t)
			peer, err := net.Dial(l.Addr().Network(), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			c, err := ListenHeader(l).Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			h := c.(headerConn)
			if err := h.SetLinger(0); !says(err, tt.linger) {
				t.Errorf("SetLinger returned %v, want %q", err, tt.linger)
			}
			if err := h.CloseWrite(); !says(err, tt.closeWrite) {
				t.Errorf("CloseWrite returned %v, want %q", err, tt.closeWrite)
			}
		})
	}
}

// says reports whether err tells of what, or is nil if what is empty.
func says(err error, what string) bool {
	if err == nil || what == "" {
		return err == nil && what == ""
	}
	return strings.Contains(err.Error(), what)
}

func listenUnix(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Skip("this system has no Unix sockets: ", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A barely listener gives connections that can do nothing but what a net.Conn must.
type barely struct{ net.Listener }

func (l barely) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return struct{ net.Conn }{c}, err
}
