package archtest

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// readmeBlock matches a code block of README.md that has a name.
	readmeBlock = regexp.MustCompile("(?s)<!-- example: (\\w+) -->\n```go\n(.*?)```\n")
	// exampleRegion matches a marked region of the example test.
	exampleRegion = regexp.MustCompile("(?s)\n// README: (\\w+)\n\n(.*?)\n// README: end\n")
	// readmeName matches what README.md says of the API: pkg.Name, (*Type).Method.
	readmeName = regexp.MustCompile(`\b(mux|addr)\.([A-Z]\w*)|\(\*(\w+)\)\.(\w+)`)
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// blocks returns the named texts that re finds.
func blocks(re *regexp.Regexp, text string) map[string]string {
	found := make(map[string]string)
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		found[m[1]] = m[2]
	}
	return found
}

// What README.md shows is compiled and run, as part of an example test.
func TestReadmeShowsTheExamples(t *testing.T) {
	shown := blocks(readmeBlock, read(t, "README.md"))
	tested := blocks(exampleRegion, read(t, "mux/example_test.go"))
	for _, name := range []string{"opening", "accepting"} {
		if shown[name] == "" {
			t.Errorf("README.md has no block %q", name)
		}
	}
	for name, text := range shown {
		if text != tested[name] {
			t.Errorf("block %q of README.md differs from mux/example_test.go, where it is\n%s", name, tested[name])
		}
	}
}

// What README.md names exists.
func TestReadmeNamesTheAPI(t *testing.T) {
	tree, _, err := load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	api := exported(tree)
	names := readmeName.FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(names) < 10 {
		t.Errorf("README.md names %d things of the API", len(names))
	}
	for _, m := range names {
		name := m[1] + "." + m[2]
		if m[3] != "" {
			name = "mux." + m[3] + "." + m[4]
		}
		if !slices.Contains(api, name) {
			t.Errorf("README.md says %s, and there is no %s", m[0], name)
		}
	}
}

// exported returns what mux and addr export at the top level, as pkg.Name and pkg.Type.Method.
func exported(t *tree) (names []string) {
	for _, f := range t.gofiles {
		if dir := f.dir(); f.test() || dir != "mux" && dir != "addr" {
			continue
		}
		pkg := f.ast.Name.Name + "."
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				names = append(names, pkg+receiver(d)+d.Name.Name)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						names = append(names, pkg+s.Name.Name)
					case *ast.ValueSpec:
						for _, id := range s.Names {
							names = append(names, pkg+id.Name)
						}
					}
				}
			}
		}
	}
	return names
}

// receiver returns "Type." for a method and "" for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if id, ok := typ.(*ast.Ident); ok {
		return id.Name + "."
	}
	return ""
}

func TestReadmeChecksCanFail(t *testing.T) {
	text := "<!-- example: a -->\n```go\ncode\n```\n`mux.Nothing` and `(*Conn).Missing`"
	if got := blocks(readmeBlock, text)["a"]; got != "code\n" {
		t.Errorf("block is %q", got)
	}
	if got := blocks(exampleRegion, "x\n// README: a\n\ncode\n\n// README: end\n")["a"]; strings.TrimSpace(got) != "code" {
		t.Errorf("region is %q", got)
	}
	if got := len(readmeName.FindAllString(text, -1)); got != 2 {
		t.Errorf("%d names", got)
	}
}
