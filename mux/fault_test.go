package mux

import (
	"flag"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// A faultRow is a row of the fault catalogue: what happens, and what then holds.
type faultRow struct {
	name string
	run  func(*testing.T)
	// see are tests that stand elsewhere, and show the promise or a part of it. They run
	// here too where the row is asked for by its number: -run '^TestFault$/F06'.
	see []func(*testing.T)
	// note says what a protocol can't promise.
	note string
}

// faultRows are F1 to F30, for both protocols where nothing else is said.
var faultRows = []faultRow{
	{name: "F01_any_split_of_what_is_read", run: faultF01,
		see: []func(*testing.T){TestFramesCutAnywhere, TestTranscriptsReadAlikeCutAnywhere, TestPrefaceCutAnywhere}},
	{name: "F02_short_writes", run: faultF02,
		see: []func(*testing.T){TestFaultAtEveryByte, TestFaultAtEveryCall, TestNothingFollowsAWriteThatFailed, TestShortWrites, TestShortWritesLoseNothing, TestBatchOfMoreSlicesThanTheKernelTakes}},
	{name: "F03_cut_at_every_byte", see: []func(*testing.T){TestFaultAtEveryByte, TestCutStreamNeverEndsInEOF, TestTransportCutAnywhere, TestTransportCutAnywhereOne, TestCutFrameIsNoEnd}},
	{name: "F04_transport_lost_with_connections_open", run: faultF04,
		see: []func(*testing.T){TestCutTransportIsNoEnd, TestEveryCallTellsWhyTheSessionEnded, TestSessionsCloseLeavesNoCleanEnd, TestPeerOfAClosedSession}},
	{name: "F05_finished_and_then_lost", run: faultF05, see: []func(*testing.T){TestCutTransportIsNoEnd, TestWhatCameBeforeTheTransportsEndIsAccepted}},
	{name: "F06_close_after_write", run: faultF06,
		see: []func(*testing.T){TestAllThatWasWrittenArrivesBeforeEOF, TestAllThatWasWrittenArrivesThoughEndsCross, TestCloseDeliversWhatWasWritten}},
	{name: "F07_half_close_both_ways", run: faultF07, see: []func(*testing.T){TestEitherHalfMayEndFirst, TestFINBehindUnreadBytes}},
	{name: "F08_transport_stalls", run: faultF08,
		see: []func(*testing.T){TestPeerThatNeverReads, TestClosesDoNotWaitForTheTransport, TestTransportThatTakesNothingIsDead, TestCloseEndsBlockedWrite}},
	{name: "F09_stall_inside_a_frame", run: faultF09},
	{name: "F10_half_open_and_one_way", run: faultF10, see: []func(*testing.T){TestPingAfterSilence},
		note: "the vt-muxer protocol has no PING: there only TCP's own keep-alive notices"},
	{name: "F11_slow_readers", see: []func(*testing.T){TestUnreadConnectionsHoldUpNoOther, TestCreditIsEachConnectionsOwn, TestAFullConnectionStallsTheSession, TestDuringAStall},
		note: "the vt-muxer protocol has no flow control: a full connection holds up the others, and memory is bounded"},
	{name: "F12_nobody_accepts", see: []func(*testing.T){TestAcceptThatNobodyCallsStallsNoConnection, TestOpensBeyondTheBacklogAreRefused, TestBacklogExcessIsRefusedAndStallsNothing}},
	{name: "F13_peer_never_reads", see: []func(*testing.T){TestPeerThatNeverReads, TestOnePeerThatReadsNothing, TestRefusalsThatCantBeSent}},
	{name: "F14_acceptor_speaks_first", see: []func(*testing.T){TestAcceptorThatSpeaksFirst, TestAnswerThatComesWhileTheOpenIsBeingSent}},
	{name: "F15_both_at_once", see: []func(*testing.T){TestBothEndsOpenTheSameAddressAtOnce, TestBothEndsCloseAtOnce, TestCloseWhileOpening, TestCrossedOpensBetweenTwoSessions},
		note: "with the vt-muxer protocol crossed opens of one address fail, and are noticed"},
	{name: "F16_write_after_the_peer_has_closed", see: []func(*testing.T){TestWriterLearnsThatThePeerReadsNoMore, TestStopIsAnsweredAtOnce, TestCloseReadDiscardsAndStallsNobody},
		note: "the vt-muxer protocol can't tell a writer"},
	{name: "F17_read_deadline_loses_nothing", see: []func(*testing.T){TestReadDeadlineLosesNoByte, TestNextLeaderDoesNotSeeTheTimeout}},
	{name: "F18_write_deadline_counts_exactly", see: []func(*testing.T){TestWriteDeadlineLosesNoByte, TestDeadlineCopiesTheRestOfALentPayload, TestOverwrittenSliceArrivesAsItWas}},
	{name: "F19_concurrent_writes_stay_whole", see: []func(*testing.T){TestEachWriteIsContiguous}},
	{name: "F20_close_by_64_at_once", run: faultF20, see: []func(*testing.T){TestCloseTwiceIsNoError}},
	{name: "F21_end_with_10000_blocked_calls", run: faultF21, see: []func(*testing.T){TestCloseEndsAllBlockedCalls, TestEndWakesEveryWaiter}},
	{name: "F22_go_away_races", see: []func(*testing.T){TestShutdownWhileOpening, TestShutdownLosesNoConnectionInFlight, TestGoAwayIsSafeToRetry, TestOpenGoesAheadOfTheAck, TestShutdownRefusesWhatThePeerOpens},
		note: "the vt-muxer protocol has no GOAWAY: what crosses a Shutdown is refused by END"},
	{name: "F23_ids_are_used_up", run: faultF23, see: []func(*testing.T){TestIDsRise, TestOneAddressManyTimes, TestAddrInUseUntilBothHaveEnded},
		note: "the vt-muxer protocol has no IDs"},
	{name: "F24_clock", run: faultF24, see: []func(*testing.T){TestTwoIdleSessions, TestIdleSessionIsKeptAlive}},
	{name: "F25_pause", run: faultF25},
	{name: "F26_slow_reader_and_keep_alive", run: faultF26, see: []func(*testing.T){TestTransportThatTakesBytesIsAlive, TestSlowTransportIsNotSilent},
		note: "the vt-muxer protocol has no keep-alive"},
	{name: "F27_churn", run: faultF27, see: []func(*testing.T){TestOpenAndCloseAllocateAtMostThree, TestNothingIsLeftAfterClose}},
	{name: "F28_empty_calls_and_calls_behind_the_end", run: faultF28, see: []func(*testing.T){TestEmptyReadTellsTheState, TestEmptyWritesSendNothing, TestWriteAfterCloseWriteIsEPIPE}},
	{name: "F29_deadline_in_the_past", see: []func(*testing.T){TestPastDeadlineFailsAtOnce}},
	{name: "F30_transports_that_bring_nothing", run: faultF30,
		see: []func(*testing.T){TestReadsThatBringNothing, TestWritesThatTakeNothing, TestErrorAtTheNthCall, TestRefusedTransports, TestCopiesPassOnTheOtherEndsError}},
}

// TestFault has a subtest for each row of the fault catalogue.
func TestFault(t *testing.T) {
	asked := strings.Contains(flag.Lookup("test.run").Value.String(), "/F")
	if len(faultRows) != 30 {
		t.Errorf("%d rows", len(faultRows))
	}
	for _, row := range faultRows {
		t.Run(row.name, func(t *testing.T) {
			if row.note != "" {
				t.Log(row.note)
			}
			if row.run != nil {
				row.run(t)
			}
			for _, test := range row.see {
				name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
				name = name[strings.LastIndexByte(name, '.')+1:]
				if asked {
					t.Run(name, test)
				} else {
					t.Logf("see %s", name)
				}
			}
		})
	}
}

// eachProtocol runs f as a subtest for each protocol.
func eachProtocol(t *testing.T, f func(*testing.T, Protocol)) {
	for _, pr := range protocols {
		t.Run(pr.String(), func(t *testing.T) { f(t, pr) })
	}
}
