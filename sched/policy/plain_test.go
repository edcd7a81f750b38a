package policy

import (
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/terastal/terastal/sched"
)

// plain is any policy written as plainly as possible. It may learn from how long
// layers take and how jobs end, and give up jobs by its own rule.
type plain interface {
	choices(s *sched.State) []sched.Choice
	drops(s *sched.State, job int) bool
	ended(j sched.Job, o sched.Outcome, at time.Duration)
	paced(predicted, took time.Duration)
}

// boundedRollout is rollout with searches that long queues end early.
const boundedRollout = "bounded rollout"

func bounded() rolloutOptions {
	o := defaultRollout()
	o.events, o.touches = 12, 60
	return o
}

// newPlain returns the plain form of any policy that Find knows, for an engine with this configuration.
func newPlain(sys *sched.System, name string, c sched.Config) plain {
	r := reference{sys: sys}
	if base, whole := strings.CutSuffix(name, wholeSuffix); whole {
		return &plainWhole{r, newPlain(wholeModels(sys), base, c)}
	}
	switch name {
	case "fifo":
		return newPlainFIFO(sys, c)
	case "triton-like", "triton-like-deadlines":
		return newPlainTriton(sys, TritonOptions{ByDeadline: name != "triton-like"}, c)
	case "fcfs":
		return memoryless(r.fcfs)
	case "edf":
		return memoryless(r.edf)
	case "llf":
		return memoryless(r.llf)
	case "heft":
		return memoryless(r.heft)
	case "dream":
		return newPlainDREAM(sys)
	case "terastal":
		return memoryless(r.terastal)
	case "terastal-novariants":
		return memoryless(reference{sys, sched.TerastalOptions{Originals: true}, nil}.terastal)
	case "terastal-nobudgets":
		return memoryless(reference{sys, sched.TerastalOptions{Deadlines: true}, nil}.terastal)
	case "terastal-budget":
		return newPlainBudget(sys, plainPricing(sys, false).Prices)
	case "pedf":
		return newPlainRule(sys, pricedEDF(), c, false)
	case "pedf-novariants":
		return newPlainRule(sys, pricedEDF(), c, true)
	case "rollout":
		return newPlainRollout(sys, defaultRollout(), c)
	case "rollout-novariants":
		o := defaultRollout()
		o.originals = true
		return newPlainRollout(sys, o, c)
	case boundedRollout:
		return newPlainRollout(sys, bounded(), c)
	}
	panic("no reference for policy " + name)
}

func compiled(sys *sched.System) *sched.Tables {
	t, err := sched.Compile(*sys)
	if err != nil {
		panic(err)
	}
	return t
}

// memoryless is a reference that learns nothing and drops nothing.
type memoryless func(*sched.State) []sched.Choice

func (m memoryless) choices(s *sched.State) []sched.Choice       { return m(s) }
func (memoryless) drops(*sched.State, int) bool                  { return false }
func (memoryless) ended(sched.Job, sched.Outcome, time.Duration) {}
func (memoryless) paced(_, _ time.Duration)                      {}

// usable lists where a layer's original runs, and how long it takes there.
func usable(l sched.Layer) map[int]time.Duration {
	out := map[int]time.Duration{}
	for k, c := range l.Implementations[0].Latency {
		if c != sched.Unavailable {
			out[k] = c
		}
	}
	return out
}

// shortest is the least that the originals can take when the inputs of the first layer lie at an accelerator, or where the
// release put them: over whatever accelerators, handoffs included.
func shortest(layers []sched.Layer, at int32) time.Duration {
	after := map[int32]time.Duration{}
	for _, l := range slices.Backward(layers) {
		from := map[int32]time.Duration{}
		for at := int32(sched.Idle); int(at) < len(l.Implementations[0].Latency); at++ {
			from[at] = 1 << 62
			for k, c := range usable(l) {
				from[at] = min(from[at], handoff(l, at, k)+c+after[int32(k)])
			}
		}
		after = from
	}
	return after[at]
}

