//go:build !linux

package ort

// onCores cannot pin threads here.
func onCores(_ []int, f func() error) error { return f() }
