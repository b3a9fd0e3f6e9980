/*
 * The read token: mux/token.go, waiter.go, conn_read.go, window.go (awaitCredit), accept.go (awaitAccept), the reading
 * half of session_read.go, session.go (standby, end), internal/park. README.md maps the steps to functions, and says
 * what is left out and why that is sound.
 *
 * A statement, or an atomic block, is one step. A block that holds a mutex's whole section has at most one access to what
 * that mutex does not guard; where there are more, the mutex is a variable that stays taken from step to step. Functions
 * of many steps are loops over a number that is the process's own (lp, wp): each option is a step.
 *
 * -DCFG=n selects a scene (see init), -DMUT_xxx takes one guard away.
 */

#define NW 6     /* waiters: 0..2 of conns, 3 and 4 acceptors, 5 the standby */
#define ACC 3
#define SB 5
#define NONE 7   /* no waiter */
#define AGAIN 8  /* passLocked goes on to the next */
#define NOC 3    /* no conn */
#define LONGAGO 1
#define PAST 2   /* a time that has passed at the start; the clock (now) stands there */
#define FUTURE 3 /* one that passes when the clock ticks */
#define MAXW 1   /* Config.MaxWindow, in frames: only the vt-muxer protocol stalls */

/* frames */
#define DATA0 1
#define DATA1 2
#define OPEN 3
#define WINDOW 4 /* for conn 1 */
#define CTRL 5   /* nobody waits for it, but it must be read */

#if CFG == 2 || CFG == 7 || CFG == 15
#define DEADLINES /* some are set: then each look at one is a step of its own */
#endif
#if CFG == 6 || CFG == 12
#define ENDS /* the session may end at any time: then each look at dead is a step of its own */
#endif
#if CFG == 5 || CFG == 9
#define STALLS /* the vt-muxer protocol */
#endif
#if CFG == 8 || CFG == 10
#define RECENT /* a lazy waiter waits for who led last; elsewhere lazyAfter has always passed */
#endif
#if CFG == 13
#define PERMANENT
#endif

mtype = { NOERR, TIMEOUT, CLOSED };

/* waiter */
bit satisfied[NW], promoted[NW], roused[NW], wake[NW], queued[NW];

/* readToken; tmu is its mutex. The lazy list is queued[3..5] and accTop, which acceptor is the newest of two. */
bit tmu, closed, recent, armed, accTop;
bit mayOpen; /* the conn that is closed was opened here, and a standby waits for another */
byte leader = NONE, stalled = NOC, last = NOC;
byte armedAt;                  /* the transport's read deadline too */
chan eager = [3] of { byte };

/* conns; cmu are their mutexes */
bit cmu[2], shut[2], over[2];
byte inb[2], reading[2], rdl[2];
chan readers0 = [3] of { byte };
chan readers1 = [3] of { byte };
byte creditor = NONE;	/* conn.sender, where its Write waits for credit */
bit sendLimit, writeShut;

/* acceptQueue; qmu is its mutex */
bit qmu, qclosed;
byte aq;
chan acceptors = [2] of { byte };
bit ctxDone[2];

/* readSide: the leader's own */
byte avail, rself, rto = NOC, rcur, stall_ = NOC;
bit rp, rn, rdel, rheld;
chan woken = [3] of { byte };

/* transport, session, clock */
chan stream = [5] of { byte };
bit eof, tclosed, dead, endAsked, ended;
byte now = PAST;

/* ghosts */
byte ledBy = NONE;   /* who is between the start of lead and its release */
byte left;           /* application calls that have not returned */

/* where a step goes that a mutation leads astray */
#ifdef MUT_ROUSEDSTAYS
#define OUT_ROUSED 9
#else
#define OUT_ROUSED 13
#endif
#if CFG == 15
#define MORE stream!DATA0 /* another one for the reader that is left */
#else
#define MORE skip
#endif
#ifdef STALLS
#define TOOK 22
#else
#define TOOK 0
#endif
#ifdef ENDS
#define AWAKE 7
#else
#define AWAKE 5
#endif
#ifdef PERMANENT
#define LAZYSTANDBY 0
#else
#define LAZYSTANDBY 1
#endif

#ifdef MUT_STALLROOM
#define ROOMLOOK 0
#else
#define ROOMLOOK (shut[st] || inb[st] < MAXW)
#endif

