package wire

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCutTextCutsBetweenRunes(t *testing.T) {
	for _, tt := range []struct {
		name, s string
		want    int
	}{
		{"empty", "", 0},
		{"short", "busy", 4},
		{"256", strings.Repeat("a", 256), 256},
		{"257", strings.Repeat("a", 257), 256},
		{"2 bytes, ends at 256", strings.Repeat("ä", 129), 256},
		{"2 bytes, from 255", "a" + strings.Repeat("ä", 129), 255},
		{"3 bytes, from 255", strings.Repeat("€", 100), 255},
		{"3 bytes, from 254", "aa" + strings.Repeat("€", 100), 254},
		{"3 bytes, ends at 256", "a" + strings.Repeat("€", 100), 256},
		{"4 bytes, from 253", "a" + strings.Repeat("😀", 100), 253},
		{"4 bytes, from 254", "aa" + strings.Repeat("😀", 100), 254},
		{"4 bytes, from 255", "aaa" + strings.Repeat("😀", 100), 255},
		{"4 bytes, ends at 256", strings.Repeat("😀", 100), 256},
		{"not UTF-8", strings.Repeat("\x80", 300), 256},
	} {
		got := CutText(tt.s)
		if got != tt.s[:tt.want] {
			t.Errorf("%s: %d bytes, want %d", tt.name, len(got), tt.want)
		}
		if utf8.ValidString(got) != utf8.ValidString(tt.s) {
			t.Errorf("%s: cut within a rune", tt.name)
		}
	}
}

func TestTextShowsWhatIsNotUTF8(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"busy":            "busy",
		"zu spät":         "zu spät",
		"a\xffb":          "a\uFFFDb",
		"a\xe2\x82":       "a\uFFFD",
		"\x1b[2J is text": "\x1b[2J is text",
	} {
		b := []byte(in)
		got := Text(b)
		for i := range b {
			b[i] = 'x'
		}
		if got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
