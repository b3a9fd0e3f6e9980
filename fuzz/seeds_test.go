package fuzz

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var writeSeeds = flag.Bool("seeds", false, "write the seeds to testdata/fuzz")

// A fuzzSeed is one file of a corpus, that this file makes.
type fuzzSeed struct {
	target, name string
	args         []any
}

// text returns what stands in the file.
func (s fuzzSeed) text() []byte {
	var b bytes.Buffer
	b.WriteString("go test fuzz v1\n")
	for _, a := range s.args {
		switch a := a.(type) {
		case bool:
			fmt.Fprintf(&b, "bool(%v)\n", a)
		case string:
			fmt.Fprintf(&b, "string(%q)\n", a)
		case []byte:
			fmt.Fprintf(&b, "[]byte(%q)\n", a)
		}
	}
	return b.Bytes()
}

// TestSeedsAreInTheCorpora: each seed is in its file, as it is made here. With -seeds they
// are written.
func TestSeedsAreInTheCorpora(t *testing.T) {
	for _, s := range allSeeds(t) {
		name := filepath.Join("testdata", "fuzz", s.target, s.name)
		if *writeSeeds {
			os.MkdirAll(filepath.Dir(name), 0o777)
			if err := os.WriteFile(name, s.text(), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(name); err != nil || !bytes.Equal(have, s.text()) {
			t.Errorf("%s is not as it is made here (%v): go test -run %s -seeds", name, err, t.Name())
		}
	}
}

func allSeeds(t *testing.T) (all []fuzzSeed) {
	all = append(all, vtSeeds()...)
	all = append(all, oneSeeds(t)...)
	all = append(all, addrSeeds()...)
	all = append(all, sessionSeeds()...)
	return append(all, hostileSeeds()...)
}

func vtFrameOf(n, size int) []byte {
	return append(append(attackerAddr(n), byte(size>>8), byte(size)), pattern[:size]...)
}

func vtSeeds() []fuzzSeed {
	add := func(name string, stream, cuts []byte) fuzzSeed {
		return fuzzSeed{"FuzzDecodeVT", name, []any{stream, cuts}}
	}
	stream := bytes.Join([][]byte{vtFrameOf(1, 0), vtFrameOf(1, 1), vtFrameOf(2, 0), vtFrameOf(1, 300), make([]byte, 20), vtFrameOf(1, 0)}, nil)
	return []fuzzSeed{
		add("a-session", stream, nil),
		add("one-byte-at-a-time", stream, []byte{1}),
		add("past-the-decoder", append(vtFrameOf(1, 300), vtFrameOf(1, 0)...), []byte{20, 178, 129, 128, 255}),
		add("beside-the-headers", stream, []byte{19, 20, 21, 0, 7, 130, 255}),
		add("cut-in-a-payload", vtFrameOf(1, 300)[:250], []byte{25, 255}),
		add("cut-in-a-header", vtFrameOf(1, 300)[:19], []byte{3, 0}),
		add("the-largest-payload", vtFrameOf(1, 65535), []byte{128, 128, 200}),
		add("not-a-frame", []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), []byte{5}),
	}
}

// goldenFrames reads the vectors of protocol 1 that PROTOCOL.md has.
func goldenFrames(t *testing.T) (all [][2]string) {
	data, err := os.ReadFile("../wire/testdata/protocol1.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(line, "\t")
		b, err := hex.DecodeString(f[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, [2]string{f[0], string(b)})
	}
	return all
}

func word(vs ...uint64) (b []byte) {
	for _, v := range vs {
		for i := 7; i >= 0; i-- {
			b = append(b, byte(v>>(8*i)))
		}
	}
	return b
}

// The inputs that crashed rust-yamux, in our frames: CVE-2026-31814 and GHSA-4w32
// (a window that overflows), CVE-2026-32314 (a first frame above the window), and the
// credit that wrapped when it was added to the default one.
func advisories() (names []string, streams [][]byte) {
	openOne := frameOf(plainOpen, 0, 1, attackerAddr(1))
	for _, a := range []struct {
		name   string
		frames [][]byte
	}{
		{"CVE-2026-31814-window-overflows-twice", [][]byte{openOne,
			frameOf(plainWindow, 0, 1, word(1<<32-1)), frameOf(plainWindow, 0, 1, word(1<<32-1)),
			frameOf(plainWindow, 0, 1, word(1<<63-1)), frameOf(plainWindow, 0, 1, word(1<<64-1))}},
		{"CVE-2026-32314-first-frame-above-the-window", [][]byte{openOne, frameOf(plainData, 0, 1, pattern[:65535]), frameOf(plainData, 0, 1, pattern[:2])}},
		{"CVE-2026-32314-open-and-one-byte-more-than-the-window", [][]byte{openOne,
			frameOf(plainData, 0, 1, pattern[:32768]), frameOf(plainData, plainFin, 1, pattern[:32769])}},
		{"credit-that-wraps", [][]byte{openOne, frameOf(plainWindow, 0, 1, word(1<<64-65536))}},
	} {
		names = append(names, a.name)
		streams = append(streams, bytes.Join(a.frames, nil))
	}
	return names, streams
}

func oneSeeds(t *testing.T) (all []fuzzSeed) {
	add := func(name string, prefaced bool, stream, cuts []byte) {
		all = append(all, fuzzSeed{"FuzzDecode1", name, []any{prefaced, stream, cuts}})
	}
	var every []byte
	for _, v := range goldenFrames(t) {
		if v[0] == "preface" {
			add("preface", true, []byte(v[1]), []byte{7})
			continue
		}
		every = append(every, v[1]...)
		add(v[0], false, []byte(v[1]), []byte{3})
	}
	preface := prefaceOf(65536, 65535, 0)
	add("every-frame", true, append(bytes.Clone(preface), every...), []byte{1, 7, 8, 9, 0, 30, 130, 255})
	add("one-byte-at-a-time", true, append(bytes.Clone(preface), every...), []byte{1})
	for i, name := range []string{"magic", "version", "window", "conns", "payload", "length"} {
		add("preface-with-a-bad-"+name, true, prefaceOf(65536, 65535, i+1), []byte{21})
	}
	long := append(prefaceOf(1<<32-1, 16384, 0), "what is unknown"...)
	long[19] += byte(len("what is unknown"))
	add("preface-with-more", true, append(long, every...), []byte{50})
	add("vt-muxer", true, vtFrameOf(1, 0), nil)
	for typ := range 9 {
		add(fmt.Sprintf("malformed-type-%d", typ), false, append(bytes.Clone(every), frameOf(typ, 0x10, 1, pattern[:3])...), []byte{11})
	}
	add("a-limit-of-2-to-the-63-less-1", false, frameOf(plainWindow, 0, 1, word(1<<63-1)), nil)
	add("a-limit-of-2-to-the-63", false, frameOf(plainWindow, 0, 1, word(1<<63)), []byte{9})
	add("flags-of-open", false, frameOf(plainOpen, plainYours, 1, attackerAddr(1)), nil)
	add("refused-without-yours", false, frameOf(plainReset, plainRefused, 1, pattern[:4]), nil)
	add("a-reason-without-refused", false, frameOf(plainReset, plainYours, 1, pattern[:5]), nil)
	add("an-id-of-ping", false, frameOf(plainPing, 0, 1, pattern[:8]), nil)
	add("no-id-of-data", false, frameOf(plainData, 0, 0, pattern[:8]), nil)
	add("past-the-decoder", false, append(frameOf(plainData, 0, 1, pattern[:300]), frameOf(plainData, plainFin, 1, pattern[:50])...), []byte{8, 178, 129, 128, 5, 255})
	add("cut-in-data", false, frameOf(plainData, 0, 1, pattern[:300])[:100], []byte{4, 140})
	add("cut-in-a-header", false, frameOf(plainData, 0, 1, nil)[:5], []byte{2})
	add("cut-in-an-unknown-type", false, frameOf(99, 0, 1, pattern[:300])[:100], []byte{50})
	add("unknown-types", false, bytes.Join([][]byte{frameOf(8, 255, 0, nil), frameOf(255, 0, 9, pattern[:300]), frameOf(plainPing, 0, 0, pattern[:8])}, nil), []byte{9, 200})
	add("the-longest-open", false, frameOf(plainOpen, 0, 1, pattern[:1042]), []byte{100})
	add("an-open-too-long", false, frameOf(plainOpen, 0, 1, pattern[:1043]), []byte{100})
	add("the-longest-texts", false, append(frameOf(plainReset, 5, 1, pattern[:260]), frameOf(plainGoAway, 0, 0, pattern[:264])...), []byte{0, 128})
	add("cut-in-a-body", false, frameOf(plainOpen, 0, 1, pattern[:500])[:200], []byte{64})
	names, streams := advisories()
	for i := range names {
		add(names[i], true, append(bytes.Clone(preface), streams[i]...), []byte{128, 5})
	}
	return all
}

func addrSeeds() (all []fuzzSeed) {
	for i, text := range []string{
		"1.2.3.4", "::", "::ffff:1.2.3.4", "2001:db8::1:0:0:1", "1:2:3:4:5:6:7::", "fe80::1%1", "1.2.3.4:80", "[::]:0",
		"[fe80::1%3]:080", "[::ffff:1.2.3.4%4294967295]:65535", "[fe80::1%4294967296]:1", "::1:80", "[1.2.3.4]:80", "1.2.3.04", ":80",
	} {
		b := append(attackerAddr(i), attackerAddr(i/2)...)
		if i%3 == 1 {
			copy(b[18:], pattern[i:i+16]) // of another family
		}
		all = append(all, fuzzSeed{"FuzzAddr", fmt.Sprintf("text-%02d", i), []any{text, b}})
	}
	for i := range 12 { // each byte of the mapped prefix is another
		b := append(attackerAddr(1), attackerAddr(1)...)
		b[i] ^= 0xff
		all = append(all, fuzzSeed{"FuzzAddr", fmt.Sprintf("not-mapped-%02d", i), []any{"", b}})
	}
	return append(all,
		fuzzSeed{"FuzzAddr", "ip-bytes", []any{"", pattern[:16]}},
		fuzzSeed{"FuzzAddr", "socket-bytes", []any{"", pattern[:18]}},
		fuzzSeed{"FuzzAddr", "mapped-and-compatible", []any{"", append(append(make([]byte, 12), 1, 2, 3, 4, 0, 80), attackerAddr(1)...)}})
}

// setupWord is the word that setupOf turns into two sessions with a fault, if any.
func setupWord(protocols int, carried bool, piece, fault, at int) uint64 {
	w := uint64(protocols) | 3<<6 | uint64(piece)<<13 | uint64(fault)<<17 | uint64(at)<<25 | 77<<37
	if carried {
		w |= 1 << 9
	}
	return w
}

func sessionSeeds() (all []fuzzSeed) {
	const noFault = 255
	step := func(v verb, side, conn, class, size int) uint64 {
		return stepWord(v, side, conn, thenSettle, class, size, 3)
	}
	now := func(v verb, side, conn, class, size int) uint64 {
		return stepWord(v, side, conn, thenGoOn, class, size, 3)
	}
	stories := map[string][]uint64{
		"request-and-response": {step(vOpen, 0, 0, 0, 0), step(vWrite, 0, 0, 0, 100), step(vCloseWrite, 0, 0, 0, 0), step(vAccept, 1, 0, 0, 0),
			step(vRead, 1, 0, 10, 1000), step(vWrite, 1, 0, 10, 50_000), step(vClose, 1, 0, 0, 0), step(vRead, 0, 0, 10, 60_000)},
		"more-than-a-window": {step(vOpen, 1, 0, 0, 0), step(vAccept, 0, 0, 0, 0), step(vWrite, 1, 0, 13, 60_000), step(vRead, 0, 0, 10, 65_000),
			step(vRead, 0, 0, 10, 65_000), step(vWriteTo, 0, 0, 0, 0)},
		"close-in-a-write": {step(vOpen, 0, 0, 0, 0), step(vAccept, 1, 0, 0, 0), step(vWrite, 0, 0, 13, 65_000), step(vClose, 0, 0, 0, 0)},
		"reset-in-a-write": {step(vOpen, 0, 0, 0, 0), step(vAccept, 1, 0, 0, 0), step(vWrite, 1, 0, 13, 65_000), step(vReset, 0, 0, 0, 200)},
		"deadlines": {step(vOpen, 0, 0, 0, 0), step(vAccept, 1, 0, 0, 0), step(vReadDeadline, 1, 0, 0, 0), step(vRead, 1, 0, 0, 10), step(vPass, 0, 0, 0, 0),
			step(vWriteDeadline, 0, 0, 0, 0), step(vWrite, 0, 0, 13, 65_000), step(vPass, 0, 0, 0, 0), step(vWriteDeadline, 0, 0, 0, 0)},
		"both-open":            {now(vOpen, 0, 0, 0, 0), now(vOpen, 1, 0, 0, 0), now(vAccept, 0, 0, 0, 0), now(vAccept, 1, 0, 0, 0), now(vWrite, 0, 1, 6, 9000), now(vWrite, 1, 1, 6, 9000)},
		"nobody-accepts":       {step(vOpen, 0, 0, 0, 0), step(vOpen, 0, 0, 0, 0), step(vOpen, 0, 0, 0, 0), step(vOpen, 0, 0, 0, 0), step(vWrite, 0, 0, 0, 9)},
		"both-shut-down":       {step(vOpen, 0, 0, 0, 0), step(vAccept, 1, 0, 0, 0), now(vShutdown, 0, 0, 0, 4), now(vShutdown, 1, 0, 0, 4), step(vWrite, 0, 0, 0, 9), now(vPing, 0, 0, 0, 0)},
		"close-of-a-session":   {step(vOpen, 0, 0, 0, 0), step(vAccept, 1, 0, 0, 0), step(vWrite, 0, 0, 6, 9000), now(vCloseWrite, 0, 0, 0, 0), now(vCloseSession, 0, 0, 0, 8)},
		"paused":               {now(vPause, 0, 0, 0, 0), now(vOpen, 0, 0, 0, 0), now(vWrite, 0, 0, 6, 9000), now(vPing, 0, 0, 0, 0), step(vPass, 0, 0, 0, 0)},
		"buffers-and-readfrom": {step(vOpen, 0, 0, 0, 0), step(vAccept, 1, 0, 0, 0), step(vWriteBuffers, 0, 0, 6, 9000), step(vReadFrom, 1, 0, 10, 30_000), step(vWriteTo, 1, 0, 0, 0)},
	}
	for name, words := range stories {
		for p := range setupProtocols {
			all = append(all, fuzzSeed{"FuzzSession", fmt.Sprintf("%s-%d", name, p), []any{scriptBytes(append([]uint64{setupWord(p, p%2 == 1, 0, noFault, 0)}, words...)...)}})
		}
	}
	// With the vt-muxer protocol, over opaque transports: more than the smallest MaxWindow,
	// and time for WriteTimeout.
	unread := append([]uint64{step(vOpen, 0, 0, 0, 0), step(vAccept, 1, 0, 0, 0), step(vWrite, 0, 0, 13, 65_000), step(vWrite, 0, 0, 13, 65_000)},
		slices.Repeat([]uint64{stepWord(vPass, 0, 0, thenGoOn, 0, 0, 15)}, 10)...)
	for _, p := range []int{1, 4, 6} {
		words := append([]uint64{setupWord(p, false, 0, noFault, 0)&^(3<<6) | 3<<10}, unread...)
		all = append(all, fuzzSeed{"FuzzSession", fmt.Sprintf("nobody-reads-for-long-%d", p), []any{scriptBytes(words...)}})
	}
	for i, fault := range []int{0, 2, 5, 16, 19, 24, 26, 33, 40, 42, 49, 51, 56, 58} {
		words := append([]uint64{setupWord(i%2, i%3 == 0, 0, fault, 60+i*11)}, stories["request-and-response"]...)
		all = append(all, fuzzSeed{"FuzzSession", fmt.Sprintf("fault-%02d", fault), []any{scriptBytes(words...)}})
	}
	return all
}

func hostileSeeds() (all []fuzzSeed) {
	add := func(name string, setup uint64, words ...uint64) {
		all = append(all, fuzzSeed{"FuzzHostile", name, []any{scriptBytes(append([]uint64{setup}, words...)...)}})
	}
	// Bits of the setup: 3 is protocol 1 for both, 0 vt-muxer's; 1<<4 few connections, 1<<6
	// accepts, 1<<7 reads, 1<<15 without a measurement of the heap.
	const quiet, serves, vt = 3 | 1<<15, 3 | 1<<6 | 1<<7 | 1<<15, 1<<6 | 1<<15
	one := func(b blow, size int) uint64 { return blowWord(b, false, 0, size, 0, false) }
	many := func(b blow, size int) uint64 { return blowWord(b, false, 0, size, 7, false) }
	open := one(bOpen, 0)
	add("CVE-2026-31814-window-overflows-twice", serves, open, one(bWindowMost, 0), one(bWindowMost, 0), one(bWindowWrap, 1), open)
	add("CVE-2026-32314-first-frame-above-the-window", quiet, blowWord(bOpen, false, 0, 0, 0, true), blowWord(bDataBig, false, 0, 0, 0, true), one(bDataBig, 0), one(bDataBig, 1))
	add("CVE-2026-32314-open-and-one-byte-more-than-the-window", quiet, open, one(bData, 0xc000|0x7000), one(bDataBig, 0), one(bDataBig, 0), one(bDataBig, 1))
	add("credit-that-wraps", serves, open, one(bWindowWrap, 3))
	add("rapid-reset", serves, open, many(bReset, 9), open, one(bReset, 9), open, one(bReset, 9))
	add("ping-flood", quiet, one(bDeaf, 0), many(bPing, 1))
	add("ping-flood-read", quiet, many(bPing, 1))
	add("pings", quiet, one(bPing, 1), one(bPing, 2), one(bPing, 3))
	add("stop-flood", serves, open, many(bStop, 9))
	add("open-flood", quiet|1<<4, many(bOpen, 0))
	add("open-flood-unread", quiet|1<<4, one(bDeaf, 0), many(bOpen, 0), many(bOpen, 0))
	add("empty-data", serves, open, many(bDataEmpty, 0))
	add("dribble", quiet, open, many(bData, 1), many(bData, 1))
	add("strays", serves, open, one(bDataFin, 1), one(bAccept, 0), one(bClose, 0), many(bStop, 9))
	add("window-that-raises-nothing", serves, open, many(bWindowNothing, 5))
	add("a-limit-that-goes-back", serves, open, one(bWrite, 60_000), one(bWindowNothing, 100), one(bWrite, 60_000))
	add("one-byte-above-a-limit", quiet, open, one(bData, 0xc000|0x7000), one(bDataBig, 0), one(bDataBig, 1), open)
	add("goaways", serves, one(bGoAway, 0), one(bGoAway, 1), one(bGoAway, 0))
	add("goaway-with-a-code", serves, open, one(bGoAwayCode, 7))
	add("unknown-types", serves, many(bUnknown, 0x1200))
	add("data-behind-fin", quiet, open, one(bDataFin, 100), one(bData, 100))
	add("reset-twice", quiet, open, one(bReset, 1), one(bReset, 1))
	add("the-session-opens", serves, one(bOpenOwn, 1), blowWord(bData, true, 0, 100, 0, false), blowWord(bRefused, true, 0, 5, 0, false))
	blocked := []uint64{open}
	for range 14 {
		blocked = append(blocked, one(bWrite, 65_535))
	}
	add("writes-go-on-while-limits-repeat", serves|7<<20, append(blocked, many(bWindowMost, 1))...)
	add("stop-and-write", serves, open, one(bWrite, 3000), one(bStop, 9), one(bWrite, 3))
	add("unread-with-vt-muxer", vt, one(bZero, 0), blowWord(bData, false, 0, 65535, 4, false), one(bData, 65535))
	add("opens-with-vt-muxer", vt|1<<4, one(bZero, 0), blowWord(bZero, false, 1, 0, 0, false), blowWord(bZero, false, 2, 0, 0, false), blowWord(bZero, false, 3, 0, 0, false), blowWord(bZero, false, 4, 0, 0, false), blowWord(bZero, false, 5, 0, 0, false))
	add("measured", 3, open, one(bData, 3000))
	return all
}
