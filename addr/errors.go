package addr

import (
	"fmt"
	"strings"
)

// The kinds of address that an error names.
const (
	kindIP     = "IP address"
	kindSocket = "socket address"
)

// ParseError says why text is not an address.
type ParseError struct {
	Input  string // the text, whole
	Kind   string // what it was parsed as: "IP address" or "socket address"
	Reason string // what is wrong with it, for people
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("addr: invalid %s syntax: %q: %s", e.Kind, e.Input, e.Reason)
}

// newParseError copies s. So the parsers' argument does not escape, and a
// caller who converts bytes to a string for one call does not allocate.
func newParseError[T text](kind string, s T, reason string) error {
	return &ParseError{Input: strings.Clone(string(s)), Kind: kind, Reason: reason}
}

// LengthError says that a binary address has the wrong number of bytes.
type LengthError struct {
	Kind      string // "IP address" or "socket address"
	Got, Want int    // bytes
}

func (e *LengthError) Error() string {
	return fmt.Sprintf("addr: binary %s has %d bytes, want %d", e.Kind, e.Got, e.Want)
}
