package archtest

import "regexp"

// modulePath is the root module's path. The modules in cmd and benchmarks lie below it.
const modulePath = "github.com/vtmux/vtmux"

// Patterns: "a/..." is the folder a and all below it, "..." is everything, "a/*.go" is as in path.Match.

// library is what users link: nothing in it may print, log or end a program.
var library = []string{"addr/...", "wire/...", "pool/...", "mux/...", "internal/..."}

// A layer says which of our packages a package of the root module may import. The first row that matches counts. What no
// row matches has no place yet: a new folder needs a row.
type layer struct {
	pkg     string
	imports []string // of ours, by any file
	tests   []string // of ours, by _test files in addition
	why     string
}

var layers = []layer{
	{"addr", nil, []string{"internal/..."}, "an address is a value that programs use without the multiplexer"},
	{"wire", []string{"addr"}, []string{"internal/..."}, "the wire format knows the address and nothing else, least of all where its bytes are kept"},
	{"pool", nil, []string{"internal/..."}, "buffers know nothing of what they hold"},
	{"mux", []string{"addr", "wire", "pool", "internal/..."}, nil, "the library stands on its own parts alone"},
	{"internal/...", []string{"addr", "wire", "pool", "internal/..."}, []string{"mux"}, "parts of the library must not know the whole"},
	{"fuzz/...", []string{"addr", "wire", "pool", "mux", "internal/..."}, nil, "fuzz targets use the library, not the commands"},
}

// A thirdParty row allows one module to be required by go.mod, and some of its packages to be imported. Only the root
// module is held to this: whoever embeds vtmux gets these modules and no others.
type thirdParty struct {
	module   string
	packages string
	testOnly bool
	why      string
}

var thirdParties = []thirdParty{
	{"golang.org/x/sys", "golang.org/x/sys/...", false, "socket options and readv"},
	{"github.com/valyala/bytebufferpool", "github.com/valyala/bytebufferpool", false, "buffers of variable size"},
	{"github.com/google/gofuzz", "github.com/google/gofuzz/...", true, "structured fuzzing"},
	{"golang.org/x/net", "golang.org/x/net/nettest", true, "the conformance suite for net.Conn"},
}

// An importBan keeps packages out of some files.
type importBan struct {
	files   []string
	except  []string // files
	tests   bool     // whether _test files are banned too
	imports []string
	why     string
}

var importBans = []importBan{
	// This file does not import unsafe: the name stands here, and in bad_test.go, as data.
	{[]string{"..."}, []string{"wire/overlay_unsafe.go", "internal/xport/direct_unsafe.go"}, true, []string{"unsafe", "C"}, "two files have the unsafe code, one for memory and one for the kernel, so that two files have the proofs"},
	{[]string{"mux/..."}, nil, false, []string{"reflect"}, "reflection allocates and hides what runs"},
	{library, nil, false, []string{"log/..."}, "a library returns errors and counts; what is logged is the program's choice, and no peer can fill a log (hostile peers, R13)"},
	{pure, nil, false, []string{"net", "os", "time", "sync", "sync/atomic"}, "pure decisions: no I/O, clock or lock, so that a table can test every case"},
	{[]string{"wire/..."}, nil, false, []string{"net", "os", "time", "sync", "sync/atomic"}, "the wire format is bytes: no I/O, clock or lock"},
}

// pure files decide and do nothing else.
var pure = []string{"mux/state.go"}

const pureWhy = "pure files start no goroutine and use no channel"

// A callBan keeps calls of some functions of a package out of some files.
type callBan struct {
	files  []string
	except []string // files
	tests  bool     // whether the ban is for _test files; otherwise it is for the others
	pkg    string   // "" for built-in functions
	names  *regexp.Regexp
	why    string
}

var callBans = []callBan{
	{[]string{"..."}, nil, true, "time", regexp.MustCompile(`^Sleep$`), "a test that sleeps is slow or flaky; wait for the event, or in a synctest bubble for a time.After"},
	{library, nil, false, "fmt", regexp.MustCompile(`^Print`), "a library does not write to standard output"},
	{library, nil, false, "", regexp.MustCompile(`^print(ln)?$`), "a library does not write to standard error"},
	{library, []string{"internal/leakcheck/leakcheck.go"}, false, "os", regexp.MustCompile(`^Exit$`), "a library does not end the program"},
}

// A textBan keeps text out of comments, and out of files that are not Go.
type textBan struct {
	text *regexp.Regexp
	why  string
}

var textBans = []textBan{
	{regexp.MustCompile(`\b(TODO|FIXME)\b`), "unfinished work is finished or written down where it is planned"},
	{regexp.MustCompile(`^//go:linkname\b`), "linkname binds to what the standard library does not promise"},
}

// Sizes of non-test files and functions, in lines.
const (
	maxFile = 500
	fileWhy = "a file has one subject; split it by noun or by verb"

	maxFunc = 80
	funcWhy = "a function this long has parts that want names"

	longFunc      = 40
	longFuncShare = 10 // one in so many may be longer than longFunc
	longFuncWhy   = "most functions fit on a screen"
)

const (
	noLayerWhy   = "say in the layers what the package may import"
	noPartyWhy   = "who embeds vtmux gets no more dependencies than the listed"
	replaceWhy   = "a replace is ignored where the module is a dependency: it would build here and nowhere else"
	testOnlyWhy  = "this dependency is for _test files alone"
	notBelowWhy  = "the root module must build without the modules below it"
	unparsedWhy  = "it does not parse"
	otherPathWhy = "the module path decides which imports are ours"
)
