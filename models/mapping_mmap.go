//go:build linux || darwin

package models

import (
	"os"

	"golang.org/x/sys/unix"
)

func mapped(f *os.File, size int64) (data []byte, unmap func(), err error) {
	if size == 0 {
		return nil, nil, nil
	}
	if data, err = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, nil, err
	}
	return data, func() { unix.Munmap(data) }, nil
}

func release(data []byte) { unix.Madvise(data, unix.MADV_DONTNEED) }
