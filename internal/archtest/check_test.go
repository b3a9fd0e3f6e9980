package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"slices"
	"strings"
)

// check reads a repository and returns every place where it breaks a rule.
func check(fsys fs.FS) (*tree, []finding, error) {
	t, found, err := load(fsys)
	if err != nil {
		return nil, nil, err
	}
	for _, rule := range []func(*tree) []finding{
		checkLayers, checkThirdParties, checkImportBans, checkCallBans, checkPure, checkText, checkSizes, checkModule,
	} {
		found = append(found, rule(t)...)
	}
	sortFindings(found)
	return t, found, nil
}

func checkLayers(t *tree) (found []finding) {
	for _, f := range t.gofiles {
		if f.module != "." {
			continue
		}
		i := slices.IndexFunc(layers, func(l layer) bool { return match([]string{l.pkg}, f.dir()) })
		if i < 0 {
			found = append(found, t.at(f.ast.Package, noLayerWhy, "folder %s is in no layer", f.dir()))
			continue
		}
		may := layers[i].imports
		if f.test() {
			may = append(slices.Clone(may), layers[i].tests...)
		}
		for spec, name := range importsOf(f) {
			dir, ok := ours(name)
			switch {
			case !ok || dir == f.dir(): // an external test imports what it tests
			case t.moduleOf(dir) != ".":
				found = append(found, t.at(spec.Pos(), notBelowWhy, "imports %s", dir))
			case !match(may, dir):
				found = append(found, t.at(spec.Pos(), layers[i].why, "imports %s", dir))
			}
		}
	}
	return found
}

func checkThirdParties(t *tree) (found []finding) {
	for _, f := range t.gofiles {
		if f.module != "." {
			continue
		}
		for spec, name := range importsOf(f) {
			if _, ok := ours(name); ok || isStd(name) {
				continue
			}
			i := slices.IndexFunc(thirdParties, func(p thirdParty) bool { return match([]string{p.packages}, name) })
			switch {
			case i < 0:
				found = append(found, t.at(spec.Pos(), noPartyWhy, "imports %s", name))
			case thirdParties[i].testOnly && !f.test():
				found = append(found, t.at(spec.Pos(), testOnlyWhy, "imports %s", name))
			}
		}
	}
	return found
}

func checkImportBans(t *tree) (found []finding) {
	for _, f := range t.gofiles {
		for _, ban := range importBans {
			if !match(ban.files, f.path) || match(ban.except, f.path) || f.test() && !ban.tests {
				continue
			}
			for spec, name := range importsOf(f) {
				if match(ban.imports, name) {
					found = append(found, t.at(spec.Pos(), ban.why, "imports %s", name))
				}
			}
		}
	}
	return found
}

func checkCallBans(t *tree) (found []finding) {
	for _, f := range t.gofiles {
		for _, ban := range callBans {
			if !match(ban.files, f.path) || match(ban.except, f.path) || f.test() != ban.tests {
				continue
			}
			for pos, name := range usesOf(f, ban.pkg) {
				if ban.names.MatchString(name) {
					found = append(found, t.at(pos, ban.why, "uses %s", strings.TrimPrefix(ban.pkg+"."+name, ".")))
				}
			}
		}
	}
	return found
}

// usesOf yields the names that a file uses of a standard library package, or for the package "" the names that it calls
// without one. To mention a function is to use it: it may be called elsewhere.
func usesOf(f *gofile, pkg string) func(yield func(token.Pos, string) bool) {
	local := pkg
	for spec, name := range importsOf(f) {
		if name == pkg && spec.Name != nil {
			local = spec.Name.Name
		}
	}
	return func(yield func(token.Pos, string) bool) {
		more := true
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && pkg != "" && x.Name == local {
					more = more && yield(n.Pos(), n.Sel.Name)
				}
			case *ast.CallExpr:
				// With a dot import the package's names are called without one, too.
				if x, ok := n.Fun.(*ast.Ident); ok && (pkg == "" || local == ".") {
					more = more && yield(n.Pos(), x.Name)
				}
			}
			return more
		})
	}
}

func checkPure(t *tree) (found []finding) {
	for _, f := range t.gofiles {
		if !match(pure, f.path) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
				found = append(found, t.at(n.Pos(), pureWhy, "has a goroutine or a channel"))
			}
			return true
		})
	}
	return found
}

func checkText(t *tree) (found []finding) {
	for _, f := range t.gofiles {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				for i, line := range strings.Split(c.Text, "\n") {
					for _, ban := range textBans {
						if s := ban.text.FindString(line); s != "" {
							at := t.at(c.Pos(), ban.why, "says %s", s)
							at.line += i
							found = append(found, at)
						}
					}
				}
			}
		}
	}
	for _, f := range t.texts {
		for i, line := range bytes.Split(f.data, []byte("\n")) {
			for _, ban := range textBans {
				if s := ban.text.Find(line); s != nil {
					found = append(found, finding{f.path, i + 1, fmt.Sprintf("says %s", s), ban.why})
				}
			}
		}
	}
	return found
}

func checkSizes(t *tree) (found []finding) {
	for dir := range t.modules {
		funcs, long := 0, []string(nil)
		for _, f := range t.gofiles {
			if f.module != dir || f.test() {
				continue
			}
			if f.lines > maxFile {
				found = append(found, finding{f.path, f.lines, fmt.Sprintf("the file has %d lines, %d at most", f.lines, maxFile), fileWhy})
			}
			for _, decl := range f.ast.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				funcs++
				n := t.fset.Position(fn.End()).Line - t.fset.Position(fn.Pos()).Line + 1
				if n > longFunc {
					long = append(long, fn.Name.Name)
				}
				if n > maxFunc {
					found = append(found, t.at(fn.Pos(), funcWhy, "%s has %d lines, %d at most", fn.Name.Name, n, maxFunc))
				}
			}
		}
		// One long function is never too many, or a module would have to begin with ten.
		if len(long) > max(1, funcs/longFuncShare) {
			found = append(found, finding{dir + "/go.mod", 1,
				fmt.Sprintf("%d of %d functions have more than %d lines: %s", len(long), funcs, longFunc, strings.Join(long, ", ")), longFuncWhy})
		}
	}
	return found
}

// checkModule holds the root go.mod to the module path and to the listed modules. It reads the file by itself, because the
// parser for it is not in the standard library.
func checkModule(t *tree) (found []finding) {
	mod, block := t.modules["."], ""
	say := func(i int, why, format string, args ...any) {
		found = append(found, finding{"go.mod", i + 1, fmt.Sprintf(format, args...), why})
	}
	for i, line := range strings.Split(string(mod), "\n") {
		code, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(code)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		switch words[0] {
		case "module":
			if words[1] != modulePath {
				say(i, otherPathWhy, "the module is %s, not %s", words[1], modulePath)
			}
		case "replace":
			say(i, replaceWhy, "replaces %s", words[1])
		case "require":
			listed := slices.ContainsFunc(thirdParties, func(p thirdParty) bool { return p.module == words[1] })
			if !listed && strings.TrimSpace(comment) != "indirect" {
				say(i, noPartyWhy, "requires %s", words[1])
			}
		}
	}
	return found
}
