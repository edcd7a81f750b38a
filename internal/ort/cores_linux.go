package ort

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// cores are the cores that this process may use, as it was started: read
// before anything can pin a thread.
var cores = allowedCores()

func allowedCores() []int {
	var set unix.CPUSet
	var list []int
	if err := unix.SchedGetaffinity(0, &set); err == nil {
		for c := range len(set) * 64 {
			if set.IsSet(c) {
				list = append(list, c)
			}
		}
	}
	if len(list) == 0 {
		for c := range runtime.NumCPU() {
			list = append(list, c)
		}
	}
	return list
}