#define FREE (leader == NONE && stalled == NOC && !closed)
#define EXPIRED(at) ((at) != 0 && now >= (at))
#define WAITS(c) ((c == 0 && len(readers0) > 0) || (c == 1 && len(readers1) > 0))

/* All calls have returned, and all that the peer sent has been read. Only then may the standby leave the scene, so one
 * that sleeps while bytes wait is a deadlock. */
#define QUIET (left == 0 && len(stream) == 0 && avail == 0 && !rheld && !endAsked)

/* What holds whenever tmu is free. */
#define TOKEN_OK \
	assert(leader == NONE || stalled == NOC); \
	assert(!FREE || len(eager) == 0)

inline push(c, w) { if :: c == 0 -> readers0!w :: else -> readers1!w fi }
inline pop(c, w) { if :: c == 0 -> readers0?w :: else -> readers1?w fi }
inline remove(c, w) {
	if
	:: c == 0 && readers0??[eval(w)] -> readers0??eval(w)
	:: c == 1 && readers1??[eval(w)] -> readers1??eval(w)
	:: else
	fi
}

/* ---- token.go. Every process that calls it has px, passLocked's scratch. */

/* passLocked and offerLazyLocked up to the first store that others see, with tmu held. px: who is to be promoted, AGAIN,
 * or NONE: then tmu is given back. */
inline pass() {
	if
	:: closed || stalled != NOC -> px = NONE
	:: !(closed || stalled != NOC) && len(eager) > 0 ->
		eager?px; queued[px] = 0;
		if
		:: satisfied[px] -> px = AGAIN
		:: else
		fi
	:: else -> /* offerLazyLocked */
		if
		:: queued[ACC] || queued[ACC+1] || queued[SB] ->
			/* lazyMayLocked. Whether lazyAfter has passed is open; once it has, it has. */
			if
			:: last == NOC || !recent || (shut[last] && !(mayOpen && !queued[ACC] && !queued[ACC+1])) -> px = SB
			:: else ->
				if
				:: recent = 0; px = SB
				:: px = NONE
				fi
			fi;
			if
			:: px == NONE ->
#ifndef MUT_NOTIMER
				if
				:: !armed -> armed = 1
				:: else
				fi
#endif
			:: else ->
				if
				:: queued[ACC] && queued[ACC+1] -> px = ACC + accTop; accTop = 0
				:: queued[ACC] && !queued[ACC+1] -> px = ACC
				:: !queued[ACC] && queued[ACC+1] -> px = ACC+1
				:: else
				fi;
				queued[px] = 0
			fi
		:: else -> px = NONE
		fi
	fi;
	if
	:: px == NONE -> TOKEN_OK; tmu = 0
	:: else
	fi
}

/* the rest of passLocked, and promoteLocked */
inline passOn() {
	do
	:: px == NONE -> break
	:: atomic { px == AGAIN -> pass() }
	:: atomic { px < NW -> leader = px; promoted[px] = 1 };
		atomic { wake[px] = 1; px = NONE; TOKEN_OK; tmu = 0 };
		break
	od
}

/* enlist of an eager waiter */
inline enlist(w, res) {
#ifdef PERMANENT
	res = 0
#else
	atomic { !tmu ->
		if
		:: queued[w] || leader == w -> res = (leader == w)
#ifdef MUT_TWOLEADERS
		:: else -> leader = w; res = 1
#elif defined(MUT_ENLISTSTALLED)
		:: !(queued[w] || leader == w) && leader == NONE && !closed -> leader = w; res = 1
		:: else -> eager!w; queued[w] = 1; res = 0
#else
		:: !(queued[w] || leader == w) && FREE -> leader = w; res = 1
		:: else -> eager!w; queued[w] = 1; res = 0
#endif
		fi;
		TOKEN_OK
	}
#endif
}

/* enlist of a lazy one */
#ifdef PERMANENT
#define LEADS(w) (w == SB)
#else
#define LEADS(w) 1
#endif
inline enlistLazy(w, res) {
	atomic {
		!tmu || !LEADS(w) ->
		if
		:: !LEADS(w) -> res = 0
		:: LEADS(w) && (queued[w] || leader == w) -> res = (leader == w)
		:: else -> tmu = 1; queued[w] = 1; res = 0;
			if
			:: w != SB && queued[ACC] && queued[ACC+1] -> accTop = w - ACC
			:: else
			fi;
			if
			:: FREE -> pass(); res = (px == w)
			:: else -> TOKEN_OK; tmu = 0
			fi
		fi
	};
	passOn()
}

