package xport

import "testing"

// TestScratchKeepsNoSlice: what a caller lent to a raw call is the caller's again.
func TestScratchKeepsNoSlice(t *testing.T) {
	near, far := streamPair(t, "tcp")
	x, y := New(near), New(far)
	if n, err := x.TryWrite([]byte("0123")); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := y.ReadVec(make([]byte, 2), make([]byte, 2), make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if x.wr.p != nil {
		t.Error("TryWrite keeps its slice")
	}
	if y.rd.vec[0] != nil || y.rd.vec[1] != nil {
		t.Error("ReadVec keeps its slices")
	}
}
