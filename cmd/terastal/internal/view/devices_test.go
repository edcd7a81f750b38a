package view

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// streamed is a profile of a core and of a GPU with three streams.
func streamed() *profiler.Profile {
	p := &profiler.Profile{Created: "2026-01-02T03:04:05Z", ORT: "1.29.0",
		Accelerators: []runtime.Spec{{Name: "cpu"}, {Name: "gpu.0", Provider: "cuda", Of: "gpu"},
			{Name: "gpu.1", Provider: "cuda", Of: "gpu", Stream: 1}, {Name: "gpu.2", Provider: "cuda", Of: "gpu", Stream: 2}},
		Models: []profiler.Model{{Name: "net", Granularity: "op", Layers: []profiler.Layer{
			{Name: "conv", Implementations: []string{"original"}}, {Name: "fc", Implementations: []string{"original"}}}}},
		Devices: []profiler.Device{{Name: "gpu", Accelerators: []int{1, 2, 3}, Contention: []float64{0, 0.25, 0.5},
			Waking: []sched.Waking{{Idle: 300 * time.Microsecond, Extra: 3 * time.Microsecond},
				{Idle: 10 * msec, Extra: 21 * time.Microsecond}},
			Lead: 5 * time.Microsecond, Memory: 3 << 29, IdleW: 70, WarmW: 118}},
		Chains: []profiler.Chain{{Accelerator: 1, N: 9, Sum: 300 * time.Microsecond, Chained: 310 * time.Microsecond,
			Whole: 400 * time.Microsecond, Captured: 1, Plain: 500 * time.Microsecond, Graph: 250 * time.Microsecond}},
	}
	for l := range 2 {
		for k := range p.Accelerators {
			d := 900 * time.Microsecond
			if k > 0 {
				d = 150 * time.Microsecond
			}
			p.Cells = append(p.Cells, profiler.Cell{Layer: l, Accelerator: k, N: 20, Min: d, Mean: d, P50: d, P90: d, P95: d,
				P99: d, Low: d, High: d})
		}
	}
	return p
}

// words fails where a text does not have all of some words, or has one of others.
func words(t *testing.T, where, text string, want, not []string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q:\n%s", where, w, text)
		}
	}
	for _, w := range not {
		if strings.Contains(text, w) {
			t.Errorf("%s says %q:\n%s", where, w, text)
		}
	}
}

// A profile with devices shows what streams share, and one of the streams for all, on the terminal and on the page.
func TestProfileDevices(t *testing.T) {
	p := streamed()
	text := profileText(p, ProfileOptions{})
	all := []string{"gpu.0 to gpu.2", "5.0 us", "1.50 GiB", "70 W", "118 W", "48 W", // the device
		"+25.0 %", "+50.0 %", "1.60x", "2.00x", // contention
		"300.0 us", "10.0 ms", "+3.0 us", "+21.0 us", // waking
		"0.40 ms", "-22.5 %", "0.25 ms", "+24.0 %", "1 of 2"} // the chain
	words(t, "the profile", text, append(all, "6.00x", "gpu.0, gpu.1, gpu.2: "), nil)
	if tables := text[strings.Index(text, "\nnet (op"):]; strings.Count(tables, "gpu.") != 2 {
		t.Errorf("streams are shown one by one:\n%s", tables)
	}
	page := &Page{Title: "x", Profile: p}
	html := strings.NewReplacer("−", "-", "\u00a0", " ").Replace(markup(t, page))
	words(t, "the page", html, append(all, `<section id="devices"`, "Latencies of net"), []string{"gpu.1"})
	if p.Accelerators[1].Name != "gpu.0" || len(p.Devices[0].Accelerators) != 3 {
		t.Errorf("the profile was changed: %+v", p.Devices)
	}
	cells := 0
	for _, g := range textGrids(text) {
		if g.head[0] == "device" {
			cells += hold(t, g, pageGrids(html))
		}
	}
	if cells < 15 {
		t.Errorf("%d cells of devices are on terminal and page", cells)
	}
}

// Profiles with other numbers of streams are compared by device.
func TestCompareStreams(t *testing.T) {
	a, b := streamed(), streamed()
	b = testkit.Must(b.Select([]string{"net"}, []string{"cpu", "gpu.0", "gpu.1"}))(t)
	c := testkit.Must(profiler.Compare(OneStream(a), OneStream(b)))(t)
	if len(c.Accelerators) != 2 || c.Accelerators[1].Accelerator != "gpu" || c.Summary.Cells != 4 || c.OnlyA != nil {
		t.Errorf("%d accelerators, %+v, only in A %v", len(c.Accelerators), c.Summary, c.OnlyA)
	}
	if p := example(); OneStream(p) != p {
		t.Error("a profile without streams was copied")
	}
}

// Without devices nothing speaks of them; a device of one stream has its own name and no contention.
func TestNoDevices(t *testing.T) {
	p := example()
	words(t, "the profile", profileText(p, ProfileOptions{}), nil, []string{"evice", "Waking", "graph", "captured"})
	p.Devices = []profiler.Device{{Name: "gpu", Accelerators: []int{1}, Lead: time.Microsecond}}
	words(t, "the profile", profileText(p, ProfileOptions{}), []string{"Devices:", "1.0 us"},
		[]string{"Waking", "Contention", "costs", "memory:"})
}

