/*
 * The flush: mux/session_write.go, session_send.go, helper.go, staging.go, lent.go, debt.go (the stack), conn_write.go,
 * conn_close.go (endWrite). README.md maps the steps to functions, and says what is left out and why that is sound.
 *
 * A statement, or an atomic block, is one step, with at most one access to what other processes touch. Functions of many
 * steps are loops over a number that is the process's own (fp, wp): each option is a step.
 *
 * -DCFG=n selects a scene (see init), -DMUT_xxx takes one guard away.
 */

#define NC 3     /* conns, each with one writer, whose waiter has the same number */
#if CFG == 8 || CFG == 10
#define ROOM 1   /* frames that fit into a staging buffer */
#elif CFG == 11
#define ROOM 3
#else
#define ROOM 2
#endif
#if CFG >= 11
#define LEASES  /* a connection may keep room in staging from one small write to the next: here, for one frame more */
#endif
#define NIL 7
#define GAP 6    /* in a slot */
#define SEALED 16
#define IDLE 0
#define BUSY 1
#define DIRTY 2
#define END 1    /* debts */
#define WIN 2

#if CFG == 1
#define TRIES   /* the transport tells what it takes without waiting (xport.CanTry) */
#endif
#if CFG == 3
#define STREAKS /* a small write may leave the flush to the helper */
#endif
#if CFG == 3 || CFG == 6
#define ALONE   /* a small write may be alone (claimAlone) */
#endif

mtype = { NONE, SEAL, SENDING, QUEUED, CLAIMED, RECALLED, PROMOTED, DONE, FAILED, WITHDRAWN };

/* What the transport takes is units. A frame in staging is one; a lent payload two, so that it can be cut in the middle.
 * Each is kind + 2*conn + number, where number counts the frames of a conn. */
#define STAGED 0
#define LENT1 6
#define LENT2 12
#define COPY1 18
#define COPY2 24
#define ENDS_ 30
#define WINS 36

/* writeSide */
byte role, off;
bit open;                        /* with off: staging.word */
byte done[2];
byte slot[2*ROOM] = NIL;
chan lents = [NC] of { byte };   /* lentStack, in the order of pushing */
chan debts = [NC] of { byte };   /* debtStack, likewise */
mtype lst[NC] = DONE;
byte owes[NC], taken[NC];
chan rooms = [NC] of { byte };   /* who waits for room in staging */
bit wake[NC], recalling, armedPast;
byte owner = NIL;

/* the role's holder's */
mtype phase = NONE;
bit sealed, control;
byte end, u;
chan queue = [NC] of { byte };
chan owing = [NC] of { byte };
chan out = [8] of { byte };      /* head, or batch */
bit claimed[NC];

/* helper */
bit handed, work;

/* session, conns */
bit dead, tclosed, breaks, stuck, draining, halfClosed, failed, gone, endAsked;
bit writeShut[NC], wheld[NC], wending[NC];
#ifdef LEASES
byte lat[NC] = NIL;              /* the lease's second slot, NIL where there is none. The write lock's holder's, and so is lused */
bit lused[NC];                   /* a frame is in that */
bit lown[NC];                    /* lease.owner */
bit revoked[NC];                 /* with wheld and wending: conn.wlock */
#endif

/* ghosts */
byte holder = NIL;               /* who has the role: _pid; NIL: nobody, or on its way to a new holder */
byte nextNo[NC];                 /* of the frames that the transport got */
byte wrote[NC];                  /* frames of which Write said that it took them */
bit ended[NC], lost[NC];
byte mid = NIL;                  /* the conn whose payload the transport has got half of */
byte left;

#ifdef TRIES
#define TRY 40
#else
#define TRY 27
#endif
#define BECOME assert(holder == NIL); holder = _pid
#define LOSE assert(holder == _pid); holder = NIL

