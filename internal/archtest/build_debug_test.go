//go:build vtmuxdebug

package archtest

func init() { builtWith["vtmuxdebug"] = true }
