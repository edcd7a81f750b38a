package runtime

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Pin restricts the calling OS thread to the given processors; none means no
// restriction is made. The caller has to have locked its goroutine to the
// thread, and to end the goroutine without unlocking it, so that no other
// goroutine inherits the restriction.
func Pin(cores []int) error {
	if len(cores) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to cores %v: %w", cores, err)
	}
	return nil
}
