package wire

// SliceOf returns b as a slice of T: as many as b holds whole. Bytes that remain
// at the end are left out. The result aliases b; it is nil if b holds not even
// one.
func SliceOf[T Layout](b []byte) []T {
	n := len(b) / SizeOf[T]()
	if n == 0 {
		return nil
	}
	return extend[T](b, n)
}
