// Package benchmarks compares multiplexers by the same scenarios, with server and client in two processes.
//
//	go test -bench .                                     everything, in less than ten minutes
//	go test -bench 'RTT$/^(tcp|vtmux|yamux)$' -count 10  a scenario, three libraries, for benchstat
//	go run ./report                                      the table and the plots of RESULTS.md, in alternating runs
//
// Raw TCP has one TCP connection a stream. What is reported besides time is of both processes together:
//
//	allocs/op, B/op   allocations
//	msgs/s, conns/s   messages or connections a second
//	p50-ns, p99-ns    of the time from a message to its answer
//	cpu-ns/op         user and system time
//	calls/op          read and write system calls, where the kernel counts them
//	wire-B/B          bytes that TCP or UDP carried for a byte of payload
//	B/conn            heap and stack of a connection that was used once and is left alone
package benchmarks

import (
	"flag"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/harness"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

func TestMain(m *testing.M) {
	harness.Main()
	flag.Parse()
	if !isSet("test.benchtime") {
		// There are so many benchmarks that with the usual second they would take twenty minutes.
		flag.Set("test.benchtime", "300ms")
	}
	os.Exit(m.Run())
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func BenchmarkRTT(b *testing.B)         { each(b, "RTT") }
func BenchmarkRTTOneCore(b *testing.B)  { each(b, "RTTOneCore") }
func BenchmarkCrowd16(b *testing.B)     { each(b, "Crowd16") }
func BenchmarkCrowd128(b *testing.B)    { each(b, "Crowd128") }
func BenchmarkCrowd1000(b *testing.B)   { each(b, "Crowd1000") }
func BenchmarkCrowd10000(b *testing.B)  { each(b, "Crowd10000") }
func BenchmarkSmall1(b *testing.B)      { each(b, "Small1") }
func BenchmarkSmall128(b *testing.B)    { each(b, "Small128") }
func BenchmarkOpen64(b *testing.B)      { each(b, "Open64") }
func BenchmarkOpen1(b *testing.B)       { each(b, "Open1") }
func BenchmarkBulk1(b *testing.B)       { each(b, "Bulk1") }
func BenchmarkBulk8(b *testing.B)       { each(b, "Bulk8") }
func BenchmarkBulk8Unread(b *testing.B) { each(b, "Bulk8Unread") }
func BenchmarkTLSBulk1(b *testing.B)    { each(b, "TLSBulk1") }
func BenchmarkTLSCrowd128(b *testing.B) { each(b, "TLSCrowd128") }

// each runs a scenario with every library that can do it.
func each(b *testing.B, name string) {
	sc := scenario.Must(name)
	for _, a := range adapter.All {
		if a.Can(sc.Name, sc.TLS) != "" {
			continue
		}
		var run *harness.Run // kept while the testing package looks for b.N
		b.Run(a.Name, func(b *testing.B) {
			ready(b, a)
			if run == nil {
				run = start(b, a, sc)
			}
			b.ReportAllocs()
			b.ResetTimer()
			m, err := run.Measure(scenario.Budget{Ops: int64(b.N)})
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			report(b, a, sc, m)
		})
		if run != nil {
			if err := run.Close(); err != nil {
				b.Errorf("%s: %v", a.Name, err)
			}
		}
	}
}

// ready skips what can't run on this machine.
func ready(tb testing.TB, a adapter.Adapter) {
	if a.Ready == nil {
		return
	}
	if err := a.Ready(); err != nil {
		if os.Getenv("VTMUX_REQUIRE_INTEROP") != "" {
			tb.Fatal(err)
		}
		tb.Skipf("%s is left out: %v", a.Name, err)
	}
}

// start begins a session and uses it for long enough that buffers are at their size.
func start(b *testing.B, a adapter.Adapter, sc scenario.Scenario) *harness.Run {
	run, err := harness.Start(a, sc, harness.Profiles{})
	if err != nil {
		b.Fatal(err)
	}
	if err = run.Open(); err == nil {
		_, err = run.Drive(scenario.Budget{Time: 50 * time.Millisecond})
	}
	if err != nil {
		run.Close()
		b.Fatal(err)
	}
	return run
}

func report(b *testing.B, a adapter.Adapter, sc scenario.Scenario, m harness.Measurement) {
	n := float64(m.Ops)
	if sc.Unit == scenario.Megabytes {
		b.SetBytes(int64(sc.OpBytes))
	} else {
		b.ReportMetric(m.PerSecond(), string(sc.Unit))
	}
	if p := m.Percentiles(0.50, 0.99); p != nil {
		b.ReportMetric(float64(p[0]), "p50-ns")
		b.ReportMetric(float64(p[1]), "p99-ns")
	}
	b.ReportMetric(float64(m.Usage.CPU)/n, "cpu-ns/op")
	if m.Usage.IO && !a.UDP {
		b.ReportMetric(float64(m.Usage.Calls)/n, "calls/op")
	}
	if m.Wire > 0 {
		b.ReportMetric(float64(m.Wire)/float64(sc.Carried(m.Ops)), "wire-B/B")
	}
	if m.Usage.Go {
		b.ReportMetric(float64(m.Usage.Mallocs)/n, "allocs/op")
		b.ReportMetric(float64(m.Usage.Bytes)/n, "B/op")
	}
}

// BenchmarkIdle is about memory alone.
func BenchmarkIdle(b *testing.B) {
	const conns = 2000
	sc := scenario.Idle(conns)
	for _, a := range adapter.All {
		if a.Can(sc.Name, sc.TLS) != "" {
			continue
		}
		var bytes float64
		b.Run(a.Name, func(b *testing.B) {
			ready(b, a)
			if bytes == 0 {
				steps, err := harness.Idle(a, []int{1, conns})
				if err != nil {
					b.Fatal(err)
				}
				bytes = steps[1].PerConn(steps[0])
			}
			b.ReportMetric(0, "ns/op") // opening is not what is measured
			b.ReportMetric(bytes, "B/conn")
		})
	}
}

// scenarios has one of each kind, small, so that a broken one is found before a long run.
var scenarios = []string{
	"RTT", "RTTOneCore", "Crowd16", "Small1", "Small8", "Open1", "Open4", "Bulk1", "Bulk8Unread", "TLSBulk1", "TLSCrowd4",
}

func TestEveryScenarioWithEveryAdapter(t *testing.T) {
	for _, name := range scenarios {
		sc := scenario.Must(name)
		for _, a := range adapter.All {
			if a.Can(sc.Name, sc.TLS) != "" {
				continue
			}
			t.Run(sc.Name+"/"+a.Name, func(t *testing.T) {
				ready(t, a)
				doALittle(t, a, scenario.Must(name))
			})
		}
	}
}

func doALittle(t *testing.T, a adapter.Adapter, sc scenario.Scenario) {
	run, err := harness.Start(a, sc, harness.Profiles{})
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Open(); err != nil {
		t.Fatal(err)
	}
	// Some operations more than streams, so that they do not all have the same share.
	want, bulk := int64(sc.Streams)+3, sc.Unit == scenario.Megabytes
	if bulk {
		want = 2 // of 16 MiB
	}
	for range 2 {
		m, err := run.Measure(scenario.Budget{Ops: want})
		if err != nil {
			t.Fatal(err)
		}
		if m.Ops != want {
			t.Errorf("%d operations, want %d", m.Ops, want)
		}
		if m.Usage.CPU == 0 && runtime.GOOS == "linux" {
			t.Error("no CPU time was used")
		}
		if carried := sc.Carried(m.Ops); m.Wire != 0 && m.Wire < uint64(carried) {
			t.Errorf("%d bytes on the wire for %d of payload", m.Wire, carried)
		}
		if bulk {
			break
		}
	}
	if !bulk { // which does a batch on each stream at least
		if s, err := run.Drive(scenario.Budget{Time: 10 * time.Millisecond}); err != nil || s.Ops == 0 {
			t.Errorf("%d operations and %v, want some in ten milliseconds", s.Ops, err)
		}
	}
	if err := run.Close(); err != nil {
		t.Error(err)
	}
}

func TestIdleWithEveryAdapter(t *testing.T) {
	for _, a := range adapter.All {
		if a.Can("Idle10", false) != "" {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			steps, err := harness.Idle(a, []int{0, 1, 10})
			if err != nil {
				t.Fatal(err)
			}
			if last := steps[2]; last.Client.Heap == 0 || last.Server.Heap == 0 || last.Server.Goroutines == 0 {
				t.Errorf("%+v", steps)
			}
		})
	}
}
