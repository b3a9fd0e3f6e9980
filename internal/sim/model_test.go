package sim

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A script is what two ends say, a frame a line: "A", "B" or, for what both have heard all
// of, "rest", and the frame in hex, spaces and all.
type script string

// breaches plays a script to a model.
func (s script) breaches(t *testing.T, vt bool) []string {
	m := NewModel(vt)
	var now time.Duration
	m.Now = func() time.Duration { return now }
	m.Content = func(_ *Circuit, _ int, _ uint64, p []byte) bool { return !strings.Contains(string(p), "!") }
	m.Read = func(*Circuit, int) uint64 { return 0 }
	m.Opened = func(*Circuit) {}
	m.MaxWindow = [2]uint64{200_000, 200_000}
	said := [2]int{}
	for line := range strings.Lines(string(s)) {
		who, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch who {
		case "":
		case "wait":
			now += answerWithin
		case "rest":
			for i := range 2 {
				m.Hear(i, said[1-i])
				said[1-i] = 0
			}
			m.Settle(0)
			m.Settle(1)
		default:
			b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			from := int(who[0] - 'A')
			for i := range b { // byte by byte, which makes no difference
				m.Say(from, b[i:i+1])
			}
			said[from] += len(b)
		}
	}
	return m.Breaches
}

const prefaces = `
	A 00000000000000000000000000000000 0000 0018 7674 6d75 780a 0001 00010000 00010000 ffff 0000 00003a98
	B 00000000000000000000000000000000 0000 0018 7674 6d75 780a 0001 00010000 00010000 4000 0000 00003a98
	rest
	`

const opened = prefaces + `A 01 00 0012 00000001 00000000000000000000ffffc0000201 1f90
	rest
	`

