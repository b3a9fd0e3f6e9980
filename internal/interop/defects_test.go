package interop

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// These tests need no vtmux: they show, with bytes that they write and read themselves, what vt-muxer 0.1.0 does wrong, and so
// why the other tests drive it as they do. If one of them fails, vt-muxer has got better, and the others may ask more of it.

// quiet is how long a thing that must not happen is waited for.
const quiet = 300 * time.Millisecond

var defectA, defectB = logical(ipv4.goAddrs, 0), logical(ipv4.goAddrs, 1)

// appendFrame appends a frame, written down here once more so that nothing of vtmux's own is involved.
func appendFrame(b []byte, addr netip.AddrPort, payload []byte) []byte {
	ip := addr.Addr().As16()
	b = append(b, ip[:]...)
	b = binary.BigEndian.AppendUint16(b, addr.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(b, payload...)
}

// toggle returns the frame that opens an unknown address and ends a known one.
func toggle(addr netip.AddrPort) []byte { return appendFrame(nil, addr, nil) }

// readFrame returns the next frame's parts.
func readFrame(r io.Reader) (netip.AddrPort, []byte, error) {
	var header [20]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return netip.AddrPort{}, nil, err
	}
	ip := netip.AddrFrom16([16]byte(header[:16])).Unmap()
	payload := make([]byte, binary.BigEndian.Uint16(header[18:]))
	_, err := io.ReadFull(r, payload)
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(header[16:])), payload, err
}

// readmeServer returns a peer driven as vt-muxer's README shows, and the bare transport to it.
func readmeServer(t *testing.T) *rig {
	script := Say(ReadFirst, 1)
	return newRig(t, ipv4, Setup{Role: Listener, Driver: TaskPerConnection, Accept: &script})
}

// wantQuiet reports an error if cond comes to hold of the peer's state. That a thing never happens can only be waited for.
func (r *rig) wantQuiet(ctx context.Context, what string, cond func(State) bool) error {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	s, err := r.stateWhen(ctx, cond)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("vt-muxer no longer shows this defect: %s: %+v", what, s)
}

// talking reports whether the connection of that address was accepted, and its task waits for data.
func (s State) talking(addr netip.AddrPort) bool {
	for _, c := range s.Conversations {
		if c.Addr == addr {
			return c.Phase == "talking"
		}
	}
	return false
}

// B1: a poll that ends inside a header returns Pending and registers no waker, so the rest of the header wakes nobody.
func TestB1PartialHeaderHangs(t *testing.T) {
	for _, cut := range []int{1, 10, 16, 18, 19} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			r := readmeServer(t)
			r.bounded(t, caseLimit, func(ctx context.Context) error {
				return showPartialHeader(ctx, r, cut)
			})
		})
	}
}

func showPartialHeader(ctx context.Context, r *rig, cut int) error {
	idle, err := r.stateWhen(ctx, func(s State) bool { return s.AcceptPolls > 0 })
	if err != nil {
		return err
	}
	stream := toggle(defectA)
	stream = appendFrame(stream, defectA, []byte("hello"))
	stream = append(stream, toggle(defectA)...)
	if _, err := r.conn.Write(stream[:cut]); err != nil {
		return err
	}
	// The next poll of accept has read the part, so the two writes can't be taken for one.
	if _, err := r.stateWhen(ctx, func(s State) bool { return s.AcceptPolls > idle.AcceptPolls }); err != nil {
		return err
	}
	if _, err := r.conn.Write(stream[cut:]); err != nil {
		return err
	}
	err = r.wantQuiet(ctx, "the rest of a header woke accept", func(s State) bool { return len(s.Conversations) > 0 })
	if err != nil {
		return err
	}
	// All bytes are there: one more poll of accept, which nothing but a timer of one's own causes, finds them.
	if err := r.peer.Poke(); err != nil {
		return err
	}
	_, err = r.peer.Finished(ctx, 1)
	return err
}

