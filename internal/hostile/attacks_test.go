package hostile

import (
	"time"

	"github.com/vtmux/vtmux/mux"
)

// Limits of the victim, small enough that a bound means something.
const (
	maxConns  = 128 // the least that a peer can be told
	backlog   = 64
	window    = 64 << 10
	maxWindow = 256 << 10
	grown     = 32 // connections whose windows an attacker lets grow
)

// limits are what a victim is configured with, where its row does not say otherwise. A vt-muxer victim has the backlog
// that is the default there, MaxConns.
func limits(vt bool) mux.Config {
	c := mux.Config{MaxConns: maxConns, AcceptBacklog: backlog, InitialWindow: window, MaxWindow: maxWindow}
	if vt {
		c.AcceptBacklog = 0
	}
	return c
}

// impatient makes a victim notice soon that its peer is dead.
func impatient(c *mux.Config) {
	c.KeepAliveInterval, c.KeepAliveTimeout = 250*time.Millisecond, 250*time.Millisecond
}

// strict lets a victim speak protocol 1 alone.
func strict(c *mux.Config) { c.Protocol = mux.Protocol1 }

// An attack is a row of the catalogue. Pairs are for the short form and for the full one.
type attack struct {
	name   string // with the numbers that the catalogue of hostile peers gives it
	app    app
	config func(*mux.Config) // changes limits; or nil
	script func(*link)       // attacks on one session

	vt    bool // the vt-muxer protocol; else protocol 1
	bare  bool // no preface is sent, and what comes is not parsed
	deaf  bool // nothing is ever read from the transport
	again bool // attack again on a new session where the victim has ended one
	slow  bool // the victim does not see that the transport has ended before its application closes what it holds
	each  bool // there are few frames in a session: the cost is told for a session

	serves bool // the victim's application does what it is asked for: its CPU time is not only the library's

	dies     []string // how the victim ends a session. Empty: it must not
	either   bool     // or lets it be
	frames   [2]int   // to send. 0: what the script says
	sessions [2]int   // at most; without again, at once. 0: any number, or one

	// What each session that is open may make the victim hold.
	holds [2]holding
}

// A holding is what one session of an attacker makes a victim hold.
type holding struct {
	conns    int
	metadata int // bytes of each connection
	unread   int // bytes of all connections
	slabs    int // how many bytes an unread one may take. 0: 1

	silent bool // the peer has said nothing
}

// What docs/SECURITY.md says that things cost, in bytes.
const (
	sessionCost = 320 << 10 // of a session without connections
	silentCost  = 20 << 10  // of a session whose peer has said nothing
	connCost    = 2 << 10   // of a connection without unread bytes and metadata
	handlerCost = 16 << 10  // of a handler of the application: its stack and its buffer
)

// deadCost is of all else that has been, together, in the short form and in the full one. In the short form there are few
// frames: what they leak would not show against more.
var deadCost = [2]int{2 << 20, 8 << 20}

// peakCost is of each handler of the most that there were at once, likewise: the runtime keeps what it knows goroutines by,
// and stacks. In the full form the bound is tight without.
var peakCost = [2]int{2 << 10, 0}

// bound returns what the victim may hold beyond what it did before. peak is the most handlers that there were at once.
func (h holding) bound(sessions, handlers, peak int) int64 {
	// A third more: unread bytes are in segments that are not full.
	one := sessionCost
	if h.silent {
		one = silentCost
	}
	one += h.conns*(connCost+h.metadata) + h.unread*max(h.slabs, 1)*4/3
	return int64(deadCost[form()] + sessions*one + handlers*handlerCost + peak*peakCost[form()])
}

func both[T any](v T) [2]T { return [2]T{v, v} }

// How sessions end.
const (
	byProtocol = "code 2"
	byFlow     = "code 3"
	byCalm     = "code 7"
	byTimeout  = "code 8"
	byLimit    = "violation" // of the vt-muxer protocol, which has no codes
)

