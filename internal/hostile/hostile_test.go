package hostile

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/vtmux/vtmux/mux"
)

var full = flag.Bool("hostile.full", false, "attack with all frames, one attack at a time, and print what it cost")

// An outcome is what an attack did to the victim.
type outcome struct {
	attack       *attack
	report       report
	base, held   state
	after        state
	work         time.Duration // CPU time of the victim for the attack alone
	quiet, under []time.Duration
}

// TestAttacks makes every attack, each on a victim of its own. What the victim holds stays in bounds, it starts no
// goroutine for a frame or a connection, it ends the attacker's session where and as it should, and the honest peer gets
// every answer.
func TestAttacks(t *testing.T) {
	var all []*outcome
	how := "Victim and honest peer went before the attacker, as if it ran elsewhere."
	if *full {
		if err := goFirst(); err != nil {
			how = fmt.Sprintf("The attacker took part of the cores that victim and honest peer ran on: %v.", err)
		}
	}
	for i := range attacks {
		a := &attacks[i]
		t.Run(a.name, func(t *testing.T) {
			if !*full {
				t.Parallel()
				launch(t, a).check(t)
				return
			}
			o := launch(t, a)
			o.check(t)
			all = append(all, o)
		})
	}
	if *full {
		fmt.Println(how)
		fmt.Print(table(all))
	}
}

// form is the index of the form that runs, in the pairs of an attack.
func form() int {
	if *full {
		return 1
	}
	return 0
}

// launch makes an attack and measures.
func launch(t *testing.T, a *attack) *outcome {
	o := &outcome{attack: a}
	v := startChild(t, "victim")
	ports := v.ask(t, call{Op: "start", Setup: a.setup()})
	h := startHonest(t, ports.Honest)
	h.await(t, 20)
	h.look(t)
	began := time.Now()
	o.base = v.ask(t, call{Op: "collected"}).State
	if *full {
		h.await(t, 300)
	} else {
		h.await(t, 20)
	}
	o.quiet = h.look(t)
	before := v.ask(t, call{Op: "state"}).State
	idle := float64(before.CPU-o.base.CPU) / float64(time.Since(began))

	began = time.Now()
	x := startChild(t, "attacker")
	o.report = x.ask(t, call{Op: "attack", Attack: a.name, Addr: ports.Hostile, Budget: a.budget()}).Report
	o.under = h.look(t)
	last := a.calmDown(t, v, o.report.Sessions)
	o.work = last.CPU - before.CPU - time.Duration(idle*float64(time.Since(began)))
	o.held = v.ask(t, call{Op: "collected"}).State

	o.report = x.ask(t, call{Op: "leave"}).Report
	if a.slow {
		v.ask(t, call{Op: "let go"})
	}
	settle(t, "the end of all sessions", func() bool {
		st := v.ask(t, call{Op: "state"}).State
		return st.Open == 0 && st.Handlers == 0
	})
	o.after = v.ask(t, call{Op: "collected"}).State
	h.await(t, 5)
	h.look(t)
	return o
}

func (a *attack) setup() setup {
	s := setup{App: a.app, Config: limits(a.vt)}
	if a.config != nil {
		a.config(&s.Config)
	}
	if a.deaf {
		s.Buffer = 64 << 10
	}
	if *full {
		s.Work = 50 * time.Millisecond
	}
	return s
}

func (a *attack) budget() budget {
	b := budget{Frames: a.frames[form()], Sessions: a.sessions[form()], AtMost: 15 * time.Second}
	if b.Frames == 0 {
		b.Frames = math.MaxInt
	}
	if *full && a.sessions[1] == 0 {
		b.AtLeast = 4 * time.Second
	}
	return b
}

// calmDown waits until the victim has dealt with everything, and returns its state then.
func (a *attack) calmDown(t *testing.T, v *child, sessions int) (st state) {
	open, tick := 0, 10*time.Millisecond
	if len(a.dies) == 0 || a.either {
		open = sessions
	}
	if *full {
		tick = 250 * time.Millisecond
	}
	var last state
	var at time.Time
	settle(t, fmt.Sprintf("%d open sessions, and quiet", open), func() bool {
		if time.Since(at) < tick {
			return false
		}
		last, st, at = st, v.ask(t, call{Op: "state"}).State, time.Now()
		return (st.Open == open || a.either && st.Open == 0) && st.Frames == last.Frames && st.Handlers == last.Handlers && (!*full || st.CPU-last.CPU < 75*time.Millisecond)
	})
	return st
}

func (o *outcome) check(t *testing.T) {
	a, r := o.attack, o.report
	for _, s := range r.Amiss {
		t.Errorf("the attacker: %s", s)
	}
	ended := 0
	for how, n := range o.held.Ended {
		ended += n
		if !slices.Contains(a.dies, how) {
			t.Errorf("%d sessions ended with %s, want %v: %q", n, how, a.dies, o.held.Rules)
		}
	}
	if want := r.Sessions; len(a.dies) > 0 && !a.either && ended != want {
		t.Errorf("%d sessions of %d have ended", ended, want)
	}
	if a.seesEnd() && !a.vt && !a.bare {
		told := 0
		for code, n := range r.Codes {
			told += n
			if !slices.Contains(a.dies, codeName(mux.Code(code))) {
				t.Errorf("%d GOAWAYs with code %d, want %v", n, code, a.dies)
			}
		}
		if told != r.Sessions {
			t.Errorf("%d GOAWAYs in %d sessions", told, r.Sessions)
		}
	}
	if o.held.Peak > a.setup().Config.MaxConns {
		t.Errorf("%d handlers at once for one session, MaxConns is %d", o.held.Peak, a.setup().Config.MaxConns)
	}
	o.checkHeld(t)
}

func (o *outcome) checkHeld(t *testing.T) {
	a, open := o.attack, o.held.Open
	if got, most := o.grown(), a.holds[form()].bound(open, o.held.Handlers, o.held.Peak); got > most {
		t.Errorf("%d bytes of heap and stack more, want at most %d, for %d sessions and %d handlers", got, most, open, o.held.Handlers)
	}
	// The runtime never frees what it knows goroutines by.
	most := int64(deadCost[form()] + open*4<<10 + o.held.Peak*peakCost[form()])
	if got := o.after.Heap + o.after.Stack - o.base.Heap - o.base.Stack; got > most {
		t.Errorf("%d bytes of heap and stack more when the attacker has gone, want at most %d", got, most)
	}
	// A session has its standby, and a helper if it was ever needed.
	if got := o.held.Library - o.base.Library; got > 2*open {
		t.Errorf("%d goroutines of the library more, for %d sessions", got, open)
	}
	if got := o.after.Library - o.base.Library; got > 0 {
		t.Errorf("%d goroutines of the library more when the attacker has gone", got)
	}
}

// grown is how much more heap and stack the victim held after the attack, while the attacker was still there.
func (o *outcome) grown() int64 { return o.held.Heap + o.held.Stack - o.base.Heap - o.base.Stack }
