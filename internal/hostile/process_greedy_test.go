//go:build !linux

package hostile

import "errors"

// giveWay is for Linux alone.
func giveWay() {}

// goFirst is for Linux alone.
func goFirst() error { return errors.ErrUnsupported }
