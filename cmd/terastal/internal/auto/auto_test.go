package auto_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/auto"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/scenario"
	"pgregory.net/rapid"
)

// pretended is a machine by what layers take on it.
type pretended struct {
	cores [][]int
	gpus  []string
	// latency of a layer on one core at level all; level and cores change it, faster is by how much cores of the first kind
	// are.
	one     [][]time.Duration
	speedup func(cores int) float64
	basic   func(model, layer int) float64
	faster  float64
	gpu     [][]time.Duration
	rates   []float64
	broken  string // a provider that fails
}

// brief is what a calibration finds.
func (p *pretended) brief(s runtime.Spec) profiler.Brief {
	var b profiler.Brief
	if p.broken == s.Provider {
		return profiler.Brief{Failed: "it does not work"}
	}
	if !s.CPU() {
		return profiler.Brief{Latency: p.gpu, Rates: p.rates}
	}
	for m := range p.one {
		b.Latency = append(b.Latency, nil)
		for l, took := range p.one[m] {
			by := 1 / p.speedup(len(s.Cores))
			if s.Optimization == "basic" {
				by *= p.basic(m, l)
			}
			if p.faster > 0 && slices.Contains(p.cores[0], s.Cores[0]) {
				by /= p.faster
			}
			b.Latency[m] = append(b.Latency[m], max(1, time.Duration(float64(took)*by)))
		}
	}
	return b
}

// calibrated measures all that is asked for, and says how many companies there were.
func (p *pretended) calibrated(t *testing.T, due []time.Duration) (*auto.Calibration, int) {
	t.Helper()
	c := &auto.Calibration{Cores: p.cores, GPUs: p.gpus}
	for m := range p.one {
		x := auto.Model{Name: fmt.Sprint("m", m)}
		for l := range p.one[m] {
			x.Layers = append(x.Layers, fmt.Sprint("l", l))
		}
		c.Models = append(c.Models, x)
	}
	n := 0
	for s := c.Next(due); s != nil; s = c.Next(due) {
		if n++; n > 40 {
			t.Fatal("it never knows enough")
		}
		taken := map[int]bool{}
		var found []profiler.Brief
		for _, a := range s {
			for _, core := range a.Cores {
				if taken[core] {
					t.Fatalf("core %d is measured twice at the same time: %v", core, s)
				}
				taken[core] = true
			}
			found = append(found, p.brief(a))
		}
		c.Add(s, found, time.Second)
	}
	return c, n
}

func cores(from, to int) (out []int) {
	for c := from; c < to; c++ {
		out = append(out, c)
	}
	return out
}

// linear speeds up by as much as 1 and a share for every further core.
func linear(share float64) func(int) float64 {
	return func(n int) float64 { return 1 + share*float64(n-1) }
}

func same(int, int) float64 { return 1.3 }

// h100 is the machine with 16 cores and a GPU, as it was measured: groups of four cores are some 2.2 times as fast as one.
func h100(t *testing.T) (*pretended, auto.Wanted) {
	t.Helper()
	s := testkit.Must(scenario.Load("hw/h100-5nets"))(t)
	p := &pretended{cores: [][]int{cores(0, 16)}, gpus: []string{"cuda"}, speedup: linear(0.4), basic: same,
		rates: []float64{2465, 4566, 8289, 12156}}
	var w auto.Wanted
	for m := range s.System.Models {
		model := &s.System.Models[m]
		p.one, p.gpu = append(p.one, nil), append(p.gpu, nil)
		for _, l := range model.Layers {
			p.one[m] = append(p.one[m], l.Implementations[0].Latency[0])
			p.gpu[m] = append(p.gpu[m], l.Implementations[0].Latency[2])
		}
		w.Deadlines = append(w.Deadlines, model.Deadline)
	}
	w.Rates = []float64{60, 15, 60, 100, 100}
	return p, w
}