/* ---- what the transport gets: every property of the bytes is checked here */
inline sent() {
	out?u;
		assert(!failed);
		if
		:: mid != NIL -> assert(u == LENT2 + 2*mid + nextNo[mid] || u == COPY2 + 2*mid + nextNo[mid])
		:: else -> assert(u < LENT2 || (u >= COPY1 && u < COPY2) || u >= ENDS_)
		fi;
		if
		:: u < LENT1 -> assert(u % 2 == nextNo[u/2]); assert(!ended[u/2]); nextNo[u/2]++
		:: u >= LENT1 && u < LENT2 -> mid = (u-LENT1)/2;
			assert(lst[mid] == CLAIMED || lst[mid] == RECALLED); /* the caller's slice is still ours to read */
			assert((u-LENT1) % 2 == nextNo[mid] && !ended[mid])
		:: u >= LENT2 && u < COPY1 ->
			assert(lst[mid] == CLAIMED || lst[mid] == RECALLED);
			nextNo[mid]++; mid = NIL
		:: u >= COPY1 && u < COPY2 -> mid = (u-COPY1)/2; assert((u-COPY1) % 2 == nextNo[mid] && !ended[mid])
		:: u >= COPY2 && u < ENDS_ -> nextNo[mid]++; mid = NIL
		:: u >= ENDS_ && u < WINS -> assert(!ended[u-ENDS_]); ended[u-ENDS_] = 1; assert(nextNo[u-ENDS_] == wrote[u-ENDS_])
		:: u >= WINS
		fi;
		u = 0
}

/* within an atomic block */
inline claim(yes, no) {
		if
		:: role == IDLE -> role = BUSY; wp = yes; BECOME
#ifdef MUT_NODIRTY
		:: role == BUSY -> wp = no
#else
		:: role == BUSY -> role = DIRTY; wp = no
#endif
		:: role == DIRTY -> wp = no
		fi
}

/* flushes next, and then goes on with step next; the caller has the role */
inline call(c, mine, try, next) { fc = c; fm = mine; tr = try; fp = 1; wp = next }

/* debtStack.add */
inline owe(c, what) {
	atomic {
		if
		:: owes[c] == 0 -> owes[c] = what; first = 1
		:: else -> owes[c] = owes[c] | what; first = 0
		fi
	};
	if
	:: first -> debts!c; first = 0
	:: else
	fi
}

/* wakeRooms: the look at waiting, then the wake of the first under o.mu. It stays until it leaves, and wakes the next then. */
inline wakeRooms() {
		if
		:: len(rooms) > 0 -> rooms?<i>; wake[i] = 1; i = 0
		:: else
		fi
}

inline leaveRooms(c) {
		rooms??eval(c);
#ifndef MUT_ROOMNEXT
		wakeRooms()
#endif
}

inline reserve(c) {
		if
		:: off + 1 > ROOM -> at = NIL
		:: else -> at = open*ROOM + off; off++; assert(slot[at] == NIL)
		fi
}

/* recall: whose payload is copied, by a rotation of what is unsent */
inline copyRest(c) {
	i = len(out);
	do
	:: i > 0 -> out?u; i--;
		if
		:: u >= LENT1 && u < LENT2 && (u-LENT1)/2 == c -> out!(u+COPY1-LENT1)
		:: u >= LENT2 && u < COPY1 && (u-LENT2)/2 == c -> out!(u+COPY2-LENT2)
		:: else -> out!u
		fi
	:: else -> u = 0; break
	od
}

/* what flush and its callers keep on their stacks */
#ifdef LEASES
#define OWN bit fm, tr, wr, over, late, first, dying; byte fc = NIL, fp, x = NIL, i, wp
#else
#define OWN bit fm, tr, wr, over, late, first; byte fc = NIL, fp, x = NIL, i, wp
#endif
#define W(n) (fp == 0 && wp == n)

/* ---- conn_write.go */

#define COPY 0
#define LEND 1

