package mux

import (
	"fmt"
	"strings"
	"testing"
)

// A hostileRow is an attack of the catalogue of hostile peers, by its number there. For
// each protocol it has tests, or a reason why the attack can't be made.
type hostileRow struct {
	name  string
	tests []hostileAttack
	// noOne and noVT say why there is none in protocol 1, and in vt-muxer's.
	noOne, noVT string
}

// A hostileAttack is a test whose name begins with the protocol, "one" or "vt".
type hostileAttack struct {
	name string
	run  func(*testing.T)
}

// hostileRows are A1 to A30, in order. The limits are PROTOCOL.md's, 2.12 and 2.13, and
// docs/SECURITY.md says what they are for.
var hostileRows = []hostileRow{
	{name: "A1_rapid_reset", tests: []hostileAttack{
		{"one, nobody accepts", hostileOne(oneListener, rapidResetUnaccepted)},
		{"one, handlers at work", hostileOne(oneSetup{listen: true, cfg: Config{MaxConns: 8}}, rapidResetAccepted)},
		{"vt, nobody accepts", hostileVT(true, &Config{MaxConns: 8}, rapidCrossUnaccepted)},
		{"vt, handlers at work", hostileVT(true, &Config{MaxConns: 8}, rapidCrossAccepted)},
	}},
	{name: "A2_made_you_reset", tests: madeYouReset(),
		noVT: "the protocol has no reset, and a frame out of place is discarded"},
	{name: "A3_ping_flood", tests: []hostileAttack{
		{"one, never read", hostileOne(onePipe, pingFloodUnread)},
		{"one, read", hostileOne(onePipe, pingFloodRead)},
	}, noVT: "the protocol has no ping"},
	{name: "A4_settings", tests: append(badSettings(),
		hostileAttack{"one, a second preface", hostileOne(oneListener, secondPreface)},
		hostileAttack{"vt, a flood of prefaces", hostileVT(true, nil, prefacesAreData)},
	)},
	{name: "A5_reset_flood", tests: []hostileAttack{
		{"one", hostileOne(oneSetup{listen: true, cfg: Config{MaxConns: 4}}, refusalsUnread)},
		{"one, a pipe", hostileOne(onePipe, refusalsUnreadByAPipe)},
		{"one, a large pipe", hostileOne(oneSetup{cfg: Config{MaxConns: 1 << 17, WriteTimeout: -1}}, refusalsUnreadByALargePipe)},
		{"one, a pipe, gaps", hostileOne(onePipe, refusalsWithGaps)},
		{"vt", hostileVT(true, &Config{MaxConns: 64, AcceptBacklog: 4}, endsUnread)},
	}},
	{name: "A6_open_flood", tests: []hostileAttack{
		{"one, nobody accepts", hostileOne(oneSetup{listen: true, cfg: Config{AcceptBacklog: 16}}, openFlood(16))},
		{"one, nobody closes", hostileOne(oneSetup{listen: true, cfg: Config{MaxConns: 16}}, openFloodAccepted)},
		{"vt, nobody accepts", hostileVT(true, &Config{MaxConns: 64}, vtOpenFlood)},
	}},
	{name: "A7_empty_frames", tests: []hostileAttack{
		{"one", hostileOne(oneListener, emptyFrames)},
		{"vt, a pipe", hostileVT(false, &Config{MaxConns: 4}, vtEmptyFrames)},
	}},
	{name: "A8_data_dribble", tests: []hostileAttack{
		{"one", hostileOne(oneListener, dribble)},
		{"vt", hostileVT(true, &Config{MaxWindow: minMaxWindow}, vtDribble)},
	}},
	{name: "A9_never_reads", tests: []hostileAttack{
		{"one", hostileOne(oneListener, asksAndNeverReads)},
		{"one, a byte now and then", hostileOne(oneListener, asksAndReadsLittle)},
		{"vt", hostileVT(true, nil, vtAsksAndNeverReads)},
	}},
	{name: "A10_window_overflow", tests: windowOverflows(), noVT: noWindows},
	{name: "A11_first_frame_above_the_window", tests: []hostileAttack{
		{"one, OPEN and DATA", hostileOne(oneListener, firstDataAboveTheWindow)},
		{"one, OPEN and WINDOW", hostileOne(oneListener, firstWindowIsTheGreatest)},
		{"one, OPEN that is too long", hostileOne(oneListener, openTooLong)},
	}, noVT: noWindows},
	{name: "A12_data_above_the_window", tests: []hostileAttack{
		{"one", hostileOne(oneListener, dataAboveTheWindow)},
		{"one, behind STOP", hostileOne(oneListener, dataAboveTheWindowBehindStop)},
	}, noVT: noWindows + ": what is above MaxWindow is not read, A8"},
	{name: "A13_pending_frames", tests: []hostileAttack{
		{"one", hostileOne(oneSetup{listen: true, cfg: Config{WriteTimeout: -1}}, pendingFrames)},
		{"vt", hostileVT(true, &Config{MaxConns: 64, AcceptBacklog: 4}, endsUnread)},
	}},
	{name: "A14_length_lies", tests: lengthLies()},
	{name: "A15_no_end_of_its_own", tests: []hostileAttack{
		{"one, metadata", hostileOne(oneListener, endlessMetadata)},
		{"one, preface", hostileOne(oneSetup{listen: true, preface: "-", cfg: Config{Protocol: Protocol1}}, endlessPreface)},
	}, noVT: "an OPEN is a header"},
	{name: "A16_priorities", noOne: "a peer sets no priority", noVT: "a peer sets no priority"},
	{name: "A17_unknown_connections", tests: append(neverOpened(),
		hostileAttack{"one, closed", hostileOne(oneListener, closedIDs)},
		hostileAttack{"vt", hostileVT(true, nil, vtUnknownAddresses)},
	)},
	{name: "A18_bad_ids", tests: append(badIDs(),
		hostileAttack{"one, the last", hostileOne(oneListener, lastIDs)},
	), noVT: "every address is legal"},
	{name: "A19_unknown_types", tests: append(undefinedFlags(),
		hostileAttack{"one, all types", hostileOne(onePipe, allUnknownTypes)},
	), noVT: "the protocol has no types"},
	{name: "A20_goaway", tests: []hostileAttack{
		{"one, rising", hostileOne(onePipe, goAwayRises)},
		{"one, again and again", hostileOne(onePipe, goAwayFlood)},
		{"one, and then Close", hostileOne(onePipe, closeAfterGoAway)},
	}, noVT: "the protocol has no GOAWAY"},
	{name: "A21_closed_connections_kept", tests: []hostileAttack{
		{"one", hostileOne(oneListener, churn)},
		{"vt", hostileVT(true, nil, vtChurn)},
	}},
	{name: "A22_goroutine_for_each", tests: []hostileAttack{
		{"one", hostileOne(oneListener, noGoroutines)},
		{"vt", hostileVT(true, nil, vtNoGoroutines)},
	}},
	{name: "A23_never_finishes", tests: []hostileAttack{
		{"one, silent", hostileOne(oneAlive(true), opensAndIsSilent)},
		{"one, answers PINGs", hostileOne(oneAlive(true), opensAndAnswersPings)},
		{"vt", hostileVT(true, nil, vtOpensAndIsSilent)},
	}},
	{name: "A24_close_blocks", tests: []hostileAttack{
		{"one", hostileOne(oneListener, closeTowardsWhoNeverReads)},
		{"vt", hostileVT(true, nil, vtCloseTowardsWhoNeverReads)},
	}},
	{name: "A25_owed_answers", noOne: "a class, not a frame: A3, A5 and A13 have a peer that never reads, for each answer that there is",
		noVT: "a class, not a frame: A5 has the only answer that there is"},
	{name: "A26_reassembly", noOne: "bytes have no offsets: the transport keeps their order", noVT: "bytes have no offsets: the transport keeps their order"},
	{name: "A27_panic_inputs", tests: []hostileAttack{
		{"one", panicInputs(Protocol1)},
		{"vt", panicInputs(ProtocolVT)},
	}},
	{name: "A28_preface", tests: foreignPrefaces()},
	{name: "A29_writer_is_told", tests: []hostileAttack{
		{"one, the peer closes", hostileOne(oneListener, writerIsTold)},
		{"one, we close", hostileOne(oneListener, weTellTheWriter)},
	}, noVT: "an end can say only that it writes no more"},
	{name: "A30_own_answers", tests: []hostileAttack{
		{"one", hostileOne(onePipe, answersAreTheQuestions)},
	}, noVT: "the protocol has no ping; neither compresses"},
}

const noWindows = "the protocol has no flow control"

// TestHostile is the deterministic form of the catalogue: exact frames and codes, fake
// times, and what the session holds meanwhile.
func TestHostile(t *testing.T) {
	for i, row := range hostileRows {
		t.Run(row.name, func(t *testing.T) {
			if !strings.HasPrefix(row.name, fmt.Sprintf("A%d_", i+1)) {
				t.Errorf("row %d is %s", i+1, row.name)
			}
			tested := map[string]bool{}
			for _, a := range row.tests {
				protocol, _, _ := strings.Cut(a.name, ",")
				tested[protocol] = true
				t.Run(a.name, a.run)
			}
			if tested["one"] == (row.noOne != "") || tested["vt"] == (row.noVT != "") {
				t.Error("each protocol must have tests, or else a reason")
			}
		})
	}
	if len(hostileRows) != 30 {
		t.Errorf("%d rows, want 30", len(hostileRows))
	}
}
