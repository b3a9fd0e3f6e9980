//go:build !linux

package adapter

import "net"

// tcpBytes has no kernel to ask.
func tcpBytes(net.Conn) (uint64, bool) { return 0, false }
