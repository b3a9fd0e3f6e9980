package wire

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/vtmux/vtmux/addr"
)

// eachLayout runs a generic check on every member of Layout.
func eachLayout(t *testing.T, check func(t *testing.T, l layoutUnderTest)) {
	for _, l := range []layoutUnderTest{
		layoutOf[U16](2, func(b []byte) U16 { return fromUint[U16](uint64(binary.BigEndian.Uint16(b))) }),
		layoutOf[U32](4, func(b []byte) U32 { return fromUint[U32](uint64(binary.BigEndian.Uint32(b))) }),
		layoutOf[U64](8, func(b []byte) U64 { return fromUint[U64](binary.BigEndian.Uint64(b)) }),
		layoutOf[VTHeader](20, slowVTHeader),
		layoutOf[Header](8, slowHeader),
		layoutOf[OpenBody](18, func(b []byte) OpenBody { return OpenBody{slowVTHeader(append(b[:18:18], 0, 0)).Addr} }),
		layoutOf[WindowBody](8, func(b []byte) WindowBody {
			return WindowBody{fromUint[U64](binary.BigEndian.Uint64(b))}
		}),
		layoutOf[CodeBody](4, func(b []byte) CodeBody { return CodeBody{slowU32(b)} }),
		layoutOf[PingBody](8, func(b []byte) PingBody {
			return PingBody{[8]byte{b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]}}
		}),
		layoutOf[GoAwayBody](8, func(b []byte) GoAwayBody { return GoAwayBody{slowU32(b), slowU32(b[4:])} }),
		layoutOf[Preface](24, slowPreface),
	} {
		t.Run(l.typ.Name(), func(t *testing.T) { check(t, l) })
	}
}

// layoutUnderTest is a member of Layout behind functions that do not name it.
type layoutUnderTest struct {
	typ  reflect.Type
	size int // on the wire, in bytes

	sizeOf  func() int
	view    func(b []byte) any                   // the value of View
	write   func(b []byte, to []byte)            // sets the value of View(b) to that of to
	bytesOf func(b []byte) []byte                // BytesOf(View(b))
	slow    func(b []byte) any                   // the value at the front of b by encoding/binary
	slice   func(b []byte) (values []any, c int) // SliceOf and its capacity
	same    func(b []byte) bool                  // whether View(b) and SliceOf(b) begin where b does
}

func layoutOf[T Layout](size int, slow func([]byte) T) layoutUnderTest {
	return layoutUnderTest{
		typ:     reflect.TypeFor[T](),
		size:    size,
		sizeOf:  SizeOf[T],
		view:    func(b []byte) any { return *View[T](b) },
		write:   func(b, to []byte) { *View[T](b) = slow(to) },
		bytesOf: func(b []byte) []byte { return BytesOf(View[T](b)) },
		slow:    func(b []byte) any { return slow(b) },
		slice: func(b []byte) (values []any, c int) {
			s := SliceOf[T](b)
			for _, v := range s {
				values = append(values, v)
			}
			return values, cap(s)
		},
		same: func(b []byte) bool {
			v := View[T](b)
			return &BytesOf(v)[0] == &b[0] && &SliceOf[T](b)[0] == v
		},
	}
}

// fromUint returns v as a U16, U32 or U64, by its bytes.
func fromUint[T U16 | U32 | U64](v uint64) T {
	b := binary.BigEndian.AppendUint64(nil, v)
	switch any(*new(T)).(type) {
	case U16:
		return any(U16(b[6:])).(T)
	case U32:
		return any(U32(b[4:])).(T)
	}
	return any(U64(b)).(T)
}

// slowVTHeader reads a header by encoding/binary and copies.
func slowVTHeader(b []byte) VTHeader {
	ip := addr.IPAddrFrom16([16]byte(b[:16]))
	h := VTHeader{Addr: addr.SocketAddrFrom(ip, binary.BigEndian.Uint16(b[16:]))}
	h.Len.Set(binary.BigEndian.Uint16(b[18:]))
	return h
}

func slowU16(b []byte) U16 { return fromUint[U16](uint64(binary.BigEndian.Uint16(b))) }
func slowU32(b []byte) U32 { return fromUint[U32](uint64(binary.BigEndian.Uint32(b))) }