inline leaveToken(w) {
	atomic { !tmu -> tmu = 1;
		if
		:: queued[w] && w < ACC -> eager??eval(w); queued[w] = 0
		:: queued[w] && w >= ACC -> queued[w] = 0; accTop = 0
		:: else
		fi;
		promoted[w] = 0;
		if
#ifdef MUT_LEAVE
		:: leader == w -> leader = NONE; tmu = 0
#else
		:: leader == w -> leader = NONE; pass()
#endif
		:: else -> TOKEN_OK; tmu = 0
		fi
	};
	passOn()
}

inline unstall(c) {
	atomic { !tmu -> tmu = 1;
		if
		:: stalled == c -> stalled = NOC; last = NOC; recent = 0;
#ifndef MUT_UNSTALLPASS
			pass()
#else
			tmu = 0
#endif
		:: else -> tmu = 0
		fi
	};
	passOn()
}

inline rouse(w) {
	roused[w] = 1;
#ifndef MUT_NOINTERRUPT
	atomic { !tmu -> if :: leader == w -> armedAt = LONGAGO :: else fi };
#endif
	wake[w] = 1
}

/* ---- session_read.go: the leader alone. x is the process's scratch. */

/* deliver of a frame of payload; stall_ is the conn without room */
inline deliver(w, c) {
	!cmu[c] -> rheld = 0;
	if
	:: shut[c]
	:: !shut[c] && c == rself && inb[c] == 0 && rp && !rn -> rn = 1; remove(c, w); satisfied[w] = 1
#ifdef STALLS
	:: !shut[c] && !(c == rself && inb[c] == 0 && rp && !rn) && inb[c] >= MAXW -> rheld = 1; rcur = c; stall_ = c
#endif
	:: else -> inb[c]++;
		if
		:: WAITS(c) -> pop(c, x); satisfied[x] = 1;
			if
			:: x != w -> rdel = 1; rto = c; woken!x
			:: else
			fi;
			x = NONE
		:: else
		fi
	fi
}

/* offer, up to its rouse; x: whom to rouse */
inline offer(w) {
	!qmu ->
	if
	:: qclosed
	:: else -> aq++;
		if
		:: len(acceptors) > 0 -> acceptors?x; satisfied[x] = 1
		:: else
		fi
	fi;
	if
	:: x != NONE && x != w -> rdel = 1; lp = 2
	:: else -> x = NONE
	fi
}

/* the second half of raise, for conn 1 */
inline raise(w) {
	!cmu[1] ->
	if
	:: creditor != NONE -> satisfied[creditor] = 1;
		if
		:: creditor != w -> woken!creditor
		:: else
		fi;
		creditor = NONE
	:: else
	fi
}

inline armRest(dl) {
#ifndef MUT_ARMORDER
	want = dl;
#endif
	if
	:: armedAt == want || closed
	:: !(armedAt == want || closed) && armedAt > LONGAGO && (want == 0 || armedAt < want) && armedAt > now
	:: else -> armedAt = want
	fi;
	tmu = 0; lp = 7
}

/* what lead and its callers keep on their stacks */
#define OWN(w) \
	mtype terr = NOERR; \
	bit leads, enlisted, ro, got; \
	byte want, st = NOC, x = NONE, px = NONE, lp, wp

/* step n, outside of lead */
#define W(n) (lp == 0 && wp == n)

/* ---- conn_read.go */

/* leaveBytesLocked's end: cmu has been given back, and next is the reader to wake */
inline passBytes() {
	if
	:: next != NONE -> rouse(next); next = NONE
	:: else
	fi
}

inline leaveBytes(c) {
	if
	:: inb[c] > 0 && WAITS(c) -> pop(c, next); satisfied[next] = 1
	:: else
	fi
}

