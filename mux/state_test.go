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
// address in every order in which a transport can carry it. After each
// step, what is under way taken into account, they must agree: an open that
// arrives as an end, or an end as an open, is the hazard of this protocol.
func TestHalvesOfTwoPeersAgree(t *testing.T) {
	type end struct {
		h    halves
		wire int // frames of length zero that are under way to this end
	}
	type world struct {
		opener, other end
	}
	seen := map[world]bool{}
	var walk func(w world, depth int)
	walk = func(w world, depth int) {
		if seen[w] || depth > 40 {
			return
		}
		seen[w] = true
		// One end opens, if the address is free there.
		if w.opener.h == 0 {
			v := w
			v.opener.h = recvOpen | sendOpen
			v.other.wire++
			walk(v, depth+1)
		}
		// Either end ends its half.
		if w.opener.h&sendOpen != 0 {
			v := w
			v.opener.h = v.opener.h.onEndSent()
			v.other.wire++
			walk(v, depth+1)
		}
		if w.other.h&sendOpen != 0 {
			v := w
			v.other.h = v.other.h.onEndSent()
			v.opener.wire++
			walk(v, depth+1)
		}
		// A frame arrives.
		if w.opener.wire > 0 {
			v := w
			var event zeroEvent
			v.opener.wire--
			v.opener.h, event = v.opener.h.onZero()
			if event != zeroEnds {
				t.Fatalf("%+v: the other end's end arrives as event %d", w, event)
			}
			walk(v, depth+1)
		}
		if w.other.wire > 0 {
			v := w
			var event zeroEvent
			v.other.wire--
			v.other.h, event = v.other.h.onZero()
			opens := w.other.h == 0
			if event == zeroCrosses || opens != (event == zeroOpens) {
				t.Fatalf("%+v: a frame arrives as event %d", w, event)
			}
			walk(v, depth+1)
		}
	}
	walk(world{}, 0)
	if len(seen) < 8 {
		t.Fatalf("only %d states were reached", len(seen))
	}
}
