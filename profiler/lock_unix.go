//go:build unix

package profiler

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock takes an advisory lock that ends with the process.
func lock(f *os.File) (func(), error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, err
	}
	return func() { unix.Flock(int(f.Fd()), unix.LOCK_UN) }, nil
}
