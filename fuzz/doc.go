// Package fuzz holds the fuzz targets of the module, all of them in _test files:
//
//   - FuzzDecodeVT, FuzzDecode1: any bytes, cut anywhere, through the frame decoders.
//   - FuzzAddr: addresses, against net/netip.
//   - FuzzSession: two sessions, the applications on them and the transport between them,
//     against a model of byte strings.
//   - FuzzHostile: a peer that sends what it likes, against what PROTOCOL.md says of it.
//
// Each has seeds in testdata/fuzz, which an ordinary go test replays. Most are made by
// seeds_test.go; what a fuzzer has found stands beside them, under a name that says
// what it was. To search for more, for as long as you like:
//
//	go test -run='^$' -fuzz='^FuzzSession$' -fuzztime=1h ./fuzz
package fuzz
