//go:build race

package archtest

func init() { builtWith["race"] = true }
