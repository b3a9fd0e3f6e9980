module github.com/vtmux/vtmux

go 1.25.0

require (
	github.com/google/gofuzz v1.2.0
	github.com/valyala/bytebufferpool v1.0.0
	golang.org/x/net v0.58.0
	golang.org/x/sys v0.47.0
)
