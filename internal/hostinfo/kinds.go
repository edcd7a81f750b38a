package hostinfo

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// sameKind is how many times as fast as another core of its kind one may be: the best cores of a processor are allowed
// a few percent more clock.
const sameKind = 1.15

// Kinds are the cores that this process may use by how fast they can be, the fastest first: processors have cores for
// speed and cores for efficiency. Where the system does not tell, all are of one kind.
func (m Machine) Kinds() (out [][]int) {
	speed := map[int]float64{}
	for _, core := range m.Cores {
		folder := "sys/devices/system/cpu/cpu" + strconv.Itoa(core)
		text := m.line(folder + "/cpu_capacity")
		if text == "" {
			text = m.line(folder + "/cpufreq/cpuinfo_max_freq")
		}
		if x, err := strconv.ParseFloat(text, 64); err == nil && x > 0 && !math.IsInf(x, 0) {
			speed[core] = x
		}
	}
	if len(speed) < len(m.Cores) { // nothing to compare with
		clear(speed)
	}
	sorted := slices.Clone(m.Cores)
	slices.SortStableFunc(sorted, func(a, b int) int { return cmp.Compare(speed[b], speed[a]) })
	for i, core := range sorted {
		if i == 0 || speed[sorted[i-1]] > sameKind*speed[core] {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], core)
	}
	for _, kind := range out {
		slices.Sort(kind)
	}
	return out
}
