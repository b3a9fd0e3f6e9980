// Package hostile attacks vtmux over TCP and measures what that costs.
//
// The victim is a process of its own, with an honest port and a hostile port, so that its memory, goroutines and CPU time
// are its own alone. The attacker is another one, which runs when a core is idle (on Linux), for in earnest it would not run on
// the victim's machine; in the full form, victim and test run at real-time priority besides, where they may. Both are this
// package's test binary, run again. The test itself has one honest connection through the victim, which is answered every 5 ms.
//
//	go test ./internal/hostile                                    what must hold, with few frames
//	go test ./internal/hostile -run TestAttacks -hostile.full -v  all frames; prints the table that docs/SECURITY.md has an extract of
//
// The full form takes some minutes, and its times mean something only on a machine that does nothing else.
package hostile
