package mux

import (
	"sync/atomic"
	"time"
)

// Stats is a snapshot of a session's counters. Each is exact by itself, but for PayloadOut;
// taken together they may be some calls apart.
type Stats struct {
	Conns    int // connections that either end has not ended yet
	Opened   uint64
	Accepted uint64 // handed to the application
	Refused  uint64 // opened by the peer and refused here
	Dropped  uint64 // became unreachable without Close, and were closed by the runtime

	BytesIn, BytesOut uint64 // on the transport, headers included
	FramesIn          uint64 // headers received, but for the preface's
	Reads, Writes     uint64 // calls on the transport: system calls, also in vain, where it is a socket, or TLS over BelowTLS (Linux, amd64 and arm64)
	PayloadIn         uint64 // payload bytes received
	PayloadOut        uint64 // payload bytes sent, on their way, or lost with the session; of those that wait for a flush, up to 128 KiB are missing
	Discarded         uint64 // payload bytes that no connection took

	// RTT is the smoothed round-trip time, as PINGs found it, waiting at both ends
	// included. 0 until it is known, and with the vt-muxer protocol.
	RTT time.Duration

	// Blocked tells how long callers have waited, summed over all of them.
	Blocked BlockedTimes
}

// BlockedTimes tells what callers waited for. A call that waits still is counted
// when its wait ends.
type BlockedTimes struct {
	Reading time.Duration // readers, for the peer to send
	Credit  time.Duration // writers, for the peer's application to read (protocol 1)
	Flusher time.Duration // writers, for room in staging, their turn, and the transport
	Stalled time.Duration // the whole session, for an application that does not read
}

// counters are the session's own, but for those of the leader.
type counters struct {
	opened, accepted, refused, dropped atomic.Uint64

	bytesOut, writes atomic.Uint64 // the flusher alone adds
	payloadOut       atomic.Uint64 // but for what was reserved in staging, which counts it

	reading, credit, flusher, stalled atomic.Int64 // nanoseconds
}

// readCounts are what the leader counts, for itself: the read token shows them to
// others whenever its lock is taken anyway.
type readCounts struct {
	bytesIn, framesIn, reads, payloadIn, discarded uint64

	lifeAt int64 // when something came last; 0 where nobody wants to know
}

func (k *counters) snapshot(in readCounts, staged uint64) Stats {
	return Stats{
		Opened:     k.opened.Load(),
		Accepted:   k.accepted.Load(),
		Refused:    k.refused.Load(),
		Dropped:    k.dropped.Load(),
		BytesIn:    in.bytesIn,
		BytesOut:   k.bytesOut.Load(),
		FramesIn:   in.framesIn,
		Reads:      in.reads,
		Writes:     k.writes.Load(),
		PayloadIn:  in.payloadIn,
		PayloadOut: k.payloadOut.Load() + staged,
		Discarded:  in.discarded,
		Blocked: BlockedTimes{
			Reading: time.Duration(k.reading.Load()),
			Credit:  time.Duration(k.credit.Load()),
			Flusher: time.Duration(k.flusher.Load()),
			Stalled: time.Duration(k.stalled.Load()),
		},
	}
}

// payloadOut is Stats.PayloadOut. It never falls.
func (s *session) payloadOut() uint64 { return s.count.payloadOut.Load() + s.out.stg.payload() }
