package policy

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/internal/schedtest"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
	"pgregory.net/rapid"
)

// plainFIFO is fifo over models of one layer, queue by queue.
type plainFIFO struct {
	reference
	memoryless
	on placement
}

func newPlainFIFO(sys *sched.System, c sched.Config) plain {
	whole := wholeModels(sys)
	p := &plainFIFO{reference: reference{sys: whole}, on: newPlacement(placed(sys, c), compiled(whole))}
	return &plainWhole{reference{sys: sys}, p}
}

// placed are the tables that a placement is of: those of the system, which knows rates if the tables do that the policy has.
func placed(sys *sched.System, c sched.Config) *sched.Tables {
	of := *sys
	if c.Tables.System().Pricing == nil {
		of.Pricing = nil
	}
	return compiled(&of)
}

func (p *plainFIFO) choices(s *sched.State) []sched.Choice {
	free, idle := freeTimes(s)
	queues := map[int32][]int{} // by the first accelerator of the device
	for _, i := range waiting(s) {
		for first, group := range shared(p.sys) {
			if slices.Contains(group, p.on[s.Jobs[i].Model][0]) {
				queues[first] = append(queues[first], i)
			}
		}
	}
	var out []sched.Choice
	for _, queue := range queues {
		for _, i := range queue {
			can := keep(p.options(s.Jobs[i], free), func(o option) bool {
				return idle[o.accelerator] && slices.Contains(p.on[s.Jobs[i].Model], int32(o.accelerator))
			})
			if len(can) == 0 {
				continue
			}
			k := earliest(can).accelerator
			idle[k] = false
			out = append(out, sched.Choice{Job: int32(i), Accelerator: int32(k), Reason: sched.FastestIdle})
		}
	}
	slices.SortFunc(out, func(a, b sched.Choice) int { return int(a.Job - b.Job) })
	return out
}

// plainTriton is triton-like over models of one layer. It keeps what every instance has run.
type plainTriton struct {
	reference
	memoryless
	on  placement
	ran map[[2]int]int // by model and accelerator
	of  TritonOptions
}

func newPlainTriton(sys *sched.System, o TritonOptions, c sched.Config) plain {
	whole := wholeModels(sys)
	p := &plainTriton{reference: reference{sys: whole}, on: newPlacement(placed(sys, c), compiled(whole)),
		ran: map[[2]int]int{}, of: o}
	return &plainWhole{reference{sys: sys}, p}
}

func (p *plainTriton) priority(model int) float64 {
	if !p.of.ByDeadline {
		return 1
	}
	shortest := slices.MinFunc(p.sys.Models, func(a, b sched.Model) int { return cmp.Compare(a.Deadline, b.Deadline) })
	return math.Round(float64(p.sys.Models[model].Deadline) / float64(shortest.Deadline))
}

func (p *plainTriton) choices(s *sched.State) []sched.Choice {
	_, idle := freeTimes(s)
	jobs := waiting(s)
	var out []sched.Choice
	for {
		type staged struct {
			score      float64
			job, k     int
			model, pos int
		}
		var all []staged
		for m := range p.sys.Models {
			i := slices.IndexFunc(jobs, func(i int) bool { return int(s.Jobs[i].Model) == m })
			for _, k := range p.on[m] {
				if i >= 0 && idle[int(k)] {
					all = append(all, staged{float64(p.ran[[2]int{m, int(k)}]) * p.priority(m), jobs[i], int(k), m, i})
				}
			}
		}
		if len(all) == 0 {
			return out
		}
		best := slices.MinFunc(all, func(a, b staged) int {
			return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(a.job, b.job), cmp.Compare(a.k, b.k))
		})
		out = append(out, sched.Choice{Job: int32(best.job), Accelerator: int32(best.k), Reason: sched.HighestScore})
		p.ran[[2]int{best.model, best.k}]++
		idle[best.k] = false
		jobs = slices.Delete(jobs, best.pos, best.pos+1)
	}
}

