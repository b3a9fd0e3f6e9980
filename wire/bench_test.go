package wire

import (
	"strconv"
	"testing"

	"github.com/vtmux/vtmux/addr"
)

// BenchmarkVTDecoder decodes a slab of 64 KiB full of frames, which the last one
// overlaps. An operation is a frame.
func BenchmarkVTDecoder(b *testing.B) {
	for _, size := range []int{0, 16, 128, 1024, 16384} {
		b.Run("payload="+strconv.Itoa(size), func(b *testing.B) {
			frame := slowFrame(addr.MustParseSocketAddr("192.0.2.1:8080"), pattern(size))
			var stream []byte
			for len(stream) < 64<<10 {
				stream = append(stream, frame...)
			}
			frames := len(stream) / len(frame)
			slabs := [][]byte{stream[:len(stream)/2], stream[len(stream)/2:]}
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			b.ResetTimer()
			var d VTDecoder
			var headers, bytes int
			for i := 0; i < b.N; i += frames {
				for _, s := range slabs {
					for len(s) > 0 {
						h, p, n := d.Next(s)
						if h != nil {
							headers++
						}
						bytes += len(p)
						s = s[n:]
					}
				}
			}
			if bytes != headers*size || d.End() != nil {
				b.Fatalf("%d headers and %d bytes", headers, bytes)
			}
		})
	}
}

// BenchmarkVTDecoderSplit decodes frames that come in pieces of 7 bytes. An
// operation is a piece.
func BenchmarkVTDecoderSplit(b *testing.B) {
	s := slowFrame(addr.MustParseSocketAddr("192.0.2.1:8080"), pattern(1))
	b.ReportAllocs()
	var d VTDecoder
	for i := 0; b.Loop(); i++ {
		at := i % 3 * 7
		decodeAll(&d, s[at:at+7])
	}
}

func BenchmarkPutVTHeader(b *testing.B) {
	a := addr.MustParseSocketAddr("192.0.2.1:8080")
	buf := make([]byte, VTHeaderLen)
	b.ReportAllocs()
	for b.Loop() {
		PutVTHeader(buf, a, 128)
	}
}

// BenchmarkDecoder decodes a slab of 64 KiB full of DATA frames, which the last one
// overlaps. An operation is a frame.
func BenchmarkDecoder(b *testing.B) {
	for _, size := range []int{0, 16, 128, 1024, 16384} {
		b.Run("payload="+strconv.Itoa(size), func(b *testing.B) {
			frame := rawFrame(TypeData, FlagYours, 1, pattern(size))
			var stream []byte
			for len(stream) < 64<<10 {
				stream = append(stream, frame...)
			}
			frames := len(stream) / len(frame)
			slabs := [][]byte{stream[:len(stream)/2], stream[len(stream)/2:]}
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			b.ResetTimer()
			var d Decoder
			var headers, bytes int
			for i := 0; i < b.N; i += frames {
				for _, s := range slabs {
					for len(s) > 0 {
						h, p, n, err := d.Next(s)
						if err != nil {
							b.Fatal(err)
						}
						if h != nil {
							headers++
						}
						bytes += len(p)
						s = s[n:]
					}
				}
			}
			if bytes != headers*size || d.End() != nil {
				b.Fatalf("%d headers and %d bytes", headers, bytes)
			}
		})
	}
}

// BenchmarkDecoderControl decodes a WINDOW that lies in the slice whole. An operation
// is a frame.
func BenchmarkDecoderControl(b *testing.B) {
	s := make([]byte, WindowLen)
	PutWindow(s, FlagYours, 1, 1<<20)
	b.ReportAllocs()
	var d Decoder
	for b.Loop() {
		nextAll(&d, s)
	}
}

// BenchmarkDecoderSplit decodes WINDOW frames that come in pieces of 4 bytes. An
// operation is a piece.
func BenchmarkDecoderSplit(b *testing.B) {
	s := make([]byte, WindowLen)
	PutWindow(s, FlagYours, 1, 1<<20)
	b.ReportAllocs()
	var d Decoder
	for i := 0; b.Loop(); i++ {
		at := i % 4 * 4
		nextAll(&d, s[at:at+4])
	}
}

func BenchmarkPutDataHeader(b *testing.B) {
	buf := make([]byte, HeaderLen)
	b.ReportAllocs()
	for b.Loop() {
		PutDataHeader(buf, FlagYours, 1, 128)
	}
}

func BenchmarkPutWindow(b *testing.B) {
	buf := make([]byte, WindowLen)
	b.ReportAllocs()
	for b.Loop() {
		PutWindow(buf, FlagYours, 1, 1<<20)
	}
}
