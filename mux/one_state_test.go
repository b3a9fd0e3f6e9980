package mux

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/wire"
)

// oneTable is the table of PROTOCOL.md, 2.6, word for word where a word will do. A word
// before a number is an effect, the number what it costs in tokens (2.13).
var oneTable = []struct {
	frame                                               string
	unopened, both, receiving, sending, closed, refused string
}{
	{"OPEN 1", "opens", "violation", "violation", "violation", "violation", "violation"},
	{`DATA ID "hello"`, "violation", "delivers", "delivers", "violation", "stray 1", "free"},
	{`DATA ID ""`, "violation", "nothing 1", "nothing 1", "violation", "stray 1", "stray 1"},
	{`DATA ID "hello" FIN`, "violation", "delivers, sending", "delivers, closed", "violation", "stray 1", "free"},
	{"FIN ID", "violation", "ends, sending", "ends, closed", "violation", "stray 1", "free"},
	{"WINDOW ID 1000000", "violation", "nothing", "nothing", "nothing", "crosses", "crosses"},
	{"WINDOW ID 5", "violation", "nothing 1", "nothing 1", "nothing 1", "crosses", "crosses"},
	{"RESET ID 300", "violation", "resets, sending", "resets, closed", "violation", "crosses", "crosses"},
	{`REFUSED 1 300 "no"`, "violation", "refuses, closed", "refuses, closed", "violation", "crosses", "malformed"},
	{"STOP ID 300", "violation", "answers, receiving", "nothing", "answers, closed", "crosses", "crosses"},
}

// A oneState is a state of a connection, and how to get there. ID in its frames is the
// connection's: YOURS 1, 1, or the like, as the direction and the opener have it.
type oneState struct {
	name   string
	column string // of the table
	ours   bool   // the session has opened the connection; else the peer
	listen bool   // in a Listener; else a Pipe
	id     int    // the connection's, if not 1
	cfg    Config
	enter  func(*oneTest, *oneState) *Conn // nil: the application has no connection

	stopped bool // STOP has been sent: what comes is discarded
	halted  bool // a STOP has come
	gap     bool // no connection had the ID, so nothing crosses its end
	queued  bool // nobody has accepted the connection
	read    error
	write   error // what calls return in this state; nil: they go on
}

// in returns line as the peer writes it, out as the session does.
func (st *oneState) in(line string) string  { return st.with(line, st.ours) }
func (st *oneState) out(line string) string { return st.with(line, !st.ours) }

func (st *oneState) with(line string, yours bool) string {
	id := max(st.id, 1)
	if yours {
		return strings.Replace(line, "ID", fmt.Sprintf("YOURS %d", id), 1)
	}
	return strings.Replace(line, "ID", fmt.Sprint(id), 1)
}

// oneStep is a step on the way to a state: what the application does, what the peer
// sends, and what the session sends for it.
type oneStep struct {
	do   func(*Conn)
	send string
	want []string
}

var (
	stepCloseWrite = oneStep{do: func(c *Conn) { c.CloseWrite() }, want: []string{"FIN ID"}}
	stepCloseRead  = oneStep{do: func(c *Conn) { c.CloseRead() }, want: []string{"STOP ID 9"}}
	stepClose      = oneStep{do: func(c *Conn) { c.Close() }, want: []string{"STOP ID 9", "FIN ID"}}
	stepCloseLast  = oneStep{do: func(c *Conn) { c.Close() }, want: []string{"FIN ID"}}
	stepResets     = oneStep{do: func(c *Conn) { c.Reset(77) }, want: []string{"STOP ID 77", "RESET ID 77"}}
	stepFin        = oneStep{send: "FIN ID"}
	stepReset      = oneStep{send: "RESET ID 301"}
	stepStop       = oneStep{send: "STOP ID 302", want: []string{"RESET ID 302"}}
	stepRefuse     = oneStep{send: `REFUSED 1 303 "busy"`}
	stepGoAway     = oneStep{send: "GOAWAY 0 0"}
)

