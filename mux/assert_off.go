//go:build !vtmuxdebug

package mux

// Only a debug build checks these invariants (assert_on.go). Here they are empty, and
// cost nothing.

type leaderCheck struct{}

func (leaderCheck) begin(*waiter) {}
func (leaderCheck) end(*waiter)   {}

type flusherCheck struct{}

func (flusherCheck) take()  {}
func (flusherCheck) leave() {}
func (flusherCheck) must()  {}

func (t *readToken) assertLocked() {}

func (o *writeSide) assertSettled() {}
func (o *writeSide) assertLent()    {}