// handoff is what it takes to make the inputs of a layer usable on accelerator k.
func handoff(l sched.Layer, at int32, k int) time.Duration {
	if l.Handoff == nil || at == sched.Idle {
		return 0
	}
	return l.Handoff[at][k]
}

// toGo is the sum of the originals' mean latencies over accelerators. It sums
// from the last layer, as the fast one does, so that floating point agrees.
func toGo(layers []sched.Layer) float64 {
	sum := 0.0
	for _, l := range slices.Backward(layers) {
		sum += meanLatency(l)
	}
	return sum
}

func meanLatency(l sched.Layer) float64 {
	var all time.Duration
	for _, c := range usable(l) {
		all += c
	}
	return float64(all) / float64(len(usable(l)))
}

// left are the layers that the job has not ended.
func (r reference) left(j sched.Job) []sched.Layer { return r.sys.Models[j.Model].Layers[j.Layer:] }

// ends is when the layer that a job runs is predicted to end.
func ends(s *sched.State, j sched.Job) time.Duration {
	a := s.Accelerators[j.On]
	if a.Job != j.ID { // it is about to, and the accelerator has another or none
		return max(s.Now, s.Tails[j.On].Until)
	}
	return max(s.Now, a.Free)
}

func (r reference) fcfs(s *sched.State) []sched.Choice {
	return r.listed(s, func(j sched.Job) time.Duration { return j.Release })
}

func (r reference) edf(s *sched.State) []sched.Choice {
	return r.listed(s, func(j sched.Job) time.Duration { return j.Deadline })
}

func (r reference) llf(s *sched.State) []sched.Choice {
	return r.listed(s, func(j sched.Job) time.Duration { return j.Deadline - s.Now - shortest(r.left(j), j.At) })
}

func (r reference) heft(s *sched.State) []sched.Choice {
	free, idle := freeTimes(s)
	jobs := waiting(s)
	sort.SliceStable(jobs, func(a, b int) bool { return toGo(r.left(s.Jobs[jobs[a]])) > toGo(r.left(s.Jobs[jobs[b]])) })
	var out []sched.Choice
	for _, i := range jobs {
		can := keep(r.options(s.Jobs[i], free), func(o option) bool { return o.implementation == 0 })
		if len(can) == 0 {
			continue
		}
		o := earliest(can)
		if idle[o.accelerator] {
			out = append(out, sched.Choice{Job: int32(i), Accelerator: int32(o.accelerator), Reason: sched.EarliestFinish})
		}
		// Reserved: it is what the next ones have to wait for.
		free[o.accelerator], idle[o.accelerator] = o.finish, false
	}
	return out
}

// plainDREAM keeps what it saw: the history of every model for the smart drop,
// the ended jobs and energies of the current window for the tuner.
type plainDREAM struct {
	reference
	history map[int][]sched.Outcome
	centre  [2]float64
	step    float64
	moves   int       // of the centre
	costs   []float64 // of the candidates tried so far
	window  []ending
	spent   map[int]float64
	least   map[int]float64
}

type ending struct {
	model int
	met   bool
}

func newPlainDREAM(sys *sched.System) *plainDREAM {
	return &plainDREAM{reference: reference{sys: sys}, history: map[int][]sched.Outcome{}, centre: [2]float64{1, 1},
		step: 0.5, spent: map[int]float64{}, least: map[int]float64{}}
}

// candidates are the alpha and beta to try: the centre, and a step down and up in each.
func (p *plainDREAM) candidates() [][2]float64 {
	a, b := p.centre[0], p.centre[1]
	low := func(x float64) float64 { return max(0, x-p.step) }
	high := func(x float64) float64 { return min(2, x+p.step) }
	return [][2]float64{{a, b}, {low(a), b}, {high(a), b}, {a, low(b)}, {a, high(b)}}
}

