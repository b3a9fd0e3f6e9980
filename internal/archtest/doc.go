// Package archtest holds the rules of this house that a compiler does not know: which package may import which, where unsafe
// may stand, how long a file may grow. It has tests only. The rules are tables in rules_test.go, each with its reason; a new
// rule needs a bad example in bad_test.go, so that it is known to be able to fail.
package archtest
