package xport

import (
	"net"
	"reflect"
	"testing"
)

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
	x.Write([]byte("45"))
	x.WriteVec(&net.Buffers{[]byte("67"), []byte("89")})
	y.Read(make([]byte, 4))
	if x.wr.p != nil {
		t.Error("TryWrite or Write keeps its slice")
	}
	if !reflect.ValueOf(y.rd.vec).IsZero() || y.rd.p != nil {
		t.Error("ReadVec or Read keeps its slices")
	}
	if !reflect.ValueOf(y.rd.vr).IsZero() {
		t.Error("ReadVec leaves its slices to the kernel")
	}
	w := reflect.ValueOf(x.wv)
	for i := range w.NumField() {
		if name := w.Type().Field(i).Name; name != "fn" && name != "did" && name != "calls" && !w.Field(i).IsZero() {
			t.Error("WriteVec leaves something in", name)
		}
	}
}