// slowHeader reads a header of protocol 1 by encoding/binary and copies.
func slowHeader(b []byte) Header {
	return Header{Type: FrameType(b[0]), Flags: Flags(b[1]), Len: slowU16(b[2:]), ID: slowU32(b[4:])}
}

// slowPreface reads the body of a preface by encoding/binary and copies.
func slowPreface(b []byte) Preface {
	p := Preface{
		Version:       slowU16(b[6:]),
		InitialWindow: slowU32(b[8:]),
		MaxConns:      slowU32(b[12:]),
		MaxPayload:    slowU16(b[16:]),
		Reserved:      slowU16(b[18:]),
		KeepAlive:     slowU32(b[20:]),
	}
	for i := range p.Magic {
		p.Magic[i] = b[i]
	}
	return p
}

// pattern returns n bytes, all different as far as bytes go.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*37 + 11)
	}
	return b
}

func TestLayoutsHoldOnlyBytes(t *testing.T) {
	var onlyBytes func(reflect.Type) bool
	onlyBytes = func(typ reflect.Type) bool {
		switch typ.Kind() {
		case reflect.Uint8:
			return true
		case reflect.Array:
			return onlyBytes(typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				if !onlyBytes(typ.Field(i).Type) {
					return false
				}
			}
			return true
		}
		return false
	}
	eachLayout(t, func(t *testing.T, l layoutUnderTest) {
		if !onlyBytes(l.typ) {
			t.Errorf("%v holds something other than bytes", l.typ)
		}
	})
}

func TestLayoutsHaveNoPadding(t *testing.T) {
	// Each field begins where the one before it ends, and the last one ends with
	// the struct.
	var fieldBytes func(*testing.T, reflect.Type) uintptr
	fieldBytes = func(t *testing.T, typ reflect.Type) uintptr {
		switch typ.Kind() {
		case reflect.Array:
			return uintptr(typ.Len()) * fieldBytes(t, typ.Elem())
		case reflect.Struct:
			var sum uintptr
			for i := range typ.NumField() {
				f := typ.Field(i)
				if f.Offset != sum {
					t.Errorf("%v.%s is at offset %d, want %d", typ, f.Name, f.Offset, sum)
				}
				sum += fieldBytes(t, f.Type)
			}
			return sum
		}
		return typ.Size()
	}
	eachLayout(t, func(t *testing.T, l layoutUnderTest) {
		sum := fieldBytes(t, l.typ)
		if int(sum) != l.size || int(l.typ.Size()) != l.size || l.sizeOf() != l.size {
			t.Errorf("%v has %d bytes of fields, size %d and SizeOf %d, want %d", l.typ, sum, l.typ.Size(), l.sizeOf(), l.size)
		}
	})
}

func TestLayoutsHaveAlignment1(t *testing.T) {
	eachLayout(t, func(t *testing.T, l layoutUnderTest) {
		if l.typ.Align() != 1 {
			t.Errorf("%v has alignment %d", l.typ, l.typ.Align())
		}
	})
}

func TestFieldsAreAtTheirOffsets(t *testing.T) {
	for typ, fields := range map[reflect.Type]map[string]uintptr{
		reflect.TypeFor[VTHeader]():   {"Addr": 0, "Len": 18},
		reflect.TypeFor[Header]():     {"Type": 0, "Flags": 1, "Len": 2, "ID": 4},
		reflect.TypeFor[OpenBody]():   {"Addr": 0},
		reflect.TypeFor[WindowBody](): {"Limit": 0},
		reflect.TypeFor[CodeBody]():   {"Code": 0},
		reflect.TypeFor[PingBody]():   {"Opaque": 0},
		reflect.TypeFor[GoAwayBody](): {"LastID": 0, "Code": 4},
		reflect.TypeFor[Preface](): {"Magic": 0, "Version": 6, "InitialWindow": 8, "MaxConns": 12, "MaxPayload": 16,
			"Reserved": 18, "KeepAlive": 20},
	} {
		if typ.NumField() != len(fields) {
			t.Errorf("%v has %d fields, want %d", typ, typ.NumField(), len(fields))
		}
		for name, want := range fields {
			if f, ok := typ.FieldByName(name); !ok || f.Offset != want {
				t.Errorf("%v.%s is at offset %d, want %d", typ, name, f.Offset, want)
			}
		}
	}
}

