package hostinfo

import (
	"strconv"

	"golang.org/x/sys/unix"
)

func affinity() []int { return nil }

func sysctl(name string) (string, error) {
	if name == "hw.memsize" {
		n, err := unix.SysctlUint64(name)
		return strconv.FormatUint(n, 10), err
	}
	return unix.Sysctl(name)
}
