package wire

import (
	"strings"
	"unicode/utf8"
)

// CutText returns the front of s that the reason of a refusal, or the text of a
// GOAWAY, has room for: at most MaxText bytes, cut between two runes. [PutRefused]
// and [PutGoAway] send that much of s and no more.
func CutText(s string) string {
	if len(s) <= MaxText {
		return s
	}
	// The rune that MaxText lies in, if it does in one, begins at most 3 bytes before.
	for n := MaxText; n > MaxText-utf8.UTFMax; n-- {
		if utf8.RuneStart(s[n]) {
			return s[:n]
		}
	}
	return s[:MaxText] // not UTF-8: no place is better than another
}

// Text returns a received reason or text, with U+FFFD for what is not UTF-8. The
// result does not alias b. It may hold any character, also such as steer a
// terminal: quote it where it is shown.
func Text(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }
