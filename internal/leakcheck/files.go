package leakcheck

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// OpenFiles returns a check for Main: no file or socket is open that was not open when OpenFiles was called. It works on
// Linux; elsewhere the check always passes.
func OpenFiles() func() error {
	before := openFiles()
	return func() error {
		var errs []error
		for fd, target := range openFiles() {
			if before[fd] != target && !runtimeOwned[target] {
				errs = append(errs, fmt.Errorf("open file: descriptor %s is %s", fd, target))
			}
		}
		return errors.Join(errs...)
	}
}

// runtimeOwned are descriptors that the Go runtime opens at the first use of the network poller, and keeps.
var runtimeOwned = map[string]bool{
	"anon_inode:[eventpoll]": true,
	"anon_inode:[eventfd]":   true,
}

// openFiles returns what each open descriptor is. A socket's text has its inode number, so that a new socket with an old
// one's descriptor is told apart.
func openFiles() map[string]string {
	const dir = "/proc/self/fd"
	if runtime.GOOS != "linux" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // no /proc, as in a chroot
	}
	files := make(map[string]string)
	for _, e := range entries {
		// The descriptor of dir itself is closed by now, and fails.
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			files[e.Name()] = target
		}
	}
	return files
}
