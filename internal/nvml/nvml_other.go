//go:build !linux

package nvml

// Read is for Linux.
func Read(string) ([]Device, error) { return nil, ErrNone }

// Meter is for Linux.
type Meter struct{}

// Open is for Linux.
func Open(string) (*Meter, error) { return nil, ErrNone }

// Read is for Linux.
func (*Meter) Read() []Energy { return nil }

// Close is for Linux.
func (*Meter) Close() {}