/* n Reads (p: Read, else WriteTo) of c; each returns with a frame, an error, or a timeout */
proctype Reader(byte w, c, n; bit p)
{
	OWN(w);
	bit late, stop;
	byte at, next = NONE;

#define CONN c
#define READS 1
#define LAZY 0
#define SLICE p
#define DEADLINE rdl[c]
#define AFTER 1
	do
	/* read: under conn.mu. next: whom leaveBytesLocked is to wake when that is given back */
	:: atomic { W(0) && (n == 0 || stop) -> left--; break }
	:: atomic { W(0) && n > 0 && !stop && !cmu[c] ->
		if
		:: shut[c] || EXPIRED(rdl[c]) -> stop = 1; leaveBytes(c)
		:: !(shut[c] || EXPIRED(rdl[c])) && inb[c] > 0 -> inb[c]--; n--; leaveBytes(c); wp = TOOK; MORE /* tookLocked */
		:: !(shut[c] || EXPIRED(rdl[c])) && inb[c] == 0 && over[c] -> stop = 1
		:: else -> /* beginWaitLocked */
			satisfied[w] = 0; roused[w] = 0; wake[w] = 0; reading[c]++; wp = 5;
#ifndef MUT_PUBLISHLATE
			push(c, w)
#endif
		fi;
		if
		:: next != NONE && wp == TOOK && TOOK != 0 -> wp = 24
		:: next != NONE && !(wp == TOOK && TOOK != 0) -> wp = 21
		:: else
		fi }
	:: W(21) -> rouse(next); atomic { next = NONE; wp = 0 }
#ifdef STALLS
	:: W(24) -> rouse(next); atomic { next = NONE; wp = 22 }
	:: atomic { W(22) -> wp = (stalled == c -> 23 : 0) }
	:: W(23) -> unstall(c); wp = 0
#endif
	/* await */
	:: atomic { W(5) -> enlist(w, leads); enlisted = 1; wp = 1;
#ifdef MUT_PUBLISHLATE
		wp = 7
#endif
		}
#ifdef MUT_PUBLISHLATE
	:: atomic { W(7) && !cmu[c] -> push(c, w); wp = 1 }
#endif
	:: atomic { W(1) ->
		if
		:: satisfied[w] -> wp = 9
#ifdef DEADLINES
		:: else -> wp = 2
#else
		:: else -> wp = 3; lp = leads
#endif
		fi }
	:: atomic { W(2) ->
		at = rdl[c];
		if
		:: EXPIRED(at) -> late = 1; wp = 9
		:: else -> wp = 3; lp = leads
		fi }
	:: atomic { W(3) -> lp = promoted[w]; wp = (enlisted -> 6 : 5) }
	:: atomic { W(6) && wake[w] -> wake[w] = 0; wp = 1 } /* Park */
	:: atomic { W(6) && EXPIRED(at) -> wp = 1 }
	:: atomic { W(9) && !enlisted && !late -> wp = 12 }
	:: atomic { W(9) && !enlisted && late -> wp = 11 }
	:: W(9) && enlisted -> leaveToken(w); wp = (late -> 11 : 12)
	:: atomic { W(11) && !cmu[c] -> stop = 1; wp = 12;
		if
		:: !satisfied[w] -> remove(c, w)
		:: else
		fi;
#ifndef MUT_LEAVEBYTES
		leaveBytes(c);
		if
		:: next != NONE -> wp = 13
		:: else
		fi
#endif
		}
	:: W(13) -> rouse(next); atomic { next = NONE; wp = 12 }
	:: atomic { W(12) ->
		reading[c]--;
		if
		:: got -> n--; stop = 0; MORE
		:: else
		fi;
		at = 0; got = 0; leads = 0; enlisted = 0; late = 0; wp = 0;
		satisfied[w] = 0; wake[w] = 0; roused[w] = 0 /* waiterPool.put */
		}
#include "token_lead.pml"
	od
}
#undef CONN
#undef READS
#undef LAZY
#undef SLICE
#undef DEADLINE
#undef AFTER

/* awaitCredit of conn 1 (window.go) */
proctype Creditor(byte w)
{
	OWN(w);

	atomic { !cmu[1] -> creditor = w; wp = 5 };
#define CONN 1
#define READS 0
#define LAZY 0
#define SLICE 0
#define DEADLINE 0
#define AFTER 1
	do
	:: atomic { W(5) -> enlist(w, leads); enlisted = 1; wp = 1 }
	:: atomic { W(1) -> wp = (satisfied[w] -> 9 : 2) }
	:: atomic { W(2) -> wp = (sendLimit -> 9 : 7) }
	:: atomic { W(7) ->
		if
		:: writeShut -> wp = 9 /* cantWrite */
		:: else -> wp = 3; lp = leads
		fi }
	:: atomic { W(3) -> lp = promoted[w]; wp = (enlisted -> 6 : 5) }
	:: atomic { W(6) && wake[w] -> wake[w] = 0; wp = 1 }
	:: atomic { W(9) && !enlisted -> wp = 12 }
	:: W(9) && enlisted -> leaveToken(w); wp = 12
	:: atomic { W(12) && !cmu[1] ->
		if
		:: creditor == w -> creditor = NONE
		:: else
		fi;
		left--; got = 0; leads = 0; satisfied[w] = 0; wake[w] = 0; roused[w] = 0; break }
#include "token_lead.pml"
	od
}
#undef CONN
#undef READS
#undef LAZY
#undef SLICE
#undef DEADLINE
#undef AFTER

