package hostinfo

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func sysctl(string) (string, error) { return "", errors.ErrUnsupported }

// affinity is the first thread's: the calling one may be pinned to a core.
func affinity() (list []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(os.Getpid(), &set) == nil {
		for core := range len(set) * 64 {
			if set.IsSet(core) {
				list = append(list, core)
			}
		}
	}
	return list
}
