package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/vtmux/vtmux/benchmarks/internal/adapter"
)

// A machine is what the values were measured on, and with what.
type machine struct {
	CPU, Kernel, OS, Arch, Go string
	Cores                     int
	Date                      string
	Commit                    string            // vtmux's
	Versions                  map[string]string // of the libraries
}

func thisMachine(libraries []adapter.Adapter) machine {
	m := machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), Cores: runtime.NumCPU(),
		CPU: cpuModel(), Kernel: firstLine("/proc/sys/kernel/osrelease"),
		Date: time.Now().UTC().Format(time.DateOnly), Commit: commit(),
		Versions: map[string]string{},
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return m
	}
	for _, a := range libraries {
		for _, dep := range build.Deps {
			if dep.Path == a.Module {
				m.Versions[a.Name] = dep.Version
			}
		}
	}
	return m
}

// line says it in one.
func (m machine) line() string {
	return fmt.Sprintf("%s, %d cores, %s/%s, kernel %s, %s", cmp.Or(m.CPU, "unknown processor"), m.Cores, m.OS, m.Arch, cmp.Or(m.Kernel, "unknown"), m.Go)
}

func cpuModel() string {
	p, _ := os.ReadFile("/proc/cpuinfo")
	for lines := bufio.NewScanner(bytes.NewReader(p)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstLine(file string) string {
	p, _ := os.ReadFile(file)
	line, _, _ := strings.Cut(string(p), "\n")
	return line
}

// commit asks git, for the build does not know where it is run by `go run`.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
