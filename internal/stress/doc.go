// Package stress is a test of vtmux over real sockets: 64 sessions at a time, each with many connections whose two ends
// read, write, set deadlines, half-close, close, reset and drop them at random, over transports that are cut, reset or
// stalled at random. Every byte is checked where it is read, for its place in its stream, and every error for its right to
// be there. It is made for the race detector.
//
// In go test ./... it is a short piece, bounded by its operations. For long:
//
//	go test -race -timeout 0 ./internal/stress -run TestStress -v -stress.time 30m
//
// It runs with GOMAXPROCS 1, 2 and 4 in turn, begins a new round with a new seed until the time is over, and shows a line
// of progress each few seconds. A failure tells its seed, which -stress.seed takes: what is done then is the same, though
// the kernel and the scheduler still have their say in the order.
package stress
