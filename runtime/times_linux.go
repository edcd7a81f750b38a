package runtime

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTimes reads what a thread has had so far: time on a processor, and time ready to run with no processor to run
// on.
type threadTimes struct {
	file   int
	text   [64]byte
	opened bool
}

// open makes them the calling thread's.
func (t *threadTimes) open() {
	file, err := unix.Open("/proc/thread-self/schedstat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	t.file, t.opened = file, err == nil
}

func (t *threadTimes) close() {
	if t.opened {
		unix.Close(t.file)
		t.opened = false
	}
}

// read gives zeros where the kernel does not count them. It allocates nothing.
func (t *threadTimes) read() (ran, waited time.Duration) {
	if !t.opened {
		return 0, 0
	}
	n, err := unix.Pread(t.file, t.text[:], 0)
	if err != nil {
		return 0, 0
	}
	to := &ran
	for _, c := range t.text[:n] {
		switch {
		case c >= '0' && c <= '9':
			*to = 10**to + time.Duration(c-'0')
		case to == &ran:
			to = &waited
		default:
			return ran, waited
		}
	}
	return ran, waited
}