/* Writes of conn c: one, or two (k2 < 2); then CloseWrite if fin. It gives up where a Close has come. */
proctype Writer(byte c, k1, k2; bit fin)
{
	OWN;
	byte at = NIL, k = k1, n;
#ifdef LEASES
	bit ls, lk, back, fl;
#endif

	do
#ifdef LEASES
	:: atomic { W(0) && !wheld[c] ->
		 wheld[c] = 1; wp = (writeShut[c] -> 90 : (lat[c] != NIL -> 55 : (k == LEND -> 20 : 1))) }
	:: atomic { W(55) ->
		if
		:: k == COPY -> slot[lat[c]] = STAGED+2*c+wrote[c]; wrote[c]++; lused[c] = 1; wp = 90 /* writeLeased */
#ifdef MUT_LENDLEASE
		:: k == LEND -> wp = 20
#else
		:: k == LEND -> n = 20; wp = 60 /* letGo */
#endif
		fi }
	/* keep */
	:: atomic { W(50) -> lat[c] = at + 1; at = NIL; ls = 0; lown[c] = 1; wp = 51 }
#ifdef MUT_KEEPLOOK
	:: atomic { W(51) -> wp = 8 }
#else
	:: atomic { W(51) -> lk = (open != lat[c]/ROOM); wp = (lk -> 60 : 8) }
#endif
	/* endLease */
	:: atomic { W(60) -> lown[c] = 0; wp = 61 }
	:: atomic { W(61) ->
		if
		:: !lused[c] && open == lat[c]/ROOM && off == lat[c]%ROOM + 1 -> off--; back = 1 /* giveBack */
		:: else
		fi;
		wp = 62 }
	:: atomic { W(62) ->
		if
		:: !lused[c] && !back -> slot[lat[c]] = GAP
		:: else
		fi;
		x = lat[c]/ROOM; lat[c] = NIL; lused[c] = 0;
		done[x] = done[x] + 2 - back; back = 0;
		if
		:: done[x] == SEALED -> BECOME; x = NIL;
			if
			:: lk -> lk = 0; wp = 9
			:: else -> call(NIL, 0, 1, n); n = 0
			fi
		:: else -> x = NIL;
			if
			:: lk -> lk = 0; wp = 8
			:: else -> wp = n; n = 0
			fi
		fi }
	/* flush, by who has the role after all */
	:: atomic { W(64) ->
		if
		:: lat[c] != NIL -> n = 9; wp = 60
		:: else -> wp = 9
		fi }
#else
	:: atomic { W(0) ->
		 wheld[c] = 1; wp = (writeShut[c] -> 90 : (k == LEND -> 20 : 1)) } /* lockWrite */
#endif
	/* writeCopy: claimAlone, where there is no streak and nobody is expected */
	:: atomic { W(1) ->
		if
#ifdef ALONE
		:: role == IDLE -> role = BUSY; BECOME; wp = 2
#endif
		:: wp = 4
		fi }
	:: atomic { W(2) -> /* published */
		if
		:: off != 0 || len(debts) > 0 || len(lents) > 0 -> call(c, 0, 0, 4)
		:: else ->
#ifndef MUT_STALECONTROL
			control = 0;
#endif
			out!(STAGED+2*c+wrote[c]); phase = SENDING; wrote[c]++; call(c, 0, 0, 90)
		fi }
#include "flush_steps.pml"
#ifdef LEASES
	:: atomic { W(4) && off + 2 <= ROOM -> reserve(c); off++; ls = 1; wp = 6 } /* reserveFor */
	:: atomic { W(6) -> slot[at] = STAGED+2*c+wrote[c]; wrote[c]++; wp = (ls -> 50 : 7) }
#else
	:: atomic { W(6) -> slot[at] = STAGED+2*c+wrote[c]; wrote[c]++; wp = 7 } /* the copy */
#endif
	:: atomic { W(4) -> reserve(c); wp = (at == NIL -> 12 : 6) }
	:: atomic { W(7) -> /* commit */
		done[at/ROOM] = done[at/ROOM] + 1;
		if
#ifndef MUT_COMMIT
		:: done[at/ROOM] == SEALED -> BECOME; wp = 9
#endif
		:: else -> wp = 8
		fi;
		at = NIL }
#ifdef MUT_NOCLAIM
	:: W(8) -> wp = 90
#else
#ifdef LEASES
	:: atomic { W(8) -> claim(64, 90) }
#else
	:: atomic { W(8) -> claim(9, 90) }
#endif
#endif
	:: atomic { W(9) ->
		if
#if CFG != 8
		:: call(c, 0, 0, 90)
#endif
#if defined(STREAKS) || CFG == 8
		:: handed = 1; LOSE; n = 90; wp = 15 /* a streak, or a transport that can't resume: handOver */
#endif
		fi }
	:: atomic { W(15) -> work = 1; wp = 16 }
	:: atomic { W(16) -> wp = (dead -> 17 : n); n = 0 }
	:: atomic { W(17) ->
		if
		:: handed -> handed = 0; BECOME; call(NIL, 0, 0, 90)
		:: else -> wp = 90
		fi }
	/* reserveWait */
	:: atomic { W(10) -> claim(11, 32) }
#if CFG == 8
	:: atomic { W(11) -> handed = 1; LOSE; n = 32; wp = 15 }
#else
	:: atomic { W(11) -> leaveRooms(c); call(c, 0, 0, 12) }
#endif
#ifdef MUT_ROOMLOOK
	:: atomic { W(12) -> rooms!c; wp = 32 }
#else
	:: atomic { W(12) -> rooms!c; wp = 13 } /* enter */
#endif
	:: atomic { W(13) -> reserve(c); wp = (at == NIL -> 30 : 31) }
	:: atomic { W(30) -> wp = (writeShut[c] -> 33 : 10)
#if CFG == 10
		;
		if
		:: c == 1 -> wp = 33 /* the deadline has passed */
		:: true
		fi
#endif
		}
	:: atomic { W(32) && wake[c] -> wake[c] = 0; wp = 13 } /* park */
	:: atomic { W(31) -> leaveRooms(c); wp = 6 }
	:: atomic { W(33) -> leaveRooms(c); wp = 90 }
	/* writeLent */
	:: atomic { W(20) -> lst[c] = QUEUED; lents!c; wp = 21 }
	:: atomic { W(21) -> claim(22, 23) }
	:: atomic { W(22) -> call(c, 1, 0, 23) }
	/* awaitLent: n is the state as loaded */
	:: atomic { W(23) ->
		if
		:: lst[c] == DONE -> wrote[c]++; wp = 90
		:: lst[c] == FAILED -> lst[c] = DONE; wp = 90
		:: lst[c] == QUEUED -> n = 1; wp = 24
		:: lst[c] == CLAIMED -> n = 2; wp = 24
		:: lst[c] == RECALLED -> n = 3; wp = 24
		:: lst[c] == PROMOTED -> n = 4; BECOME; wp = 24
		fi }
	:: atomic { W(24) -> /* cantWrite */
		if
		:: !writeShut[c] -> wp = (n == 4 -> 25 : 26)
		:: else -> wp = (n == 4 -> 28 : (n == 1 -> 40 : (n == 2 -> 41 : 26)))
		fi;
		n = 0 }
	:: atomic { W(25) -> lst[c] = QUEUED; wp = 22 }
	:: atomic { W(26) && wake[c] -> wake[c] = 0; wp = 23 } /* park */
	:: atomic { W(28) -> lst[c] = WITHDRAWN; wp = 29 }
#ifdef MUT_PROMOTEDLEAVES
	:: atomic { W(29) -> LOSE; wp = 90 }
#else
	:: atomic { W(29) -> call(NIL, 0, 0, 90); fp = 25 }
#endif
	:: atomic { W(40) ->
		if
#ifdef MUT_WITHDRAW
		:: true -> lst[c] = WITHDRAWN; wp = 90
#else
		:: lst[c] == QUEUED -> lst[c] = WITHDRAWN; wp = 90
#endif
		:: else -> wp = 23
		fi }
	:: atomic { W(41) ->
		if
		:: lst[c] == CLAIMED -> lst[c] = RECALLED; wp = 42
		:: else -> wp = 23
		fi }
	/* recallNow */
#ifdef MUT_RECALLFLAG
	:: atomic { W(42) -> wp = 43 }
#else
	:: atomic { W(42) -> recalling = 1; wp = 43 }
#endif
	:: atomic { W(43) -> armedPast = 1; wp = 23 }
	/* unlockWrite */
#ifdef LEASES
	:: atomic { W(90) ->
		if
		:: lat[c] != NIL && (revoked[c] || wending[c]) -> n = 90; wp = 60
		:: else -> wheld[c] = 0; revoked[c] = 0; wake[c] = 0; wp = (wending[c] -> 91 : (fl -> 92 : 94)); wending[c] = 0; fl = 0
		fi }
	:: W(95) -> owe(c, END); fl = 1; wp = 90
#else
	:: atomic { W(90) -> wheld[c] = 0; wake[c] = 0; wp = (wending[c] -> 91 : 94); wending[c] = 0 }
#endif
	:: W(91) -> owe(c, END); wp = 92
	:: atomic { W(92) -> claim(93, 94) }
	:: atomic { W(93) -> call(NIL, 0, 1, 94) }
	:: atomic { W(94) ->
		if
		:: writeShut[c] -> break
		:: !writeShut[c] && k2 < 2 -> k = k2; k2 = 2; wp = 0
#ifdef LEASES
		:: !writeShut[c] && k2 >= 2 && fin -> writeShut[c] = 1; /* CloseWrite, endWrite */
			if
			:: !wheld[c] -> wheld[c] = 1; wp = 95
			:: else -> wending[c] = 1 /* the flusher has it, and owes the end when it unlocks */
			fi
#else
		:: !writeShut[c] && k2 >= 2 && fin -> writeShut[c] = 1; wp = 91 /* CloseWrite, endWrite */
#endif
		:: else -> break
		fi }
	od;
	left--
}

