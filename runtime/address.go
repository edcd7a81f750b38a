package runtime

import "unsafe"

// address is where a slice's memory begins.
func address(b []byte) int { return int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
