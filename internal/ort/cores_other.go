//go:build !linux

package ort

import "runtime"

// cores are the cores that this process may use.
var cores = allowedCores()

// onCores cannot pin threads here.
func onCores(_ []int, f func() error) error { return f() }

func allowedCores() []int {
	list := make([]int, runtime.NumCPU())
	for c := range list {
		list[c] = c
	}
	return list
}
