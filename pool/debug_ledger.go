//go:build vtmuxdebug

package pool

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
)

var (
	liveSlabs   ledger[*Slab]
	liveBuffers ledger[*Buffer]
)

// ledger knows the objects that are not released, and who got them. The zero value
// is empty and ready. It is safe for concurrent use.
type ledger[T comparable] struct {
	mu   sync.Mutex
	live map[T]stack // guarded by mu
}

// stack is the call stack of who got an object, ending in zeros. Sixteen
// frames reach from GetSlab into the test.
type stack [16]uintptr

// add enters v, got by the caller of the function that called the caller of add.
func (l *ledger[T]) add(v T) {
	var st stack
	// Skip Callers, add, debugGot... and Get...: the next one is who got v.
	runtime.Callers(4, st[:])
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.live == nil {
		l.live = make(map[T]stack)
	}
	l.live[v] = st
}

func (l *ledger[T]) remove(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, v)
}

func (l *ledger[T]) has(v T) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.live[v]
	return ok
}

func (l *ledger[T]) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.live)
}

// report lists the stacks of the objects in l, each with how many have it, sorted by
// text so that two reports can be compared.
func (l *ledger[T]) report(noun string) string {
	l.mu.Lock()
	count := make(map[stack]int)
	for _, st := range l.live {
		count[st]++
	}
	l.mu.Unlock()

	var entries []string
	for st, n := range count {
		entries = append(entries, fmt.Sprintf("%d %s(s) not released, got by\n%s", n, noun, st))
	}
	slices.Sort(entries)
	return strings.Join(entries, "")
}

// String returns st as the runtime prints stacks: a line for the function, then
// one for file and line.
func (st stack) String() string {
	var b strings.Builder
	n := slices.Index(st[:], 0)
	if n < 0 {
		n = len(st)
	}
	frames := runtime.CallersFrames(st[:n])
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "\t%s\n\t\t%s:%d\n", f.Function, f.File, f.Line)
		if !more {
			return b.String()
		}
	}
}
