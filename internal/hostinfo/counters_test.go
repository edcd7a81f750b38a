package hostinfo

import (
	"runtime"
	"testing"
	"testing/fstest"
	"time"
)

func TestReadCounters(t *testing.T) {
	stat := "cpu  100 20 30 4000 500 6 7 80 9 1\ncpu0 1 2 3 4 5 6 7 8 9 1\nintr 5\n"
	hot := []string{
		"proc/stat", stat,
		"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n",
		"sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "4\n",
		"sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", "10\n",
	}
	for name, c := range map[string]struct {
		files []string
		want  Counters
	}{
		"version 2, nested": {append(hot, "proc/self/cgroup", "0::/user.slice/app.scope\n",
			"sys/fs/cgroup/cpu.stat", "usage_usec 5\n",
			"sys/fs/cgroup/user.slice/cpu.stat", "usage_usec 5\nnr_throttled 1\nthrottled_usec 300\n",
			"sys/fs/cgroup/user.slice/app.scope/cpu.stat", "throttled_usec 7\n",
			"sys/fs/cgroup/other.slice/cpu.stat", "throttled_usec 1000000\n"),
			Counters{Throttles: 17, Throttled: 307 * time.Microsecond, Busy: 1630 * time.Millisecond,
				Steal: 800 * time.Millisecond}},
		"version 2, in a container": {[]string{"proc/self/cgroup", "0::/../..\n", "sys/fs/cgroup/cpu.stat",
			"throttled_usec 9\n"}, Counters{Throttled: 9 * time.Microsecond}},
		"version 2, unknown group": {[]string{"sys/fs/cgroup/cpu.stat", "throttled_usec 9\n"},
			Counters{Throttled: 9 * time.Microsecond}},
		"version 1": {[]string{"proc/self/cgroup", "9:memory:/m\n4:cpu,cpuacct:/docker/x\n", "sys/fs/cgroup/cpu/cpu.stat",
			"throttled_time 40\n",
			"sys/fs/cgroup/cpu/docker/x/cpu.stat", "nr_periods 2\nthrottled_time 2\n", "sys/fs/cgroup/cpu/m/cpu.stat",
			"throttled_time 1000\n"}, Counters{Throttled: 42}},
		"an old kernel without steal": {[]string{"proc/stat", "cpu 1 1 1 1 1 1 1\n"}, Counters{Busy: 50 * time.Millisecond}},
		"damaged": {[]string{"proc/stat", "cpu x -1 9999999999999999999999 4 5 6\n\xff\n", "proc/self/cgroup",
			"0\n::\n1:cpu\n", "sys/fs/cgroup/cpu.stat", "throttled_usec lots\n",
			"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "-4"}, Counters{}},
		"nothing": {nil, Counters{}},
	} {
		if got := ReadCounters(Machine{OS: "linux", Root: files(c.files...)}); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestCountersSub(t *testing.T) {
	a, b := Counters{1, 2, 3, 4, 5, 6}, Counters{11, 22, 33, 44, 55, 66}
	if got := b.Sub(a); got != (Counters{10, 20, 30, 40, 50, 60}) {
		t.Errorf("got %+v", got)
	}
	if got := a.Sub(b); got != (Counters{}) {
		t.Errorf("a counter that started again: %+v", got)
	}
}

func TestCountersOfThisMachine(t *testing.T) {
	before := ReadCounters(This())
	if after := ReadCounters(This()); after.Sub(before).Busy < 0 || runtime.GOOS == "linux" && after.Busy == 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if got := ReadCounters(Machine{Root: fstest.MapFS{}}); got != (Counters{}) {
		t.Errorf("nothing: %+v", got)
	}
}
