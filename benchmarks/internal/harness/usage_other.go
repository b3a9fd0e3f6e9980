//go:build !linux

package harness

import "errors"

// ownUsage knows of no portable way to ask.
func ownUsage() Usage { return Usage{} }

func foreignUsage(int) (Usage, error) { return Usage{}, errors.ErrUnsupported }