// mustEnd reports whether the victim must end the session.
func (a *attack) mustEnd() bool { return len(a.dies) > 0 && !a.either }

// seesEnd reports whether the attacker reads so far that it sees that.
func (a *attack) seesEnd() bool { return a.mustEnd() && !a.deaf }

func findAttack(name string) *attack {
	for i := range attacks {
		if attacks[i].name == name {
			return &attacks[i]
		}
	}
	panic("no such attack: " + name)
}

var (
	calm     = []string{byCalm}
	everyOne = holding{conns: maxConns}
	attacks  []attack
)

func init() { // not above: the scripts look attacks up
	attacks = append(append(oneAttacks(), vtAttacks()...), controls...)
}

// controls are no attacks: what is sent is read without vtmux, and thrown away or hashed. They show what two busy processes,
// with a victim that waits for the attacker or the other way round, cost an honest peer on this machine.
var controls = []attack{
	{name: "control, raw TCP read", bare: true, app: appRaw, script: repeat(make([]byte, 1000)), frames: [2]int{20_000, 5_000_000}},
	{name: "control, raw TCP hashed", bare: true, app: appHash, script: repeat(make([]byte, 1000)), frames: [2]int{20_000, 5_000_000}},
}

func oneAttacks() []attack {
	return []attack{
		{name: "A1 rapid reset", app: appWork, again: true, script: rapidReset, dies: calm, frames: [2]int{20_000, 1_000_000}},
		{name: "A1 rapid reset, nobody accepts", app: appNone, again: true, script: rapidReset, dies: calm, frames: [2]int{20_000, 1_000_000}},
		{name: "A2 open, stop, reset", app: appDrain, again: true, script: stopReset, dies: calm, frames: [2]int{30_000, 1_500_000}},
		{name: "A2 A10 A11 A12 A18 violations", app: appHoard, again: true, each: true, script: violate, dies: []string{byProtocol, byFlow},
			sessions: [2]int{2 * len(violations), 2_000}},
		{name: "A3 A13 A25 pings, answers never read", app: appNone, deaf: true, script: repeat(ping(7)), dies: calm, frames: [2]int{300_000, 3_000_000}},
		{name: "A3 pings", app: appNone, again: true, script: repeat(ping(7)), dies: calm, frames: [2]int{50_000, 3_000_000}},
		{name: "A4 A28 prefaces", app: appNone, bare: true, again: true, each: true, script: badPreface, dies: []string{byProtocol},
			sessions: [2]int{2 * len(badPrefaces), 2_000}},
		{name: "A5 opens beyond the limit, answers never read", app: appHoard, deaf: true, script: openFlood, dies: calm, frames: [2]int{100_000, 500_000}},
		{name: "A6 open flood", app: appEcho, again: true, script: openFlood, dies: calm, frames: [2]int{100_000, 500_000}},
		{name: "A6 open flood, nobody accepts", app: appNone, again: true, script: openFlood, dies: calm, frames: [2]int{100_000, 500_000}},
		{name: "A7 empty DATA", app: appEcho, again: true, script: onOne(data(1)), dies: calm, frames: [2]int{50_000, 5_000_000}},
		{name: "A8 a byte a frame, unread", app: appHoard, script: dribble, frames: [2]int{8 * window, 92 * window},
			holds: [2]holding{{conns: 8, unread: 8 * window}, {conns: 92, unread: 92 * window}}},
		{name: "A8 a piece of each slab, unread", serves: true, app: appHoard, script: pinSlabs,
			holds: both(holding{conns: maxConns, unread: maxConns * window, slabs: 4})},
		{name: "A9 echo never read", serves: true, app: appEcho, config: impatient, deaf: true, script: askMuch, dies: []string{byTimeout}},
		{name: "A9 windows grown, then unread", serves: true, app: appGreedy, script: growWindows,
			holds: both(holding{conns: grown, unread: grown * maxWindow})},
		{name: "A10 WINDOW that raises nothing", app: appEcho, again: true, script: onOne(window64(1, 1)), dies: calm, frames: [2]int{50_000, 5_000_000}},
		{name: "A13 all that is answered, never read", app: appDrain, deaf: true, script: answered, dies: calm, frames: [2]int{200_000, 1_000_000}},
		{name: "A14 a payload that never comes", each: true, app: appEcho, script: lie, sessions: [2]int{50, 500}, holds: both(holding{conns: 1, unread: window})},
		{name: "A15 opens with metadata, nobody accepts", each: true, app: appNone, script: openLoaded, holds: both(holding{conns: backlog, metadata: 1024})},
		{name: "A17 closed IDs", app: appDrain, again: true, script: closedIDs, dies: calm, frames: [2]int{50_000, 5_000_000}},
		{name: "A19 unknown types", app: appEcho, again: true, script: unknownTypes, dies: calm, frames: [2]int{20_000, 2_000_000}},
		{name: "A20 GOAWAY", app: appEcho, again: true, script: onOne(goAway(7, 0)), dies: calm, frames: [2]int{50_000, 3_000_000}},
		{name: "A21 open and end", serves: true, app: appDrain, script: churn, frames: [2]int{20_000, 1_000_000}, holds: both(everyOne)},
		{name: "A23 open and silent", each: true, app: appHoard, script: openAll, sessions: [2]int{20, 1_000}, holds: both(everyOne)},
		{name: "A28 silent sockets", app: appNone, bare: true, script: silent, each: true, sessions: [2]int{300, 9_000}, holds: both(holding{silent: true})},
		{name: "A28 HTTP", app: appNone, bare: true, again: true, each: true, config: strict, script: speakHTTP, dies: []string{byProtocol}, sessions: [2]int{20, 2_000}},
		{name: "A29 a writer whose reader goes", serves: true, app: appFlood, script: stopWriters, frames: [2]int{3_000, 150_000}, holds: both(everyOne)},
	}
}