// TestPlacement holds placements against all that there are.
func TestPlacement(t *testing.T) {
	schedtest.CheckSome(t, 5, func(t *rapid.T) {
		sys := anySystem(t)
		if schedtest.Chance(t, 50, "pricing") {
			sys.Pricing = drawPricing(t, &sys)
		}
		tables := schedtest.Compile(t, sys)
		if !exists("fifo", tables) {
			return
		}
		whole := wholeModels(&sys)
		got := newPlacement(tables, compiled(whole))
		busiest, total := cost(&sys, whole, got)
		for _, all := range placements(&sys, whole) {
			if b, sum := cost(&sys, whole, all); less(b, busiest) || !less(busiest, b) && less(sum, total) {
				t.Fatalf("system %+v\nplaced %v: busiest %v, all %v\nbetter %v: busiest %v, all %v", sys, got, busiest, total,
					all, b, sum)
			}
		}
	})
}

func less(a, b float64) bool { return a < b*(1-1e-9) }

// shared are the accelerators of each device, by the first of them.
func shared(sys *sched.System) map[int32][]int32 {
	out := map[int32][]int32{}
	for k := range sys.Accelerators {
		out[int32(k)] = []int32{int32(k)}
	}
	for _, d := range sys.Devices {
		var group []int32
		for _, k := range d.Accelerators {
			delete(out, int32(k))
			group = append(group, int32(k))
		}
		out[slices.Min(group)] = group
	}
	return out
}

// placements are all placements that the deadlines leave.
func placements(sys, whole *sched.System) []placement {
	all := []placement{nil}
	for _, m := range whole.Models {
		var fit, fastest []int32
		low := time.Duration(math.MaxInt64)
		var choices [][]int32
		for k := range sys.Accelerators { // in order, so that the first of equally fast ones counts
			group, is := shared(sys)[int32(k)]
			times := usable(m.Layers[0])
			fit = nil
			least := time.Duration(math.MaxInt64)
			for _, k := range group {
				if c, runs := times[int(k)]; is && runs {
					fit, least = append(fit, k), min(least, c)
				}
			}
			if fit == nil {
				continue
			}
			if least < low {
				fastest, low = fit, least
			}
			if 2*least <= m.Deadline {
				choices = append(choices, fit)
			}
		}
		if choices == nil {
			choices = [][]int32{fastest}
		}
		var longer []placement
		for _, p := range all {
			for _, c := range choices {
				longer = append(longer, append(slices.Clone(p), c))
			}
		}
		all = longer
	}
	return all
}

// cost is how busy the busiest device is with a placement, and all devices together.
func cost(sys, whole *sched.System, p placement) (busiest, total float64) {
	load := map[int32]float64{}
	rates := ratesOf(compiled(sys))
	for m, on := range p {
		rate := rates[m]
		least := time.Duration(math.MaxInt64)
		for _, k := range on {
			least = min(least, usable(whole.Models[m].Layers[0])[int(k)])
		}
		for first, group := range shared(sys) {
			if slices.Contains(group, on[0]) {
				load[first] += rate * float64(least) / float64(len(on))
				total += rate * float64(least) / float64(len(on))
			}
		}
	}
	for _, l := range load {
		busiest = max(busiest, l)
	}
	return busiest, total
}

// serving is a system of two devices, a processor and two streams, and three models. The first two belong on the streams.
func serving() sched.System {
	const ms = time.Millisecond
	model := func(name string, deadline time.Duration, latency ...time.Duration) sched.Model {
		layer := func() sched.Layer {
			return sched.Layer{Name: "l", Implementations: []sched.Implementation{{Name: "original", Latency: latency}}}
		}
		return sched.Model{Name: name, Deadline: deadline, Layers: []sched.Layer{layer(), layer()}}
	}
	return sched.System{Accelerators: []string{"cpu", "gpu.0", "gpu.1"},
		Devices: []sched.Device{{Name: "gpu", Accelerators: []int{1, 2}}},
		Models: []sched.Model{model("a", 40*ms, 20*ms, 2*ms, 2*ms), model("b", 80*ms, 40*ms, 3*ms, 3*ms),
			model("c", 100*ms, ms, 20*ms, 20*ms)}}
}