/* acceptState, awaitAccept (accept.go) */
proctype Acceptor(byte w)
{
	OWN(w);
	bit late;
	byte next = NONE;

#define CONN NOC
#define READS 0
#define LAZY 1
#define SLICE 0
#define DEADLINE 0
#define AFTER 7
	do
	:: atomic { W(0) && !qmu ->
		if
		:: aq > 0 -> aq--;
			if
			:: w == ACC && CFG == 3 -> stream!OPEN /* another one for the Accept that is left */
			:: else
			fi;
			break
		:: aq == 0 && qclosed -> break
		:: else -> satisfied[w] = 0; roused[w] = 0; wake[w] = 0; acceptors!w; wp = 5
		fi }
	:: W(5) -> enlistLazy(w, leads); wp = 1
	:: atomic { W(1) -> wp = (satisfied[w] -> 9 : 2) }
	:: atomic { W(2) ->
		if
		:: ctxDone[w-ACC] -> late = 1; wp = 9
		:: else -> wp = 3; lp = leads
		fi }
	:: atomic { W(3) -> lp = promoted[w]; wp = 6 }
	:: atomic { W(7) -> wp = (satisfied[w] -> 9 : 5) }
	:: atomic { W(6) && wake[w] -> wake[w] = 0; wp = 1 }
	:: W(9) -> leads = 0;
		leaveToken(w);
		atomic { !qmu -> qmu = 1;
			if
			:: !satisfied[w] ->
				if
				:: acceptors??[eval(w)] -> acceptors??eval(w)
				:: else
				fi
#ifndef MUT_ACCEPTTURN
			:: satisfied[w] && late && aq > 0 && len(acceptors) > 0 -> acceptors?next; satisfied[next] = 1
#endif
			:: else
			fi;
			if
			:: next == NONE -> qmu = 0
			:: else
			fi
		};
		if
		:: next != NONE -> passBytes(); qmu = 0
		:: else
		fi;
		wp = 0;
		if
		:: late -> break
		:: else
		fi
#include "token_lead.pml"
	od;
	left--
}
#undef CONN
#undef READS
#undef LAZY
#undef SLICE
#undef DEADLINE
#undef AFTER


/* standby (session.go) */
proctype Standby()
{
	OWN(SB);

#define w SB
#define CONN NOC
#define READS 0
#define LAZY LAZYSTANDBY
#define SLICE 0
#define DEADLINE 0
#define AFTER AWAKE
	wp = 5;
	do
	:: W(5) -> enlistLazy(SB, leads); atomic { wp = 6; lp = leads }
	:: atomic { W(6) && wake[SB] -> wake[SB] = 0; wp = AWAKE }
	:: atomic { W(6) && QUIET -> wp = 9 }
	:: atomic { W(7) -> wp = (dead -> 8 : 5) }
	:: W(8) -> leaveToken(SB); wp = 9
	:: W(9) -> break
#include "token_lead.pml"
	od
}
#undef w
#undef CONN
#undef READS
#undef LAZY
#undef SLICE
#undef DEADLINE
#undef AFTER

/* onTimer (token.go) */
proctype Timer()
{
	byte px = NONE;

end:	do
	:: atomic { armed && !tmu -> tmu = 1; armed = 0;
			if
			:: recent = 0
			:: skip /* somebody has come back since the timer was set */
			fi;
			if
#ifndef MUT_TIMERIDLE
			:: FREE -> pass()
#endif
			:: else -> tmu = 0
			fi
		};
		passOn()
	od
}

/* wakeReadersLocked: cmu[c] is held, and given back */
inline wakeReaders(c) {
	do
	:: atomic { WAITS(c) -> pop(c, y); satisfied[y] = 1 };
		rouse(y)
	:: atomic { !WAITS(c) -> y = 0; cmu[c] = 0; break }
	od
}

