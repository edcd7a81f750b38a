package nvml

/*
#cgo LDFLAGS: -ldl
#include "api.h"
*/
import "C"

import (
	"fmt"
	"time"
	"unsafe"
)

// maxDevices bounds the GPUs of a machine.
const maxDevices = 64

// Read describes the GPUs that this process may use. library is the path of NVML; "" is the installed one.
func Read(library string) ([]Device, error) {
	if library == "" {
		library = "libnvidia-ml.so.1"
	}
	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	var raw [maxDevices]C.terastal_nvml_device
	var count C.size_t
	var code C.int
	switch C.terastal_nvml_read(path, &raw[0], maxDevices, &count, &code) {
	case C.TERASTAL_NVML_NONE:
		return nil, ErrNone
	case C.TERASTAL_NVML_FAILED:
		return nil, fmt.Errorf("NVML fails with code %d: is the NVIDIA driver loaded, and of the same version as its libraries?", code)
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
