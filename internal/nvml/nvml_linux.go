package nvml

/*
#cgo LDFLAGS: -ldl
#include "api.h"
*/
import "C"

import (
	"cmp"
	"fmt"
	"time"
	"unsafe"
)

// maxDevices bounds the GPUs of a machine.
const maxDevices = C.TERASTAL_NVML_METERED

// installed is the library that the driver brings.
const installed = "libnvidia-ml.so.1"

// failed words what the functions return.
func failed(result, code C.int) error {
	switch result {
	case C.TERASTAL_NVML_NONE:
		return ErrNone
	case C.TERASTAL_NVML_FAILED:
		return fmt.Errorf("NVML fails with code %d: is the NVIDIA driver loaded, and of the same version as its libraries?", code)
	}
	return nil
}

// Read describes the GPUs that this process may use. library is the path of NVML; "" is the installed one.
func Read(library string) ([]Device, error) {
	path := C.CString(cmp.Or(library, installed))
	defer C.free(unsafe.Pointer(path))
	var raw [maxDevices]C.terastal_nvml_device
	var count C.size_t
	var code C.int
	if err := failed(C.terastal_nvml_read(path, &raw[0], maxDevices, &count, &code), code); err != nil {
		return nil, err
	}
	list := make([]Device, count)
	for i := range list {
		d := &raw[i]
		list[i] = Device{
			Bus: C.GoString(&d.bus[0]), Name: C.GoString(&d.name[0]),
			ClockMHz: int(d.clock), MaxClockMHz: int(d.max_clock), MemoryClockMHz: int(d.memory_clock), MaxMemoryClockMHz: int(d.max_memory_clock),
			PowerW: float64(d.power) / 1000, PowerLimitW: float64(d.power_limit) / 1000, TemperatureC: int(d.temperature),
			Limits: uint64(d.limits), PowerLimited: time.Duration(d.power_limited), ThermalLimited: time.Duration(d.thermal_limited),
		}
	}
	return list, nil
}

// Meter reads the energy of the GPUs that this process may use. NVML stays up until it is closed.
type Meter struct{ raw C.terastal_nvml_meter }

// Open starts a meter. library is the path of NVML; "" is the installed one.
func Open(library string) (*Meter, error) {
	path := C.CString(cmp.Or(library, installed))
	defer C.free(unsafe.Pointer(path))
	m := &Meter{}
	var code C.int
	if err := failed(C.terastal_nvml_open(path, &m.raw, &code), code); err != nil {
		return nil, err
	}
	return m, nil
}

// Read reads all GPUs, always in the same order.
func (m *Meter) Read() []Energy {
	list := make([]Energy, m.raw.count)
	for i := range list {
		about := &m.raw.about[i]
		var mj C.ulonglong
		var mw C.uint
		got := C.terastal_nvml_energy(&m.raw, C.size_t(i), &mj, &mw)
		list[i] = Energy{Bus: C.GoString(&about.bus[0]), Name: C.GoString(&about.name[0])}
		switch got {
		case C.TERASTAL_NVML_ENERGY:
			list[i].Counts, list[i].Joules = true, float64(mj)/1000
		case C.TERASTAL_NVML_POWER:
			list[i].Measures, list[i].PowerW = true, float64(mw)/1000
		}
	}
	return list
}

// Close ends NVML.
func (m *Meter) Close() { C.terastal_nvml_close(&m.raw) }
