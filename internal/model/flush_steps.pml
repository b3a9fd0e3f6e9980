/*
 * The steps of runFlusher, or with tr of trySend, for the loop of each process that flushes.
 * fp: the step, 0: none; fc: whose Write this is, or NIL; fm: it has lent a payload.
 *
 *   1 dead?       5-8 seal      13 arm         17 finish         25-28 passOn, handOver
 *   2 collect     9 build       14 recalling?  18 pending?       30-33 failAll
 *   3 take debts  10 debts      15 cantWrite?  19 rest
 *   4 take lents  11 claim      16 write       20-22 recall
 *                 12 try
 */
	:: atomic { fp == 1 ->
		assert(holder == _pid);
		if
		:: dead -> fp = 30; fc = NIL; tr = 0
		:: else -> fp = (phase == NONE -> 2 : (phase == SEAL -> 9 : (tr -> 28 : 12)))
		fi }
	/* collect */
	:: atomic { fp == 2 ->
#ifndef MUT_BUSYLATE
		role = BUSY;
#endif
		fp = 3 }
	:: atomic { fp == 3 -> /* debts.take, with what each owed then */
		if
		:: len(owing) == 0 ->
			do
			:: len(debts) > 0 -> debts?i; taken[i] = owes[i]; owing!i
			:: else -> i = 0; break
			od
		:: else
		fi;
#ifdef MUT_TAKELATE
		fp = 5 }
#else
		fp = 4 }
	:: atomic { fp == 4 ->
		do
		:: len(lents) > 0 -> lents?i; queue!i
		:: else -> i = 0; break
		od;
		fp = 5 }
#endif
	:: atomic { fp == 5 ->
#ifdef MUT_BUSYLATE
		role = BUSY;
#endif
		if
		:: len(owing) == 0 && off == 0 && len(queue) > 0 -> end = 0; phase = SEAL; fp = 9
		:: len(owing) == 0 && off == 0 && len(queue) == 0 -> fp = 18
		:: else -> fp = 6
		fi }
	:: atomic { fp == 6 -> /* swap; nobody else touches the done of the other buffer: it is settled */
		sealed = open; end = off; done[1-open] = 0; open = 1-open; off = 0; phase = SEAL;
#ifdef MUT_SEALQUIET
		fp = 8 }
#else
		fp = 7 }
#endif
#ifdef LEASES
	:: atomic { fp == 7 -> wakeRooms(); x = 0; fp = 43 }
	:: atomic { fp == 43 -> /* revoke: whose lease is in the buffer */
		if
		:: x == NC -> x = NIL; fp = (dying -> 31 : 8); dying = 0
#ifndef MUT_NOREVOKE
		:: x < NC && lown[x] && lat[x]/ROOM == (dying -> open : sealed) -> fp = 44
#endif
		:: else -> x++
		fi }
	:: atomic { fp == 44 -> /* tryLock */
		if
		:: !wheld[x] -> wheld[x] = 1; fp = 45
#ifdef MUT_REVOKENOTE
		:: else -> x++; fp = 43
#else
		:: else -> revoked[x] = 1; x++; fp = 43
#endif
		fi }
	:: atomic { fp == 45 && lat[x] != NIL -> /* endLease, perhaps of another lease than was seen */
		lown[x] = 0;
		i = (!lused[x] && open == lat[x]/ROOM && off == lat[x]%ROOM + 1);
		off = off - i;
		if
		:: !lused[x] && i == 0 -> slot[lat[x]] = GAP
		:: else
		fi;
		done[lat[x]/ROOM] = done[lat[x]/ROOM] + 2 - i;
		assert(done[lat[x]/ROOM] != SEALED);
		lat[x] = NIL; lused[x] = 0; i = 0; fp = 46 }
	:: atomic { fp == 45 && lat[x] == NIL -> fp = 46 }
	:: atomic { fp == 46 -> wheld[x] = 0; revoked[x] = 0; /* unlockWrite */
		if
		:: wending[x] -> wending[x] = 0; fp = 47
		:: else -> x++; fp = 43
		fi }
	:: fp == 47 -> owe(x, END); fp = 48
	:: atomic { fp == 48 -> role = DIRTY; x++; fp = 43 } /* claim */
#else
	:: atomic { fp == 7 -> wakeRooms(); fp = 8 }