// after returns st behind more steps.
func (st oneState) after(name, column string, steps ...oneStep) oneState {
	enter := st.enter
	st.name += ", " + name
	st.column = column
	for _, step := range steps {
		st.halted = st.halted || strings.HasPrefix(step.send, "STOP")
	}
	st.enter = func(tc *oneTest, st *oneState) *Conn {
		c := enter(tc, st)
		for _, step := range steps {
			if step.do != nil {
				step.do(c)
			}
			if step.send != "" {
				tc.send(st.in(step.send))
			}
			var want []string
			for _, w := range step.want {
				want = append(want, st.out(w))
			}
			tc.want(st.name, want...)
		}
		return c
	}
	return st
}

// fails returns st with what Read and Write say there.
func (st oneState) fails(read, write error) oneState {
	st.read, st.write = read, write
	return st
}

func (st oneState) stop() oneState { st.stopped = true; return st }

// oneConnStates are the states of a connection that the application has.
func oneConnStates(st oneState) []oneState {
	const both, receiving, sending, closed = "both", "receiving", "sending", "closed"
	reset, epipe, shut := syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed
	return []oneState{
		st,
		st.after("CloseRead", both, stepCloseRead).stop().fails(shut, nil),
		st.after("CloseWrite", receiving, stepCloseWrite).fails(nil, epipe),
		st.after("CloseRead, CloseWrite", receiving, stepCloseRead, stepCloseWrite).stop().fails(shut, epipe),
		st.after("Close", receiving, stepClose).stop().fails(shut, shut),
		st.after("Reset", receiving, stepResets).stop().fails(reset, reset),
		st.after("stopped by the peer", receiving, stepStop).fails(nil, epipe),
		st.after("ended by the peer", sending, stepFin).fails(io.EOF, nil),
		st.after("reset by the peer", sending, stepReset).fails(reset, nil),
		st.after("CloseRead, ended by the peer", sending, stepCloseRead, stepFin).stop().fails(shut, nil),
		st.after("CloseWrite, ended by the peer", closed, stepCloseWrite, stepFin).fails(io.EOF, epipe),
		st.after("ended by the peer, Close", closed, stepFin, stepCloseLast).fails(shut, shut),
		st.after("CloseWrite, reset by the peer", closed, stepCloseWrite, stepReset).fails(reset, epipe),
		st.after("Close, ended by the peer", closed, stepClose, stepFin).fails(shut, shut),
		st.after("Reset, reset by the peer", closed, stepResets, stepReset).fails(reset, reset),
		st.after("stopped and ended by the peer", closed, stepStop, stepFin).fails(io.EOF, epipe),
	}
}