// chosen checks that a choice's accelerators share no core and lie on the machine's, and counts them by what they are.
func (p *pretended) chosen(t *testing.T, c *auto.Choice) map[string]int {
	t.Helper()
	out, taken := map[string]int{}, map[int]bool{}
	all := slices.Concat(p.cores...)
	names := map[string]bool{}
	for _, s := range c.Accelerators {
		for _, core := range s.Cores {
			if taken[core] || !slices.Contains(all, core) {
				t.Errorf("core %d of %s", core, s.Name)
			}
			taken[core] = true
		}
		if names[s.Name] {
			t.Errorf("two are named %s", s.Name)
		}
		names[s.Name] = true
		if s.CPU() {
			out[fmt.Sprintf("%d %s", len(s.Cores), s.Optimization)]++
			if s.Threads != len(s.Cores) {
				t.Errorf("%+v", s)
			}
		} else {
			out[s.Provider]++
		}
	}
	if free := len(taken) < len(all); c.Free && !free {
		t.Error("no core is left")
	}
	if len(c.Lines) != 3 {
		t.Errorf("%d lines: %q", len(c.Lines), c.Lines)
	}
	return out
}

// On the machine with the H100 groups of cores get less done than single cores: none is chosen. The streams that pay are
// used.
func TestH100(t *testing.T) {
	p, w := h100(t)
	c, companies := p.calibrated(t, w.Deadlines)
	choice := testkit.Must(c.Choose(w))(t)
	got := p.chosen(t, choice)
	testkit.Equal(t, map[string]int{"1 all": 8, "cuda": 8}, got)
	if companies != 3 { // the GPU, single cores, pairs
		t.Errorf("%d companies", companies)
	}
	// Without the GPU too, unless a deadline asks for more: at these, two models meet theirs in large groups only.
	p.gpus = nil
	for by, single := range map[time.Duration]bool{1: false, 5: true} {
		x := w
		x.Deadlines = nil
		for _, d := range w.Deadlines {
			x.Deadlines = append(x.Deadlines, by*d)
		}
		c, _ = p.calibrated(t, x.Deadlines)
		choice = testkit.Must(c.Choose(x))(t)
		if got := p.chosen(t, choice); (got["1 all"] == 16) != single || len(choice.Late) > 0 {
			t.Errorf("deadlines %d times as long: %v, %q", by, got, choice.Lines)
		}
	}
}

// A deadline that no single core meets makes groups worth their cores, as many as it takes.
func TestGroupsForDeadlines(t *testing.T) {
	p := &pretended{cores: [][]int{cores(0, 16)}, speedup: linear(0.4), basic: same,
		one: [][]time.Duration{{10 * time.Millisecond, 10 * time.Millisecond}, {time.Millisecond}}}
	for _, x := range []struct {
		due   time.Duration
		large bool
		late  int
	}{{25 * time.Millisecond, false, 0}, {12 * time.Millisecond, true, 0}, {2 * time.Millisecond, true, 1}} {
		w := auto.Wanted{Rates: []float64{10, 100}, Deadlines: []time.Duration{x.due, 20 * time.Millisecond}}
		c, _ := p.calibrated(t, w.Deadlines)
		choice := testkit.Must(c.Choose(w))(t)
		large := false
		for what := range p.chosen(t, choice) {
			large = large || !strings.HasPrefix(what, "1 ")
		}
		if large != x.large && x.late == 0 || len(choice.Late) != x.late {
			t.Errorf("due after %v: %q", x.due, choice.Lines)
		}
	}
}

// worth is what Choose asks for: few late models first, then the bound less what releases noticed late cost.
func worth(s auto.Set, shortest time.Duration) float64 {
	by := 1 - min(0.5, 120e-6/shortest.Seconds())
	if s.Free {
		by = 1
	}
	return by * s.Capacity
}

