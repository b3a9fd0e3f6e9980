package mux

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtmux/vtmux/internal/xport"
	"github.com/vtmux/vtmux/pool"
)

// The terms of the formula in docs/SECURITY.md, in bytes.
const (
	worstSession    = 320 << 10 // staging, the slab that is read into, what describes the session
	worstConnection = 2 << 10   // state, Conn and table entry, with the longest metadata
	worstRefusals   = 40 << 10  // of OPENs that got no place: 2,048 places of 16 bytes, and room to grow
	worstPinned     = 64 << 10  // of a connection: a slab that is read in part
	worstFactor     = 4.1       // bytes that a byte unread can pin: a piece of 16 KiB a slab of 64, and what describes it
)

// worstCase returns what a session can be made to hold by its peer, protocol 1, where
// windows don't grow beyond window.
func worstCase(maxConns, window int) int64 {
	connection := worstConnection + int64(worstFactor*float64(window)) + worstPinned
	return worstSession + worstRefusals + 2*int64(maxConns)*connection
}

// worstCaseVT is worstCase with the vt-muxer protocol, where MaxConns counts both ways
// together, and a piece of a payload that begins below MaxWindow is taken whole, and so
// is one more where a WriteTo has all that came before.
func worstCaseVT(maxConns, maxWindow int) int64 {
	connection := worstConnection + int64(worstFactor*float64(maxWindow+128<<10)) + worstPinned
	return worstSession + int64(maxConns)*connection
}

// wantWorst fails the test unless what has come to live since before is at most worst,
// and not much less: then the test would not show the worst.
func wantWorst(t *testing.T, before, worst int64) {
	t.Helper()
	grown := heap() - before
	t.Logf("the session holds %d bytes; the formula says %d", grown, worst)
	if raceEnabled || pool.Debug {
		worst += 1 << 20 // which keep accounts of their own
	}
	if grown > worst || grown < worst/2 {
		t.Errorf("the session holds %d bytes, want %d at most, and half of it at least", grown, worst)
	}
}

// TestWorstCaseMemory (R14) fills every place, each window in the way that costs most (a
// piece that is kept by reference, in a slab of which nothing else is), and the queue of
// refusals. The peer reads nothing.
func TestWorstCaseMemory(t *testing.T) {
	t.Run("one", func(t *testing.T) {
		const n, window = 128, 64 << 10
		before := heap()
		oneRun(t, oneSetup{listen: true, cfg: Config{MaxConns: n, AcceptBacklog: n, WriteTimeout: -1}}, func(tc *oneTest) {
			for range n {
				tc.open(vtB)
			}
			meta := strings.Repeat("m", 1024)
			tc.flood(n, func(i int) []string { return []string{fmt.Sprintf("OPEN %d 192.0.2.1:8080 %q", i+1, meta)} })
			tc.full()
			tc.deaf(true)
			for i := range n {
				for _, whose := range []string{"", "YOURS "} {
					for range window / lendSlabFrom {
						b := oneEncode(fmt.Sprintf("DATA %s%d %d*x", whose, i+1, lendSlabFrom))
						b = append(b, oneRaw(99, 0, readSlabSize-len(b)-8, 0)...)
						tc.peer.queue(b)
						synctest.Wait()
						tc.pass(10 * time.Millisecond) // a token
					}
				}
			}
			for range 5 { // the first is on its way
				tc.pass(10 * time.Second)
				id := int(tc.p.s.table.seen)
				tc.flood(510, func(i int) []string { return []string{fmt.Sprintf("OPEN %d", id+refusalLen*(i+1))} })
			}
			tc.wantAlive("all that is allowed")
			got := holdingOf(tc.p.s)
			if got.conns != 2*n || got.slots != n || got.unread != 2*n*window || got.refusals < 2000 {
				tc.t.Fatalf("the session holds %+v, which is not the worst", got)
			}
			wantWorst(tc.t, before, worstCase(n, window))
			tc.deaf(false)
		})
	})
	t.Run("vt", func(t *testing.T) {
		const n, window = 32, minMaxWindow
		before := heap()
		vtRun(t, true, &Config{MaxConns: n, MaxWindow: window, WriteTimeout: -1}, func(tc *vtTest) {
			send := func(i int) {
				b := vtBytes(vtData(testAddr(i), strings.Repeat("x", lendSlabFrom)))
				tc.peer.queue(append(b, vtBytes(vtData(vtC, strings.Repeat("j", readSlabSize-len(b)-20)))...))
				synctest.Wait()
			}
			for i := range n {
				tc.peer.queue(vtBytes(vtOpen(testAddr(i))))
				for range window/lendSlabFrom + 1 {
					send(i)
				}
			}
			tc.wantAlive("all that is allowed")
			if got := holdingOf(tc.s); got.conns != n || got.unread < n*window {
				tc.t.Fatalf("the session holds %+v, which is not the worst", got)
			}
			free := make(stuckWriter)
			var wg sync.WaitGroup
			for i := range n { // what a WriteTo has taken counts, but for one piece
				c := tc.accept(testAddr(i))
				wg.Go(func() { c.WriteTo(free) })
				synctest.Wait()
				send(i)
			}
			wantWorst(tc.t, before, worstCaseVT(n, window))
			close(free)
			for _, c := range tc.conns {
				c.Close()
			}
			wg.Wait()
		})
	})
}

