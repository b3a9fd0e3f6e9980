package archtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// good is a repository that keeps every rule. Its imports, and those of the bad ones below, are text: this file
// itself does not import unsafe, and has no unsafe code.
var good = map[string]string{
	"go.mod": `module github.com/vtmux/vtmux

require golang.org/x/sys v0.1.0

require (
	github.com/google/gofuzz v1.0.0
	example.com/other v1.0.0 // indirect
)
`,
	"addr/addr.go":           "package addr\n\nimport \"net\"\n",
	"addr/addr_test.go":      "package addr_test\n\nimport (\n\t\"unicode\"\n\t\"github.com/vtmux/vtmux/addr\"\n\t\"github.com/vtmux/vtmux/internal/leakcheck\"\n)\n",
	"wire/overlay_unsafe.go": "package wire\n\nimport (\n\t\"unsafe\"\n\t\"github.com/vtmux/vtmux/addr\"\n)\n",
	"mux/state.go":           "package mux\n\nimport \"errors\"\n\nfunc f() { sleep.Sleep() }\n",
	"mux/conn.go":            "package mux\n\nimport (\n\t\"golang.org/x/sys/unix\"\n\t\"github.com/vtmux/vtmux/internal/park\"\n)\n\nvar ok = \"TODO\"\n",
	"internal/a/a_test.go":   "package a\n\nimport (\n\t\"log\"\n\t\"github.com/google/gofuzz\"\n\t\"github.com/vtmux/vtmux/mux\"\n)\n\nfunc f() { fmt.Println(context.TODO()) }\n",
	"cmd/go.mod":             "module github.com/vtmux/vtmux/cmd\n\nrequire example.com/x v1.0.0\n\nreplace github.com/vtmux/vtmux => ../\n",
	"cmd/main.go":            "package main\n\nimport (\n\t\"log\"\n\t\"example.com/x\"\n\t\"github.com/vtmux/vtmux/mux\"\n)\n",
	"mux/testdata/x.go":      "not Go at all",
}

