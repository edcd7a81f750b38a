package runtime

import (
	"testing"

	"golang.org/x/sys/unix"
)

// The thread that runs layers stays on the first of its accelerator's cores: its other threads have the rest.
func TestCallerHasTheFirstCore(t *testing.T) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || !all.IsSet(0) || !all.IsSet(1) {
		t.Skip("needs cores 0 and 1")
	}
	th := newThread(&ortAccelerator{opened: opened{spec: Spec{Name: "pair", Threads: 2, Cores: []int{1, 0}}}})
	defer func() { close(th.work); <-th.closed }()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(th.id, &set); err != nil || th.err != nil || set.Count() != 1 || !set.IsSet(1) {
		t.Errorf("%v, %v: allowed %d cores, core 1 %v", err, th.err, set.Count(), set.IsSet(1))
	}
}
