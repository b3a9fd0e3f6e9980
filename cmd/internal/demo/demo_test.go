package demo

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vtmux/vtmux/mux"
)

// testTree makes a directory with what a file server might trip over.
func testTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	contents := map[string][]byte{
		"empty":               nil,
		"one":                 {0},
		"big":                 big,
		"page/index.html":     []byte("<p>served after a redirect"),
		"page/other.html":     []byte("<p>served as it is"),
		"a name with%20 in":   []byte("space and percent"),
		"sub/dir/ü#fragment":  []byte("not a fragment"),
		"sub/dir/file.gz":     {0x1f, 0x8b, 8},
		"sub/dir/plus+amp&eq": []byte("not a query"),
	}
	if runtime.GOOS != "windows" {
		contents["sub/q?x=y"] = []byte("not a query either")
	}
	for name, content := range contents {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func testConfig(t *testing.T) Config {
	return Config{
		Dir:     testTree(t),
		Clients: 4,
		Direct:  true,
		Mux:     &mux.Config{Protocol: mux.Protocol1},
	}
}

func TestEveryFileArrives(t *testing.T) {
	for _, protocol := range []mux.Protocol{mux.Protocol1, mux.ProtocolVT} {
		t.Run(protocol.String(), func(t *testing.T) { everyFileArrives(t, protocol) })
	}
}

func everyFileArrives(t *testing.T, protocol mux.Protocol) {
	config := testConfig(t)
	config.Mux = &mux.Config{Protocol: protocol}
	report, err := Execute(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]*Run{"mux": report.Mux, "direct": report.Direct} {
		if run.Files < 9 || run.Bytes < 1<<20 || run.Clients < 4 || run.P50 <= 0 || run.P99 < run.P50 {
			t.Errorf("%s: %+v", name, run)
		}
	}
	var table strings.Builder
	if err := report.Print(&table); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{"requests/s", "latency p99", "transport connections", "added by the mux"} {
		if !strings.Contains(table.String(), row) {
			t.Errorf("the table has no row %q:\n%s", row, &table)
		}
	}
}

func TestNoMoreClientsThanFiles(t *testing.T) {
	config := testConfig(t)
	config.Clients, config.Files = 64, 3
	report, err := Execute(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if report.Mux.Files != 3 || report.Mux.Clients < 3 {
		t.Errorf("%d files by %d clients, want 3 by 3", report.Mux.Files, report.Mux.Clients)
	}
}

// TestBrokenBackendFails breaks the backend in every way that a multiplexer could break the bytes.
func TestBrokenBackendFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
	}{
		{"one bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "SHA-256"},
		{"one byte less", func(b []byte) []byte { return b[:len(b)-1] }, "ended after 1048575 of 1048576 bytes"},
		{"one byte more", func(b []byte) []byte { return append(b, 0) }, "SHA-256"},
		{"two bytes swapped", func(b []byte) []byte { b[0], b[1] = b[1], b[0]; return b }, "SHA-256"},
		{"nothing", func([]byte) []byte { return nil }, "ended after 0 of"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := testConfig(t)
			config.wrap = damageFile("/big", tt.damage)
			_, err := Execute(t.Context(), config)
			if err == nil || !strings.Contains(err.Error(), "1 of ") || !strings.Contains(err.Error(), "big: ") {
				t.Fatalf("error is %v, want the one file named", err)
			}
		})
	}
}

// damageFile changes what a handler answers to one path.
func damageFile(path string, damage func([]byte) []byte) func(http.Handler) http.Handler {
	return func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				files.ServeHTTP(w, r)
				return
			}
			answer := &recorder{header: w.Header()}
			files.ServeHTTP(answer, r)
			w.Write(damage(answer.Bytes()))
		})
	}
}

// A recorder keeps an answer's body.
type recorder struct {
	bytes.Buffer
	header http.Header
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(int)     {}

func TestMissingFileFails(t *testing.T) {
	config := testConfig(t)
	config.wrap = func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/one" {
				http.NotFound(w, r)
				return
			}
			files.ServeHTTP(w, r)
		})
	}
	if _, err := Execute(t.Context(), config); err == nil || !strings.Contains(err.Error(), "one: 404") {
		t.Errorf("error is %v, want a 404 for one file", err)
	}
}

func TestCompareClients(t *testing.T) {
	for _, tt := range []struct {
		name    string
		dialled []string
		seen    []string
		ok      bool
	}{
		{"the same", []string{"a", "b"}, []string{"b", "a"}, true},
		{"one address for both", []string{"a", "b"}, []string{"a"}, false},
		{"another address", []string{"a", "b"}, []string{"a", "c"}, false},
		{"a client connected twice", []string{"a", "b", "c"}, []string{"a", "b", "c"}, true},
		{"a client did not connect", []string{"a"}, []string{"a"}, false},
		{"one address too many", []string{"a", "b"}, []string{"a", "b", "c"}, false},
	} {
		seen := make(map[string]bool)
		for _, address := range tt.seen {
			seen[address] = true
		}
		if err := compareClients(tt.dialled, seen, 2); (err == nil) != tt.ok {
			t.Errorf("%s: error is %v", tt.name, err)
		}
	}
}
