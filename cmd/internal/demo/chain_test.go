package demo

import (
	"net"
	"strings"
	"testing"
)

// TestListenFirstFallsBack: what was wrong with the addresses before it does not spoil the one that is had.
//
// To see it fail: return l, errors.Join(errs...) when l is there.
func TestListenFirstFallsBack(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	l, err := listenFirst(taken.Addr().String(), "127.0.0.1:0")
	if l != nil {
		defer l.Close()
	}
	if err != nil {
		t.Errorf("listenFirst returns a listener: %t, and the error %v", l != nil, err)
	}
}

// TestListenFirstTellsOfEachAddress: with none to be had there is no listener, and each address has its reason.
//
// To see it fail: join errs[1:] alone.
func TestListenFirstTellsOfEachAddress(t *testing.T) {
	var taken []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken = append(taken, l.Addr().String())
	}
	l, err := listenFirst(taken...)
	if l != nil || err == nil {
		t.Fatalf("listenFirst returns the listener %v and the error %v, want an error alone", l, err)
	}
	for _, address := range taken {
		if !strings.Contains(err.Error(), address) {
			t.Errorf("the error does not tell of %s: %v", address, err)
		}
	}
}
