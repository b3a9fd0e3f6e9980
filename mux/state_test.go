package mux

import "testing"

// TestHalvesOfAnAddress goes over all states of an address and both events.
func TestHalvesOfAnAddress(t *testing.T) {
	const (
		free = halves(0)
		recv = recvOpen
		send = sendOpen
		both = recvOpen | sendOpen
	)
	for _, tt := range []struct {
		name    string
		h       halves
		zero    halves    // after the peer's frame of length zero
		event   zeroEvent // and what that frame means
		endSent halves    // after our end
	}{
		{"free", free, both, zeroOpens, free},
		{"both open", both, send, zeroEnds, recv},
		{"we have ended", recv, free, zeroEnds, recv},
		{"the peer has ended", send, free, zeroCrosses, free},
	} {
		if h, event := tt.h.onZero(); h != tt.zero || event != tt.event {
			t.Errorf("%s: onZero gives %02b, event %d, want %02b, event %d", tt.name, h, event, tt.zero, tt.event)
		}
		if h := tt.h.onEndSent(); h != tt.endSent {
			t.Errorf("%s: onEndSent gives %02b, want %02b", tt.name, h, tt.endSent)
		}
	}
}

// TestHalvesOfTwoPeersAgree lets two ends that keep the rules open and end one
// address in every order that a transport can carry. Nothing on the wire
// tells an open from an end, so each must arrive as what it was sent for.
func TestHalvesOfTwoPeersAgree(t *testing.T) {
	const opens, ends = "o", "e"
	type end struct {
		h    halves
		wire string // what is under way to this end
	}
	type world struct{ opener, other end }

	arrive := func(w world, e end) end {
		h, event := e.h.onZero()
		if want := map[string]zeroEvent{opens: zeroOpens, ends: zeroEnds}[e.wire[:1]]; event != want {
			t.Fatalf("%+v: %q arrives as event %d, want %d", w, e.wire[:1], event, want)
		}
		return end{h, e.wire[1:]}
	}
	seen := map[world]bool{}
	var walk func(w world)
	walk = func(w world) {
		if seen[w] {
			return
		}
		seen[w] = true
		if w.opener.h == 0 {
			v := w
			v.opener.h = recvOpen | sendOpen
			v.other.wire += opens
			walk(v)
		}
		if w.opener.h&sendOpen != 0 {
			v := w
			v.opener.h = v.opener.h.onEndSent()
			v.other.wire += ends
			walk(v)
		}
		if w.other.h&sendOpen != 0 {
			v := w
			v.other.h = v.other.h.onEndSent()
			v.opener.wire += ends
			walk(v)
		}
		if w.opener.wire != "" {
			v := w
			v.opener = arrive(w, v.opener)
			walk(v)
		}
		if w.other.wire != "" {
			v := w
			v.other = arrive(w, v.other)
			walk(v)
		}
	}
	walk(world{})
	if !seen[world{end{h: recvOpen | sendOpen}, end{recvOpen, ends + opens}}] {
		t.Errorf("%d states, and none in which the address is open again while its last end is under way", len(seen))
	}
}