func oneStates() (all []oneState) {
	nobody := func(*oneTest, *oneState) *Conn { return nil }
	opens := func(tc *oneTest, _ *oneState) *Conn { return tc.openIDs(1)[0] }
	accepts := func(tc *oneTest, _ *oneState) *Conn { return tc.acceptIDs(1)[0] }
	says := func(lines []string, answer ...string) func(*oneTest, *oneState) *Conn {
		return func(tc *oneTest, st *oneState) *Conn {
			tc.send(lines...)
			tc.want(st.name, answer...)
			return nil
		}
	}
	for _, listen := range []bool{true, false} {
		side := map[bool]string{true: "opened by a listener", false: "opened by a pipe"}[listen]
		all = append(all, oneState{name: "not " + side, column: "unopened", ours: true, listen: listen, enter: nobody})
		st := oneState{name: side, column: "both", ours: true, listen: listen, enter: opens}
		all = append(all, oneConnStates(st)...)
		all = append(all,
			st.after("refused by the peer", "closed", stepRefuse).fails(ErrRefused, ErrRefused),
			st.after("CloseWrite, refused by the peer", "closed", stepCloseWrite, stepRefuse).fails(ErrRefused, nil),
			st.after("not served behind a GOAWAY", "closed", stepGoAway).fails(ErrRefused, ErrRefused),
		)
	}
	all = append(all, oneConnStates(oneState{name: "accepted", column: "both", listen: true, enter: accepts})...)
	return append(all,
		oneState{name: "not opened by the peer", column: "unopened", listen: true, enter: nobody},
		oneState{name: "not opened by the peer of a pipe", column: "unopened", enter: nobody},
		oneState{name: "above the last ID", column: "refused", listen: true, id: 2,
			enter: func(tc *oneTest, _ *oneState) *Conn {
				tc.draining()
				tc.send("OPEN 2")
				return nil
			}},
		oneState{name: "not accepted", column: "both", listen: true, queued: true, enter: says([]string{"OPEN 1"})},
		oneState{name: "not accepted, ended by the peer", column: "sending", listen: true, queued: true, read: io.EOF,
			enter: says([]string{"OPEN 1", "FIN 1"})},
		oneState{name: "not accepted, stopped by the peer", column: "receiving", listen: true, queued: true, halted: true, write: syscall.EPIPE,
			enter: says([]string{"OPEN 1", "STOP 1 302"}, "RESET YOURS 1 302")},
		oneState{name: "not accepted, stopped and ended by the peer", column: "closed", listen: true, queued: true,
			read: io.EOF, write: syscall.EPIPE, enter: says([]string{"OPEN 1", "STOP 1 302", "FIN 1"}, "RESET YOURS 1 302")},
		oneState{name: "in a gap", column: "closed", gap: true, listen: true, id: 3, enter: says([]string{"OPEN 1", "OPEN 5"})},
		oneState{name: "refused by a pipe", column: "refused", enter: says([]string{"OPEN 1"}, "REFUSED 1 11 *")},
		oneState{name: "refused by a full backlog", column: "refused", listen: true, id: 3, cfg: Config{AcceptBacklog: 1},
			enter: says([]string{"OPEN 1", "OPEN 3"}, "REFUSED 3 5 *")},
		oneState{name: "refused by a full session", column: "refused", listen: true, id: 3, cfg: Config{MaxConns: 1, AcceptBacklog: 9},
			enter: says([]string{"OPEN 1", "OPEN 3"}, "REFUSED 3 4 *")},
		oneState{name: "refused by the application", column: "refused", listen: true,
			enter: func(tc *oneTest, _ *oneState) *Conn {
				tc.send("OPEN 1")
				tc.pending().Reject(300, "no")
				tc.want("Reject refuses", `REFUSED 1 300 "no"`)
				return nil
			}},
	)
}

// A oneCell is a cell of the table: in state st comes frame.
type oneCell struct {
	st     *oneState
	frame  string
	effect string // before the comma
	next   string // column; "": as before
	tokens int
}

// crossing returns what a frame but DATA for a closed connection costs: the first six
// are free, where there was one.
func (st *oneState) crossing() int {
	if st.gap {
		return 1
	}
	return 0
}

func (st *oneState) cells() (cells []oneCell) {
	for _, row := range oneTable {
		word := map[string]string{"unopened": row.unopened, "both": row.both, "receiving": row.receiving,
			"sending": row.sending, "closed": row.closed, "refused": row.refused}[st.column]
		cell := oneCell{st: st, frame: row.frame}
		word, cell.next, _ = strings.Cut(word, ", ")
		fmt.Sscanf(word, "%s %d", &cell.effect, &cell.tokens)
		switch {
		case strings.HasPrefix(row.frame, "OPEN") && st.ours:
			continue // names the other space
		case strings.HasPrefix(row.frame, "OPEN"):
			cell.frame = st.in("OPEN ID")
			if cell.effect == "opens" && !st.listen {
				cell.effect, cell.next, cell.tokens = "refused", "refused", 0
			} else if cell.effect == "opens" {
				cell.next = "both"
			}
		case strings.HasPrefix(row.frame, "REFUSED") && !st.ours:
			continue // can't be said: TestRefusedWithoutYoursIsMalformed
		}
		if cell.effect == "crosses" {
			cell.effect, cell.tokens = "stray", st.crossing()
		}
		if strings.HasPrefix(row.frame, "STOP") && st.column == "receiving" && st.halted {
			cell.tokens = 1 // it repeats one
		}
		if st.queued && cell.effect == "resets" {
			// 2.8: it is taken back from the queue, and the own half is reset as well.
			cell.effect, cell.next, cell.tokens = "taken", "closed", 4
		}
		cells = append(cells, cell)
	}
	return cells
}

