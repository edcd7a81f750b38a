package hostinfo

import (
	"fmt"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

// Cores are of different kinds where they differ in speed by more than a processor's best ones do.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		file   string
		speeds []int // of cores 1, 2, ...; 0 where the file is missing
		want   [][]int
	}{
		{"cpu_capacity", []int{446, 1024, 446, 1024, 980}, [][]int{{2, 4, 5}, {1, 3}}},
		{"cpufreq/cpuinfo_max_freq", []int{5300000, 5300000, 5500000, 3900000}, [][]int{{1, 2, 3}, {4}}},
		{"cpufreq/cpuinfo_max_freq", []int{5300000, 0, 3900000}, [][]int{{1, 2, 3}}},
		{"none", []int{0, 0}, [][]int{{1, 2}}},
		{"none", nil, nil},
	} {
		var pairs []string
		m := Machine{}
		for i, speed := range c.speeds {
			m.Cores = append(m.Cores, i+1)
			if speed > 0 {
				pairs = append(pairs, fmt.Sprintf("sys/devices/system/cpu/cpu%d/%s", i+1, c.file), fmt.Sprintln(speed))
			}
		}
		m.Root = files(pairs...)
		testkit.Equal(t, c.want, m.Kinds())
	}
}
