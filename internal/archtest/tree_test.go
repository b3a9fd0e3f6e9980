package archtest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A tree is the whole repository, all modules, every file parsed whatever its build tags.
type tree struct {
	fset    *token.FileSet
	gofiles []*gofile
	texts   []textfile
	modules map[string][]byte // go.mod by the folder that it is in
}

// A gofile is one Go file. Paths have slashes and begin at the repository's root.
type gofile struct {
	path   string
	module string // folder of the innermost go.mod
	lines  int
	ast    *ast.File
}

// A textfile is a file of prose or of another language.
type textfile struct {
	path string
	data []byte
}

// A finding is one broken rule at one place.
type finding struct {
	path string
	line int
	what string
	why  string
}

func (f finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.path, f.line, f.what, f.why)
}

func (f *gofile) test() bool  { return strings.HasSuffix(f.path, "_test.go") }
func (f *gofile) dir() string { return path.Dir(f.path) }

// skipped folders hold what is not ours or not meant to be good.
var skipped = map[string]bool{".git": true, "testdata": true, "vendor": true, "target": true}

// textExts are the names' ends of the files whose whole text is checked.
var textExts = []string{".md", ".rs", ".sh", ".pml", ".toml", ".yml", ".yaml", ".ci/run"}

// load reads the repository. A Go file that does not parse is a finding and not an error, so that the others are checked.
func load(fsys fs.FS) (*tree, []finding, error) {
	t := &tree{fset: token.NewFileSet(), modules: make(map[string][]byte)}
	var bad []finding
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed while we walk: a build or another test at work
		case err != nil:
			return err
		case d.IsDir() && skipped[d.Name()]:
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		isText := slices.ContainsFunc(textExts, func(ext string) bool { return strings.HasSuffix(name, ext) })
		if !isText && path.Ext(name) != ".go" && d.Name() != "go.mod" {
			return nil
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		switch {
		case isText:
			t.texts = append(t.texts, textfile{name, data})
		case d.Name() == "go.mod":
			t.modules[path.Dir(name)] = data
		default:
			file, err := parser.ParseFile(t.fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				bad = append(bad, finding{name, 1, err.Error(), unparsedWhy})
				return nil
			}
			t.gofiles = append(t.gofiles, &gofile{path: name, lines: bytes.Count(data, []byte("\n")), ast: file})
		}
		return nil
	})
	for _, f := range t.gofiles {
		f.module = t.moduleOf(f.dir())
	}
	return t, bad, err
}

// moduleOf returns the folder of the module that dir belongs to.
func (t *tree) moduleOf(dir string) string {
	for dir != "." {
		if _, ok := t.modules[dir]; ok {
			return dir
		}
		dir = path.Dir(dir)
	}
	return dir
}

// at makes a finding at a place in a Go file.
func (t *tree) at(pos token.Pos, why, format string, args ...any) finding {
	p := t.fset.Position(pos)
	return finding{p.Filename, p.Line, fmt.Sprintf(format, args...), why}
}

// importsOf yields the imports of a file with their unquoted paths.
func importsOf(f *gofile) func(yield func(*ast.ImportSpec, string) bool) {
	return func(yield func(*ast.ImportSpec, string) bool) {
		for _, spec := range f.ast.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				panic("BUG: parsed import is not a string: " + spec.Path.Value)
			}
			if !yield(spec, name) {
				return
			}
		}
	}
}

// ours returns the folder of an imported package of this repository, and reports whether it is one.
func ours(name string) (dir string, ok bool) {
	if name == modulePath {
		return ".", true
	}
	return strings.CutPrefix(name, modulePath+"/")
}

// isStd reports whether a package is the standard library's: all others have a dot in their first element.
func isStd(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".")
}

// match reports whether name matches one of the patterns.
func match(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if dir, ok := strings.CutSuffix(p, "..."); ok {
			return strings.HasPrefix(name+"/", dir)
		}
		ok, err := path.Match(p, name)
		if err != nil {
			panic("BUG: pattern " + p)
		}
		return ok
	})
}

func sortFindings(found []finding) {
	slices.SortFunc(found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.line, b.line), cmp.Compare(a.what, b.what))
	})
}
