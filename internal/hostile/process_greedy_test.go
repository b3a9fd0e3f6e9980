//go:build !linux

package hostile

// giveWay is for Linux alone.
func giveWay() {}
