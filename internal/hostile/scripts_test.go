package hostile

import (
	"bytes"
)

// The attacks, a session each.

// repeat sends the same frame.
func repeat(f []byte) func(*link) {
	return func(l *link) {
		for l.more() {
			l.put(1, f)
		}
	}
}

// onOne opens connection 1 and sends the same frame.
func onOne(f []byte) func(*link) {
	return func(l *link) {
		l.put(1, open(1))
		repeat(f)(l)
	}
}

func rapidReset(l *link) {
	for id := uint32(1); l.more(); id++ {
		l.put(2, open(id), reset(id))
	}
}

// stopReset makes the victim give up its half of each connection, and gives up the other.
func stopReset(l *link) {
	for id := uint32(1); l.more(); id++ {
		l.put(3, open(id), stop(id), reset(id))
	}
}

func openFlood(l *link) {
	for id := uint32(1); l.more(); id++ {
		l.put(1, open(id))
	}
}

// openAll opens what is allowed, and is silent then.
func openAll(l *link) {
	for id := range uint32(maxConns) {
		l.put(1, open(id+1))
		if id%(backlog/2) == 0 {
			l.roundTrip() // let the application accept some
		}
	}
}

func openLoaded(l *link) {
	metadata := bytes.Repeat([]byte("m"), 1024)
	for id := range uint32(backlog) {
		l.put(1, open(id+1, metadata...))
	}
}

// dribble fills the windows of some connections with one byte a frame.
func dribble(l *link) {
	for id := range uint32(l.a.budget.Frames / window) {
		l.put(1, open(id+1))
		f := data(id+1, 'd')
		for range window {
			l.put(1, f)
		}
	}
}

// pinSlabs sends the unread connections pieces that the victim does not copy, and fills the rest of each slab that it
// reads into with frames that are soon forgotten.
func pinSlabs(l *link) {
	const piece, slab = 16 << 10, 64 << 10
	held, filler := bytes.Repeat([]byte("h"), piece), make([]byte, slab-piece-100)
	sent, id := window, uint32(0)
	for range maxConns * window / piece {
		if sent == window {
			sent = 0
			id++
			l.put(1, open(id))
			l.roundTrip()
		}
		l.put(1, data(id, held...))
		sent += piece
		// A frame of a type that does not exist. It costs a token, which the payload has earned.
		l.put(1, frame(200, 0, 0, filler...))
	}
}

// askMuch fills the windows of all connections of an application that sends everything back.
func askMuch(l *link) {
	payload := bytes.Repeat([]byte("e"), 1<<10)
	for id := range uint32(maxConns) {
		l.put(1, open(id+1))
		for range window / len(payload) {
			l.put(1, data(id+1, payload...))
		}
	}
}

// growWindows lets the victim raise the window of one connection after the other, and then fills it.
func growWindows(l *link) {
	const piece = 8 << 10
	payload := make([]byte, piece)
	for id := range uint32(grown) {
		l.put(1, open(id+1))
		l.limit.Store(window)
		for sent := int64(0); ; sent += piece {
			for sent+piece > l.limit.Load() && sent < greed {
				if !l.await(&l.windows, l.windows.Load()+1) {
					return
				}
			}
			if sent+piece > l.limit.Load() {
				break // it has read all that it will
			}
			l.put(1, data(id+1, payload...))
		}
	}
}

// answered sends frames that the victim answers.
func answered(l *link) {
	for id := uint32(1); l.more(); id++ {
		l.put(4, open(id), stop(id), ping(uint64(id)), fin(id))
	}
}

// lie announces more than comes.
func lie(l *link) {
	l.put(2, open(1), header(typeData, 0, 1, 65535), bytes.Repeat([]byte("l"), 100))
}

func closedIDs(l *link) {
	l.put(2, open(9), reset(9))
	f := frame(typeData, 0, 4, bytes.Repeat([]byte("c"), 100)...)
	for l.more() {
		l.put(2, f, window64(4, 1<<20))
	}
}

func unknownTypes(l *link) {
	for i := 0; l.more(); i++ {
		n := []int{0, 1, 8, 300}[i%4]
		l.put(1, frame(byte(8+i%248), byte(i), uint32(i), make([]byte, n)...))
	}
}

// churn opens connections and ends them, and waits for the victim to end them, as honest peers do.
func churn(l *link) {
	for id := uint32(1); l.more(); id++ {
		l.put(2, open(id), fin(id))
		if id%(backlog/2) == 0 && !l.await(&l.ends, int64(id)) {
			return
		}
	}
}

func silent(*link) {}

// speakHTTP says something else than it should.
func speakHTTP(l *link) {
	request := []byte("GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: none\r\nAccept: */*\r\n\r\n")
	if !l.a.attack.again {
		for l.more() {
			l.put(1, request)
		}
		return
	}
	l.put(1, request)
}

// stopWriters lets the application write, and goes.
func stopWriters(l *link) {
	const some = 16
	for id := uint32(1); l.more(); id += some {
		for i := range uint32(some) {
			l.put(1, open(id+i))
		}
		if !l.await(&l.talks, int64(id)+some-1) {
			return
		}
		for i := range uint32(some) {
			l.put(2, stop(id+i), reset(id+i))
		}
		if !l.await(&l.ends, int64(id)+some-1) {
			return
		}
	}
}

// rapidCross ends each address twice, which the vt-muxer protocol takes for opens that crossed: then it is free, whatever
// the application does.
func rapidCross(l *link) {
	for i := uint32(1); l.more(); i++ {
		l.put(3, vt(i), vt(i), vt(i))
	}
}

