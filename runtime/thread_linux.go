package runtime

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Pin restricts the calling OS thread, which runs the layers of an accelerator with these cores, to the first of them;
// none means no restriction is made. The accelerator's other threads are pinned to the others: on one of those the
// caller would wait for them, and they for it. The caller has to have locked its goroutine to the thread, and to end the
// goroutine without unlocking it, so that no other goroutine inherits the restriction.
func Pin(cores []int) error {
	if len(cores) == 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cores[0])
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to core %d: %w", cores[0], err)
	}
	return nil
}

// realtime gives the calling thread a real-time priority, 1 to 99, that threads it makes do not inherit.
func realtime(priority int) error {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: uint32(priority),
		Flags: unix.SCHED_FLAG_RESET_ON_FORK}, 0)
	if err != nil {
		return fmt.Errorf("real-time priority %d: %w (it takes root, CAP_SYS_NICE or a limit set with `ulimit -r`)", priority,
			err)
	}
	return nil
}

// priority is that of the calling thread; the function returned, to be called on the same thread, restores it.
func priority() (restore func()) {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return func() {}
	}
	return func() {
		a.Flags |= unix.SCHED_FLAG_RESET_ON_FORK // which takes a privilege to give up
		unix.SchedSetAttr(0, a, 0)
	}
}

func threadID() int { return unix.Gettid() }

// quieten keeps this process's other threads from interrupting the workers: as SCHED_BATCH they no longer preempt what
// runs when they wake up. Go's monitor thread alone wakes up thousands of times a second while goroutines that are
// locked to their threads compute in C. Threads that are pinned compute themselves and are left alone. The function
// returned undoes it.
func quieten(workers []int) (undo func()) {
	var all unix.CPUSet
	if unix.SchedGetaffinity(os.Getpid(), &all) != nil {
		return func() {}
	}
	var changed []int
	for _, tid := range threads() {
		var set unix.CPUSet
		if slices.Contains(workers, tid) || unix.SchedGetaffinity(tid, &set) != nil || set != all {
			continue
		}
		a, err := unix.SchedGetAttr(tid, 0)
		if err != nil || a.Policy != unix.SCHED_NORMAL {
			continue
		}
		a.Policy = unix.SCHED_BATCH
		if unix.SchedSetAttr(tid, a, 0) == nil {
			changed = append(changed, tid)
		}
	}
	return func() {
		// Threads made meanwhile inherited it: undo it for all.
		for _, tid := range threads() {
			if a, err := unix.SchedGetAttr(tid, 0); err == nil && a.Policy == unix.SCHED_BATCH && len(changed) > 0 {
				a.Policy = unix.SCHED_NORMAL
				unix.SchedSetAttr(tid, a, 0)
			}
		}
	}
}

// threads are the process's.
func threads() []int {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, tid)
		}
	}
	return out
}