// The tests below allocate exactly what the overlay may touch, so that -asan sees
// a byte more.

func TestViewAtEveryOffset(t *testing.T) {
	eachLayout(t, func(t *testing.T, l layoutUnderTest) {
		for off := range 16 {
			b := pattern(off + l.size)
			if got, want := l.view(b[off:]), l.slow(b[off:]); got != want {
				t.Errorf("offset %d: read %v, want %v", off, got, want)
			}
			if !l.same(b[off:]) {
				t.Errorf("offset %d: the view does not alias the bytes", off)
			}

			to := bytes.Repeat([]byte{0xff}, l.size)
			l.write(b[off:], to)
			if want := append(pattern(off), to...); !bytes.Equal(b, want) {
				t.Errorf("offset %d: after a write the bytes are %x, want %x", off, b, want)
			}
		}
	})
}

func TestViewOneByteShortPanics(t *testing.T) {
	eachLayout(t, func(t *testing.T, l layoutUnderTest) {
		backing := make([]byte, 64)
		for n := range l.size {
			for name, b := range map[string][]byte{
				"no capacity beyond": backing[:n:n],
				"capacity beyond":    backing[:n],
				"end of the array":   backing[64-n:],
			} {
				if !panics(func() { l.view(b) }) {
					t.Errorf("%d bytes, %s: no panic", n, name)
				}
			}
		}
		if !panics(func() { l.view(nil) }) {
			t.Error("nil: no panic")
		}
	})
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestBytesOfIsTheMemoryOfTheValue(t *testing.T) {
	eachLayout(t, func(t *testing.T, l layoutUnderTest) {
		b := pattern(l.size + 8)
		got := l.bytesOf(b)
		if !bytes.Equal(got, b[:l.size]) || &got[0] != &b[0] {
			t.Errorf("bytes %x, want %x and the same memory", got, b[:l.size])
		}
		if cap(got) != l.size {
			t.Errorf("capacity %d, want %d", cap(got), l.size)
		}
	})
	if !panics(func() { BytesOf[VTHeader](nil) }) {
		t.Error("nil: no panic")
	}
}

func TestSliceOfAtEveryLengthAndOffset(t *testing.T) {
	eachLayout(t, func(t *testing.T, l layoutUnderTest) {
		for off := range 16 {
			for n := range 3*l.size + 2 {
				b := pattern(off + n)[off:]
				values, c := l.slice(b)
				if len(values) != n/l.size || c != len(values) {
					t.Fatalf("offset %d: %d bytes are %d values with capacity %d", off, n, len(values), c)
				}
				for i, v := range values {
					if want := l.slow(b[i*l.size:]); v != want {
						t.Errorf("offset %d: %d bytes: value %d is %v, want %v", off, n, i, v, want)
					}
				}
			}
		}
		if values, _ := l.slice(nil); values != nil {
			t.Errorf("nil is %d values", len(values))
		}
	})
}

func TestIntegersAreBigEndian(t *testing.T) {
	for _, v := range []uint64{0, 1, 0x80, 0xff, 0x100, 0x1234, 0x8000, 0xffff, 0x1_0000, 0x1234_5678, 1 << 31,
		1<<32 - 1, 1 << 32, 0x0123_4567_89ab_cdef, 1 << 63, 1<<64 - 1} {
		var u16 U16
		var u32 U32
		var u64 U64
		u16.Set(uint16(v))
		u32.Set(uint32(v))
		u64.Set(v)
		if u16.Get() != uint16(v) || u32.Get() != uint32(v) || u64.Get() != v {
			t.Errorf("%#x is read back as %#x, %#x, %#x", v, u16.Get(), u32.Get(), u64.Get())
		}
		want := binary.BigEndian.AppendUint64(nil, v)
		if !bytes.Equal(u16[:], want[6:]) || !bytes.Equal(u32[:], want[4:]) || !bytes.Equal(u64[:], want) {
			t.Errorf("%#x is written as %x, %x, %x", v, u16, u32, u64)
		}
	}
}