func (p *plainDREAM) choices(s *sched.State) []sched.Choice {
	_, idle := freeTimes(s)
	jobs := waiting(s)
	var out []sched.Choice
	for {
		chosen, high := sched.Choice{Reason: sched.HighestScore}, -1.0
		for _, i := range jobs {
			for k := range p.sys.Accelerators {
				if _, runs := usable(p.left(s.Jobs[i])[0])[k]; runs && idle[k] && p.score(s, s.Jobs[i], k) > high {
					high, chosen.Job, chosen.Accelerator = p.score(s, s.Jobs[i], k), int32(i), int32(k)
				}
			}
		}
		if high < 0 {
			return out
		}
		out = append(out, chosen)
		jobs = slices.DeleteFunc(jobs, func(i int) bool { return i == int(chosen.Job) })
		idle[int(chosen.Accelerator)] = false
		j := s.Jobs[chosen.Job]
		if energies := p.energies(j); energies != nil {
			e := energies[int(chosen.Accelerator)]
			least := e
			for _, x := range energies {
				least = min(least, x)
			}
			p.spent[int(j.Model)] += e
			p.least[int(j.Model)] += least
		}
	}
}

// energies are those of the next layer where it runs; nil when unknown.
func (p *plainDREAM) energies(j sched.Job) map[int]float64 {
	table := p.sys.Models[j.Model].Energy
	if table == nil {
		return nil
	}
	out := map[int]float64{}
	for k := range usable(p.left(j)[0]) {
		out[k] = table[j.Layer][k]
	}
	return out
}

// score is MapScore.
func (p *plainDREAM) score(s *sched.State, j sched.Job, k int) float64 {
	layers := p.left(j)
	togo := toGo(layers)
	slack := max(float64(j.Deadline-s.Now), togo/1000)
	var all time.Duration
	for _, c := range usable(layers[0]) {
		all += c
	}
	latPref := float64(all) / float64(usable(layers[0])[k])
	starvation := float64(max(0, s.Now-j.Ready)) / meanLatency(layers[0])
	energy := 0.0
	if e := p.energies(j); e[k] > 0 {
		for at := range p.sys.Accelerators { // in order, for floating point
			energy += e[at]
		}
		energy /= e[k]
	}
	weights := p.candidates()[len(p.costs)]
	return togo/slack*latPref + weights[0]*starvation + weights[1]*energy
}

func (p *plainDREAM) drops(s *sched.State, job int) bool {
	misses := func(j sched.Job) bool {
		if j.On != sched.Idle {
			return ends(s, j)+shortest(p.left(j)[1:], j.On) > j.Deadline
		}
		return max(s.Now, j.Ready)+shortest(p.left(j), j.At) > j.Deadline
	}
	missing := 0
	for _, j := range s.Jobs {
		if misses(j) {
			missing++
		}
	}
	j := s.Jobs[job]
	for _, m := range p.sys.Models {
		if m.Trigger != nil && m.Trigger.Parent == p.sys.Models[j.Model].Name {
			return false
		}
	}
	history := p.history[int(j.Model)]
	dropped := 0
	for _, o := range history[max(0, len(history)-10):] {
		if o == sched.Dropped {
			dropped++
		}
	}
	return misses(j) && missing > 1 && dropped < 2
}

func (*plainDREAM) paced(_, _ time.Duration) {}

func (p *plainDREAM) ended(j sched.Job, o sched.Outcome, _ time.Duration) {
	model := int(j.Model)
	p.history[model] = append(p.history[model], o)
	p.window = append(p.window, ending{model, o == sched.Met})
	if len(p.window) < 50 {
		return
	}
	p.costs = append(p.costs, p.cost())
	p.window, p.spent, p.least = nil, map[int]float64{}, map[int]float64{}
	if all := p.candidates(); len(p.costs) == len(all) {
		best := slices.Index(p.costs, slices.Min(p.costs))
		if p.centre != all[best] {
			p.moves++
		}
		p.centre = all[best]
		if best == 0 {
			p.step = max(0.05, p.step/2)
		}
		p.costs = nil
	}
}