// dispatches are those of whole models: which model begins where, and when.
func (l records) begun(sys *sched.System) (out []string) {
	for _, r := range l {
		if r.Kind == sched.Dispatched && r.Layer == 0 {
			out = append(out, strings.Join([]string{r.At.String(), sys.Models[r.Model].Name, sys.Accelerators[r.Accelerator]}, " "))
		}
	}
	return out
}

// TestServing pins what the servers do with a burst of requests.
func TestServing(t *testing.T) {
	sys := serving()
	var arrivals []traffic.Arrival
	for _, m := range []int{0, 0, 0, 0, 1, 2, 2, 1} {
		arrivals = append(arrivals, traffic.Arrival{Model: m})
	}
	for name, x := range map[string]struct {
		policy sched.Constructor
		want   []string
	}{
		"fifo": {FIFO, []string{"0s a gpu.0", "0s a gpu.1", "0s c cpu", "2ms c cpu", "4ms a gpu.0", "4ms a gpu.1",
			"8ms b gpu.0", "8ms b gpu.1"}},
		// After the first two requests of a, b has run less.
		"triton-like": {TritonLike, []string{"0s a gpu.0", "0s a gpu.1", "0s c cpu", "2ms c cpu", "4ms b gpu.0", "4ms b gpu.1",
			"10ms a gpu.0", "10ms a gpu.1"}},
		"one instance of a": {TritonOptions{Instances: []int{1, 0, 0}}.New, []string{"0s a gpu.0", "0s b gpu.1", "0s c cpu",
			"2ms c cpu", "4ms b gpu.0", "6ms a gpu.1", "10ms a gpu.0", "14ms a gpu.1"}},
	} {
		var log records
		testkit.Must(sim.Run(sim.Config{Arrivals: arrivals, Engine: sched.Config{Tables: schedtest.Compile(t, sys),
			Policy: x.policy, Recorder: &log}}))(t)
		if got := log.begun(&sys); !slices.Equal(got, x.want) {
			t.Errorf("%s began\n%q, want\n%q", name, got, x.want)
		}
	}
}

// TestPriorities: of two models that are always waiting, the one of priority 2 runs half as often as that of priority 1,
// also where deadlines say so.
func TestPriorities(t *testing.T) {
	sys := serving()
	var arrivals []traffic.Arrival
	for n := range 40 {
		arrivals = append(arrivals, traffic.Arrival{Model: n % 2})
	}
	for _, o := range []TritonOptions{{Priorities: []int{1, 2, 1}}, {ByDeadline: true}} {
		var log records
		testkit.Must(sim.Run(sim.Config{Arrivals: arrivals, Engine: sched.Config{Tables: schedtest.Compile(t, sys),
			Policy: o.New, Recorder: &log}}))(t)
		order := ""
		for _, line := range log.begun(&sys) {
			if x := strings.Fields(line); x[2] == "gpu.0" {
				order += x[1]
			}
		}
		// Of equal scores the request that came first counts.
		if want := "ababaabaabaab"; !strings.HasPrefix(order, want) {
			t.Errorf("%+v: gpu.0 ran %s, want %s first", o, order, want)
		}
	}
}

func TestTritonRefuses(t *testing.T) {
	sys := serving()
	c := sched.Config{Tables: schedtest.Compile(t, sys)}
	for says, o := range map[string]TritonOptions{
		"2 priorities and 0 instance counts, there are 3 models": {Priorities: []int{1, 1}},
		"0 priorities and 4 instance counts":                     {Instances: make([]int, 4)},
		`model "b": a priority is 1 at least`:                    {Priorities: []int{1, 0, 1}},
		`model "c": a priority is 1 at least, an instance count`: {Instances: []int{1, 1, -1}},
	} {
		testkit.Refused(o.New(c))(t, says)
	}
}
