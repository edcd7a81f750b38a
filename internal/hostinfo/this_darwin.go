package hostinfo

import (
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// This is the machine that the program runs on.
func This() Machine {
	m := Machine{Root: Root(), Getenv: os.Getenv, OS: runtime.GOOS, Arch: runtime.GOARCH, Sysctl: sysctl}
	for core := range runtime.NumCPU() {
		m.Cores = append(m.Cores, core)
	}
	return m
}

func sysctl(name string) (string, error) {
	if name == "hw.memsize" {
		n, err := unix.SysctlUint64(name)
		return strconv.FormatUint(n, 10), err
	}
	return unix.Sysctl(name)
}
