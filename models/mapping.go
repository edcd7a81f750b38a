package models

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// mapping is a file in read-only memory, whose pages the system loads when they are read and may drop again. It is
// unmapped when nothing refers to the mapping; references to data alone do not keep it.
type mapping struct {
	data []byte
	file *os.File    // open while mapped; nil where the data was copied
	info os.FileInfo // of the file when it was mapped
}

// mapFile takes the whole file, and the open file itself.
func mapFile(f *os.File) (m *mapping, err error) {
	defer func() {
		if m == nil || m.file == nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", filepath.Base(f.Name()))
	}
	data, unmap, err := mapped(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", filepath.Base(f.Name()), err)
	}
	if unmap == nil {
		return &mapping{data: data}, nil
	}
	m = &mapping{data: data, file: f, info: info}
	runtime.AddCleanup(m, func(f *os.File) {
		unmap()
		f.Close()
	}, f)
	return m, nil
}

// unchanged refuses a file that was written to in place since it was mapped:
// reading what was cut off would end the process.
func (m *mapping) unchanged() error {
	if m.file == nil {
		return nil
	}
	now, err := m.file.Stat()
	if err != nil {
		return err
	}
	if now.Size() != m.info.Size() || !now.ModTime().Equal(m.info.ModTime()) {
		return fmt.Errorf("file %s was changed after it was loaded; load the model again", filepath.Base(m.file.Name()))
	}
	return nil
}

// forget gives back the memory that holds what was read of the file; reading it again is slower, not wrong.
func (m *mapping) forget() {
	if m.file != nil {
		release(m.data)
	}
}

// mapCopy puts data into a file that nobody else can reach, and maps it.
func mapCopy(data []byte) (*mapping, error) {
	f, err := os.CreateTemp("", "terastal-model-")
	if err != nil {
		return nil, err
	}
	os.Remove(f.Name()) // where a file in use cannot be removed, it is below
	defer os.Remove(f.Name())
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("a copy of the model: %w; set TMPDIR to a folder with room", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return mapFile(f)
}