// TestSecurityTellsTheLimits: docs/SECURITY.md has the formula's terms and the defaults as
// they are.
func TestSecurityTellsTheLimits(t *testing.T) {
	text, err := os.ReadFile("../docs/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := (*Config)(nil).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("| session | %d KiB |", worstSession>>10),
		fmt.Sprintf("| records | %d KiB |", xport.MaxKept>>10),
		fmt.Sprintf("| connection | %d KiB |", worstConnection>>10),
		fmt.Sprintf("| refusals | %d KiB |", worstRefusals>>10),
		fmt.Sprintf("| pinned | %d KiB |", worstPinned>>10),
		fmt.Sprintf("| factor | %v |", worstFactor),
		fmt.Sprintf("| Config.MaxConns | %s |", thousands(cfg.MaxConns)),
		fmt.Sprintf("| Config.AcceptBacklog | %s |", thousands(cfg.backlog(true))),
		fmt.Sprintf("| Config.InitialWindow | %d KiB |", cfg.InitialWindow>>10),
		fmt.Sprintf("| Config.MaxWindow | %d MiB |", cfg.MaxWindow>>20),
		fmt.Sprintf("| Config.KeepAliveInterval, KeepAliveTimeout | %v, %v |", seconds0(cfg.KeepAliveInterval), seconds0(cfg.KeepAliveTimeout)),
		fmt.Sprintf("| Config.WriteTimeout | %s; %s with the vt-muxer protocol |", seconds0(cfg.writeTimeout(true)), seconds0(cfg.writeTimeout(false))),
		fmt.Sprintf("| Config.PrefaceTimeout | %s |", seconds0(cfg.PrefaceTimeout)),
		fmt.Sprintf("| Config.SilenceTimeout | %s |", seconds0(cfg.SilenceTimeout)),
		fmt.Sprintf("| Config.HandshakeTimeout | %s |", seconds0(cfg.HandshakeTimeout)),
		"| refusals not yet sent | " + thousands(maxRefusals) + " |",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/SECURITY.md lacks %q", want)
		}
	}
	for i, row := range hostileRows {
		if !strings.Contains(string(text), fmt.Sprintf("| A%d |", i+1)) {
			t.Errorf("docs/SECURITY.md lacks %s", row.name)
		}
	}
	for i := range 14 {
		if !strings.Contains(string(text), fmt.Sprintf("| R%d |", i+1)) {
			t.Errorf("docs/SECURITY.md lacks R%d", i+1)
		}
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

func seconds0(d time.Duration) string { return fmt.Sprintf("%d s", int(d.Seconds())) }