func TestModelKnowsWhatIsAllowed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script script
		breach string // that the model must find; "" none
	}{
		{"data and ends", opened + "A 02 02 0002 00000001 6869\nB 02 03 0001 00000001 78\nrest", ""},
		{"no preface", "A 01 00 0012 00000001 00000000000000000000ffffc0000201 1f90", "no preface first"},
		{"a malformed header", opened + "A 02 08 0001 00000001 78", "out of form"},
		{"an unknown type", opened + "A 09 00 0001 00000001 78", "out of form"},
		{"an OPEN that skips an ID", opened + "A 01 00 0012 00000003 00000000000000000000ffffc0000201 1f90", "OPEN 3 behind OPEN 1"},
		{"DATA before the OPEN is heard", prefaces + "A 01 00 0012 00000001 00000000000000000000ffffc0000201 1f90\nB 02 01 0001 00000001 78", "can't know"},
		{"DATA behind FIN", opened + "A 02 02 0000 00000001\nA 02 00 0001 00000001 78", "has ended"},
		{"RESET behind FIN", opened + "A 02 02 0000 00000001\nA 04 00 0004 00000001 00000009", "has ended"},
		{"an empty DATA", opened + "A 02 00 0000 00000001", "empty DATA"},
		{"bytes that were not written", opened + "A 02 00 0001 00000001 21", "not written there"},
		{"a payload above the most", opened + script("A 02 00 4001 00000001"), "a payload of 16385"},
		{"DATA up to the limit", opened + script(dataOf(65_536)), ""},
		{"DATA beyond the limit", opened + script(dataOf(65_537)), "beyond the limit"},
		{"DATA within a WINDOW", opened + "B 03 01 0008 00000001 0000000000010001\nrest\n" + script(dataOf(65_537)), ""},
		{"DATA before the WINDOW is heard", opened + "B 03 01 0008 00000001 0000000000010001\n" + script(dataOf(65_537)), "beyond the limit"},
		{"a WINDOW that raises nothing", opened + "B 03 01 0008 00000001 0000000000010000", "with 65536 granted"},
		{"a WINDOW of too much", opened + "B 03 01 0008 00000001 0000000000030d41", "0 bytes have been read"},
		{"a WINDOW behind STOP", opened + "B 05 01 0004 00000001 00000009\nB 03 01 0008 00000001 0000000000010001", "behind STOP"},
		{"a WINDOW behind the peer's FIN", opened + "A 02 02 0000 00000001\nrest\nB 03 01 0008 00000001 0000000000010001", "ended its half"},
		{"a WINDOW that crosses a FIN", opened + "A 02 02 0000 00000001\nB 03 01 0008 00000001 0000000000010001\nrest", ""},
		{"a STOP that is answered", opened + "B 05 01 0004 00000001 00000009\nA 04 00 0004 00000001 00000009\nrest", ""},
		{"a STOP that is not, a moment later", opened + "B 05 01 0004 00000001 00000009\nrest\nwait\nrest", "waits for its answer"},
		{"an opener's STOP that is not", opened + "A 05 00 0004 00000001 00000009\nrest", "waits for its answer"},
		{"a STOP with a FIN", opened + "A 05 00 0004 00000001 00000009\nA 02 02 0000 00000001\nrest", ""},
		{"a STOP with a FIN, a moment later", opened + "A 05 00 0004 00000001 00000009\nA 02 02 0000 00000001\nrest\nwait\nrest", "waits for its answer"},
		{"a second STOP", opened + "B 05 01 0004 00000001 00000009\nB 05 01 0004 00000001 00000009", "a second STOP"},
		{"a STOP behind its RESET", opened + "A 04 00 0004 00000001 00000009\nA 05 00 0004 00000001 00000009", "behind the RESET"},
		{"a refusal", opened + "B 04 05 0004 00000001 00000005\nA 02 00 0001 00000001 78\nrest", ""},
		{"a refusal behind a word", opened + "B 02 01 0001 00000001 78\nB 04 05 0004 00000001 00000005", "on which it has spoken"},
		{"a word behind a refusal", opened + "B 04 05 0004 00000001 00000005\nB 02 01 0001 00000001 78", "which is refused"},
		{"a word behind a refusal that was heard", opened + "B 04 05 0004 00000001 00000005\nrest\nA 02 00 0001 00000001 78", "which is refused"},
		{"a Close behind a refusal that was heard a moment ago", opened + "B 04 05 0004 00000001 00000005\nrest\nA 05 00 0004 00000001 00000009\nA 02 02 0000 00000001", ""},
		{"a FIN behind a refusal", opened + "B 04 05 0004 00000001 00000005\nrest\nwait\nrest\nA 02 02 0000 00000001", "which is refused"},
		{"a STOP behind a refusal", opened + "B 04 05 0004 00000001 00000005\nrest\nwait\nrest\nA 05 00 0004 00000001 00000009", "which is refused"},
		{"a Close behind a FIN that was heard a moment ago", opened + "B 02 03 0000 00000001\nrest\nA 05 00 0004 00000001 00000009\nA 02 02 0000 00000001", ""},
		{"a STOP behind a FIN", opened + "B 02 03 0000 00000001\nrest\nwait\nrest\nA 05 00 0004 00000001 00000009", "whose peer has ended its half"},
		{"the acceptor's STOP behind a FIN", opened + "A 02 02 0000 00000001\nrest\nB 05 01 0004 00000001 00000009", "whose peer has ended its half"},
		{"a PING and its ACK", opened + "A 06 00 0008 00000000 0000000000000001\nrest", "a PING waits"},
		{"an ACK of nothing", opened + "A 06 08 0008 00000000 0000000000000001", "answers nothing"},
		{"two PINGs", opened + "A 06 00 0008 00000000 0000000000000001\nA 06 00 0008 00000000 0000000000000002", "a second PING"},
		{"a GOAWAY whose last ID rises", opened + "B 07 00 0008 00000000 00000001 00000000\nB 07 00 0008 00000000 ffffffff 00000000", "rises"},
		{"a GOAWAY of what was not heard", opened + "B 07 00 0008 00000000 00000002 00000000", "the highest heard is 1"},
		{"a GOAWAY to an honest peer", opened + "B 07 00 0008 00000000 00000001 00000002", "to an honest peer"},
		{"something behind the last GOAWAY", opened + "B 07 00 0008 00000000 00000001 00000009\nB 02 03 0000 00000001", "behind its last GOAWAY"},
		{"an OPEN behind a GOAWAY", opened + "B 07 00 0008 00000000 ffffffff 00000000\nrest\nA 01 00 0012 00000002 00000000000000000000ffffc0000201 1f90", "behind the peer's GOAWAY"},
		{"an OPEN that crosses a GOAWAY", opened + "B 07 00 0008 00000000 ffffffff 00000000\nA 01 00 0012 00000002 00000000000000000000ffffc0000201 1f90\nrest", ""},
		{"an OPEN behind the own GOAWAY", opened + "A 07 00 0008 00000000 ffffffff 00000000\nA 01 00 0012 00000002 00000000000000000000ffffc0000201 1f90", "behind its own GOAWAY"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantBreach(t, tt.script.breaches(t, false), tt.breach) })
	}
}

func wantBreach(t *testing.T, got []string, want string) {
	t.Helper()
	if all := strings.Join(got, "\n"); want == "" && all != "" || !strings.Contains(all, want) {
		t.Errorf("found %q, want %q", all, want)
	}
}

// dataOf are DATA of n bytes in all.
func dataOf(n int) string {
	var b strings.Builder
	for n > 0 {
		m := min(n, 16_384)
		fmt.Fprintf(&b, "A 02 00 %04x 00000001 %s\n", m, strings.Repeat("78", m))
		n -= m
	}
	return b.String()
}

func TestModelKnowsTheVTProtocol(t *testing.T) {
	const (
		open = "A 00000000000000000000ffffc0000201 1f90 0000\nrest\n"
		end  = "00000000000000000000ffffc0000201 1f90 0000\n"
		data = "00000000000000000000ffffc0000201 1f90 0001 78\n"
	)
	for _, tt := range []struct {
		name   string
		script script
		breach string
	}{
		{"open, data, ends, and again", open + "A " + data + "A " + end + "B " + data + "B " + end + "rest\n" + open + "A " + data, ""},
		{"data without an open", "A " + data, "ended or never opened"},
		{"data behind the end", open + "A " + end + "A " + data, "ended or never opened"},
		{"a second end", open + "A " + end + "A " + end, "a second END"},
		{"opens that cross", "A " + end + "B " + end + "rest", "misread"},
		{"a preface that is dropped", "A 00000000000000000000000000000000 0000 0001 78\n" + open, ""},
		{"a preface later", open + "A 00000000000000000000000000000000 0000 0001 78\n", "ended or never opened"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantBreach(t, tt.script.breaches(t, true), tt.breach) })
	}
}