#endif
	:: atomic { fp == 8 -> /* settle */
		done[sealed] = done[sealed] + SEALED - end;
#ifdef MUT_TAKELATE
		do
		:: len(lents) > 0 -> lents?i; queue!i
		:: else -> i = 0; break
		od;
#endif
		if
#ifndef MUT_SETTLE
		:: done[sealed] != SEALED -> LOSE; fp = 0
#endif
		:: else -> fp = 9
		fi }
	/* build: what staging holds, then the debts, then one lent payload: the quantum */
	:: atomic { fp == 9 ->
		phase = NONE; i = 0; control = (end == 0 && len(queue) == 0);
		do
		:: i < end -> u = slot[sealed*ROOM+i]; assert(u != NIL); slot[sealed*ROOM+i] = NIL; i++;
			if
			:: u != GAP -> out!u
			:: else
			fi
		:: else -> i = 0; u = 0; end = 0; sealed = 0; break
		od;
		fp = 10 }
	:: atomic { fp == 10 && len(owing) == 0 -> fp = 11 }
	:: atomic { fp == 10 && len(owing) > 0 -> owing?u; i = owes[u]; owes[u] = 0; /* settleDebts */
#ifndef MUT_DEBTLATE
		if
		:: (i & END) && !(taken[u] & END) -> i = i & WIN; fp = 34; x = u
		:: else
		fi;
#endif
		if
		:: i & WIN -> out!(WINS+u)
		:: else
		fi;
		if
		:: i & END -> out!(ENDS_+u); control = 0
		:: else
		fi;
		taken[u] = 0; i = 0; u = 0 }
	:: fp == 34 -> owe(x, END); x = NIL; fp = 10
	:: atomic { fp == 11 ->
		if
		:: len(queue) > 0 -> queue?i;
			if
			:: lst[i] == QUEUED -> lst[i] = CLAIMED; claimed[i] = 1; out!(LENT1+2*i+wrote[i]); out!(LENT2+2*i+wrote[i])
			:: lst[i] == WITHDRAWN -> lst[i] = DONE
			fi;
			i = 0
		:: else
		fi;
		if
		:: len(out) > 0 -> phase = SENDING; fp = (tr -> 28 : 12)
		:: else -> fp = (len(queue) > 0 -> 11 : 18)
		fi }
	/* send: the try, which can't block and is made only where no lent payload is in the batch */
	:: atomic { fp == 12 -> fp = 13;
		if
#ifndef MUT_FAILED
		:: failed -> fp = 35
#endif
#ifdef TRIES
		:: !failed && !claimed[0] && !claimed[1] && !claimed[2] && !armedPast -> fp = 29
#endif
		:: else
		fi }
	:: atomic { fp == 29 && len(out) > 0 && !stuck && !tclosed -> sent() }
	:: atomic { fp == 29 -> fp = (len(out) > 0 -> 13 : 17) }
	:: atomic { fp == 13 -> owner = fc; /* arm, under o.mu */
		armedPast = 0; fp = 14 }
	:: atomic { fp == 14 -> fp = (recalling -> 20 : (fc == NIL -> 16 : 15)); recalling = 0 }
	:: atomic { fp == 15 -> fp = (writeShut[fc] -> 20 : 16) }
	:: atomic { fp == 16 && len(out) > 0 && !stuck && !tclosed -> sent(); wr = 1 }
	:: atomic { fp == 16 && len(out) == 0 -> wr = 0; fp = 17 }
	:: atomic { fp == 16 && armedPast -> fp = (wr -> 13 : 20); wr = 0 } /* the deadline */
	:: atomic { fp == 16 && (tclosed || breaks) -> breaks = 0; wr = 0; fp = 35 }
	:: atomic { fp == 35 -> /* isMoot */
		failed = 1;
		if
		:: control && draining && !halfClosed -> halfClosed = 1; gone = 1
		:: else
		fi;
		if
#ifdef MUT_GONE
		:: halfClosed ->
#else
		:: halfClosed && (control || !gone) ->
#endif
			assert(!claimed[0] && !claimed[1] && !claimed[2]); /* failBatch; this scene lends nothing */
			do
			:: len(out) > 0 -> out?u; assert(u >= WINS) /* what is given up is neither payload nor an end */
			:: else -> u = 0; phase = NONE; fp = 1; break
			od
		:: else -> endAsked = 1; dead -> fp = 1 /* end, which another process does for us */
		fi }
	/* finish */
	:: atomic { fp == 17 && (claimed[0] || claimed[1] || claimed[2]) ->
		i = (claimed[0] -> 0 : (claimed[1] -> 1 : 2));
		claimed[i] = 0; lst[i] = DONE;
		if
		:: fm && i == fc
		:: else -> wake[i] = 1
		fi;
		i = 0 }
	:: atomic { fp == 17 && !claimed[0] && !claimed[1] && !claimed[2] -> phase = NONE; fp = (tr -> 1 : 18);
		if
		:: fp == 18 -> late = 1 /* behind a batch, not for want of one */
		:: else
		fi }
	:: atomic { fp == 18 -> fp = ((len(queue) > 0 || len(owing) > 0 || len(debts) > 0) -> 24 : 19) }
	:: atomic { fp == 19 -> /* rest */
		if
#ifdef MUT_RESTDIRTY
		:: true -> role = IDLE; LOSE; fp = 23; late = 0
#else
		:: role == BUSY -> role = IDLE; LOSE; fp = 23; late = 0
		:: role == DIRTY -> fp = 24
#endif
		fi }
	:: atomic { fp == 23 -> wakeRooms(); fp = 0 }
	:: atomic { fp == 24 -> fp = 1;
		if
		:: late && fc != NIL && (!fm || lst[fc] == DONE) -> fp = 25 /* its rounds are over */
		:: true
		fi;
		late = 0 }
	/* passOn */
	:: atomic { fp == 25 ->
		if
		:: len(queue) > 0 -> queue?<x>;
			if
			:: lst[x] == QUEUED -> lst[x] = PROMOTED; LOSE; fp = 26
			:: else -> queue?x; lst[x] = DONE; x = NIL
			fi
		:: else -> fp = 27
		fi }
	:: atomic { fp == 26 -> wake[x] = 1; x = NIL; fp = 0 }
	/* handOver */
	:: atomic { fp == 27 -> handed = 1; LOSE; fp = 36 }
	:: atomic { fp == 36 -> work = 1;
#ifdef MUT_HANDEDDEAD
		fp = 0 }
