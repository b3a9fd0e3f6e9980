/*
 * Both ends with full sockets: who may block in a write, and who may not (mux/helper.go, session_read.go, window.go).
 * The token and the flusher's role are single steps here, for token.pml and flush.pml are about them. README.md tells more.
 *
 * Each end has a writer and a reader. Each sends K frames; what the reader consumes is granted back by a WINDOW, which the
 * reader flushes. A socket holds one frame. A leader hands on what comes, answers with a debt, and must never block.
 */

#if CFG == 1
#define K 3
#else
#define K 2
#endif
#define DATA 1
#define WINDOW 2
#define PONG 3
#define NIL 9

chan wire[2] = [1] of { byte }; /* wire[e]: what end e has sent and the other not read */
bit token[2];                   /* somebody leads */
byte role[2] = NIL;             /* who flushes: _pid */
byte queued[2];                 /* published: frames of the writer */
byte grants[2], told[2];        /* credit that is owed: however much, one WINDOW tells it; and that is on its way */
bit pongs[2];                   /* an answer that the leader owes */
byte inb[2];                    /* received, not read */
byte credit[2] = 2;
bit helper[2];                  /* the role is handed to it */
byte returned;

#define OTHER(e) (1-e)

/* sends all that is published, and blocks while the wire is full: runFlusher */
inline runFlusher(e) {
	do
	:: atomic { queued[e] > 0 && len(wire[e]) == 0 -> wire[e]!DATA; queued[e]-- }
	:: atomic { grants[e] > 0 && len(wire[e]) == 0 -> wire[e]!WINDOW; told[e] = told[e] + grants[e]; grants[e] = 0 }
	:: atomic { pongs[e] && len(wire[e]) == 0 -> wire[e]!PONG; pongs[e] = 0 }
	:: atomic { queued[e] == 0 && grants[e] == 0 && !pongs[e] -> role[e] = NIL; break }
	od
}

/* sends what the wire takes, and leaves the rest to the helper: trySend */
inline tryFlush(e) {
	if
	:: atomic { role[e] == NIL -> role[e] = _pid };
#ifdef MUT_LEADERBLOCKS
		runFlusher(e)
#else
		do
		:: atomic { queued[e] > 0 && len(wire[e]) == 0 -> wire[e]!DATA; queued[e]-- }
		:: atomic { grants[e] > 0 && len(wire[e]) == 0 -> wire[e]!WINDOW; told[e] = told[e] + grants[e]; grants[e] = 0 }
	:: atomic { pongs[e] && len(wire[e]) == 0 -> wire[e]!PONG; pongs[e] = 0 }
		:: atomic { queued[e] == 0 && grants[e] == 0 && !pongs[e] -> role[e] = NIL; break }
		:: atomic { (queued[e] > 0 || grants[e] > 0 || pongs[e]) && len(wire[e]) > 0 -> helper[e] = 1; break }
		od
#endif
	:: atomic { role[e] != NIL } /* dirty: whoever has the role sends ours as well */
	fi
}

/* one turn of a leader: reads a frame and hands it on. over: its own condition, at which it returns */
inline lead(e, over) {
	if
	:: atomic { !token[e] && !(over) -> token[e] = 1 };
		do
		:: atomic { (over) -> token[e] = 0; break }
		:: atomic { !(over) && len(wire[OTHER(e)]) > 0 -> wire[OTHER(e)]?f;
			if
			:: f == DATA -> inb[e]++
			:: f == WINDOW -> credit[e] = credit[e] + told[OTHER(e)]; told[OTHER(e)] = 0
			:: f == PONG
			fi;
			f = 0 }
#if CFG == 2
		/* the leader itself owes an answer, as for a PING, and flushes it */
		:: atomic { !(over) && !answered -> answered = 1; pongs[e] = 1 };
			tryFlush(e)
#endif
		od
	:: atomic { (over) }
	fi
}

proctype Writer(byte e)
{
	byte n, f;
	bit answered = 1; /* its lead owes none: the reader's does */

	do
	:: n == K -> break
	:: n < K ->
		lead(e, credit[e] > 0); /* awaitCredit */
		atomic { credit[e]--; queued[e]++ };
		if
		:: atomic { role[e] == NIL -> role[e] = _pid }; runFlusher(e)
		:: atomic { role[e] != NIL }
		fi;
		n++
	od;
	returned++
}

proctype Reader(byte e)
{
	byte n, f;
	bit answered;

	do
	:: n == K -> break
	:: n < K ->
		lead(e, inb[e] > 0);
		atomic { inb[e]--; grants[e]++ }; /* grant */
		tryFlush(e);
		n++
	od;
	returned++
}

proctype Helper(byte e)
{
end:	do
	:: atomic { helper[e] -> helper[e] = 0 };
		runFlusher(e)
	od
}

/* the standby reads when nobody else does */
proctype Standby(byte e)
{
	byte f;

end:	do
	:: atomic { !token[e] && len(wire[OTHER(e)]) > 0 -> wire[OTHER(e)]?f;
			if
			:: f == DATA -> inb[e]++
			:: f == WINDOW -> credit[e] = credit[e] + told[OTHER(e)]; told[OTHER(e)] = 0
			:: f == PONG
			fi;
			f = 0 }
	od
}

/* all calls return */
proctype Watch() { returned == 4 }

init {
	atomic {
		run Writer(0); run Reader(0); run Helper(0);
		run Writer(1); run Reader(1); run Helper(1);
#ifndef MUT_NOSTANDBY
		run Standby(0); run Standby(1);
#endif
		run Watch()
	}
}
