package harness

import (
	"os"
	"runtime"
	"runtime/pprof"
)

// Profiles says which profiles to write, each to a file for either process: prefix-client.pprof, prefix-server.pprof.
// An empty prefix is none. They cost time: figures taken along with them count for nothing.
type Profiles struct {
	CPU, Mem string
}

// For gives profiles whose files have a name after the prefix.
func (p Profiles) For(name string) Profiles {
	if p.CPU != "" {
		p.CPU += "-" + name
	}
	if p.Mem != "" {
		p.Mem += "-" + name
	}
	return p
}

// start begins the profiles of one process. stop ends and writes them.
func (p Profiles) start(side string) (stop func() error, err error) {
	var cpu *os.File
	if p.CPU != "" {
		if cpu, err = os.Create(p.CPU + "-" + side + ".pprof"); err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return nil, err
		}
	}
	return func() error {
		if cpu != nil {
			pprof.StopCPUProfile()
			if err := cpu.Close(); err != nil {
				return err
			}
		}
		if p.Mem == "" {
			return nil
		}
		mem, err := os.Create(p.Mem + "-" + side + ".pprof")
		if err != nil {
			return err
		}
		defer mem.Close()
		return pprof.Lookup("allocs").WriteTo(mem, 0)
	}, nil
}

// Client begins the profiles of the calling process.
func (p Profiles) Client() (stop func() error, err error) { return p.start("client") }

// Memory is what a process holds. What the kernel and the network poller hold for its sockets is not in it.
type Memory struct {
	Goroutines  int
	Heap, Stack uint64 // bytes; of the heap, those that are reachable
}

// ReadMemory collects garbage and reads what is left.
func ReadMemory() Memory {
	// Pools give up their contents at the second collection.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Memory{Goroutines: runtime.NumGoroutine(), Heap: m.HeapAlloc, Stack: m.StackInuse}
}