#else
		fp = 37 }
#endif
	:: atomic { fp == 37 -> fp = (dead -> 38 : 0) }
	:: atomic { fp == 38 ->
		if
		:: handed -> handed = 0; BECOME; fc = NIL; fm = 0; tr = 0; fp = 1
		:: else -> fp = 0
		fi }
	/* trySend: never blocks */
	:: atomic { fp == 28 && (claimed[0] || claimed[1] || claimed[2]) -> fp = 27 }
	/* without TRIES it hands over at once */
	:: atomic { fp == 28 && !claimed[0] && !claimed[1] && !claimed[2] -> owner = NIL; armedPast = 0; fp = 39 }
#ifdef MUT_FAILED
	:: atomic { fp == 39 -> recalling = 0; fp = TRY } /* nothing is claimed that could be recalled */
#else
	:: atomic { fp == 39 -> recalling = 0; fp = (failed && TRY == 40 -> 35 : TRY) }
#endif
	:: atomic { fp == 40 && len(out) > 0 && !stuck && !tclosed -> sent() }
	:: atomic { fp == 40 && (tclosed || breaks) -> breaks = 0; fp = 35 }
	:: atomic { fp == 40 -> fp = (len(out) > 0 -> 27 : 17) }
	/* recall, and what follows an interrupt */
	:: atomic { fp == 20 -> x = 0; over = (fc != NIL && writeShut[fc]); fp = 21 }
	:: atomic { fp == 21 && x < NC ->
		if
		:: claimed[x] && (lst[x] == RECALLED || (over && fm && x == fc)) -> claimed[x] = 0;
#ifndef MUT_NOCOPY
			copyRest(x);
#endif
			lst[x] = DONE; wake[x] = 1
		:: else
		fi;
		x++ }
	:: atomic { fp == 21 && x == NC -> x = NIL; fp = (over -> 27 : 1); over = 0 }
	/* failAll */
	:: atomic { fp == 30 ->
		do
		:: len(out) > 0 -> out?u; if :: u < ENDS_ -> lost[(u % 6) / 2] = 1 :: else fi
		:: else -> u = 0; mid = NIL; break
		od;
		phase = NONE;
#ifdef LEASES
		x = 0; dying = 1; fp = 43 } /* revokeOpen */
#else
		fp = 31 }
#endif
	:: atomic { fp == 31 && (claimed[0] || claimed[1] || claimed[2]) ->
		i = (claimed[0] -> 0 : (claimed[1] -> 1 : 2));
		claimed[i] = 0; lst[i] = FAILED; wake[i] = 1; i = 0 }
	:: atomic { fp == 31 && !claimed[0] && !claimed[1] && !claimed[2] ->
		do
		:: len(lents) > 0 -> lents?i; queue!i
		:: else -> i = 0; break
		od;
		fp = 32 }
	:: atomic { fp == 32 && len(queue) > 0 -> queue?i;
		if
		:: lst[i] == QUEUED -> lst[i] = FAILED; wake[i] = 1
		:: else -> lst[i] = DONE
		fi;
		i = 0 }
	:: atomic { fp == 32 && len(queue) == 0 ->
		do
		:: len(owing) > 0 -> owing?_
		:: len(debts) > 0 -> debts?_
		:: else -> break
		od;
		fp = 33 }
	:: atomic { fp == 33 -> wakeRooms(); fp = 42 }
	:: atomic { fp == 42 ->
			if
			:: role == BUSY -> role = IDLE; LOSE; fp = 23
			:: else -> fp = 41
			fi }
	:: atomic { fp == 41 -> role = BUSY; fp = 1 }
