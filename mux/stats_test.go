package mux

import (
	"context"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// quiet is st without what depends on who leads when, and on the clock.
func quiet(st Stats) Stats {
	st.Reads = 0
	st.Blocked = BlockedTimes{}
	return st
}

// TestStatsOfASmallSession plays a session step by step and knows every counter but
// Reads after each.
func TestStatsOfASmallSession(t *testing.T) {
	const h = wire.VTHeaderLen
	vtRun(t, true, &Config{AcceptBacklog: 1}, func(tc *vtTest) {
		var want Stats
		check := func(sentence string) {
			tc.t.Helper()
			tc.settle()
			if got := quiet(tc.l.Stats()); got != want {
				tc.t.Fatalf("%s:\n got %+v\nwant %+v", sentence, got, want)
			}
			if tc.p.Stats() != tc.l.Stats() {
				tc.t.Errorf("%s: the Pipe's counters are not the Listener's", sentence)
			}
		}
		check("nothing has happened")

		c := tc.open(vtA)
		want.Conns, want.Opened, want.BytesOut, want.Writes = 1, 1, h, 1
		check("an open")

		tc.write(c, "hello")
		want.BytesOut += h + 5
		want.Writes++
		want.PayloadOut = 5
		check("a Write")

		tc.send(vtOpen(vtB))
		want.Conns, want.BytesIn, want.FramesIn = 2, h, 1
		check("the peer opens")

		extra := testAddr(1)
		tc.send(vtOpen(extra))
		want.Conns++ // until the peer ends its half
		want.Refused++
		want.BytesIn += h
		want.FramesIn++
		want.BytesOut += h
		want.Writes++
		check("one more than the backlog holds")
		tc.send(vtData(extra, "into the void"), vtEnd(extra))
		want.Conns--
		want.BytesIn += h + 13 + h
		want.FramesIn += 2
		want.PayloadIn += 13
		want.Discarded += 13
		check("what was refused sends and ends")

		b := tc.accept(vtB)
		want.Accepted++
		check("an Accept")

		tc.send(vtData(vtB, "some bytes"), vtData(testAddr(2), "for nobody"))
		want.BytesIn += 2*h + 20
		want.FramesIn += 2
		want.PayloadIn += 20
		want.Discarded += 10
		check("payload for a connection, and for an address that is free")

		tc.wantRead("the payload", b, "some bytes", nil)
		check("a Read")

		b.Close()
		want.BytesOut += h
		want.Writes++
		check("a Close: the peer has not ended its half")
		tc.send(vtData(vtB, "late"), vtEnd(vtB))
		want.Conns--
		want.BytesIn += 2*h + 4
		want.FramesIn += 2
		want.PayloadIn += 4
		want.Discarded += 4
		check("what comes after Close, and the peer's end")

		tc.send(vtEnd(vtA))
		want.BytesIn += h
		want.FramesIn++
		check("the peer's half ends")
		c.CloseWrite()
		want.Conns--
		want.BytesOut += h
		want.Writes++
		check("and ours")
	})
}

func TestRejectCountsOnce(t *testing.T) {
	vtRun(t, true, nil, func(tc *vtTest) {
		tc.send(vtOpen(vtA))
		pending, err := tc.l.AcceptPending(context.Background())
		if err != nil {
			tc.t.Fatal(err)
		}
		for range 3 {
			wantErr(tc.t, "Reject", pending.Reject(300, "no"), nil)
		}
		if n := tc.l.Stats().Refused; n != 1 {
			tc.t.Errorf("one connection was rejected, and %d are counted", n)
		}
	})
}

// TestBlockedTimes: waits are counted when they end, each by its cause.
func TestBlockedTimes(t *testing.T) {
	want := func(tc *vtTest, sentence string, want BlockedTimes) {
		tc.t.Helper()
		synctest.Wait()
		if got := tc.p.Stats().Blocked; got != want {
			tc.t.Errorf("%s: blocked %+v, want %+v", sentence, got, want)
		}
	}
	t.Run("readers", func(t *testing.T) {
		vtRunBoth(t, func(tc *vtTest) {
			c := tc.open(vtA)
			for i := range 2 {
				c.SetReadDeadline(time.Now().Add(time.Minute))
				c.Read(make([]byte, 1))
				want(tc, "a Read has waited", BlockedTimes{Reading: time.Duration(i+1) * time.Minute})
			}
		})
	})
	t.Run("writers", func(t *testing.T) {
		vtRun(t, false, nil, func(tc *vtTest) {
			c, other := tc.open(vtA), tc.open(vtB)
			tc.settle()
			tc.peer.setDeaf(true)
			tc.settle()
			flusher := tc.startWrite(c, "held up by the peer, and all others with it")
			tc.start("Write", func() (int, error) { return other.Write(make([]byte, 2*copyMax)) })
			waiting := tc.startWrite(other, "no room is left in staging")
			<-time.After(time.Minute)
			want(tc, "waits that last", BlockedTimes{})
			tc.peer.setDeaf(false)
			tc.settle()
			flusher.want("the peer listens again", -1, nil)
			waiting.want("the peer listens again", -1, nil)
			if got := tc.p.Stats().Blocked; got.Flusher < time.Minute || got.Reading != 0 || got.Stalled != 0 {
				tc.t.Errorf("a writer waited a minute: blocked %+v", got)
			}
		})
	})
	t.Run("one writer, in the transport", func(t *testing.T) {
		vtRun(t, false, nil, func(tc *vtTest) {
			c := tc.open(vtA)
			tc.settle()
			tc.peer.setDeaf(true)
			tc.settle()
			op := tc.startWrite(c, "held up by the peer")
			<-time.After(time.Minute)
			op.wantBlocked("nobody reads")
			tc.peer.setDeaf(false)
			tc.settle()
			op.want("the peer listens again", -1, nil)
			if got := tc.p.Stats().Blocked.Flusher; got < time.Minute {
				tc.t.Errorf("a writer waited a minute for its payload to be sent: %v is counted", got)
			}
		})
	})
	t.Run("stall", func(t *testing.T) {
		vtRun(t, true, &Config{MaxWindow: minMaxWindow}, func(tc *vtTest) {
			c, other := tc.open(vtA), tc.open(vtB)
			tc.stall(c, other)
			before := tc.s.now() - tc.s.token.stalledAt
			<-time.After(time.Minute)
			if got := tc.p.Stats().Blocked.Stalled; got != 0 {
				tc.t.Errorf("a stall that lasts is counted as %v", got)
			}
			c.Close()
			want(tc, "the stall has ended", BlockedTimes{Stalled: time.Duration(before) + time.Minute})
		})
	})
}

// TestSnapshotShowsEveryCounter gives each counter a value of its own.
func TestSnapshotShowsEveryCounter(t *testing.T) {
	var k counters
	for i, c := range []*atomic.Uint64{&k.opened, &k.accepted, &k.refused, &k.dropped,
		&k.bytesOut, &k.writes} {
		c.Store(uint64(i + 1))
	}
	k.payloadOut.Store(5)
	for i, c := range []*atomic.Int64{&k.reading, &k.flusher, &k.stalled, &k.credit} {
		c.Store(int64(i + 101))
	}
	want := Stats{
		Opened: 1, Accepted: 2, Refused: 3, Dropped: 4,
		BytesOut: 5, Writes: 6,
		BytesIn: 7, FramesIn: 8, Reads: 9, PayloadIn: 10, Discarded: 11, PayloadOut: 12,
		Blocked: BlockedTimes{Reading: 101, Flusher: 102, Stalled: 103, Credit: 104},
	}
	in := readCounts{bytesIn: 7, framesIn: 8, reads: 9, payloadIn: 10, discarded: 11}
	if got := k.snapshot(in, 7); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	// Conns and RTT are not counters. A new field belongs above.
	for _, v := range []any{want, want.Blocked} {
		for i := range reflect.TypeOf(v).NumField() {
			if f := reflect.TypeOf(v).Field(i); reflect.ValueOf(v).Field(i).IsZero() && f.Name != "Conns" && f.Name != "RTT" {
				t.Errorf("%s is not tested here", f.Name)
			}
		}
	}
}