// TestStateTable: each frame in each state does what PROTOCOL.md, 2.6, says: to the
// application, on the wire, to the bucket of tokens, and to the state.
func TestStateTable(t *testing.T) {
	for _, st := range oneStates() {
		t.Run(st.name, func(t *testing.T) {
			for _, cell := range st.cells() {
				t.Run(cell.frame, func(t *testing.T) {
					for name, check := range map[string]func(*oneTest, *Conn){
						"application": cell.application, "next DATA": cell.nextData, "next STOP": cell.nextStop,
					} {
						t.Run(name, func(t *testing.T) { cell.run(t, check) })
					}
				})
			}
		})
	}
}

// run takes a new session to the cell, sends the frame, and looks at what is sent for
// it. If the session lives, check goes on.
func (cell *oneCell) run(t *testing.T, check func(*oneTest, *Conn)) {
	t.Helper()
	st := cell.st
	oneRun(t, oneSetup{listen: st.listen, cfg: st.cfg}, func(tc *oneTest) {
		c := st.enter(tc, st)
		tc.pass(20 * time.Second) // the bucket is full then, and the standby reads
		tc.sendNow(st.in(cell.frame))
		switch cell.effect {
		case "violation":
			tc.wantEnd("a violation", cell.lastID(), CodeProtocol)
			cell.violated(tc, c)
			return
		case "opens":
			tc.wantNow("an OPEN is not answered")
			c = tc.accept(vtA)
			tc.pass(20 * time.Second)
		case "refused":
			tc.wantNow("a Pipe takes no OPEN", "REFUSED 1 11 *")
		case "answers":
			tc.wantNow("STOP is answered with RESET at once", st.out("RESET ID 300"))
		case "taken":
			if st.column == "both" {
				tc.wantNow("a connection that is taken back is reset", st.out("RESET ID 300"))
			}
			tc.wantNow("its own half had ended before")
		default:
			tc.wantNow("no answer")
		}
		tc.wantAlive("no violation")
		check(tc, c)
	})
}

// lastID is the highest ID that the peer has opened.
func (cell *oneCell) lastID() wire.ID {
	switch st := cell.st; {
	case st.ours || st.column == "unopened":
		return 0
	case st.name == "in a gap":
		return 5
	case st.name == "above the last ID":
		return 1
	default:
		return wire.ID(max(st.id, 1))
	}
}

// violated looks at the connection's calls behind a violation.
func (cell *oneCell) violated(tc *oneTest, c *Conn) {
	tc.t.Helper()
	if c == nil {
		return
	}
	ended := func(call string, got, before error) {
		tc.t.Helper()
		if before == nil {
			before = ErrProtocol
		}
		if before == io.EOF {
			before = errCleanEnd
		}
		tc.wantErrIs(call+" behind a violation", got, before)
	}
	ended("Read", tc.readErr(c), cell.st.read)
	if cell.st.column != "closed" || cell.st.write != nil {
		ended("Write", writeErr(c), cell.st.write)
	}
}

func (tc *oneTest) wantErrIs(what string, err, target error) {
	tc.t.Helper()
	wantErrAs(tc.t, fmt.Sprintf("%s, want %v", what, target), err, func(err error) bool {
		return err == target || errorsIs(err, target)
	})
}

// application looks at what the application sees of the frame.
func (cell *oneCell) application(tc *oneTest, c *Conn) {
	tc.t.Helper()
	st := cell.st
	if cell.effect == "taken" {
		tc.wantNoAccept("a connection that its opener has reset")
		return
	}
	if st.queued {
		c = tc.accept(vtA)
	}
	if c == nil {
		return
	}
	text, read, write := "", st.read, st.write
	switch cell.effect {
	case "delivers":
		text = "hello"
	case "resets":
		read = syscall.ECONNRESET
	case "refuses":
		read = ErrRefused
		if write == nil {
			write = ErrRefused
		}
	case "answers":
		write = syscall.EPIPE
	}
	if strings.Contains(cell.frame, "FIN") && (cell.effect == "delivers" || cell.effect == "ends") {
		read = io.EOF
	}
	if st.stopped {
		text, read = "", st.read
	}
	tc.wantRead("what came", c, text, read)
	if st.column == "closed" && st.write == nil {
		return // CloseWrite and REFUSED: which of the two Write tells is left open
	}
	if err := writeErr(c); write == nil && err != nil || write != nil && !errorsIs(err, write) {
		tc.t.Fatalf("Write: %v, want %v", err, write)
	}
	if write == nil {
		tc.want("the own half goes on", st.out(`DATA ID "w"`))
	}
}

