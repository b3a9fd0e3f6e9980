package archtest

import (
	"testing"

	"github.com/vtmux/vtmux/internal/leakcheck"
)

// TestMain fails the tests if they leave a goroutine or an open file behind.
func TestMain(m *testing.M) { leakcheck.Main(m, leakcheck.OpenFiles()) }
