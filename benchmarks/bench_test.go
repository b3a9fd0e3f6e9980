// Package benchmarks compares multiplexers by the same scenarios, with server and client in two processes.
//
//	go test -bench .                       everything
//	go test -bench 'RTT/(tcp|vtmux)$'      one scenario, two libraries
//	go run ./ratios                        vtmux against raw TCP, in alternating runs
//	go run ./idle -n 10000                 memory of idle connections
//
// Raw TCP has one TCP connection a stream. Allocations are those of the client's process.
package benchmarks

import (
	"os"
	"testing"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/harness"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

func TestMain(m *testing.M) {
	harness.Main()
	os.Exit(m.Run())
}

func BenchmarkRTT(b *testing.B) {
	each(b, scenario.RTT, func(b *testing.B, s scenario.Sample) {
		b.ReportMetric(float64(s.Percentile(0.50)), "p50-ns")
		b.ReportMetric(float64(s.Percentile(0.99)), "p99-ns")
	})
}

func BenchmarkCrowd128(b *testing.B) {
	each(b, scenario.Crowd128, func(b *testing.B, s scenario.Sample) {
		b.ReportMetric(s.PerSecond(), "msgs/s")
	})
}

func BenchmarkBulk(b *testing.B) {
	each(b, scenario.Bulk, func(b *testing.B, s scenario.Sample) {
		b.SetBytes(int64(scenario.Bulk.OpBytes))
	})
}

func BenchmarkBulk8(b *testing.B) {
	each(b, scenario.Bulk8, func(b *testing.B, s scenario.Sample) {
		b.SetBytes(int64(scenario.Bulk8.OpBytes))
	})
}

func BenchmarkOpen(b *testing.B) {
	each(b, scenario.Open, func(b *testing.B, s scenario.Sample) {
		b.ReportMetric(s.PerSecond(), "conns/s")
	})
}

// each runs a scenario with every adapter.
func each(b *testing.B, sc scenario.Scenario, report func(*testing.B, scenario.Sample)) {
	for _, a := range adapter.All {
		b.Run(a.Name, func(b *testing.B) {
			run, err := harness.Start(a, sc, harness.Profiles{})
			if err != nil {
				b.Fatal(err)
			}
			defer run.Close()
			if err := run.Open(); err != nil {
				b.Fatal(err)
			}
			// Short, since it is done again for each b.N, and long enough for buffers to be at their size.
			if _, err := run.Drive(scenario.Budget{Time: 50 * time.Millisecond}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			s, err := run.Drive(scenario.Budget{Ops: int64(b.N)})
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			report(b, s)
		})
	}
}

// TestEveryScenarioWithEveryAdapter does a little of each, so that a broken one is found before a long run.
func TestEveryScenarioWithEveryAdapter(t *testing.T) {
	for _, sc := range scenario.Timed {
		for _, a := range adapter.All {
			if sc.Name == "Bulk8Unread" && a.Name == "vtmux-vt" {
				continue // without flow control the unread streams stop the others
			}
			t.Run(sc.Name+"/"+a.Name, func(t *testing.T) {
				run, err := harness.Start(a, sc, harness.Profiles{})
				if err != nil {
					t.Fatal(err)
				}
				if err := run.Open(); err != nil {
					t.Fatal(err)
				}
				// Some operations more than streams, so that they do not all have the same share.
				want := int64(sc.Streams) + 3
				for range 2 {
					s, err := run.Drive(scenario.Budget{Ops: want})
					if err != nil {
						t.Fatal(err)
					}
					if s.Ops != want {
						t.Errorf("%d operations, want %d", s.Ops, want)
					}
				}
				if s, err := run.Drive(scenario.Budget{Time: time.Millisecond}); err != nil || s.Ops == 0 {
					t.Errorf("%d operations and %v, want some in a millisecond", s.Ops, err)
				}
				if err := run.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestIdleWithEveryAdapter(t *testing.T) {
	const streams = 10
	for _, a := range adapter.All {
		t.Run(a.Name, func(t *testing.T) {
			run, err := harness.Start(a, scenario.Idle(streams), harness.Profiles{})
			if err != nil {
				t.Fatal(err)
			}
			if err := run.Use(streams); err != nil {
				t.Fatal(err)
			}
			client, server, err := run.Memory()
			if err != nil {
				t.Fatal(err)
			}
			if client.Heap == 0 || server.Heap == 0 || server.Goroutines == 0 {
				t.Errorf("client %+v, server %+v", client, server)
			}
			if err := run.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
