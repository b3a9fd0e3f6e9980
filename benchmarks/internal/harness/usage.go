package harness

import (
	"runtime/metrics"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// Usage is what a process has used since it started.
type Usage struct {
	CPU      time.Duration // user and system
	Switches uint64        // times that a thread gave up its core to wait

	// IO: the kernel counts read and write calls. They are those of files, pipes, and sockets that are read from and
	// written to; recvmsg and sendmsg, as UDP has them, epoll and futex are not among them.
	IO    bool
	Calls uint64

	// Own is how many calls on its transport the library itself has counted: vtmux reads and writes sockets by recvmsg
	// and sendmsg.
	Own uint64

	// Go: the process is a Go program.
	Go             bool
	Mallocs, Bytes uint64 // objects and bytes allocated
}

// Sub gives what was used since an earlier reading.
func (u Usage) Sub(earlier Usage) Usage {
	u.CPU -= earlier.CPU
	u.Switches -= earlier.Switches
	u.Calls -= earlier.Calls
	u.Own -= earlier.Own
	u.Mallocs -= earlier.Mallocs
	u.Bytes -= earlier.Bytes
	return u
}

// Add gives what two processes used together. What one of them does not count is not counted.
func (u Usage) Add(v Usage) Usage {
	u.CPU += v.CPU
	u.Switches += v.Switches
	u.IO = u.IO && v.IO
	u.Calls, u.Own = max(u.Calls, u.Own)+max(v.Calls, v.Own), 0 // where the kernel counts them, it has also those
	u.Go = u.Go && v.Go
	u.Mallocs += v.Mallocs
	u.Bytes += v.Bytes
	return u
}

// ReadUsage gives the calling process's, with a session of it or nil.
func ReadUsage(s adapter.Session) Usage {
	u := ownUsage()
	u.Go = true
	u.Own = adapter.Calls(s)
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:objects"},
		{Name: "/gc/heap/tiny/allocs:objects"}, // small objects in one of the former
		{Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(samples)
	u.Mallocs = samples[0].Value.Uint64() + samples[1].Value.Uint64()
	u.Bytes = samples[2].Value.Uint64()
	return u
}
