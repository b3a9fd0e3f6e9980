/*
 * The steps of lead and leadUntil (session_read.go), for the loop of each process that leads. lp is the step, 0: none.
 * w is its waiter. CONN: the waiter's conn, or NOC; READS: it waits for bytes; LAZY: it is lazy; SLICE: whether there is
 * a slice to fill; DEADLINE: the variable with its deadline; AFTER: the step (wp) that follows.
 *
 *   1 parse      5 dead?        8 deadline?   11 timedOut          14 hasRoom
 *   2, 3 rouse   6 arm          9 fill        12 end               16 unstall
 *   4 raise      7 satisfied?  10 arm, 2nd    13 release, or stall 17-19 passLocked
 */
	:: atomic { lp == 1 ->
		if
		:: ledBy == w
		:: else -> assert(ledBy == NONE && leader == w); ledBy = w; rself = CONN; rp = SLICE
		fi;
		if
		:: rheld && stall_ == NOC -> deliver(w, rcur)
		:: !rheld && avail > 0 ->
			stream?x; avail--;
			if
			:: x == DATA0 -> x = NONE; deliver(w, 0)
			:: x == DATA1 -> x = NONE; deliver(w, 1)
			:: x == OPEN -> x = NONE; offer(w)
			:: x == WINDOW -> x = NONE; sendLimit = 1; lp = 4
			:: x == CTRL -> x = NONE
			fi
		:: !(rheld && stall_ == NOC) && !(!rheld && avail > 0) && len(woken) > 0 ->
			woken?x;
#ifndef MUT_NOWAKE
			wake[x] = 1;
#endif
			x = NONE
		:: else -> /* all is handed out */
			if
			:: stall_ != NOC -> lp = 13
			:: stall_ == NOC && terr == TIMEOUT -> lp = 11
			:: stall_ == NOC && terr == CLOSED -> lp = 12
			:: stall_ == NOC && terr == NOERR && LAZY && rdel -> lp = 13
			:: else ->
				if
				:: satisfied[w] -> lp = 13
#ifdef ENDS
				:: else -> lp = 5
#else
				:: else -> lp = (dead -> 13 : 6)
#endif
				fi
			fi
		fi }
	:: lp == 2 -> rouse(x); atomic { x = NONE; lp = 1 }
	:: atomic { lp == 4 -> raise(w); lp = 1 }
	:: atomic { lp == 5 -> lp = (dead -> 13 : 6) }
#ifdef MUT_ARMORDER
	:: atomic { lp == 6 -> want = DEADLINE; lp = 15 }
	:: atomic { lp == 15 && !tmu -> tmu = 1; ro = roused[w]; lp = 10 }
#else
	:: atomic { lp == 6 && !tmu -> tmu = 1; ro = roused[w];
#ifdef DEADLINES
		lp = 10
#else
		if
		:: ro -> lp = 10
		:: else -> armRest(DEADLINE)
		fi
#endif
		}
#endif
	:: atomic { lp == 10 ->
		if
		:: roused[w] && ro -> roused[w] = 0
		:: else -> armRest(DEADLINE)
		fi }
	:: atomic { lp == 7 ->
		if
#ifndef MUT_RECHECK
		:: satisfied[w] -> lp = 13
#endif
		:: else -> lp = (want != 0 -> 8 : ((ro && !READS) -> OUT_ROUSED : 9))
		fi }
	:: atomic { lp == 8 -> lp = (EXPIRED(want) -> 13 : ((ro && !READS) -> OUT_ROUSED : 9)) }
	:: atomic { lp == 9 ->
		/* the blocking read takes one frame, or more if they are there */
		if
		:: len(stream) > 0 && !tclosed -> avail = 1;
			do
			:: avail < len(stream) -> avail++
			:: break
			od
#ifndef PERMANENT
		:: EXPIRED(armedAt) -> terr = TIMEOUT
#endif
		:: tclosed || (eof && len(stream) == 0) -> terr = CLOSED
		:: w == SB && QUIET -> lp = 99
		fi;
		if
		:: lp == 99 -> lp = 0; wp = 9 /* the scene is over */
		:: else -> lp = 1
		fi }
	:: atomic { lp == 11 && !tmu -> terr = (EXPIRED(armedAt) -> NOERR : CLOSED); lp = 1 }
	:: atomic { lp == 12 -> endAsked = 1; ended -> lp = 13 }
	:: atomic { lp == 13 ->
		/* What is the leader's is left as nobody's, for it to be the same state whoever led. */
		ledBy = NONE; got = rn; st = stall_; x = (CONN != NOC && (rto == NOC || !over[CONN]) -> CONN : rto);
		terr = NOERR; want = 0; ro = 0; rself = NOC; rp = 0; rn = 0; rdel = 0; rto = NOC; stall_ = NOC;
		if
		:: st != NOC -> /* readToken.stall */
			!tmu -> assert(leader == w); promoted[w] = 0; leader = NONE; stalled = st; TOKEN_OK; x = NONE
		:: else -> /* release */
			!tmu -> tmu = 1; assert(leader == w); promoted[w] = 0;
#ifdef RECENT
			if
			:: x != NOC -> last = x; recent = 1
			:: else
			fi;
#endif
			x = NONE; leader = NONE;
#ifdef MUT_RELEASE
			tmu = 0
#else
			pass()
#endif
		fi;
		leads = 0; enlisted = 0; wp = AFTER;
		if
		:: px == AGAIN -> lp = 17
		:: px < NW -> lp = 18
#ifdef STALLS
		:: px == NONE && st != NOC -> lp = 14
#endif
		:: else -> lp = 0
		fi }
	:: atomic { lp == 17 -> pass(); lp = (px == AGAIN -> 17 : (px == NONE -> 0 : 18)) }
	:: atomic { lp == 18 -> leader = px; promoted[px] = 1; lp = 19 }
	:: atomic { lp == 19 -> wake[px] = 1; px = NONE; TOKEN_OK; tmu = 0; lp = 0 }
#ifdef STALLS
	/* session.stall's second look, at hasRoom */
	:: atomic { lp == 14 && !cmu[st] -> lp = (ROOMLOOK -> 16 : 0); st = (lp == 0 -> NOC : st) }
	:: lp == 16 -> unstall(st); st = NOC; lp = 0
#endif
