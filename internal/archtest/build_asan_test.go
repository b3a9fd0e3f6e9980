//go:build asan

package archtest

func init() { builtWith["asan"] = true }
