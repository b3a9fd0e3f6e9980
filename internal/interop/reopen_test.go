package interop

import (
	"context"
	"net/netip"
	"testing"
)

// An address may be opened again, by either end, once both have ended it. The acceptor that missed one end, or took an open for one,
// would be out of step for ever after, so each round's bytes differ.

const (
	rounds     = 100
	reopenSize = 100
)

func TestGoReopens(t *testing.T) {
	for _, o := range orders {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			accept := Say(o.acceptor, reopenSize)
			e := newEnd(t, ipv4, Pipe, Setup{Role: Listener, Accept: &accept})
			e.bounded(t, caseLimit, func(ctx context.Context) error {
				const addrs = 8 // each at its own pace
				var g group
				for i := range addrs {
					g.run(func() error {
						for round := range rounds {
							err := e.open(ctx, logical(ipv4.goAddrs, i), round, say(o.opener, reopenSize), o.acceptor)
							if err != nil {
								return err
							}
						}
						return nil
					})
				}
				if err := g.wait(); err != nil {
					return err
				}
				if err := e.wantFinished(ctx, addrs*rounds, reopenSize, o.acceptor); err != nil {
					return err
				}
				return e.wantOver(ctx, Listener)
			})
		})
	}
}

func TestRustReopens(t *testing.T) {
	for _, o := range orders {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			e := newEnd(t, ipv4, Listener, Setup{Role: Pipe})
			e.bounded(t, caseLimit, func(ctx context.Context) error {
				for round := range rounds {
					if err := e.peer.Open(logical(ipv4.rustAddrs, 0), Say(o.opener, reopenSize)); err != nil {
						return err
					}
					if err := e.acceptOne(ctx, round, say(o.acceptor, reopenSize), o.opener); err != nil {
						return err
					}
					if _, err := e.peer.Finished(ctx, round+1); err != nil {
						return err
					}
				}
				if err := e.wantFinished(ctx, rounds, reopenSize, o.acceptor); err != nil {
					return err
				}
				return e.wantOver(ctx, Pipe)
			})
		})
	}
}

func TestEndsReopenInTurn(t *testing.T) {
	opener, acceptor := orders[1].opener, orders[1].acceptor
	accept := Say(acceptor, reopenSize)
	e := newEnd(t, ipv4, Listener, Setup{Role: Listener, Accept: &accept})
	e.bounded(t, caseLimit, func(ctx context.Context) error {
		at := logical(ipv4.goAddrs, 0)
		for round := range rounds {
			if err := e.turn(ctx, at, round, opener, acceptor); err != nil {
				return err
			}
			// It is the other's turn when it, too, knows that the round is over.
			if _, err := e.peer.Finished(ctx, round+1); err != nil {
				return err
			}
		}
		if err := e.wantFinished(ctx, rounds, reopenSize, acceptor); err != nil {
			return err
		}
		return e.wantOver(ctx, Listener)
	})
}

// turn does one round, opened by the Go end if its number is even, else by the Rust end.
func (e *end) turn(ctx context.Context, at netip.AddrPort, round int, opener, acceptor Order) error {
	if round%2 == 0 {
		return e.open(ctx, at, round, say(opener, reopenSize), acceptor)
	}
	if err := e.peer.Open(at, Say(opener, reopenSize)); err != nil {
		return err
	}
	return e.acceptOne(ctx, round, say(acceptor, reopenSize), opener)
}
