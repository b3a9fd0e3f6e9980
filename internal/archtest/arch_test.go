package archtest

import (
	"os"
	"slices"
	"testing"
)

// root is the repository, seen from this folder.
const root = "../.."

func TestTheHouseKeepsItsRules(t *testing.T) {
	tree, found, err := check(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	// An empty tree keeps every rule: make sure that this is the right one.
	if tree.modules["."] == nil || !slices.ContainsFunc(tree.gofiles, func(f *gofile) bool { return f.path == "internal/archtest/doc.go" }) {
		t.Fatalf("%s is not the repository: %d Go files, modules %d", root, len(tree.gofiles), len(tree.modules))
	}
	for _, f := range found {
		t.Error(f)
	}
}
