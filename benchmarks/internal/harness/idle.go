package harness

import (
	"errors"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

// An IdleStep is what both ends hold with so many idle connections.
type IdleStep struct {
	Conns          int
	Client, Server Memory
}

// Total gives bytes of heap and stack, of both ends.
func (s IdleStep) Total() uint64 {
	return s.Client.Heap + s.Client.Stack + s.Server.Heap + s.Server.Stack
}

// PerConn gives what each connection costs that has come since an earlier step.
func (s IdleStep) PerConn(earlier IdleStep) float64 {
	return (float64(s.Total()) - float64(earlier.Total())) / float64(s.Conns-earlier.Conns)
}

// Idle opens connections, uses each once and leaves it alone, and reads the memory whenever their number is one of
// counts, which rises. 0 may be the first: that is a session that nobody uses. When a step fails, those before it are
// good.
func Idle(a adapter.Adapter, counts []int) (steps []IdleStep, err error) {
	most := counts[len(counts)-1]
	run, err := Start(a, scenario.Idle(most), Profiles{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	run.Reserve(most)
	for _, n := range counts {
		if err := run.Use(n - len(run.streams)); err != nil {
			return steps, err
		}
		s := IdleStep{Conns: n}
		if s.Client, s.Server, err = run.Memory(); err != nil {
			return steps, err
		}
		steps = append(steps, s)
	}
	return steps, nil
}
