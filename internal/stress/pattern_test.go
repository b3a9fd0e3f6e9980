package stress

import "math/rand/v2"

const (
	// period is prime, and longer than most streams, so that what is lost, doubled or from elsewhere does not fit.
	period = 1<<20 + 7
	// maxPiece is the most that is compared, or written, at once.
	maxPiece = 512 << 10
)

// pattern is what all streams are made of: one run of random bytes, which begins again after period. A stream begins
// somewhere in it.
var pattern = makePattern()

func makePattern() []byte {
	p := make([]byte, period+maxPiece)
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < period; i++ {
		p[i] = byte(r.Uint32() >> 13)
	}
	copy(p[period:], p)
	return p
}

// A stream says which bytes a direction of a connection carries.
type stream struct{ start int64 }

func newStream(r *rand.Rand) stream { return stream{r.Int64N(period)} }

// at returns the n bytes from offset off on, to be read only.
func (s stream) at(off int64, n int) []byte {
	i := (s.start + off) % period
	return pattern[i : i+int64(n)]
}