// column returns where the connection is after the frame.
func (cell *oneCell) column() string {
	if cell.next == "" {
		return cell.st.column
	}
	return cell.next
}

// nextData sends DATA behind the frame, and tells by what it does and costs which
// state the frame has led to.
func (cell *oneCell) nextData(tc *oneTest, _ *Conn) {
	tc.t.Helper()
	tokens := cell.tokens
	probe := cell.st.in(`DATA ID "probe"`)
	switch cell.column() {
	case "unopened", "sending":
		tc.sendNow(probe)
		last := cell.lastID()
		if cell.effect == "opens" {
			last = 1
		}
		tc.wantEnd("DATA behind the end", last, CodeProtocol)
		return
	case "closed":
		tokens++
	}
	tc.sendNow(probe)
	tc.wantNow("DATA has no answer")
	tc.wantTokens(cell.column()+" takes DATA", 1000-tokens)
}

// nextStop is nextData with STOP.
func (cell *oneCell) nextStop(tc *oneTest, _ *Conn) {
	tc.t.Helper()
	tokens := cell.tokens
	probe := cell.st.in("STOP ID 304")
	switch cell.column() {
	case "unopened":
		return
	case "both", "sending":
		tc.sendNow(probe)
		tc.wantNow("STOP of an open half", cell.st.out("RESET ID 304"))
	default:
		switch {
		case cell.column() != "receiving":
			tokens += cell.st.crossing()
		case cell.st.halted || strings.HasPrefix(cell.frame, "STOP"):
			tokens++ // it repeats one
		}
		tc.sendNow(probe)
		tc.wantNow("STOP of a half that has ended, of a closed connection")
	}
	tc.wantTokens(cell.column()+" takes STOP", 1000-tokens)
}

// wantTokens fails the test unless the bucket holds exactly n tokens. The session is
// over then.
func (tc *oneTest) wantTokens(sentence string, n int) {
	tc.t.Helper()
	one := oneEncode(`UNKNOWN 200 0 ""`)
	tc.sendRaw([]byte(strings.Repeat(string(one), n)))
	tc.wantNow(sentence)
	tc.wantAlive(fmt.Sprintf("%s: the bucket holds less than %d tokens", sentence, n))
	tc.sendRaw(one)
	synctest.Wait()
	tc.settle()
	if err := tc.p.Err(); !isProtocolError(err, CodeCalm) {
		tc.t.Fatalf("%s: the bucket holds more than %d tokens: %v", sentence, n, err)
	}
}

// TestRefusedWithoutYoursIsMalformed: only what the receiver has opened can be refused.
func TestRefusedWithoutYoursIsMalformed(t *testing.T) {
	b := oneEncode(`REFUSED 1 300 "no"`)
	b[1] &^= byte(wire.FlagYours)
	for _, st := range oneStates() {
		if st.ours {
			continue
		}
		t.Run(st.name, func(t *testing.T) {
			oneRun(t, oneSetup{listen: st.listen, cfg: st.cfg}, func(tc *oneTest) {
				st.enter(tc, &st)
				tc.sendRaw(b)
				cell := oneCell{st: &st}
				tc.wantEnd("malformed", cell.lastID(), CodeProtocol)
			})
		})
	}
}