/* help (helper.go) */
proctype Helper()
{
	OWN;
	bit end1;

	do
	:: atomic { W(0) && (work || dead) -> work = 0; wp = 1 }
	:: atomic { W(1) -> end1 = dead; wp = 2 }
	:: atomic { W(2) ->
		if
		:: handed -> handed = 0; BECOME; call(NIL, 0, 0, 0)
		:: else -> wp = (end1 -> 3 : 0)
		fi }
#include "flush_steps.pml"
	:: W(3) -> break
	od
}

/* the leader: it makes conn c owe a WINDOW, and must not block */
proctype Leader(byte c)
{
	OWN;

	owe(c, WIN);
	wp = 1;
	do
	:: atomic { W(1) -> claim(2, 3) }
	:: atomic { W(2) -> call(NIL, 0, 1, 3) }
#include "flush_steps.pml"
	:: W(3) -> break
	od;
	left--
}

/* closeWith of conn c, or its write deadline passing: that only does without the debt */
proctype Closer(byte c)
{
	OWN;

	atomic { /* under conn.mu */
		if
		:: writeShut[c] -> wp = 3
		:: !writeShut[c] && wheld[c] -> writeShut[c] = 1; wending[c] = 1; wp = 4
		:: else -> writeShut[c] = 1; wp = 6
		fi
	};
	do
	:: atomic { W(4) -> wake[c] = 1; wp = 5 } /* rouseWriters */
#ifdef MUT_QUIETCLOSE
	:: atomic { W(5) -> wp = 3 }
#else
	:: atomic { W(5) -> wp = 3; if :: owner == c -> armedPast = 1 :: else fi }
#endif
	:: W(6) -> owe(c, END); wp = 1
	:: atomic { W(1) -> claim(2, 3) }
	:: atomic { W(2) -> call(NIL, 0, 1, 3) }
#include "flush_steps.pml"
	:: W(3) -> break
	od;
	left--
}

