package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// gpuOf is a machine of so many cores with CPU accelerators of one core each and a GPU.
func gpuOf(cores, cpus, streams int) *Machine {
	m := &Machine{Host: hostinfo.Info{LogicalCores: cores}}
	for k := range cores {
		m.Host.AllowedCores = append(m.Host.AllowedCores, k)
	}
	for k := range cpus {
		m.Specs = append(m.Specs, runtime.Spec{Name: fmt.Sprintf("cpu%d", k), Threads: 1, Cores: []int{k}})
	}
	m.Specs = append(m.Specs, runtime.Spec{Name: "gpu", Provider: "cuda"}.Streams(streams)...)
	return m
}

// Streams are as many as leave every thread a core: those of the CPU's accelerators, and the scheduler's.
func TestRoomForStreams(t *testing.T) {
	for _, c := range []struct{ cores, cpus, want int }{
		{16, 2, 8}, {8, 2, 5}, {5, 2, 2}, {4, 2, 1}, {2, 2, 1}, {1, 1, 1}} {
		m := gpuOf(c.cores, c.cpus, 1)
		if got := m.room(c.cpus); got != c.want {
			t.Errorf("%d cores, %d CPU accelerators: room for %d streams, want %d", c.cores, c.cpus, got, c.want)
		}
	}
	m := gpuOf(16, 1, 1)
	m.Specs[0].Threads = 12
	if got := m.room(1); got != 3 {
		t.Errorf("with 12 threads of 16: %d", got)
	}
	if m.Specs[1].Cores = []int{3, 4, 5}; m.room(1) != 3 {
		t.Errorf("with three cores given: %d", m.room(1))
	}
	for _, c := range []struct {
		cores, streams int
		want           bool
	}{{8, 4, false}, {6, 4, false}, {5, 4, true}} {
		if got := gpuOf(c.cores, 2, c.streams).describe(); strings.Contains(got, "those that watch devices (4)") != c.want {
			t.Errorf("%d streams on %d cores: %s", c.streams, c.cores, got)
		}
	}
	pinned := gpuOf(8, 2, 3)
	pinned.Specs[2].Cores, pinned.Specs[3].Cores, pinned.Specs[4].Cores = []int{2}, []int{3}, []int{5}
	if got := pinned.describe(); !strings.Contains(got, "accelerators: cpu0 on core 0, cpu1 on core 1, "+
		"gpu with 3 streams on core 2 3 5 (") {
		t.Error(got)
	}
	crowded := gpuOf(1, 2, 1)
	if crowded.Specs = crowded.Specs[:2]; crowded.watchers() != "" {
		t.Error("nothing watches a device")
	}
}

// Streams get cores that nobody else has, if there are enough of them and everybody else stays on theirs.
func TestCoresForStreams(t *testing.T) {
	for _, c := range []struct {
		cores, cpus, streams int
		change               func(*Machine)
		want                 string
	}{
		{8, 2, 3, nil, "[0] [1] [5] [6] [7]"},
		{6, 2, 3, nil, "[0] [1] [3] [4] [5]"},
		{5, 2, 3, nil, "[0] [1] [] [] []"}, // none is left for the scheduler
		{8, 2, 2, func(m *Machine) { m.Specs[1].Cores = nil }, "[0] [] [] []"},
		{8, 2, 2, func(m *Machine) { m.Specs[2].Cores = []int{7} }, "[0] [1] [7] [6]"},
		{8, 2, 1, func(m *Machine) { m.Specs[2].Provider = "webgpu" }, "[0] [1] []"},
		{8, 1, 1, func(m *Machine) { m.Specs[0] = runtime.Spec{Name: "e", Provider: "emulated"} }, "[] [7]"},
	} {
		m := gpuOf(c.cores, c.cpus, c.streams)
		if c.change != nil {
			c.change(m)
		}
		m.giveCores()
		var got []string
		for _, s := range m.Specs {
			got = append(got, fmt.Sprint(s.Cores))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%d cores, %d and %d accelerators: %v, want %s", c.cores, c.cpus, c.streams, got, c.want)
		}
	}
}

