package adapter

import (
	"net"

	"golang.org/x/sys/unix"
)

// tcpBytes gives how many bytes a TCP connection has carried, both ways.
func tcpBytes(c net.Conn) (n uint64, ok bool) {
	t, isTCP := c.(*net.TCPConn)
	if !isTCP {
		return 0, false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n, ok = info.Bytes_sent+info.Bytes_received, true
		}
	})
	return n, ok && err == nil
}