func vtOpenFlood(l *link) {
	for i := uint32(1); l.more(); i++ {
		l.put(1, vt(i))
	}
}

func vtOpenAll(l *link) {
	for i := range uint32(maxConns) {
		l.put(1, vt(i))
	}
}

// vtDribble sends more than the victim is to hold, which stops reading.
func vtDribble(l *link) {
	l.put(1, vt(1))
	f := vt(1, 'd')
	for l.more() {
		l.put(1, f)
	}
}

func vtAskMuch(l *link) {
	l.put(1, vt(1))
	f := vt(1, bytes.Repeat([]byte("e"), 1<<10)...)
	for l.more() {
		l.put(1, f)
	}
}

func vtLie(l *link) { l.put(2, vt(1), vtHeader(1, 65535), bytes.Repeat([]byte("l"), 100)) }

func vtUnknown(l *link) {
	f := vt(1<<30, bytes.Repeat([]byte("u"), 100)...)
	for l.more() {
		l.put(1, f)
	}
}

func vtChurn(l *link) {
	for i := uint32(1); l.more(); i++ {
		l.put(2, vt(i), vt(i))
		if i%(maxConns/2) == 0 && !l.await(&l.ends, int64(i)) {
			return
		}
	}
}

// A violation is what ends a session at once.
type breach struct {
	name   string
	code   int
	frames [][]byte
}

var violations = []breach{
	{"WINDOW of 2^63", 3, [][]byte{open(1), window64(1, 1<<63)}},
	{"WINDOW of all", 3, [][]byte{open(1), window64(1, 1<<64-1)}},
	{"WINDOW for ID 0", 2, [][]byte{window64(0, 1)}},
	{"WINDOW for an ID not opened", 2, [][]byte{open(1), window64(2, 1<<20)}},
	{"DATA behind FIN", 2, [][]byte{open(1), fin(1), data(1, 'x')}},
	{"RESET behind FIN", 2, [][]byte{open(1), fin(1), reset(1)}},
	{"OPEN twice", 2, [][]byte{open(1), open(1)}},
	{"OPEN backwards", 2, [][]byte{open(5), open(3)}},
	{"OPEN of ID 0", 2, [][]byte{open(0)}},
	{"OPEN of the receiver's ID", 2, [][]byte{frame(typeOpen, flagYours, 1, address(1)...)}},
	{"OPEN too short", 2, [][]byte{frame(typeOpen, 0, 1, address(1)[:17]...)}},
	{"OPEN with too much metadata", 2, [][]byte{frame(typeOpen, 0, 1, make([]byte, 18+1025)...)}},
	{"OPEN behind the last ID", 2, [][]byte{open(1<<32 - 1), open(1)}},
	{"DATA for an ID not opened", 2, [][]byte{data(1, 'x')}},
	{"DATA for the receiver's ID", 2, [][]byte{frame(typeData, flagYours, 1, 'x')}},
	{"DATA beyond the window", 3, [][]byte{open(1), data(1, make([]byte, 65535)...), data(1, 'x', 'x')}},
	{"DATA beyond the window, at its header", 3, [][]byte{open(1), data(1, make([]byte, 65535)...), header(typeData, 0, 1, 65535)}},
	{"DATA with an unknown flag", 2, [][]byte{open(1), frame(typeData, 0x10, 1, 'x')}},
	{"RESET without code", 2, [][]byte{open(1), frame(typeReset, 0, 1)}},
	{"RESET refusing an own ID", 2, [][]byte{open(1), frame(typeReset, flagRefused, 1, u32(9)...)}},
	{"STOP for an ID not opened", 2, [][]byte{stop(1)}},
	{"PING of 65,535 bytes", 2, [][]byte{header(typePing, 0, 0, 65535)}},
	{"PING of a connection", 2, [][]byte{frame(typePing, 0, 1, u64(1)...)}},
	{"GOAWAY that rises", 2, [][]byte{goAway(1, 0), goAway(2, 0)}},
	{"GOAWAY too short", 2, [][]byte{frame(typeGoAway, 0, 0, u32(1)...)}},
	{"a second preface", 2, [][]byte{preface}},
	{"zeros", 2, [][]byte{make([]byte, 8)}},
}

func violate(l *link) {
	b := violations[l.index%len(violations)]
	l.put(len(b.frames), b.frames...)
	l.flush()
	l.waitEnd()
	if got := int(l.code.Load()); got != b.code {
		l.a.amiss("%s: GOAWAY with code %d, want %d", b.name, got, b.code)
	}
}

// badPrefaces are what no protocol 1 begins with, though it looks so.
var badPrefaces = [][]byte{
	settings("VTMUX\n", 1, window, 128, 65535),
	settings("vtmux\n", 0, window, 128, 65535),
	settings("vtmux\n", 1, window-1, 128, 65535),
	settings("vtmux\n", 1, 0, 128, 65535),
	settings("vtmux\n", 1, window, 127, 65535),
	settings("vtmux\n", 1, window, 0, 65535),
	settings("vtmux\n", 1, window, 128, 16383),
	settings("vtmux\n", 1, window, 128, 0),
	append(make([]byte, 18), 0, 23),
	append(make([]byte, 18), 4, 1),
	append(make([]byte, 18), 255, 255),
}

func badPreface(l *link) { l.put(1, badPrefaces[l.index%len(badPrefaces)]) }