func TestOutdatedDriver(t *testing.T) {
	m := gpuOf(4, 0, 1)
	failing := func(string, runtime.Spec) (o runtime.Offer, err error) { return o, errors.New("error 35") }
	for driver, want := range map[string]string{"470.82.01": "470.82.01 is too old for CUDA 13", "580.1": "doctor",
		"": "doctor"} {
		m.Host.CUDA.Driver = driver
		testkit.Fails(t, m.probe(&m.Specs[0], failing), `accelerator "gpu"`, "error 35", want)
	}
	if m.Specs[0].Provider = "webgpu"; outdated(&m.Specs[0], "470") != "" {
		t.Error("WebGPU needs no CUDA")
	}
}

// A device is tried once, for all its streams.
func TestProbedOnce(t *testing.T) {
	m := gpuOf(8, 0, 4)
	var tried []string
	for k := range m.Specs {
		testkit.OK(t, m.probe(&m.Specs[k], func(_ string, s runtime.Spec) (runtime.Offer, error) {
			tried = append(tried, s.Name)
			return runtime.Offer{Free: 1}, nil
		}))
	}
	if strings.Join(tried, " ") != "gpu.0" || m.offers["gpu"].Free != 1 {
		t.Errorf("tried %v, offers %v", tried, m.offers)
	}
}

// What does not fit into a device is refused in a line that says what to leave out.
func TestMemory(t *testing.T) {
	small, large := rig.Network(t, "ds_cnn_kws", "block"), rig.Network(t, "mobilenetv2", "block")
	networks := []*runtime.Network{small, large}
	m := gpuOf(8, 1, 4)
	free := func(bytes int64) need {
		m.offers = map[string]*runtime.Offer{"gpu": {Free: bytes, Total: 80 << 30}}
		return m.needs(networks, nil)[0]
	}
	n := free(70 << 30)
	testkit.OK(t, n.fits())
	units := len(small.Layers) + len(large.Layers)
	if least := int64(4*units*sessionMemory) + 4*large.Model.Parameters(); n.bytes < least || n.bytes > 3*least {
		t.Errorf("%s: expected some %d bytes", &n, least)
	}
	if text := n.String(); !strings.Contains(text, "2 models on 4 streams take") || !strings.Contains(text, "estimated") {
		t.Error(text)
	}
	almost := free(n.bytes - 1)
	testkit.Fails(t, almost.fits(), `device "gpu"`, "have 3 streams of it, not 4", `leave out "mobilenetv2" (`)
	if got := m.holds("gpu", 4, networks); got != 3 {
		t.Errorf("it holds %d streams, want 3", got)
	}
	most := free(n.parts[0] + contextMemory)
	testkit.Fails(t, most.fits(), `leave out "mobilenetv2"`)
	none := free(1 << 20)
	testkit.Fails(t, none.fits(), "leave the accelerator out")
	// What was measured counts more.
	p := &profiler.Profile{Accelerators: m.Specs, Devices: []profiler.Device{{Name: "gpu",
		Accelerators: []int{1, 2, 3, 4}, Memory: 1 << 30}}}
	m.offers["gpu"].Free = 2 << 30
	n = m.needs(networks, p)[0]
	testkit.OK(t, n.fits())
	if text := n.String(); !strings.Contains(text, "1.0 GiB of its memory (measured), and 2.0 GiB of 80.0 GiB are free") {
		t.Error(text)
	}
	m.offers["gpu"].Total = 0
	if got := m.holds("gpu", 4, networks); got != 4 {
		t.Errorf("a device that does not tell holds %d streams", got)
	}
	if got := m.needs(networks, nil); got != nil {
		t.Errorf("a device that does not tell: %v", got)
	}
}
