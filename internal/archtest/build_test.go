package archtest

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// builtWith has the build tags that this test binary was built with, of those that jobs ask for.
var builtWith = map[string]bool{}

// Jobs say in the environment what they test. A race job without -race would pass for years; here it fails.
func TestTheBuildIsWhatTheJobSays(t *testing.T) {
	for variable, is := range map[string]string{
		"VTMUX_EXPECT_RACE":   strconv.FormatBool(builtWith["race"]),
		"VTMUX_EXPECT_ASAN":   strconv.FormatBool(builtWith["asan"]),
		"VTMUX_EXPECT_DEBUG":  strconv.FormatBool(builtWith["vtmuxdebug"]),
		"VTMUX_EXPECT_GOARCH": runtime.GOARCH,
	} {
		if err := expect(variable, os.Getenv(variable), is); err != nil {
			t.Error(err)
		}
	}
}

// expect compares what a variable says, as "1" for true, with what is.
func expect(variable, says, is string) error {
	if says == "1" {
		says = "true"
	}
	if says != "" && says != is {
		return fmt.Errorf("%s says %s, this build is %s", variable, says, is)
	}
	return nil
}

func TestExpectationsCanFail(t *testing.T) {
	for _, tt := range []struct {
		says, is string
		ok       bool
	}{
		{"", "false", true},
		{"1", "true", true},
		{"1", "false", false},
		{"s390x", "s390x", true},
		{"s390x", "amd64", false},
	} {
		if err := expect("X", tt.says, tt.is); (err == nil) != tt.ok {
			t.Errorf("X=%s in a build that is %s: %v", tt.says, tt.is, err)
		}
	}
}
