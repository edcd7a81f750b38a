package ort

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onCores calls f on a thread that is pinned to the given cores, as are threads that f starts; none means any.
func onCores(cores []int, f func() error) error {
	var before, set unix.CPUSet
	if len(cores) == 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("reading the cores of a thread: %w", err)
	}
	for _, c := range cores {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pinning a provider's threads to cores %v: %w", cores, err)
	}
	defer unix.SchedSetaffinity(0, &before)
	return f()
}