// inspect checks the good repository with some files added or replaced.
func inspect(t *testing.T, files map[string]string) []finding {
	t.Helper()
	fsys := fstest.MapFS{}
	for _, m := range []map[string]string{good, files} {
		for name, text := range m {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	_, found, err := check(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// importing returns a file of a package that imports one thing.
func importing(pkg, name string) string {
	return fmt.Sprintf("package %s\n\nimport %q\n", pkg, name)
}

// lines returns a file with a function of n lines.
func lines(name string, n int) string {
	return "package p\n\nfunc " + name + "() {" + strings.Repeat("\n", n-1) + "}\n"
}

const our = modulePath + "/"

// bad are files that break one rule each, and the one finding that they must give.
var bad = []struct {
	name  string
	files map[string]string
	want  string // how the finding begins
}{
	{"addr imports ours", map[string]string{"addr/x.go": importing("addr", our+"pool")}, "addr/x.go:3: imports pool"},
	{"addr's test imports the wire", map[string]string{"addr/x_test.go": importing("addr", our+"wire")}, "addr/x_test.go:3: imports wire"},
	{"wire imports pool", map[string]string{"wire/x.go": importing("wire", our+"pool")}, "wire/x.go:3: imports pool"},
	{"wire imports the root", map[string]string{"wire/x.go": importing("wire", modulePath)}, "wire/x.go:3: imports ."},
	{"pool imports wire", map[string]string{"pool/x.go": importing("pool", our+"wire")}, "pool/x.go:3: imports wire"},
	{"mux imports a fuzz target", map[string]string{"mux/x.go": importing("mux", our+"fuzz")}, "mux/x.go:3: imports fuzz"},
	{"internal imports mux", map[string]string{"internal/a/x.go": importing("a", our+"mux")}, "internal/a/x.go:3: imports mux"},
	{"fuzz imports what is not there", map[string]string{"fuzz/x.go": importing("fuzz", our+"other")}, "fuzz/x.go:3: imports other"},
	{"mux imports a command", map[string]string{"mux/x_test.go": importing("mux", our+"cmd/vtmux")}, "mux/x_test.go:3: imports cmd/vtmux"},
	{"fuzz imports the benchmarks", map[string]string{
		"benchmarks/go.mod": "module github.com/vtmux/vtmux/benchmarks\n",
		"fuzz/x_test.go":    importing("fuzz", our+"benchmarks"),
	}, "fuzz/x_test.go:3: imports benchmarks"},
	{"folder without a layer", map[string]string{"util/x.go": "package util\n"}, "util/x.go:1: folder util"},
	{"package at the root", map[string]string{"x.go": "package vtmux\n"}, "x.go:1: folder ."},

	{"unlisted dependency", map[string]string{"mux/x.go": importing("mux", "example.com/x")}, "mux/x.go:3: imports example.com/x"},
	{"unlisted package of a listed module", map[string]string{"mux/x_test.go": importing("mux", "golang.org/x/net/http2")}, "mux/x_test.go:3: imports golang.org/x/net/http2"},
	{"test dependency in the library", map[string]string{"mux/x.go": importing("mux", "golang.org/x/net/nettest")}, "mux/x.go:3: imports golang.org/x/net/nettest"},
	{"unlisted requirement", map[string]string{"go.mod": "module " + modulePath + "\nrequire (\n\texample.com/x v1.0.0\n)\n"}, "go.mod:3: requires example.com/x"},
	{"unlisted requirement on one line", map[string]string{"go.mod": "module " + modulePath + "\nrequire example.com/x v1.0.0\n"}, "go.mod:2: requires example.com/x"},
	{"replace in the root", map[string]string{"go.mod": "module " + modulePath + "\nreplace golang.org/x/sys => ../sys\n"}, "go.mod:2: replaces golang.org/x/sys"},
	{"another module path", map[string]string{"go.mod": "module example.com/fork\n"}, "go.mod:1: the module is example.com/fork"},

	{"unsafe in another file", map[string]string{"wire/x.go": importing("wire", "unsafe")}, "wire/x.go:3: imports unsafe"},
	{"unsafe in a test", map[string]string{"mux/x_test.go": importing("mux", "unsafe")}, "mux/x_test.go:3: imports unsafe"},
	{"unsafe in a command", map[string]string{"cmd/x.go": importing("main", "unsafe")}, "cmd/x.go:3: imports unsafe"},
	{"unsafe behind a build tag", map[string]string{"mux/x.go": "//go:build never\n\n" + importing("mux", "unsafe")}, "mux/x.go:5: imports unsafe"},
	{"cgo", map[string]string{"internal/a/x.go": importing("a", "C")}, "internal/a/x.go:3: imports C"},
	{"linkname", map[string]string{"pool/x.go": "package pool\n\n//go:linkname f runtime.f\nfunc f()\n"}, "pool/x.go:3: says //go:linkname"},
	{"mux reflects", map[string]string{"mux/x.go": importing("mux", "reflect")}, "mux/x.go:3: imports reflect"},
	{"mux logs", map[string]string{"mux/x.go": importing("mux", "log")}, "mux/x.go:3: imports log"},
	{"internal logs", map[string]string{"internal/a/x.go": importing("a", "log/slog")}, "internal/a/x.go:3: imports log/slog"},
	{"state knows the clock", map[string]string{"mux/state.go": importing("mux", "time")}, "mux/state.go:3: imports time"},
	{"state locks", map[string]string{"mux/state.go": importing("mux", "sync/atomic")}, "mux/state.go:3: imports sync/atomic"},
	{"state starts a goroutine", map[string]string{"mux/state.go": "package mux\n\nfunc f() { go f() }\n"}, "mux/state.go:3: has a goroutine"},
	{"state has a channel", map[string]string{"mux/state.go": "package mux\n\nvar c chan int\n"}, "mux/state.go:3: has a goroutine or a channel"},
	{"wire does I/O", map[string]string{"wire/x.go": importing("wire", "net")}, "wire/x.go:3: imports net"},

	{"test sleeps", map[string]string{"cmd/x_test.go": "package main\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"}, "cmd/x_test.go:5: uses time.Sleep"},
	{"test sleeps by another name", map[string]string{"mux/x_test.go": "package mux\n\nimport tm \"time\"\n\nvar f = tm.Sleep\n"}, "mux/x_test.go:5: uses time.Sleep"},
	{"test sleeps without a name", map[string]string{"mux/x_test.go": "package mux\n\nimport . \"time\"\n\nfunc f() { Sleep(1) }\n"}, "mux/x_test.go:5: uses time.Sleep"},
	{"library prints", map[string]string{"pool/x.go": "package pool\n\nimport \"fmt\"\n\nfunc f() { fmt.Printf(\"\") }\n"}, "pool/x.go:5: uses fmt.Printf"},
	{"library prints by itself", map[string]string{"addr/x.go": "package addr\n\nfunc f() { println(1) }\n"}, "addr/x.go:3: uses println"},
	{"library exits", map[string]string{"mux/x.go": "package mux\n\nimport \"os\"\n\nfunc f() { os.Exit(1) }\n"}, "mux/x.go:5: uses os.Exit"},

	{"marker in a comment", map[string]string{"cmd/x.go": "package main\n\n/*\nText. TODO: more.\n*/\n"}, "cmd/x.go:4: says TODO"},
	{"marker in a test", map[string]string{"mux/x_test.go": "package mux // FIXME\n"}, "mux/x_test.go:1: says FIXME"},
	{"marker in prose", map[string]string{"docs/X.md": "# X\n\nTODO\n"}, "docs/X.md:3: says TODO"},
	{"marker in a script", map[string]string{".ci/run": "#!/bin/bash\n# FIXME\n"}, ".ci/run:2: says FIXME"},

	{"long file", map[string]string{"cmd/x.go": "package main\n" + strings.Repeat("\n", maxFile)}, "cmd/x.go:501: the file has 501 lines"},
	{"long function", map[string]string{"mux/x.go": lines("f", maxFunc+1)}, "mux/x.go:3: f has 81 lines"},
	{"too many long functions", map[string]string{"mux/x.go": lines("f", 41), "mux/y.go": lines("g", 41)}, "./go.mod:1: 2 of 3 functions have more than 40 lines: f, g"},
	{"broken file", map[string]string{"mux/x.go": "pakage mux\n"}, "mux/x.go:1: "},
}

func TestGoodRepositoryPasses(t *testing.T) {
	for _, f := range inspect(t, nil) {
		t.Error(f)
	}
}

func TestBadExamplesAreFound(t *testing.T) {
	for _, tt := range bad {
		t.Run(tt.name, func(t *testing.T) {
			found := inspect(t, tt.files)
			if len(found) != 1 || !strings.HasPrefix(found[0].String(), tt.want) {
				t.Errorf("found %q, want one that begins %q", found, tt.want)
			}
		})
	}
}

func TestWhatIsAtTheLimitPasses(t *testing.T) {
	for _, f := range inspect(t, map[string]string{
		"mux/x.go": lines("f", maxFunc),
		"mux/y.go": lines("g", longFunc),
		"mux/z.go": "package mux\n" + strings.Repeat("\n", maxFile-1),
		// Tests may be of any length.
		"mux/x_test.go": lines("f", maxFile+1),
	}) {
		t.Error(f)
	}
}

// Each row of the tables must have a bad example: a rule that can't fail is none.
func TestEveryRuleHasABadExample(t *testing.T) {
	reasons := map[string]bool{
		pureWhy: true, fileWhy: true, funcWhy: true, longFuncWhy: true, noLayerWhy: true, noPartyWhy: true,
		replaceWhy: true, testOnlyWhy: true, notBelowWhy: true, unparsedWhy: true, otherPathWhy: true,
	}
	for _, r := range layers {
		reasons[r.why] = true
	}
	for _, r := range importBans {
		reasons[r.why] = true
	}
	for _, r := range callBans {
		reasons[r.why] = true
	}
	for _, r := range textBans {
		reasons[r.why] = true
	}
	for _, tt := range bad {
		for _, f := range inspect(t, tt.files) {
			delete(reasons, f.why)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		t.Errorf("no bad example for the rule: %s", why)
	}
}
