//go:build linux && (amd64 || arm64) && !race && !msan && !asan

package xport

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// direct tells that sockets are read and written by system calls of which the scheduler
// is not told.
//
// Package syscall tells it of each call, which may block. A process that has nothing to
// do between two messages pays for that with every one: the runtime's monitor has gone to
// sleep, the first call wakes it, and its thread takes a core from whoever has it, often
// the peer. That was 5 of the 22 µs of a round trip on one core, and a quarter of the CPU
// time of 16 conversations (docs/PERFORMANCE.md).
//
// A call that doesn't wait for the peer needs no monitor. Each of these has MSG_DONTWAIT, so
// it doesn't even where somebody has made the socket a blocking one, as (*os.File).Fd has done
// for long. What it takes is the time of a copy, and at times that of another one, where the
// leader and the flusher meet at the socket's lock. Meanwhile no other goroutine on this P, and
// no garbage collection, gets its turn: so one call is given the flusher's quantum at most. A
// page that has to be fetched for it holds up the thread, as it would for a copy in Go.
//
// What else the monitor does is seen to in monitor.go.
//
// The sanitizers don't see what these calls read and write, so their builds use others.
//
// The unsafe code stands here and not in wire, which knows no I/O: packages syscall and
// x/sys/unix have no call that reads or writes bytes and is not told to the scheduler.
const direct = true

// Safety of the four functions below. Each hands the kernel one pointer.
//
//  1. The conversion to uintptr stands in the argument list of a call implemented in
//     assembly, so that the compiler keeps what it points to where it is, and alive, until the
//     call returns (pattern 4 of package unsafe; RawSyscall6 is marked for it).
//  2. The kernel keeps no pointer: with MSG_DONTWAIT it copies before it returns. Nothing
//     here asks for MSG_ZEROCOPY.
//  3. A slice's pointer and length come from the same slice: the kernel touches len(p) bytes
//     from its first. Checked by TestCallsStayWithinTheirSlices.
//  4. A Msghdr's pointers are Go pointers in Go's own struct, so the collector sees them; what
//     they lead to, and how long it is, comes from one slice each, by vector.set. Checked by
//     the same test, and by TestScratchKeepsNoSlice.
//  5. The kernel refuses what is not the program's memory with EFAULT, and never more than
//     that; p may be anything that a Go program can have.

// recvNow reads into p what has been received, without waiting.
func recvNow(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
	return result(n, errno)
}

// sendNow writes of p what there is room for, without waiting.
func sendNow(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return result(n, errno)
}

// recvmsgNow is recvNow for a vector.
func recvmsgNow(fd uintptr, h *unix.Msghdr) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT, 0, 0, 0)
	return result(n, errno)
}

// sendmsgNow is sendNow for a vector.
func sendmsgNow(fd uintptr, h *unix.Msghdr) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
	return result(n, errno)
}
