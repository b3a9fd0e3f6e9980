// Command idle measures what a connection costs that was used once and is then left alone: bytes of heap and stack,
// and goroutines, at either end. The ends are two processes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"text/tabwriter"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
	"github.com/vtmux/vtmux/benchmarks/internal/harness"
	"github.com/vtmux/vtmux/benchmarks/internal/scenario"
)

func main() {
	harness.Main()
	log.SetFlags(0)
	log.SetPrefix("idle: ")
	n := flag.Int("n", 10000, "connections")
	only := flag.String("only", "", "measure only this library")
	flag.Parse()
	if *n < 2 {
		log.Fatal("-n must be 2 at least")
	}
	adapters := adapter.All
	if *only != "" {
		a, err := adapter.Lookup(*only)
		if err != nil {
			log.Fatal(err)
		}
		adapters = []adapter.Adapter{a}
	}

	fmt.Printf("%s %s/%s, %d cores; %d connections, each used once; what the kernel and the network poller hold is not counted\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), *n)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "library\tend\tgoroutines\tsession, B\theap, B/conn\tstack, B/conn\tboth, B/conn\t")
	for _, a := range adapters {
		if err := measure(t, a, *n); err != nil {
			t.Flush()
			log.Fatalf("%s: %v", a.Name, err)
		}
	}
	t.Flush()
}

// phases are a process's memory at three times: without a session, with one whose first connection was used, and with
// all the connections.
type phases [3]harness.Memory

// measure prints the rows of one library.
func measure(t *tabwriter.Writer, a adapter.Adapter, n int) (err error) {
	run, err := harness.Start(a, scenario.Idle(n), harness.Profiles{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	run.Reserve(n)

	var client, server phases
	for i, more := range []int{0, 1, n - 1} {
		if err := run.Use(more); err != nil {
			return err
		}
		if client[i], server[i], err = run.Memory(); err != nil {
			return err
		}
	}
	client.print(t, a.Name, "client", n)
	server.print(t, a.Name, "server", n)
	return nil
}

func (p phases) print(t *tabwriter.Writer, library, end string, n int) {
	none, first, all := p[0], p[1], p[2]
	heap, stack := perConn(first.Heap, all.Heap, n), perConn(first.Stack, all.Stack, n)
	session := int64(first.Heap+first.Stack) - int64(none.Heap+none.Stack)
	fmt.Fprintf(t, "%s\t%s\t%+d\t%d\t%.0f\t%.0f\t%.0f\t\n",
		library, end, all.Goroutines-none.Goroutines, session, heap, stack, heap+stack)
}

func perConn(first, all uint64, n int) float64 {
	return float64(int64(all)-int64(first)) / float64(n-1)
}
