// Package interop runs vtmux against the Rust crate vt-muxer over real TCP connections.
//
// The crate's end is the program in peer/, a child process that is told on its stdin what to open and what to say, and that
// reports on its stdout, one JSON object a line. This file's neighbours build it, run it and compute the bytes that both ends
// send; the tests hold the rest.
package interop