// What is chosen is the best of what it is compared with, or as good but for a percent, on machines of any kind.
func TestBestOfCompared(t *testing.T) {
	sequential.Skip(t)
	rapid.Check(t, func(r *rapid.T) {
		p := &pretended{speedup: linear(rapid.Float64Range(0.1, 1.2).Draw(r, "gain")), rates: []float64{1, 1.5, 2.5},
			faster: rapid.Float64Range(1, 3).Draw(r, "faster")}
		n := rapid.IntRange(1, 9).Draw(r, "cores")
		p.cores = [][]int{cores(0, n)}
		if rapid.Bool().Draw(r, "slower ones") {
			p.cores = append(p.cores, cores(n, n+rapid.IntRange(1, 4).Draw(r, "slow")))
		}
		if rapid.Bool().Draw(r, "a GPU") {
			p.gpus = []string{"cuda", "webgpu"}
			p.broken = rapid.SampledFrom([]string{"", "cuda", "webgpu"}).Draw(r, "broken")
		}
		likes := rapid.SliceOfN(rapid.Float64Range(0.5, 2), 12, 12).Draw(r, "likes")
		p.basic = func(m, l int) float64 { return likes[(4*m+l)%len(likes)] }
		var w auto.Wanted
		for m := range rapid.IntRange(1, 3).Draw(r, "models") {
			p.one, p.gpu = append(p.one, nil), append(p.gpu, nil)
			for range rapid.IntRange(1, 4).Draw(r, "layers") {
				took := time.Duration(rapid.IntRange(1e4, 1e6).Draw(r, "latency"))
				p.one[m] = append(p.one[m], took)
				p.gpu[m] = append(p.gpu[m], max(1, took/time.Duration(rapid.IntRange(1, 20).Draw(r, "gpu"))))
			}
			w.Rates = append(w.Rates, rapid.Float64Range(1, 100).Draw(r, "rate"))
			w.Deadlines = append(w.Deadlines, time.Duration(rapid.IntRange(2e5, 1e7).Draw(r, "due")))
		}
		c, _ := p.calibrated(t, w.Deadlines)
		x := testkit.Must(c.Choose(w))(r)
		p.chosen(t, x)
		best, shortest := x.Compared[0], slices.Min(w.Deadlines)
		for _, s := range x.Compared {
			if s.Late < best.Late || s.Late == best.Late && worth(s, shortest)*0.985 > worth(best, shortest) {
				r.Fatalf("%+v is better than %+v", s, best)
			}
		}
		if len(x.Late) != best.Late || x.Capacity != best.Capacity {
			r.Fatalf("%+v", x)
		}
	})
}

// Of two cores, whose layers like different levels, both levels are taken; where all like one, that is; where two threads
// are more than twice as fast as one, or a core left is worth it, so is that.
func TestTwoCores(t *testing.T) {
	ms := time.Millisecond
	for _, x := range []struct {
		name  string
		basic func(m, l int) float64
		gain  float64
		due   time.Duration
		want  map[string]int
	}{
		{"unlike", func(_, l int) float64 { return []float64{3, 1.0 / 3}[l] }, 0.5, 10 * ms, map[string]int{"1 all": 1, "1 basic": 1}},
		{"alike", same, 0.5, 10 * ms, map[string]int{"1 all": 2}},
		{"basic", func(int, int) float64 { return 0.8 }, 0.5, 10 * ms, map[string]int{"1 basic": 2}},
		{"together", same, 1.2, 10 * ms, map[string]int{"2 all": 1}},
		{"urgent", same, 0.5, 1500 * time.Microsecond, map[string]int{"2 all": 1}},
	} {
		p := &pretended{cores: [][]int{{3, 7}}, speedup: linear(x.gain), basic: x.basic, one: [][]time.Duration{{ms, ms}}}
		w := auto.Wanted{Rates: []float64{1}, Deadlines: []time.Duration{x.due}}
		c, _ := p.calibrated(t, w.Deadlines)
		choice := testkit.Must(c.Choose(w))(t)
		testkit.Equal(t, x.want, p.chosen(t, choice))
		w.Rates = nil // equal shares
		testkit.Equal(t, choice.Accelerators, testkit.Must(c.Choose(w))(t).Accelerators)
		if names := choice.Lines[2]; choice.Free || !strings.Contains(names, "--auto again") {
			t.Errorf("%s: %q", x.name, choice.Lines)
		}
	}
}

// A core is left where requests are so urgent that noticing them at once is worth it.
func TestCoreLeft(t *testing.T) {
	p := &pretended{cores: [][]int{cores(0, 8)}, speedup: linear(0.4), basic: same,
		one: [][]time.Duration{{100 * time.Microsecond}}}
	for due, free := range map[time.Duration]bool{500 * time.Microsecond: true, 20 * time.Millisecond: false} {
		w := auto.Wanted{Rates: []float64{1}, Deadlines: []time.Duration{due}}
		c, _ := p.calibrated(t, w.Deadlines)
		choice := testkit.Must(c.Choose(w))(t)
		if p.chosen(t, choice); choice.Free != free {
			t.Errorf("due after %v: %q", due, choice.Lines)
		}
		if free && choice.Accelerators[0].Cores[0] != 1 {
			t.Errorf("the first core is to be left: %+v", choice.Accelerators[0])
		}
	}
}

