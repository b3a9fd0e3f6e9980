package demo

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestNamesThatCannotBeServedAreLeftOut: a tree may hold names that are not UTF-8, which fs.FS and so the backend
// refuse. They are no fault of the multiplexer's, and the demo fetches the rest.
//
// To see it fail: take fs.ValidPath, or the fs.SkipDir after it, out of listTree.
func TestNamesThatCannotBeServedAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dir\xff"), 0o755); err != nil {
		if runtime.GOOS == "linux" { // whose file systems have such names, and where CI runs
			t.Fatal(err)
		}
		t.Skip("this file system has no such names: ", err)
	}
	for _, name := range []string{"a", "a\xff", "dir\xff/file", "z"} {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	report, err := Execute(t.Context(), Config{Dir: dir, Clients: 1})
	if err != nil {
		t.Fatal(err)
	}
	if report.Mux.Files != 2 {
		t.Errorf("fetched %d files, want a and z", report.Mux.Files)
	}
}