/* session.end, as far as reading goes. It runs for whoever ends the session and waits for it: the leader, or the
 * application. */
proctype Ender()
{
	byte y;

	endAsked;
	dead = 1;
	atomic { !tmu -> closed = 1 }; /* token.close */
	/* abortAll */
	atomic { !cmu[0] -> cmu[0] = 1; over[0] = 1 };
	wakeReaders(0);
	atomic { !cmu[1] -> cmu[1] = 1; over[1] = 1; writeShut = 1 };
	wakeReaders(1);
	atomic { !cmu[1] -> cmu[1] = 1 }; /* rouseWriters */
	if
	:: creditor != NONE -> y = creditor; rouse(y)
	:: else
	fi;
	atomic { cmu[1] = 0; y = 0 };
	/* acceptQueue.close */
	atomic { !qmu -> qmu = 1; qclosed = 1 };
	do
	:: atomic { len(acceptors) > 0 -> acceptors?y; satisfied[y] = 1 };
		rouse(y)
	:: atomic { len(acceptors) == 0 -> qmu = 0; y = 0; break }
	od;
#ifndef MUT_STANDBYSLEEPS
	wake[SB] = 1;
#endif
	atomic { tclosed = 1; ended = 1 }
}

/* closeWith (conn_close.go), or closeRead: that leaves out closedConn, which only speeds things up */
proctype Closer(byte c)
{
	byte y, px = NONE;

#ifdef RECENT
	if
	:: mayOpen = 1
	:: skip
	fi;
#endif
	atomic { !cmu[c] -> cmu[c] = 1; shut[c] = 1; over[c] = 1; inb[c] = 0 };
	wakeReaders(c);
	atomic { !tmu -> tmu = 1; /* closedConn */
		if
		:: last == c ->
			if
			:: !mayOpen -> last = NOC; recent = 0
			:: else /* its reader may be back, by another conn */
			fi;
			if
			:: FREE -> pass()
			:: else -> tmu = 0
			fi
		:: else -> tmu = 0
		fi
	};
	passOn();
#ifndef MUT_CLOSESTALLED
	if
	:: stalled == c -> unstall(c)
	:: else
	fi;
#endif
	left--
}

/* setReadDeadline (conn.go) */
proctype Setter(byte c, at)
{
	byte y, i;
	bit any;

	do
	:: true ->
#ifdef MUT_SETLATE
		any = reading[c] > 0;
		rdl[c] = at;
#else
		rdl[c] = at;
		any = reading[c] > 0;
#endif
#ifndef MUT_SETQUIET
		if
		:: any ->
			/* rouseReaders: all of the list, from its head */
			atomic { !cmu[c] -> cmu[c] = 1; i = (c == 0 -> len(readers0) : len(readers1)) };
			do
			:: atomic { i > 0 -> i--;
					if
					:: c == 0 -> readers0?y; readers0!y
					:: else -> readers1?y; readers1!y
					fi };
				rouse(y)
			:: i == 0 -> break
			od;
			atomic { cmu[c] = 0; y = 0 }
		:: else
		fi;
#endif
		any = 0;
		if
		:: CFG == 15 && at != 0 -> at = 0 /* and takes it away again */
		:: else -> break
		fi
	od;
	left--
}

/* the clock: FUTURE passes */
proctype Clock() { now = FUTURE; left-- }

/* the context of an Accept is done; context.AfterFunc then rouses */
proctype Cancel(byte w)
{
	ctxDone[w-ACC] = 1;
	rouse(w);
	left--
}

/* rouseWriters for a Write that waits for credit: its half was closed */
proctype Stop()
{
	byte y;

	atomic { !cmu[1] -> writeShut = 1 };
	atomic { !cmu[1] -> cmu[1] = 1 };
	if
	:: creditor != NONE -> y = creditor; rouse(y)
	:: else
	fi;
	atomic { cmu[1] = 0; left-- }
}

/* What a stale pointer to a pooled waiter can do: it rouses anybody, at any time, for no reason. */
proctype Stray(byte w)
{
	rouse(w);
	left--
}

proctype AtAnyTime() { endAsked = 1; left-- }

/* The peer sends these frames, in any order. They are there from the start: a frame that comes late is the same as a leader
 * that is slow. */