/* session.end, as far as writing goes */
proctype Ender()
{
	OWN;

	endAsked;
	dead = 1;
	x = 0;
	do
	:: atomic { x < NC -> writeShut[x] = 1 };
		wake[x] = 1;
		atomic { if :: owner == x -> armedPast = 1 :: else fi; x++ }
	:: x == NC -> x = NIL; break
	od;
	atomic { wakeRooms() }; /* wakeAll, of those whose wake has not come above */
	tclosed = 1;
	wp = 1;
	do
	:: atomic { W(1) -> claim(2, 3) }
	:: atomic { W(2) -> call(NIL, 0, 0, 3) }
#include "flush_steps.pml"
	:: W(3) -> break
	od
}

/* All calls have returned, and all that was published has been sent. Then the session ends. */
proctype Finisher()
{
	atomic {
		left == 0 && (stuck || endAsked || halfClosed || (role == IDLE && holder == NIL && !handed && off == 0 && len(debts) == 0 && len(lents) == 0));
		if
		:: stuck || endAsked || halfClosed
		:: else ->
			assert(len(out) == 0 && len(queue) == 0 && len(owing) == 0 && mid == NIL);
			assert(nextNo[0] == wrote[0] && nextNo[1] == wrote[1] && nextNo[2] == wrote[2]);
			assert((!writeShut[0] || ended[0]) && (!writeShut[1] || ended[1]) && (!writeShut[2] || ended[2]))
		fi;
		endAsked = 1
	}
}