// What is known without a profile is shown from the plan, or from a log.
func TestPlannedDevices(t *testing.T) {
	s := system("mobile")
	s.Devices = []sched.Device{{Name: "gpu", Accelerators: []int{0, 1}, Lead: 5 * time.Microsecond,
		Waking: []sched.Waking{{Idle: msec, Extra: 9 * time.Microsecond}}}}
	l := simulate(t, "mobile", "edf", "real", 50*msec)
	l.Header.System.Devices = s.Devices
	for where, p := range map[string]*Page{"the plan": {Plan: &plan.Plan{System: s}}, "a log": {Logs: []NamedLog{{"x", l}}}} {
		page := strings.ReplaceAll(markup(t, p), "\u00a0", " ")
		words(t, where, page, []string{"array to vector", "+9.0 us", "5.0 us"}, nil)
		if strings.Contains(page, "Each stream of a device has a row") != (p.Logs != nil) {
			t.Errorf("%s: the timeline's text is wrong", where)
		}
	}
}

// The plan has a column for a device, not for each of its streams.
func TestPlanOfStreams(t *testing.T) {
	models := []result.ModelInfo{{Name: "net", Layers: 3, LatencyMS: map[string]float64{"cpu": 2, "gpu.0": 1, "gpu.1": 1},
		Preferred: map[string]int{"gpu.0": 2, "cpu": 1}, FastestMS: 1}}
	var b bytes.Buffer
	Plan(&b, models, []plan.Accelerator{{Name: "cpu"}, {Name: "gpu.0", Of: "gpu"}, {Name: "gpu.1", Of: "gpu"}}, 1)
	words(t, "the plan", b.String(), []string{"1.00 ms (2)", "2.00 ms (1)", " gpu "}, []string{"gpu.", "(0)"})
	b.Reset()
	Plan(&b, models, []plan.Accelerator{{Name: "cpu"}, {Name: "gpu.0", Of: "gpu"}}, 1)
	words(t, "the plan", b.String(), []string{"gpu.0", "gpu.1"}, nil)
	if len(models[0].LatencyMS) != 3 {
		t.Errorf("the models were changed: %v", models[0].LatencyMS)
	}
	Plan(io.Discard, nil, nil, 0)
	testkit.Equal(t, map[string]string{}, placesOf(nil))
}

// Streams of a device share a row, which has the cores of all.
func TestAcceleratorsOfStreams(t *testing.T) {
	var b bytes.Buffer
	Accelerators([]runtime.Spec{{Name: "cpu", Cores: []int{0, 1}}, {Name: "gpu.0", Provider: "cuda", Of: "gpu", Cores: []int{6}},
		{Name: "gpu.1", Provider: "cuda", Of: "gpu", Stream: 1, Cores: []int{7}}}).Text(&b)
	words(t, "the table", b.String(), []string{"gpu.0 to gpu.1", "0 1", "6 7"}, nil)
}

// What held accelerators up in a run, what a device has room for and what was not captured is on terminal and page.
func TestRunOnDevices(t *testing.T) {
	p := testkit.Must(Open(folder(t, "mobile", 300*msec)))(t)
	r := &p.Results[0]
	page := strings.ReplaceAll(markup(t, p), "\u00a0", " ")
	var b bytes.Buffer
	Result(&b, r, "result.json")
	for where, text := range map[string]string{"the run": b.String(), "the page": page} {
		words(t, where, text, nil, []string{"held accelerators up", "Devices in the run", "without a captured graph"})
	}
	r.Accelerators = []runtime.Spec{{Name: "cpu"}, {Name: "gpu.0", Of: "gpu"}, {Name: "gpu.1", Of: "gpu"}}
	e := r.Policies[1].Execution
	e.Workers = []result.Worker{{Accelerator: "cpu", Stalls: 4, StallNS: 77e6, Share: 0.385},
		{Accelerator: "gpu.0", FirstUses: 2, FirstUseNS: 5e6, Stalls: 1, StallNS: 1e6, Share: 0.03, Captured: 500, Plain: 20},
		{Accelerator: "gpu.1", FirstUses: 1, FirstUseNS: 2e6, Share: 0.01, Captured: 300, Plain: 4}}
	e.Devices = []result.Device{{Name: "gpu", Accelerators: []string{"gpu.0", "gpu.1"}, Needed: 3 << 29, Free: 70 << 30,
		Total: 80 << 30, KeepWarm: true, IdleW: 70, WarmW: 118}}
	for _, layer := range []string{"a", "b", "c", "d"} {
		e.Devices[0].Uncaptured = append(e.Devices[0].Uncaptured,
			result.Uncaptured{Model: "net", Layer: layer, Implementation: "original", Why: "cannot be captured: it calls a host function"})
	}
	e.Devices[0].Uncaptured = append(e.Devices[0].Uncaptured, result.Uncaptured{Model: "small", Why: "other outputs"})
	b.Reset()
	Result(&b, r, "result.json")
	all := []string{"gpu (2 streams)", "7.00 ms", "1.00 ms", "2.0 %", "800", "24", "1.50 GiB", "70.00 GiB", "80.00 GiB", "118 W", "48 W",
		"a, b, c and 1 more", "other outputs", "it calls a host function"}
	words(t, "the run", b.String(), all, []string{"77.0 ms", "gpu.0", "cannot be"})
	page = strings.ReplaceAll(markup(t, p), "\u00a0", " ")
	words(t, "the page", page, append(all, "77.0 ms"), nil)
	cells := 0
	for _, g := range textGrids(b.String()) {
		if g.head[0] == "device" || g.head[1] == "accelerator" {
			cells += hold(t, g, pageGrids(page))
		}
	}
	if cells < 20 {
		t.Errorf("%d cells of devices are on terminal and page", cells)
	}
	e.Devices[0].WarmW, e.Devices[0].Total = 0, 0
	b.Reset()
	Result(&b, r, "result.json")
	words(t, "the run", b.String(), []string{"yes"}, []string{"118 W", "in all", "costs:"})
}