inline peer(d0, d1, o, wi, ct) {
	i[1] = d0; i[2] = d1; i[3] = o; i[4] = wi; i[5] = ct;
	do
	:: i[1] > 0 -> stream!DATA0; i[1]--
	:: i[2] > 0 -> stream!DATA1; i[2]--
	:: i[3] > 0 -> stream!OPEN; i[3]--
	:: i[4] > 0 -> stream!WINDOW; i[4]--
	:: i[5] > 0 -> stream!CTRL; i[5]--
	:: else -> break
	od
}

init {
	byte i[6];
	atomic {
		run Standby(); run Timer();
#if CFG == 1 /* three readers, two of them of one conn */
		left = 3; peer(2, 1, 0, 0, 0);
		run Reader(0, 0, 1, 1); run Reader(1, 0, 1, 0); run Reader(2, 1, 1, 1)
#elif CFG == 2 /* a deadline is set to the past */
		left = 3; peer(1, 0, 0, 0, 0);
		run Reader(0, 0, 1, 1); run Reader(1, 0, 1, 1); run Setter(0, PAST)
#elif CFG == 3 /* two Accepts, one of which is cancelled */
		left = 3; peer(0, 0, 1, 0, 0);
		run Acceptor(3); run Acceptor(4); run Cancel(3)
#elif CFG == 4 /* a Write without credit, a reader and an Accept */
		left = 3;
		if
		:: stream!OPEN; stream!WINDOW; stream!DATA0
		:: stream!DATA0; stream!WINDOW; stream!OPEN
		fi;
		run Reader(0, 0, 1, 1); run Creditor(1); run Acceptor(3)
#elif CFG == 5 /* a stall: two frames against a window of one, read slowly */
		left = 2; peer(2, 1, 0, 0, 0);
		run Reader(0, 0, 2, 1); run Reader(2, 1, 1, 1)
#elif CFG == 6 /* the session ends under a reader and a Write without credit */
		left = 3; peer(0, 0, 0, 0, 0); run Ender(); run AtAnyTime();
		run Reader(0, 0, 1, 1); run Creditor(1)
#elif CFG == 7 /* a deadline is set that passes later */
		left = 4; peer(0, 1, 0, 0, 0); run Clock();
		run Reader(0, 0, 1, 1); run Reader(2, 1, 1, 1); run Setter(0, FUTURE)
#elif CFG == 8 /* lazy waiters wait for the reader that led last; its conn is closed meanwhile */
		left = 2; peer(1, 0, 0, 0, 1);
		run Reader(0, 0, 1, 1); run Closer(0)
#elif CFG == 9 /* a stall, and its conn is closed */
		left = 3; peer(2, 1, 0, 0, 0);
		run Reader(0, 0, 1, 1); run Reader(2, 1, 1, 1); run Closer(0)
#elif CFG == 10 /* lazy waiters again: the reader comes back, and then stays away */
		left = 1; peer(2, 0, 0, 0, 1);
		run Reader(0, 0, 2, 1)
#elif CFG == 11 /* rouses for no reason */
		left = 3; peer(1, 0, 0, 1, 0);
		run Reader(0, 0, 1, 1); run Creditor(1); run Stray(1)
#elif CFG == 12 /* the transport fails: a leader ends the session */
		left = 2; peer(1, 0, 0, 0, 0); run Ender(); eof = 1;
		run Reader(0, 0, 2, 1); run Acceptor(3)
#elif CFG == 13 /* a transport without deadlines: the standby alone leads */
		left = 3; peer(1, 0, 1, 1, 0);
		run Reader(0, 0, 1, 1); run Creditor(1); run Acceptor(3)
#elif CFG == 14 /* a Write without credit is ended by its half's close; and a reader */
		left = 3; peer(1, 0, 0, 0, 0);
		run Reader(0, 0, 1, 1); run Creditor(1); run Stop()
#elif CFG == 15 /* a deadline is set to the past and taken away again: who has missed its turn passes it on */
		left = 3; peer(1, 0, 0, 0, 0);
		run Reader(0, 0, 1, 1); run Reader(1, 0, 1, 1); run Setter(0, PAST)
#elif CFG == 16 /* a reader's conn is closed */
		left = 3; peer(0, 1, 0, 0, 0);
		run Reader(0, 0, 1, 1); run Reader(2, 1, 1, 1); run Closer(0)
#endif
	}
}
