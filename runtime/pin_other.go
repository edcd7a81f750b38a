//go:build !linux

package runtime

// Pin does nothing: this system has no thread affinity.
func Pin([]int) error { return nil }