// What was measured is kept, found again, and extended where deadlines ask for more.
func TestKept(t *testing.T) {
	network := rig.Network(t, "ds_cnn_kws", "block")
	folder := t.TempDir()
	host := hostinfo.Info{CPU: "a processor"}
	fresh := func() *auto.Calibration {
		return auto.New(host, "1.29.0", [][]int{cores(0, 8)}, nil, []*runtime.Network{network})
	}
	p := &pretended{speedup: linear(0.4), basic: same, one: make([][]time.Duration, 1)}
	for range network.Layers {
		p.one[0] = append(p.one[0], time.Millisecond)
	}
	measure := func(c *auto.Calibration, due time.Duration) (n int) {
		for s := c.Next([]time.Duration{due}); s != nil; s = c.Next([]time.Duration{due}) {
			var found []profiler.Brief
			for _, a := range s {
				found = append(found, p.brief(a))
			}
			c.Add(s, found, time.Second)
			n++
		}
		return n
	}
	c := fresh()
	if c.Load(folder) {
		t.Fatal("nothing is kept")
	}
	if n := measure(c, time.Second); n != 2 { // single cores and pairs
		t.Errorf("%d companies", n)
	}
	w := auto.Wanted{Rates: []float64{1}, Deadlines: []time.Duration{time.Second}}
	c.Choice = testkit.Must(c.Choose(w))(t)
	testkit.OK(t, c.Save(folder))
	again := fresh()
	if !again.Load(folder) || measure(again, time.Second) != 0 || measure(again, time.Millisecond) == 0 {
		t.Error("what was measured is lost, or not enough")
	}
	testkit.OK(t, again.Save(folder))
	if kept := auto.Kept(folder); len(kept) != 1 || kept[0].Choice == nil || len(kept[0].Candidates) != len(again.Candidates) {
		t.Errorf("%d are kept", len(kept))
	}
	host.CPU = "another"
	if fresh().Load(folder) {
		t.Error("it is another machine's")
	}
	testkit.OK(t, os.WriteFile(filepath.Join(folder, "damaged.json"), []byte("{"), 0o600))
	if len(auto.Kept(folder)) != 1 {
		t.Error("a damaged one is none")
	}
}

// A GPU on which alone the models run is taken alone. Many cores are not all made accelerators one by one.
func TestGPUAlone(t *testing.T) {
	p := &pretended{cores: [][]int{cores(0, 4)}, gpus: []string{"cuda"}, broken: "cpu", speedup: linear(0.4), basic: same,
		one: [][]time.Duration{{time.Millisecond}}, gpu: [][]time.Duration{{time.Millisecond}}, rates: []float64{1, 1.5, 2}}
	w := auto.Wanted{Rates: []float64{1}, Deadlines: []time.Duration{time.Second}}
	c, _ := p.calibrated(t, w.Deadlines)
	testkit.Equal(t, map[string]int{"cuda": 4}, p.chosen(t, testkit.Must(c.Choose(w))(t)))
	p = &pretended{cores: [][]int{cores(0, 96)}, speedup: linear(0.4), basic: same, one: p.one}
	c, _ = p.calibrated(t, w.Deadlines)
	choice := testkit.Must(c.Choose(w))(t)
	if got := p.chosen(t, choice); len(choice.Accelerators) > 32 || got["2 all"] < 30 {
		t.Errorf("%v", got)
	}
}

// Where nothing works, it says why.
func TestNothingWorks(t *testing.T) {
	for _, n := range []int{1, 8} {
		p := &pretended{cores: [][]int{cores(0, n)}, broken: "cpu", one: [][]time.Duration{{1}}, speedup: linear(1), basic: same}
		c, _ := p.calibrated(t, []time.Duration{time.Second})
		testkit.Refused(c.Choose(auto.Wanted{Rates: []float64{1}, Deadlines: []time.Duration{time.Second}}))(t,
			"it does not work")
	}
}
