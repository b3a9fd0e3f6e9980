//go:build !linux

package hostile

import "errors"

// giveWay is for Linux alone.
func giveWay() error { return nil }

// goFirst is for Linux alone.
func goFirst() error { return errors.ErrUnsupported }
