package fuzz

import (
	"encoding/binary"
	"testing"

	gofuzz "github.com/google/gofuzz"
)

// scripted turns the bytes of an input into a T and as many U as there are bytes for, by
// gofuzz: eight bytes, big endian, become the T, and each eight more a U. So an input
// that a fuzzer has changed in one place is a script that has changed in one step.
func scripted[T, U any](data []byte, most int, head func(*T, uint64), step func(*U, uint64)) (t T, steps []U) {
	f := gofuzz.NewFromGoFuzz(data).NilChance(0).Funcs(
		func(t *T, c gofuzz.Continue) { head(t, c.Uint64()) },
		func(u *U, c gofuzz.Continue) { step(u, c.Uint64()) },
	)
	// The first eight bytes are gofuzz's seed, for what comes behind the last; nothing
	// is asked for there but what an input of less than 16 bytes lacks.
	f.Fuzz(&t)
	// Each U by itself: to fill a slice gofuzz would ask for bytes of its own.
	steps = make([]U, max(min(len(data)/8-2, most), 0))
	for i := range steps {
		f.Fuzz(&steps[i])
	}
	return t, steps
}

// scriptBytes is the input that scripted turns into what the words say.
func scriptBytes(words ...uint64) (b []byte) {
	b = append(b, "gofuzz  "...)
	for _, w := range words {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return b
}

// A bits gives out the bits of a word, the lowest first.
type bits uint64

// take returns a number below n, of the next bits that can hold it.
func (b *bits) take(width, n int) int {
	v := uint64(*b) & (1<<width - 1)
	*b >>= width
	return int(v) % n
}

func (b *bits) flag() bool { return b.take(1, 2) == 1 }

// TestScriptsSayWhatTheyAreWrittenAs: the words of scriptBytes come back, in order.
func TestScriptsSayWhatTheyAreWrittenAs(t *testing.T) {
	set := func(v *uint64, word uint64) { *v = word }
	head, steps := scripted(scriptBytes(1, 2, 1<<63, 4), 2, set, set)
	if head != 1 || len(steps) != 2 || steps[0] != 2 || steps[1] != 1<<63 {
		t.Errorf("%d and %d", head, steps)
	}
}