// cost is UXCost of the window.
func (p *plainDREAM) cost() float64 {
	rates, energies := 0.0, 0.0
	for m := range p.sys.Models {
		seen, missed := 0.0, 0.0
		for _, e := range p.window {
			if e.model == m {
				seen++
				if !e.met {
					missed++
				}
			}
		}
		if seen > 0 {
			rates += missed / seen
		}
		if p.least[m] > 0 {
			energies += p.spent[m] / p.least[m]
		} else {
			energies++
		}
	}
	return rates * energies
}

// plainWhole runs every request on one accelerator, that which the inner policy
// gives it in a system of models with one layer.
type plainWhole struct {
	reference
	inner plain
}

func wholeModels(sys *sched.System) *sched.System {
	out := &sched.System{Accelerators: sys.Accelerators, Devices: sys.Devices}
	for _, m := range sys.Models {
		whole := sched.Model{Name: m.Name, Deadline: m.Deadline, Trigger: m.Trigger}
		im := sched.Implementation{Name: "whole"}
		var energy []float64
		for k := range sys.Accelerators {
			var sum time.Duration
			e := 0.0
			runs := true
			for l, layer := range m.Layers {
				c, ok := usable(layer)[k]
				runs = runs && ok
				sum += c
				if m.Energy != nil {
					e += m.Energy[l][k]
				}
			}
			if !runs {
				sum = sched.Unavailable
			}
			im.Latency = append(im.Latency, sum)
			energy = append(energy, e)
		}
		if m.Energy != nil {
			whole.Energy = [][]float64{energy}
		}
		whole.Layers = []sched.Layer{{Name: "whole", Implementations: []sched.Implementation{im}}}
		out.Models = append(out.Models, whole)
	}
	return out
}

// view is what the inner policy sees, the places of its jobs in the real state, and the choices that are made already.
func (p *plainWhole) view(s *sched.State) (view sched.State, at []int, out []sched.Choice) {
	view.CopyFrom(s)
	view.Jobs, view.Tails = nil, nil // whole models move nowhere
	on := func(k int32, layers []sched.Layer) time.Duration {
		var sum time.Duration
		for _, l := range layers {
			sum += usable(l)[int(k)]
		}
		return sum
	}
	for i, j := range s.Jobs {
		switch {
		case j.On != sched.Idle:
			if s.Accelerators[j.On].Job == j.ID { // else it is about to end, and the next may begin
				view.Accelerators[j.On].Free = ends(s, j) + on(j.On, p.left(j)[1:])
			}
		case j.Layer == 0:
			view.Jobs = append(view.Jobs, j)
			at = append(at, i)
		case s.Idle(int(j.At)) && view.Idle(int(j.At)):
			out = append(out, sched.Choice{Job: int32(i), Accelerator: j.At, Reason: sched.SameAccelerator})
			a := &view.Accelerators[j.At]
			a.Job, a.Free = j.ID, max(s.Now, a.Free, j.Ready)+on(j.At, p.left(j))
		}
	}
	return view, at, out
}

func (p *plainWhole) choices(s *sched.State) []sched.Choice {
	view, at, out := p.view(s)
	for _, c := range p.inner.choices(&view) {
		c.Job = int32(at[c.Job])
		out = append(out, c)
	}
	return out
}

func (p *plainWhole) drops(s *sched.State, job int) bool {
	view, at, _ := p.view(s)
	i := slices.Index(at, job)
	return i >= 0 && p.inner.drops(&view, i)
}

func (p *plainWhole) ended(j sched.Job, o sched.Outcome, at time.Duration) { p.inner.ended(j, o, at) }

func (p *plainWhole) paced(predicted, took time.Duration) { p.inner.paced(predicted, took) }
