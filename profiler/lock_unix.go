//go:build unix

package profiler

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock takes an advisory lock that ends when the file is closed.
func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
