//go:build !linux && !darwin

package hostinfo

import (
	"os"
	"runtime"
)

// This is the machine that the program runs on.
func This() Machine {
	m := Machine{Root: Root(), Getenv: os.Getenv, OS: runtime.GOOS, Arch: runtime.GOARCH}
	for core := range runtime.NumCPU() {
		m.Cores = append(m.Cores, core)
	}
	return m
}
