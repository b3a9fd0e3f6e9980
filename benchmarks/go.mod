module github.com/vtmux/vtmux/benchmarks

go 1.25.0

require github.com/vtmux/vtmux v0.0.0

require (
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/vtmux/vtmux => ../
