package hostinfo

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// Counters only ever grow; the difference of two readings ([Counters.Sub]) says what disturbed a measurement between
// them. Those that the system does not have stay zero: on systems other than Linux, all.
type Counters struct {
	// Throttles is how often cores, or their packages, were slowed down because they were too hot, summed over cores.
	Throttles int64 `json:"thermal_throttles"`
	// Throttled is for how long the control groups of this process were kept from running because their quota was used up.
	Throttled time.Duration `json:"cgroup_throttled_ns"`
	// Steal is the time, summed over cores, that a hypervisor gave to others while this machine had work.
	Steal time.Duration `json:"steal_ns"`
	// Busy is the time, summed over cores, that the machine's cores worked, for whatever process.
	Busy time.Duration `json:"busy_ns"`
	// GPUPower and GPUThermal are how long, summed over NVIDIA's GPUs, the power limit and the temperature kept their
	// clocks down.
	GPUPower   time.Duration `json:"gpu_power_ns,omitempty"`
	GPUThermal time.Duration `json:"gpu_thermal_ns,omitempty"`
}

// Sub returns the growth since an earlier reading, never negative.
func (c Counters) Sub(earlier Counters) Counters {
	return Counters{
		Throttles: max(0, c.Throttles-earlier.Throttles),
		Throttled: max(0, c.Throttled-earlier.Throttled),
		Steal:     max(0, c.Steal-earlier.Steal),
		Busy:      max(0, c.Busy-earlier.Busy),

		GPUPower:   max(0, c.GPUPower-earlier.GPUPower),
		GPUThermal: max(0, c.GPUThermal-earlier.GPUThermal),
	}
}

// muchLimited is the share of a time from which on a limit is worth a warning.
const muchLimited = 0.01

// GPULimits are sentences about what kept the clocks of GPUs down, given the growth of the counters over a time.
func (c Counters) GPULimits(took time.Duration) []string {
	var out []string
	say := func(limited time.Duration, why, what string) {
		if share := limited.Seconds() / took.Seconds(); took > 0 && share > muchLimited {
			out = append(out, fmt.Sprintf("%s kept a GPU's clocks down for %.1f %% of the time: %s", why, 100*share, what))
		}
	}
	say(c.GPUThermal, "the temperature", "let it cool, or cool it better")
	say(c.GPUPower, "the power limit", "set the clocks to what it can hold (nvidia-smi --lock-gpu-clocks)")
	return out
}

// ReadCounters reads the counters of a machine. It never fails: what cannot be read stays zero.
func ReadCounters(m Machine) Counters {
	c := Counters{Throttles: m.throttles(), Throttled: m.throttled()}
	c.Busy, c.Steal = m.coreTimes()
	for _, d := range m.nvidia() {
		c.GPUPower += d.PowerLimited
		c.GPUThermal += d.ThermalLimited
	}
	return c
}

func (m Machine) throttles() int64 {
	var sum int64
	for _, name := range []string{"core_throttle_count", "package_throttle_count"} {
		counts, _ := fs.Glob(m.Root, "sys/devices/system/cpu/cpu*/thermal_throttle/"+name)
		for _, file := range counts {
			sum += natural(m.line(file))
		}
	}
	return sum
}

// natural is a number of a counter, 0 if it is none.
func natural(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return max(0, n)
}

// throttled sums up the control groups that this process is in, from its own to the root: each can have a quota.
func (m Machine) throttled() time.Duration {
	var sum time.Duration
	groups, _ := fs.ReadFile(m.Root, "proc/self/cgroup")
	own := map[bool]string{} // by version 2
	for line := range strings.Lines(string(groups)) {
		// "0::/user.slice/x" is of version 2, "4:cpu,cpuacct:/x" of version 1.
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if controller == "" || controller == "cpu" {
				own[controller == ""] = path.Clean("/" + parts[2])
			}
		}
	}
	for _, v := range []struct {
		two        bool
		root, key  string
		resolution time.Duration
	}{
		{true, "sys/fs/cgroup", "throttled_usec", time.Microsecond},
		{false, "sys/fs/cgroup/cpu", "throttled_time", time.Nanosecond},
	} {
		for dir := own[v.two]; ; dir = path.Dir(dir) {
			sum += v.resolution * time.Duration(natural(m.field(path.Join(v.root, dir, "cpu.stat"), " ", v.key)))
			if dir == "" || dir == "/" {
				break
			}
		}
	}
	return sum
}

// tick is the unit of the times in /proc/stat: Linux shows them to programs in hundredths of a second on all
// architectures that Go runs on.
const tick = 10 * time.Millisecond

func (m Machine) coreTimes() (busy, steal time.Duration) {
	return times(m.field("proc/stat", " ", "cpu"))
}

// times reads the times of a core, or of all, in /proc/stat.
func times(line string) (busy, steal time.Duration) {
	// user nice system idle iowait irq softirq steal ...; guests' time is in user and nice.
	fields := strings.Fields(line)
	if len(fields) < 7 {
		return 0, 0
	}
	for _, i := range []int{0, 1, 2, 5, 6} {
		busy += tick * time.Duration(natural(fields[i]))
	}
	if len(fields) > 7 {
		steal = tick * time.Duration(natural(fields[7]))
	}
	return busy, steal
}
