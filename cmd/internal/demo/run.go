package demo

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
)

// A Run has what fetching the tree once through one chain measured.
type Run struct {
	Files      int
	Bytes      int64
	Elapsed    time.Duration
	P50, P99   time.Duration // of a request, from sending it to having checked its body
	Transports int           // TCP connections from edge to origin
	Clients    int           // distinct client addresses that the backend saw, one for each connection of a client
	Mallocs    uint64        // heap objects allocated by the whole process
}

type starter func(context.Context, Config) (*chain, error)

// run starts a chain, fetches the files through it, and checks what the backend saw.
func run(ctx context.Context, config Config, files []file, start starter) (*Run, error) {
	c, err := start(ctx, config)
	if err != nil {
		return nil, err
	}
	r := &Run{Files: len(files)}
	for _, f := range files {
		r.Bytes += f.size
	}
	progress, done := progressOn(config, r.Bytes)
	f := &fetcher{front: c.front, files: files, progress: progress}

	before := mallocs()
	began := time.Now()
	err = f.fetch(ctx, config.Clients)
	r.Elapsed = time.Since(began)
	r.Mallocs = mallocs() - before

	done()
	seen := c.backend.clients()
	r.Clients, r.Transports = len(seen), int(c.between.Load())
	r.P50, r.P99 = percentiles(f.latencies)
	return r, errors.Join(err, compareClients(f.addresses, seen, config.Clients), c.stop())
}

// compareClients reports whether the backend was told exactly the addresses that the clients had. There may be more of
// them than clients: net/http drops a connection, and dials again, where it takes long to learn that its request is
// written.
func compareClients(dialled []string, seen map[string]bool, clients int) error {
	if len(dialled) < clients || len(seen) != len(dialled) {
		return fmt.Errorf("%d clients made %d connections, and the backend saw %d addresses", clients, len(dialled), len(seen))
	}
	for _, address := range dialled {
		if !seen[address] {
			return fmt.Errorf("the backend was not told of client %s", address)
		}
	}
	return nil
}

func progressOn(config Config, total int64) (add func(file), done func()) {
	if config.Progress == nil {
		return func(file) {}, func() {}
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(config.Progress),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
	return func(f file) { bar.Add64(f.size) }, func() { bar.Finish() }
}

func percentiles(d []time.Duration) (p50, p99 time.Duration) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	return d[len(d)/2], d[len(d)*99/100]
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
