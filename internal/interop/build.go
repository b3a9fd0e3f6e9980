package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// binaryName is the package name in the crate's Cargo.toml.
const binaryName = "vtmux-interop-peer"

// Build compiles the crate in the directory crate and returns the path of its program.
//
// The result is kept between runs, outside the source tree, where only this checkout and these dependencies use it: the second run
// takes a fraction of a second. A missing cargo is an error for which errors.Is(err, exec.ErrNotFound) holds.
func Build(ctx context.Context, crate string) (string, error) {
	cargo, err := exec.LookPath("cargo")
	if err != nil {
		return "", err
	}
	target, err := targetDir(crate)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, cargo, "build", "--release", "--locked", "--quiet")
	cmd.Dir = crate
	cmd.Env = append(os.Environ(), "CARGO_TARGET_DIR="+target)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cargo build: %w\n%s", err, bytes.TrimSpace(out))
	}
	name := binaryName
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(target, "release", name), nil
}

// targetDir returns a directory for what cargo makes of the crate.
func targetDir(crate string) (string, error) {
	abs, err := filepath.Abs(crate)
	if err != nil {
		return "", err
	}
	lock, err := os.ReadFile(filepath.Join(crate, "Cargo.lock"))
	if err != nil {
		return "", err
	}
	// The go command caches test results by the files that the test touches. Cargo's reads it can't see, so touch them here.
	sources, err := filepath.Glob(filepath.Join(crate, "src", "*.rs"))
	if err != nil {
		return "", err
	}
	for _, name := range append(sources, filepath.Join(crate, "Cargo.toml")) {
		if _, err := os.Stat(name); err != nil {
			return "", err
		}
	}
	key := sha256.Sum256(append([]byte(abs+"\x00"), lock...))
	name := fmt.Sprintf("vtmux-interop-%x", key[:6])
	if cache, err := os.UserCacheDir(); err == nil {
		dir := filepath.Join(cache, name)
		if os.MkdirAll(dir, 0o755) == nil {
			return dir, nil
		}
	}
	dir := filepath.Join(os.TempDir(), name)
	return dir, os.MkdirAll(dir, 0o755)
}
