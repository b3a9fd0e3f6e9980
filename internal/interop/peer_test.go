package interop

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
)

// Two peers, one of each role, understand each other: what fails in the other tests is not the peer's driver.
func TestPeerAgainstItself(t *testing.T) {
	orders := []struct{ opener, acceptor Order }{
		{Duplex, Duplex}, {WriteFirst, ReadFirst}, {ReadFirst, WriteFirst}, {Duplex, Echo},
	}
	for _, o := range orders {
		for _, size := range []int{1, 20, 8172, 70000, 1 << 20} {
			for _, conns := range []int{1, 2, 64} {
				if conns*size > 16<<20 {
					continue
				}
				t.Run(fmt.Sprintf("%s-%s/%d/%d", o.opener, o.acceptor, size, conns), func(t *testing.T) {
					t.Parallel()
					runPeers(t, Say(o.opener, size), Say(o.acceptor, size), conns)
				})
			}
		}
	}
}

func runPeers(t *testing.T, opener, acceptor Script, conns int) {
	bind := netip.MustParseAddrPort(ipv4.loopback)
	server := startPeer(t, Setup{Role: Listener, Transport: Transport{Bind: &bind}, Driver: OneTask, Accept: &acceptor})
	addr := server.Addr()
	client := startPeer(t, Setup{Role: Pipe, Transport: Transport{Connect: &addr}, Driver: OneTask})
	ctx, cancel := context.WithTimeout(t.Context(), caseLimit)
	defer cancel()
	for i := range conns {
		if err := client.Open(logical(ipv4.rustAddrs, i), opener); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*Peer{client, server} {
		finished, err := p.Finished(ctx, conns)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range finished {
			want := NewPattern(c.Addr, c.Accepted || acceptor.Order == Echo, c.Round)
			if err := c.check(opener.Send, want); err != nil {
				t.Error(err)
			}
		}
	}
}