proctype AtAnyTime() { endAsked = 1; left-- }

/* Shutdown has begun, and one write fails. What is sent behind it would follow what may be half a frame. */
proctype Breaker()
{
	draining = 1;
	atomic { breaks = 1; left-- }
}

init {
	atomic {
		run Helper(); run Ender(); run Finisher();
#if CFG == 1 /* three small writes, and room for two */
		left = 3;
		run Writer(0, COPY, 2, 0); run Writer(1, COPY, 2, 0); run Writer(2, COPY, 2, 0)
#elif CFG == 2 /* three lent ones */
		left = 3;
		run Writer(0, LEND, 2, 0); run Writer(1, LEND, 2, 0); run Writer(2, LEND, 2, 0)
#elif CFG == 3 /* order in a connection: a small write, a large one and the end; the leader makes it owe more */
		left = 2;
		run Writer(0, COPY, LEND, 1); run Leader(0)
#elif CFG == 4 /* the session ends */
		left = 3;
		run Writer(0, LEND, 2, 0); run Leader(1); run AtAnyTime()
#elif CFG == 5 /* the transport takes nothing, and all are closed */
		left = 4; stuck = 1;
		run Writer(0, LEND, 2, 0); run Writer(1, LEND, 2, 0); run Closer(0); run Closer(1)
#elif CFG == 6 /* the transport fails while Shutdown waits */
		left = 3;
		run Writer(0, COPY, 2, 0); run Leader(1); run Breaker()
#elif CFG == 7 /* two lent ones, one of which is closed */
		left = 3;
		run Writer(0, LEND, 2, 0); run Writer(1, LEND, 2, 0); run Closer(0)
#elif CFG == 8 /* a transport that can't resume (TLS) and takes nothing: the helper is stuck, and there is room for one */
		left = 2; stuck = 1;
		run Writer(0, COPY, 2, 0); run Writer(1, COPY, 2, 0)
#elif CFG == 9 /* an end that comes to be owed while the flusher settles the connection's other debt */
		left = 2;
		run Writer(0, COPY, 2, 1); run Leader(0)
#elif CFG == 10 /* room for one, which is taken; of the two small writes that wait, one has a deadline */
		left = 3; off = 1; done[0] = 1; slot[0] = STAGED; wrote[0] = 1;
		run Leader(0); run Writer(1, COPY, 2, 0); run Writer(2, COPY, 2, 0)
#elif CFG == 11 /* a lease beside another's small write, and then the end of the half */
		left = 2;
		run Writer(0, COPY, COPY, 1); run Writer(1, COPY, 2, 0)
#elif CFG == 12 /* order in a connection: a lease, a large write and the end; the leader makes it owe more */
		left = 2;
		run Writer(0, COPY, LEND, 1); run Leader(0)
#elif CFG == 13 /* two leases, of which each fills a buffer */
		left = 2;
		run Writer(0, COPY, COPY, 0); run Writer(1, COPY, COPY, 0)
#elif CFG == 14 /* the session ends while there may be a lease */
		left = 2;
		run Writer(0, COPY, COPY, 0); run AtAnyTime()
#endif
	}
}
