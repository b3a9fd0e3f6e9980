package demo

import (
	"context"
	"crypto/sha256"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// A file is one to fetch, and what must come.
type file struct {
	path string // relative to the tree, with slashes
	size int64
	sum  [sha256.Size]byte
}

// readTree lists the regular files under dir that the backend can serve, at most limit of them if limit is not 0, and
// hashes them.
func readTree(ctx context.Context, dir string, limit int) ([]file, error) {
	files, err := listTree(dir, limit)
	if err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range files {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return files[i].hash(dir)
		})
	}
	return files, g.Wait()
}

func listTree(dir string, limit int) ([]file, error) {
	var files []file
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// The file system has names that are not UTF-8; fs.FS refuses them, and with it the file server.
		if !fs.ValidPath(path) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.Type().IsRegular() {
			files = append(files, file{path: path})
		}
		if limit > 0 && len(files) == limit {
			return fs.SkipAll
		}
		return nil
	})
	return files, err
}

func (f *file) hash(dir string) error {
	r, err := os.Open(filepath.Join(dir, filepath.FromSlash(f.path)))
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if f.size, err = io.Copy(h, r); err != nil {
		return err
	}
	h.Sum(f.sum[:0])
	return nil
}
