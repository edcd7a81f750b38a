package hostinfo

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/terastal/terastal/internal/nvml"
)

// This is the machine that the program runs on.
func This() Machine {
	m := Machine{Root: Root(), Getenv: os.Getenv, OS: runtime.GOOS, Arch: runtime.GOARCH,
		NVML: func() ([]nvml.Device, error) { return nvml.Read("") }}
	// The first thread's affinity: the calling one may be pinned to a core.
	var set unix.CPUSet
	if unix.SchedGetaffinity(os.Getpid(), &set) == nil {
		for core := range len(set) * 64 {
			if set.IsSet(core) {
				m.Cores = append(m.Cores, core)
			}
		}
	}
	return m
}