// B2: the transport's events wake the task that polled last, and if it has ended, nobody.
func TestB2LostDriverHangs(t *testing.T) {
	r := readmeServer(t)
	r.bounded(t, caseLimit, func(ctx context.Context) error {
		for _, addr := range []netip.AddrPort{defectA, defectB} {
			if _, err := r.conn.Write(toggle(addr)); err != nil {
				return err
			}
			if _, err := r.stateWhen(ctx, func(s State) bool { return s.talking(addr) }); err != nil {
				return err
			}
		}
		// The task of B, spawned last, polled last. It ends, and with it the only waker.
		if _, err := r.conn.Write(toggle(defectB)); err != nil {
			return err
		}
		if _, err := r.peer.Finished(ctx, 1); err != nil {
			return err
		}
		stream := appendFrame(nil, defectA, []byte("hello"))
		if _, err := r.conn.Write(append(stream, toggle(defectA)...)); err != nil {
			return err
		}
		err := r.wantQuiet(ctx, "the other connection was woken", func(s State) bool { return s.Conversations[0].Received > 0 })
		if err != nil {
			return err
		}
		if err := r.peer.Poke(); err != nil {
			return err
		}
		_, err = r.peer.Finished(ctx, 2)
		return err
	})
}

// B4: when two connections write, a write that crosses 65,535 bytes while the other holds the transport forgets what it has
// taken, and is offered it again.
func TestB4ConcurrentWritersSendTwice(t *testing.T) {
	const n = 8 << 20 // each: more than any socket buffers hold, so that both writers block
	tests := []struct {
		name   string
		script Script
		intact bool
	}{
		{"writes that cross the limit", Script{Order: WriteFirst, Send: n, WriteSize: MaxFlushed + 1}, false},
		{"unflushed", Script{Order: WriteFirst, Send: n, WriteSize: 16384}, false},
		{"flushed", Say(WriteFirst, n), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, ipv4, Setup{Role: Pipe, Driver: OneTask})
			r.bounded(t, caseLimit, func(ctx context.Context) error {
				return showConcurrentWriters(ctx, r, test.script, test.intact)
			})
		})
	}
}

func showConcurrentWriters(ctx context.Context, r *rig, script Script, intact bool) error {
	if err := r.conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		return err
	}
	for _, addr := range []netip.AddrPort{defectA, defectB} {
		if err := r.peer.Open(addr, script); err != nil {
			return err
		}
	}
	if err := r.blocked(ctx); err != nil {
		return err
	}
	// Corruption shows in the first bytes sent twice, so reading ends there: vt-muxer might go on repeating them for ever.
	received := map[netip.AddrPort]int{}
	transport := bufio.NewReader(r.conn)
	for ended := 0; ended < 2; {
		addr, payload, err := readFrame(transport)
		if err != nil {
			return err
		}
		at, opened := received[addr]
		switch bad := NewPattern(addr, true, 0).Diff(at, payload); {
		case bad >= 0 && intact:
			return fmt.Errorf("%v: byte %d is wrong", addr, at+bad)
		case bad >= 0:
			return nil
		case len(payload) == 0 && opened:
			ended++
		}
		received[addr] = at + len(payload)
	}
	if !intact {
		return fmt.Errorf("vt-muxer no longer shows this defect: both streams are intact")
	}
	for addr, n := range received {
		if n != script.Send {
			return fmt.Errorf("%v: %d bytes, want %d", addr, n, script.Send)
		}
	}
	return nil
}

// blocked waits until both writers have filled the transport.
func (r *rig) blocked(ctx context.Context) error {
	var last [2]int
	stalls := 0
	_, err := r.stateWhen(ctx, func(s State) bool {
		if len(s.Conversations) < 2 {
			return false
		}
		sent := [2]int{s.Conversations[0].Sent, s.Conversations[1].Sent}
		if sent != last || sent == [2]int{} {
			last, stalls = sent, 0
			return false
		}
		stalls++
		return stalls == 20 // polls, of a millisecond each
	})
	return err
}
