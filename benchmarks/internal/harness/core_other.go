//go:build !linux

package harness

import "errors"

// useOneCore is for Linux: other systems don't let a process choose its core, or each in a way of its own.
func useOneCore() (restore func(), err error) { return nil, errors.ErrUnsupported }
