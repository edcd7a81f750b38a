package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/scenario"
)

// A scenario has the plan's system and rates, and its source names what was measured.
func TestScenario(t *testing.T) {
	folder := t.TempDir()
	layer := func(d time.Duration) []sched.Layer {
		return []sched.Layer{{Name: "l", Implementations: []sched.Implementation{{Name: "original",
			Latency: []time.Duration{d, 2 * d}}}, Handoff: [][]time.Duration{{0, 1}, {2, 0}}}}
	}
	s := sched.System{Accelerators: []string{"cpu", "gpu"}, Models: []sched.Model{
		{Name: "a", Deadline: time.Second, Layers: layer(time.Millisecond), Floor: 0.9},
		{Name: "b", Deadline: time.Second, Layers: layer(1), Trigger: &sched.Trigger{Parent: "a", Probability: 0.5}}}}
	p, _ := testkit.Must2(plan.New(s, []plan.Model{{Rate: 12.5}, {Rate: 1}}, nil))(t)
	planned, measured := filepath.Join(folder, "plan.json"), filepath.Join(folder, "profile.json")
	testkit.OK(t, p.Write(planned))
	m := testkit.Must(profiler.FromSystem(&s, profiler.TableOptions{}))(t)
	m.Created, m.ORT = "2026-11-27T00:14:10Z", "1.29.0"
	m.Host = profiler.Host{CPU: "a processor", LogicalCores: 16}
	m.Accelerators = []runtime.Spec{{Name: "cpu"}, {Name: "gpu", Provider: "cuda"}}
	for i := range m.Models {
		m.Models[i].SHA256 = "0"
	}
	testkit.OK(t, m.Write(measured))
	args := []string{"-plan", planned, "-profile", measured, "-name", "two", "-commit", "abc", "-note", "n", "-to", folder}
	testkit.OK(t, command(args))
	s.Models[0].Floor = 0
	got := testkit.Must(scenario.Parse(testkit.Must(os.ReadFile(filepath.Join(folder, "two.json")))(t)))(t)
	testkit.Equal(t, &scenario.Scenario{Name: "hw/two", Note: "n", System: s, Rates: []float64{12.5, 0},
		Source: "measured on a processor, 16 cores, with ONNX Runtime 1.29.0, on 2026-11-27, commit abc; latencies are the " +
			"layers' medians in a busy system"}, got)

	for what, wrong := range map[string][]string{"-commit": args[:6], "-plan": args[2:],
		"need \"plan\"":             {"-plan", measured, "-profile", measured, "-name", "x", "-commit", "abc", "-to", folder},
		"the scenario's -name":      {"-plan", planned, "-profile", measured, "-name", "../x", "-commit", "abc", "-to", folder},
		"flag provided but not def": {"-x"}} {
		if err := command(wrong); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v: %v, want %q", wrong, err, what)
		}
	}
}