func vtAttacks() []attack {
	return []attack{
		{name: "vt A1 open, end, cross", vt: true, app: appWork, script: rapidCross, dies: []string{byLimit}, either: true, frames: [2]int{30_000, 1_500_000}, holds: both(everyOne)},
		{name: "vt A6 open flood", vt: true, app: appEcho, again: true, script: vtOpenFlood, dies: []string{byLimit}, frames: [2]int{5_000, 500_000}},
		{name: "vt A6 open flood, nobody accepts", vt: true, app: appNone, again: true, script: vtOpenFlood, dies: []string{byLimit}, frames: [2]int{5_000, 500_000}},
		{name: "vt A8 a byte a frame, unread", vt: true, slow: true, app: appHoard, script: vtDribble, frames: both(2 * maxWindow), holds: both(holding{conns: 1, unread: maxWindow})},
		{name: "vt A9 echo never read", serves: true, vt: true, app: appEcho, deaf: true, script: vtAskMuch, frames: [2]int{20_000, 200_000}, holds: both(holding{conns: 1, unread: maxWindow})},
		{name: "vt A14 a payload that never comes", each: true, vt: true, app: appEcho, script: vtLie, sessions: [2]int{50, 500}, holds: both(holding{conns: 1})},
		{name: "vt A17 unknown addresses", vt: true, app: appEcho, script: vtUnknown, frames: [2]int{100_000, 5_000_000}},
		{name: "vt A21 open and end", serves: true, vt: true, app: appDrain, script: vtChurn, frames: [2]int{20_000, 1_000_000}, holds: both(everyOne)},
		{name: "vt A23 open and silent", each: true, vt: true, app: appHoard, script: vtOpenAll, sessions: [2]int{20, 1_000}, holds: both(everyOne)},
		{name: "vt A28 HTTP", vt: true, bare: true, app: appNone, script: speakHTTP, frames: [2]int{20_000, 500_000}},
	}
}
