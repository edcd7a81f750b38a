// Package nvml asks the NVIDIA driver's management library (NVML) for the clocks, power, energy, temperature and
// throttling of NVIDIA's GPUs. It is for packages hostinfo and energy. The library comes with the driver and is looked
// for when it is needed: without it there is nothing to tell, and nothing fails.
//
// It calls a handful of NVML's functions by itself. NVIDIA's own Go binding tells the linker to ignore unresolved
// symbols in the whole program, which would hide mistakes in ours.
package nvml

import (
	"errors"
	"strconv"
	"time"
)

// ErrNone says that there is no NVIDIA driver to ask.
var ErrNone = errors.New("there is no NVML library: the NVIDIA driver is not installed")

// Device is a GPU. What the driver does not tell is zero.
type Device struct {
	Bus  string // PCI address, such as "0000:01:00.0"
	Name string // such as "NVIDIA L4"
	// Clocks of the multiprocessors and the memory: now, and the highest.
	ClockMHz, MaxClockMHz             int
	MemoryClockMHz, MaxMemoryClockMHz int
	PowerW, PowerLimitW               float64
	TemperatureC                      int
	// Limits is why the clocks are not higher, as a mask: see Reasons.
	Limits uint64
	// PowerLimited and ThermalLimited are how long, since the driver was loaded,
	// the power limit and the temperature kept the clocks down.
	PowerLimited, ThermalLimited time.Duration
}

// Energy is a reading of a GPU's energy.
type Energy struct {
	Bus, Name string // as of Device
	// Counts: the GPU has a counter, and Joules is what it has taken since its driver was loaded. Counters advance in
	// steps, of some 20 to 100 ms.
	Counts bool
	Joules float64
	// Measures: it has none, and PowerW is what it takes now. Neither is set for a GPU that tells nothing.
	Measures bool
	PowerW   float64
}

// reasons are NVML's reasons for clocks that are not the highest, by bit.
var reasons = []struct {
	text     string
	throttle bool // it makes measured times longer than they would be else
}{
	0:  {"idle", false},
	1:  {"application clocks", false},
	2:  {"power limit", true},
	3:  {"hardware slowdown", true},
	4:  {"sync boost", false},
	5:  {"temperature (software)", true},
	6:  {"temperature (hardware)", true},
	7:  {"power brake", true},
	8:  {"display clocks", false},
	9:  {"board limit", true},
	10: {"reliability", true},
}

// Reasons are the reasons of a mask, by name, that slow a GPU down against its will: that it idles, or was told to run
// at lower clocks, is not among them. Bits that this version does not know are named by their number.
func Reasons(mask uint64) []string {
	var out []string
	for bit := range 64 {
		if mask>>bit&1 == 0 {
			continue
		}
		switch {
		case bit >= len(reasons):
			out = append(out, "reason "+strconv.Itoa(bit))
		case reasons[bit].throttle:
			out = append(out, reasons[bit].text)
		}
	}
	return out
}