// TestTheTwoSpacesAreApart: the same number names two connections, one of each end,
// and what happens to one leaves the other alone.
func TestTheTwoSpacesAreApart(t *testing.T) {
	oneRun(t, oneListener, func(tc *oneTest) {
		ours := tc.openIDs(1)[0]
		theirs := tc.acceptIDs(1)[0]
		tc.send(`DATA 1 "to theirs"`, `DATA YOURS 1 "to ours"`)
		tc.wantRead("ours", ours, "to ours", nil)
		tc.wantRead("theirs", theirs, "to theirs", nil)
		tc.write(ours, "from ours")
		tc.write(theirs, "from theirs")
		tc.want("each by its own name", `DATA 1 "from ours"`, `DATA YOURS 1 "from theirs"`)
		tc.send("RESET YOURS 1 300", "STOP YOURS 1 300")
		tc.want("ours is given up", "RESET 1 300")
		tc.send(`DATA 1 "more"`, "FIN 1")
		tc.wantRead("theirs", theirs, "more", io.EOF)
		tc.write(theirs, "on")
		tc.want("theirs goes on", `DATA YOURS 1 "on"`)
		tc.wantAlive("all that was allowed")
	})
}

// TestIDsRise: an ID is above all earlier ones, gaps are allowed, and no Accept in
// between matters.
func TestIDsRise(t *testing.T) {
	for _, ids := range [][]uint32{{1, 1}, {5, 4}, {5, 5}, {7, 1}, {1<<32 - 1, 1}, {1<<32 - 1, 1<<32 - 1}} {
		t.Run(fmt.Sprint(ids), func(t *testing.T) {
			oneRun(t, oneListener, func(tc *oneTest) {
				tc.send(fmt.Sprintf("OPEN %d", ids[0]))
				tc.accept(vtA)
				tc.wantAlive("a gap")
				tc.send(fmt.Sprintf("OPEN %d", ids[1]))
				tc.wantEnd("an ID that does not rise", wire.ID(ids[0]), CodeProtocol)
			})
		})
	}
}

// TestStateTableIsThatOfTheDocument: row by row, cell by cell.
func TestStateTableIsThatOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "| frame | unopened | both | receiving | sending | closed | refused |\n|---|---|---|---|---|---|---|\n")
	if !ok {
		t.Fatal("PROTOCOL.md has no such table")
	}
	table, _, _ := strings.Cut(rest, "\n\n")
	frames := map[string]string{"OPEN": "OPEN 1", "DATA": `DATA ID "hello"`, "DATA with FIN": `DATA ID "hello" FIN`, "WINDOW": "WINDOW ID 1000000",
		"RESET": "RESET ID 300", "RESET with REFUSED": `REFUSED 1 300 "no"`, "STOP": "STOP ID 300"}
	// What the document calls otherwise.
	words := map[string]string{"crosses": "stray", "nothing": "no effect", "resets, sending": "sending", "resets, closed": "closed", "refuses, closed": "closed"}
	lines := strings.Split(table, "\n")
	if len(lines) != len(frames) {
		t.Errorf("%d rows in the document, want %d", len(lines), len(frames))
	}
	for _, line := range lines {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		found := false
		for _, row := range oneTable {
			if row.frame != frames[cells[0]] {
				continue
			}
			found = true
			for i, word := range []string{row.unopened, row.both, row.receiving, row.sending, row.closed, row.refused} {
				word, _, _ = strings.Cut(word, " 1")
				doc, _, _ := strings.Cut(strings.ReplaceAll(cells[i+1], ", then ", ", "), ":")
				if w := words[word]; word != doc && w != doc && !(word == "nothing" && doc == "raises") {
					t.Errorf("%s, column %d: the document says %q, the table %q", cells[0], i+1, cells[i+1], word)
				}
			}
		}
		if !found {
			t.Errorf("the table lacks %s", cells[0])
		}
	}
}

