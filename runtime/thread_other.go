//go:build !linux

package runtime

import "errors"

// Pin does nothing: this system has no thread affinity.
func Pin([]int) error { return nil }

func realtime(int) error { return errors.New("real-time priority: not supported on this system") }

func priority() (restore func()) { return func() {} }

func threadID() int { return 0 }

func quieten([]int) (undo func()) { return func() {} }
