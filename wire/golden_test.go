package wire

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vtmux/vtmux/addr"
)

// transcript is what a vt-muxer endpoint wrote in one case, and what its README says
// of it.
type transcript struct {
	name   string
	stream []byte
	frames []frame // offset and header; the payload follows from the stream
}

var (
	caseLine  = regexp.MustCompile(`^## (\S+\.hex) \((\d+) bytes\)$`)
	frameLine = regexp.MustCompile(`^    @(\d+) (\S+) len=(\d+)$`)
)

// transcripts reads testdata/vtmuxer.
func transcripts(t testing.TB) []transcript {
	t.Helper()
	readme, err := os.ReadFile("testdata/vtmuxer/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []transcript
	inFrames := false
	for line := range strings.Lines(string(readme)) {
		line = strings.TrimSuffix(line, "\n")
		if m := caseLine.FindStringSubmatch(line); m != nil {
			tr := transcript{name: m[1], stream: readHex(t, m[1])}
			if size := atoi(t, m[2]); len(tr.stream) != size {
				t.Fatalf("%s has %d bytes, want %d", tr.name, len(tr.stream), size)
			}
			all = append(all, tr)
			inFrames = false
			continue
		}
		if line == "frames:" {
			inFrames = true
			continue
		}
		if !inFrames || strings.TrimSpace(line) == "" {
			continue
		}
		m := frameLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%q is not a frame", line)
		}
		f := frame{offset: atoi(t, m[1])}
		f.header.Addr = addr.MustParseSocketAddr(m[2])
		f.header.Len.Set(uint16(atoi(t, m[3])))
		tr := &all[len(all)-1]
		tr.frames = append(tr.frames, f)
	}
	return all
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func readHex(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/vtmuxer/" + name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return b
}

func TestEveryTranscriptIsInTheREADME(t *testing.T) {
	files, err := filepath.Glob("testdata/vtmuxer/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	var names []string
	for _, tr := range transcripts(t) {
		names = append(names, "testdata/vtmuxer/"+tr.name)
		if len(tr.frames) == 0 {
			t.Errorf("%s has no frames", tr.name)
		}
	}
	for i, f := range files {
		files[i] = filepath.ToSlash(f)
	}
	slices.Sort(names)
	if !slices.Equal(files, names) {
		t.Errorf("files %v, README %v", files, names)
	}
}

func TestDecodeTranscripts(t *testing.T) {
	for _, tr := range transcripts(t) {
		for _, piece := range []int{1, 7, VTHeaderLen, 4096, max(len(tr.stream), 1)} {
			f := feeder{t: t}
			for p := range slices.Chunk(tr.stream, piece) {
				f.feed(p)
			}
			f.check(tr.stream)
			if err := f.d.End(); err != nil {
				t.Errorf("%s: %v", tr.name, err)
			}
			checkTranscript(t, tr, f.frames)
		}
	}
}

// checkTranscript compares frames with the README's, and their payload with what the
// README says of all payloads: the ASCII letter of the connection's name.
func checkTranscript(t *testing.T, tr transcript, got []frame) {
	t.Helper()
	if len(got) != len(tr.frames) {
		t.Fatalf("%s: %d frames, want %d", tr.name, len(got), len(tr.frames))
	}
	for i, g := range got {
		w := tr.frames[i]
		if g.offset != w.offset || g.header != w.header {
			t.Errorf("%s: frame %d is @%d %v, want @%d %v", tr.name, i, g.offset, g.header, w.offset, w.header)
		}
		n := int(w.header.Len.Get())
		if !bytes.Equal(g.payload, bytes.Repeat([]byte("a"), n)) && !bytes.Equal(g.payload, bytes.Repeat([]byte("b"), n)) {
			t.Errorf("%s: frame %d has %d bytes of payload, not %d letters", tr.name, i, len(g.payload), n)
		}
	}
}

// TestEncodeTranscripts writes the README's frames, and wants the recorded bytes.
func TestEncodeTranscripts(t *testing.T) {
	for _, tr := range transcripts(t) {
		var b []byte
		for _, f := range tr.frames {
			n := int(f.header.Len.Get())
			start := len(b)
			b = append(b, make([]byte, VTHeaderLen)...)
			PutVTHeader(b[start:], f.header.Addr, n)
			b = append(b, tr.stream[len(b):len(b)+n]...)
		}
		if !bytes.Equal(b, tr.stream) {
			t.Errorf("%s: the encoded frames are not the recorded bytes", tr.name)
		}
	}
}