// TestStateTableHasNoEmptyCell: each column is there for the connections of both ends, in
// both kinds of session, and each state is held against each frame that can be said.
func TestStateTableHasNoEmptyCell(t *testing.T) {
	type place struct {
		column       string
		ours, listen bool
	}
	have := map[place]bool{}
	for _, st := range oneStates() {
		have[place{st.column, st.ours, st.listen}] = true
		cells := st.cells()
		if len(cells) != len(oneTable)-1 {
			t.Errorf("%s: %d frames, want all but one of %d", st.name, len(cells), len(oneTable))
		}
		for _, cell := range cells {
			if cell.effect == "" {
				t.Errorf("%s: %s has no effect", st.name, cell.frame)
			}
		}
	}
	for _, column := range []string{"unopened", "both", "receiving", "sending", "closed", "refused"} {
		for _, ours := range []bool{true, false} {
			for _, listen := range []bool{true, false} {
				switch {
				case ours && column == "refused": // only what the peer has opened is refused here
				case !ours && !listen && column != "unopened" && column != "refused": // a Pipe refuses
				case !have[place{column, ours, listen}]:
					t.Errorf("no state is %s; opened by us: %v, in a Listener: %v", column, ours, listen)
				}
			}
		}
	}
}

// TestOwedTimesFrame: what the application has done is owed and not sent yet, for the
// transport takes nothing. A frame that comes then may make some of it void: what is sent
// in the end is held against every cell.
func TestOwedTimesFrame(t *testing.T) {
	frames := []string{`DATA ID "hi"`, "WINDOW ID 1000000", "FIN ID", "RESET ID 300", "STOP ID 300", `REFUSED 1 303 "busy"`}
	for _, row := range []struct {
		name string
		do   func(*Conn)
		want [6][]string // for each frame
	}{
		{"nothing", func(*Conn) {}, [6][]string{nil, nil, nil, nil, {"RESET ID 300"}, nil}},
		{"CloseWrite", func(c *Conn) { c.CloseWrite() },
			[6][]string{{"FIN ID"}, {"FIN ID"}, {"FIN ID"}, {"FIN ID"}, {"RESET ID 300"}, nil}},
		{"CloseRead", func(c *Conn) { c.CloseRead() },
			[6][]string{{"STOP ID 9"}, {"STOP ID 9"}, nil, nil, {"STOP ID 9", "RESET ID 300"}, nil}},
		{"Close", func(c *Conn) { c.c.wrote(); c.Close() },
			[6][]string{{"STOP ID 9", "FIN ID"}, {"STOP ID 9", "FIN ID"}, {"FIN ID"}, {"FIN ID"}, {"STOP ID 9", "RESET ID 300"}, nil}},
		{"Close that can wait", func(c *Conn) { c.Close() }, // it is staged, so it crosses whatever comes
			[6][]string{{"STOP ID 9", "FIN ID"}, {"STOP ID 9", "FIN ID"}, {"STOP ID 9", "FIN ID"}, {"STOP ID 9", "FIN ID"}, {"STOP ID 9", "FIN ID"}, {"STOP ID 9", "FIN ID"}}},
		{"Reset", func(c *Conn) { c.Reset(77) },
			[6][]string{{"STOP ID 77", "RESET ID 77"}, {"STOP ID 77", "RESET ID 77"}, {"RESET ID 77"}, {"RESET ID 77"}, {"STOP ID 77", "RESET ID 77"}, nil}},
	} {
		for i, frame := range frames {
			for _, ours := range []bool{true, false} {
				if !ours && (strings.HasPrefix(frame, "REFUSED") || row.name == "Close that can wait") {
					continue // can't be said, and can't wait
				}
				st := oneState{ours: ours}
				t.Run(fmt.Sprintf("%s/%s/ours %v", row.name, frame, ours), func(t *testing.T) {
					oneRun(t, oneSetup{listen: !ours}, func(tc *oneTest) {
						var cs []*Conn
						busy := `DATA YOURS 2 "busy"`
						if ours {
							cs, busy = tc.openIDs(2), `DATA 2 "busy"`
						} else {
							cs = tc.acceptIDs(2)
						}
						tc.deaf(true)
						w := tc.startWrite(cs[1], "busy")
						row.do(cs[0])
						tc.sendNow(st.in(frame))
						tc.deaf(false)
						want := []string{busy}
						for _, l := range row.want[i] {
							want = append(want, st.out(l))
						}
						tc.want("what is owed still", want...)
						w.want("the Write before", 4, nil)
						tc.wantAlive("no violation")
					})
				})
			}
		}
	}
}
