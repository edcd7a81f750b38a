//go:build !linux

package cuda

import (
	"time"
	"unsafe"
)

// The CUDA runtime is looked for on Linux only: elsewhere nothing of this can be made.
type (
	Library struct{ Runtime, Driver, Devices int }
	Device  struct{ *Library }
	Stream  struct{}
	Event   struct{}
	Graph   struct{ Nodes Nodes }
	Kind    int
)

const (
	ToDevice Kind = 1
	ToHost   Kind = 2
	Within   Kind = 3
)

func Load(string) (*Library, error) { return nil, ErrNone }

func (*Library) Device(int) (*Device, error)                         { return nil, ErrNone }
func (*Device) Room() (free, total int64, err error)                 { return 0, 0, ErrNone }
func (*Device) Allocate(int) (unsafe.Pointer, error)                 { return nil, ErrNone }
func (*Device) Free(unsafe.Pointer) error                            { return ErrNone }
func (*Device) Pinned(int) ([]byte, error)                           { return nil, ErrNone }
func (*Device) FreePinned([]byte) error                              { return ErrNone }
func (*Device) NewStream() (*Stream, error)                          { return nil, ErrNone }
func (*Device) NewEvent(bool) (*Event, error)                        { return nil, ErrNone }
func (*Stream) Pointer() unsafe.Pointer                              { return nil }
func (*Stream) Wait() error                                          { return ErrNone }
func (*Stream) After(*Event) error                                   { return ErrNone }
func (*Stream) Close() error                                         { return ErrNone }
func (*Stream) Copy(unsafe.Pointer, unsafe.Pointer, int, Kind) error { return ErrNone }
func (*Stream) Fill(unsafe.Pointer, byte, int) error                 { return ErrNone }
func (*Stream) Capture(func() error) (*Graph, error)                 { return nil, ErrNone }
func (*Event) Record(*Stream) error                                  { return ErrNone }
func (*Event) Done() (bool, error)                                   { return false, ErrNone }
func (*Event) Wait() error                                           { return ErrNone }
func (*Event) Since(*Event) (time.Duration, error)                   { return 0, ErrNone }
func (*Event) Close() error                                          { return ErrNone }
func (*Graph) Launch(*Stream) error                                  { return ErrNone }
func (*Graph) Close() error                                          { return ErrNone }
