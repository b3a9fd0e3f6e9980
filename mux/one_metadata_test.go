package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestMetadata goes there, as it is, and is the acceptor's before it accepts.
func TestMetadata(t *testing.T) {
	ctx := context.Background()
	oneRun(t, oneListener, func(tc *oneTest) {
		for i, m := range []string{"user=7", "", strings.Repeat("m", 1024), "\x00\xff\n"} {
			c, err := tc.p.OpenWith(ctx, OpenOptions{Addr: vtB, Metadata: []byte(m)})
			if err != nil {
				tc.t.Fatal(err)
			}
			tc.conns = append(tc.conns, c)
			tc.want("the OPEN has it", fmt.Sprintf("OPEN %d %v %q", i+1, vtB, m))
			tc.send(fmt.Sprintf("OPEN %d %v %q", i+1, vtC, m))
			p := tc.pending()
			if got := p.Metadata(); string(got) != m || p.Addr() != vtC {
				tc.t.Errorf("Metadata is %q, Addr %v; want %q, %v", got, p.Addr(), m, vtC)
			}
			d, err := p.Accept()
			if err != nil {
				tc.t.Fatal(err)
			}
			if again, err := p.Accept(); again != d || err != nil {
				tc.t.Errorf("Accept again: %v, %v", again, err)
			}
			if got := p.Metadata(); string(got) != m {
				tc.t.Errorf("Metadata after Accept is %q", got)
			}
			d.Close()
			tc.want("closed", fmt.Sprintf("STOP YOURS %d 9", i+1), fmt.Sprintf("FIN YOURS %d", i+1))
		}
	})
}

// TestMetadataIsCopied: the caller's slice is its own again when OpenWith has returned.
func TestMetadataIsCopied(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		tc.deaf(true)
		first := tc.open(vtA) // keeps the transport busy
		m := []byte("before")
		c, err := tc.p.OpenWith(context.Background(), OpenOptions{Addr: vtB, Metadata: m})
		if err != nil {
			tc.t.Fatal(err)
		}
		copy(m, "AFTER!")
		tc.deaf(false)
		tc.want("as it was", "OPEN 1", fmt.Sprintf("OPEN 2 %v %q", vtB, "before"))
		tc.conns = append(tc.conns, first, c)
	})
}

// TestMetadataTooLong fails before anything is sent, with an error that says how much
// may be sent.
func TestMetadataTooLong(t *testing.T) {
	oneRun(t, onePipe, func(tc *oneTest) {
		for _, n := range []int{1025, 65536, 1 << 20} {
			c, err := tc.p.OpenWith(context.Background(), OpenOptions{Addr: vtA, Metadata: bytes.Repeat([]byte("m"), n)})
			if c != nil || err == nil {
				tc.t.Fatalf("%d bytes are taken", n)
			}
			wantText(tc.t, err, "metadata", "1024")
			if !errors.Is(err, syscall.EMSGSIZE) {
				tc.t.Errorf("%v is not EMSGSIZE", err)
			}
			for _, wrong := range []error{net.ErrClosed, io.EOF, ErrProtocol, os.ErrDeadlineExceeded, ErrTooManyConns} {
				if errors.Is(err, wrong) {
					tc.t.Errorf("%v reads as %v", err, wrong)
				}
			}
		}
		tc.want("nothing is sent, and no ID used")
		tc.openIDs(1)
		if st := tc.p.Stats(); st.Conns != 1 || st.Opened != 1 {
			tc.t.Errorf("%d connections, %d opened", st.Conns, st.Opened)
		}
	})
}
