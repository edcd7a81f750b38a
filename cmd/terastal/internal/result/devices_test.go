package result

import (
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/energy"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
)

// What held accelerators up is told by accelerator, and noted for devices where it was much.
func TestWorkers(t *testing.T) {
	const ms = time.Millisecond
	r := &runtime.Result{Stats: runtime.Stats{At: 2 * time.Second, Accelerators: []runtime.AcceleratorStats{{Name: "idle"},
		{Name: "lost"}, {Name: "cpu"}, {Name: "gpu.0"}, {Name: "gpu.1"}}}, // whose worker is missing
		Workers: []runtime.WorkerStats{{Accelerator: "idle", Plain: 7}, {Accelerator: "cpu", Stalls: runtime.Spent{N: 9, Took: 500 * ms}},
			{Accelerator: "gpu.0", FirstUse: runtime.Spent{N: 3, Took: 15 * ms}, Stalls: runtime.Spent{N: 1, Took: 6 * ms},
				Captured: 90, Plain: 10}, {Accelerator: "gpu.1", Stalls: runtime.Spent{N: 1, Took: 20 * ms}, Captured: 5}},
		Devices: []runtime.DeviceStats{{Name: "gpu", Accelerators: []int{3, 4}, Needed: 5, Free: 3, Total: 8,
			Uncaptured: []runtime.Uncaptured{{Model: "net", Layer: "nms", Implementation: "original", Why: "a host function"}}}}}
	e := NewExecution(r, hostinfo.Counters{})
	testkit.Equal(t, []Worker{{Accelerator: "cpu", Stalls: 9, StallNS: int64(500 * ms), Share: 0.25},
		{Accelerator: "gpu.0", FirstUses: 3, FirstUseNS: int64(15 * ms), Stalls: 1, StallNS: int64(6 * ms), Share: 0.0105,
			Captured: 90, Plain: 10}, {Accelerator: "gpu.1", Stalls: 1, StallNS: int64(20 * ms), Share: 0.01, Captured: 5}}, e.Workers)
	testkit.Equal(t, []Device{{Name: "gpu", Accelerators: []string{"gpu.0", "gpu.1"}, Needed: 5, Free: 3, Total: 8,
		Uncaptured: []Uncaptured{{"net", "nms", "original", "a host function"}}}}, e.Devices)
	if notes := strings.Join(e.Notes, "\n"); len(e.Notes) != 1 || !strings.Contains(notes,
		`"gpu.0" was held up for 1.1 % of the run: 3 first uses took 15ms and 1 stalls 6ms`) {
		t.Errorf("notes: %q", notes)
	}
	r.Workers, r.Stats.Accelerators = r.Workers[:1], r.Stats.Accelerators[:1]
	if e := NewExecution(r, hostinfo.Counters{}); e.Workers != nil || e.Devices[0].Accelerators != nil {
		t.Errorf("fewer threads: %+v", e)
	}
}

// Energy is by what it is of, and by request that met its deadline; where nothing is metered it is absent.
func TestNewEnergy(t *testing.T) {
	r := energy.Reading{Took: 2 * time.Second, Sources: []energy.Source{{Name: "a", Kind: energy.GPU, Joules: 30},
		{Name: "b", Kind: energy.GPU, Joules: 12}, {Name: "c", Kind: energy.CPU, Joules: 8}}}
	testkit.Equal(t, &Energy{GPUJ: 42, CPUJ: 8, PerMet: 0.5, ElapsedS: 2, Sources: r.Sources}, NewEnergy(r, 100))
	if e := NewEnergy(r, 0); e.PerMet != 0 || (&PolicyResult{Energy: e}).JoulesPerMet() != 0 {
		t.Errorf("no request met its deadline: %+v", e)
	}
	if e := NewEnergy(energy.Reading{Took: time.Second}, 5); e != nil || (&PolicyResult{}).JoulesPerMet() != 0 {
		t.Errorf("nothing is metered: %+v", e)
	}
}
