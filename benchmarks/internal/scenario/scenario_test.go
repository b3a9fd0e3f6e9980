package scenario

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestLookup(t *testing.T) {
	for _, name := range []string{"RTT", "RTTOneCore", "Crowd16", "Small1", "Open64", "Bulk8", "Bulk8Unread", "Idle100000", "TLSBulk1", "TLSCrowd128"} {
		s, err := Lookup(name)
		if err != nil || s.Name != name || s.What == "" || s.TLS != (name[:3] == "TLS") {
			t.Errorf("%s: %q (%q), TLS %v, %v", name, s.Name, s.What, s.TLS, err)
		}
	}
	for _, name := range []string{"", "TLS", "Crowd", "Crowd0", "Crowd-1", "Crowd1x", "16", "Bulk9Unread", "Nonsense1"} {
		if s, err := Lookup(name); err == nil {
			t.Errorf("%q gave %q", name, s.Name)
		}
	}
}

func TestPercentiles(t *testing.T) {
	s := Sample{Latencies: []time.Duration{40, 10, 30, 20}}
	if p := s.Percentiles(0, 0.5, 0.99, 1); p[0] != 10 || p[1] != 30 || p[2] != 40 || p[3] != 40 {
		t.Errorf("%v, want 10, 30, 40 and 40", p)
	}
	if p := (Sample{}).Percentiles(0.5); p != nil {
		t.Errorf("%v of nothing", p)
	}
}

func TestCarried(t *testing.T) {
	if n := Must("RTT").Carried(10); n != 2*64*10 {
		t.Errorf("ten round trips carry %d", n)
	}
	if n := Must("Small1").Carried(10); n != 100*10 {
		t.Errorf("ten messages carry %d", n)
	}
}

// TestWrongAnswerIsNoticed: the client compares all of an answer.
func TestWrongAnswerIsNoticed(t *testing.T) {
	for _, at := range []int{0, rttBytes / 2, rttBytes - 1} {
		client, server := net.Pipe()
		go func() {
			p := make([]byte, rttBytes)
			io.ReadFull(server, p)
			p[at] ^= 1
			server.Write(p)
		}()
		if err := newTalk(rttBytes).turn(client); !errors.Is(err, errAnswer) {
			t.Errorf("byte %d wrong: %v", at, err)
		}
		client.Close()
		server.Close()
	}
}

// TestStaleAnswerIsNoticed: an answer to the question before is none.
func TestStaleAnswerIsNoticed(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() {
		p, again := make([]byte, rttBytes), make([]byte, rttBytes)
		io.ReadFull(server, p)
		server.Write(p)
		io.ReadFull(server, again)
		server.Write(p)
	}()
	talk := newTalk(rttBytes)
	if err := talk.turn(client); err != nil {
		t.Fatal(err)
	}
	if err := talk.turn(client); !errors.Is(err, errAnswer) {
		t.Errorf("%v, want %v", err, errAnswer)
	}
}

// TestLostMessageIsNoticed: takeSmall wants every message, in order.
func TestLostMessageIsNoticed(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	done := make(chan error, 1)
	go func() { done <- takeSmall(server, make([]byte, smallBytes)) }()
	p := make([]byte, smallBytes)
	for _, number := range []uint64{0, 1, 0, 1, 2, 4} { // the second 0 begins anew
		binary.LittleEndian.PutUint64(p, number)
		if _, err := client.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; !errors.Is(err, errContent) {
		t.Errorf("%v, want %v", err, errContent)
	}
}

func TestBlocksAreChecked(t *testing.T) {
	batch := make([]byte, batchBytes)
	for i := range batchBlocks {
		binary.LittleEndian.PutUint64(batch[i*blockBytes:], blockMark(i))
	}
	for _, at := range []int{0, 1, 7, 8, blockBytes - 1, blockBytes, 3*blockBytes + 5} {
		for n := 1; at+n <= batchBytes && n <= 5*blockBytes; n += 9973 {
			if err := checkBlocks(batch[at:at+n], at); err != nil {
				t.Fatalf("%d bytes at %d: %v", n, at, err)
			}
		}
	}
	if err := checkBlocks(batch[10:4*blockBytes], 0); !errors.Is(err, errContent) {
		t.Errorf("ten bytes lost: %v", err)
	}
	swapped := append(batch[blockBytes:2*blockBytes:2*blockBytes], batch[:blockBytes]...)
	if err := checkBlocks(swapped, 0); !errors.Is(err, errContent) {
		t.Errorf("two blocks swapped: %v", err)
	}
}
