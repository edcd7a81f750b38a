//go:build !portable

package runtime

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The Go scheduler wakes a goroutine that is locked to its thread through another thread, which has to find a core
// first. Workers therefore wait for each other with futexes: one system call by the waker, none of a third.

// word is 32 bits that threads can wait on.
type word struct{ v atomic.Uint32 }

// wait sleeps while the word is old, for at most the time given; 0 or less
// means without end. It may return early for no reason.
func (w *word) wait(old uint32, most time.Duration) {
	var ts *unix.Timespec
	if most > 0 {
		t := unix.NsecToTimespec(int64(most))
		ts = &t
	}
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&w.v)), futexWait|futexPrivate, uintptr(old),
		uintptr(unsafe.Pointer(ts)), 0, 0)
}

// wake wakes one thread that waits on the word.
func (w *word) wake() {
	unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&w.v)), futexWake|futexPrivate, 1, 0, 0, 0)
}

const (
	futexWait    = 0
	futexWake    = 1
	futexPrivate = 128
)

// sleep suspends the calling thread.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	unix.Nanosleep(&t, nil)
}

// sharpen lets the calling thread's sleeps end when they are due, not up to
// 50 us later so that the kernel can gather wake-ups.
func sharpen() { unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }
