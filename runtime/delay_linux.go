package runtime

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"
)

// delay reads for how long a thread was ready to run and had no processor.
type delay struct {
	file   int
	text   [64]byte
	opened bool
}

// open makes it the calling thread's.
func (d *delay) open() {
	file, err := unix.Open("/proc/thread-self/schedstat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	d.file, d.opened = file, err == nil
}

func (d *delay) close() {
	if d.opened {
		unix.Close(d.file)
		d.opened = false
	}
}

// read is zero where the kernel does not count it. It allocates nothing.
func (d *delay) read() (waited time.Duration) {
	if !d.opened {
		return 0
	}
	n, err := unix.Pread(d.file, d.text[:], 0)
	if err != nil {
		return 0
	}
	text := d.text[:n]
	for _, c := range text[bytes.IndexByte(text, ' ')+1:] {
		if c < '0' || c > '9' {
			break
		}
		waited = 10*waited + time.Duration(c-'0')
	}
	return waited
}
