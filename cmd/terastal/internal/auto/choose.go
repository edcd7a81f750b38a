package auto

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// Wanted is what accelerators are chosen for: the calibration's models, in its order.
type Wanted struct {
	// Rates are in releases per second; only their proportions matter. Triggered models have any. Nil stands for rates at
	// which every model asks for the same share of a single core.
	Rates     []float64
	Deadlines []time.Duration
	// Triggers are nil for models that are released by themselves.
	Triggers []*sched.Trigger
}

// Choice is a set of accelerators that was chosen, and why.
type Choice struct {
	Accelerators []runtime.Spec `json:"accelerators"`
	// Capacity is how many requests of the models per second no schedule exceeds: the fluid bound.
	Capacity float64 `json:"requests_per_second"`
	// Late are models that meet their deadline nowhere.
	Late []string `json:"late,omitempty"`
	// Free says that a core is left for releases and decisions.
	Free bool `json:"free_core"`
	// Compared are this set and others, the best first.
	Compared []Set `json:"compared"`
	// Lines explain the choice.
	Lines []string `json:"lines"`
}

// Set is a set of accelerators in words, and its capacity.
type Set struct {
	Name     string  `json:"name"`
	Capacity float64 `json:"requests_per_second"`
	Late     int     `json:"late,omitempty"`
	Free     bool    `json:"free_core"`
}

const (
	// noticed is how much later releases are noticed (p99) where no core is left for them: 160 to 200 us in place of 75 on
	// one core, with requests that take 0.4 ms on average; the capacity was the same. See docs/PROVIDERS.md.
	noticed     = 120 * time.Microsecond
	mostCrowded = 0.5
	// alike is by how much a set has to be better to be chosen in place of one with fewer accelerators.
	alike = 0.01
	// maxCPUs bounds the CPU's accelerators: each takes memory for all models, and time to profile.
	maxCPUs = 32
	// maxMoves bounds how often a set is improved.
	maxMoves = 200
)

// set is how many accelerators of each class there are.
type set struct {
	counts []int
	free   bool
	late   int
	bound  float64 // by rates
}

// chooser looks for the best set.
type chooser struct {
	*Calibration
	Wanted
	all   []class
	known map[string]set // by counts
}

// Choose chooses accelerators. It fails where none of the candidates works.
func (c *Calibration) Choose(w Wanted) (*Choice, error) {
	x := &chooser{Calibration: c, Wanted: w, all: c.classes(), known: map[string]set{}}
	if len(x.all) == 0 {
		return nil, c.unusable()
	}
	if w.Rates == nil {
		x.Rates = x.equalShares()
	}
	finalists, err := x.finalists()
	if err != nil {
		return nil, err
	}
	if len(finalists) == 0 {
		return nil, errors.New("no set of accelerators runs all layers of all models: name accelerators in the configuration")
	}
	slices.SortStableFunc(finalists, x.compare)
	best := finalists[0]
	for _, s := range finalists { // nearly as good, and simpler
		if s.late == best.late && x.worth(s) >= (1-alike)*x.worth(finalists[0]) && s.accelerators() < best.accelerators() {
			best = s
		}
	}
	return x.choice(best, finalists), nil
}

// finalists are the sets that were improved as far as they go, and those that they began as where they say most about the
// choice, with their real bounds.
func (x *chooser) finalists() (out []set, err error) {
	begun := x.starts()
	improved := make([]set, len(begun))
	for i, s := range begun {
		improved[i], begun[i] = x.climbed(s), x.quick(s.counts, s.free)
	}
	slices.SortStableFunc(improved, x.compare)
	slices.SortStableFunc(begun, x.compare)
	seen, shapes := map[string]bool{}, map[string]bool{}
	for i, s := range slices.Concat(improved, begun) {
		key, shape := fmt.Sprint(s.counts), x.shape(s)
		if s.bound <= 0 || seen[key] || i >= len(improved) && shapes[shape] {
			continue
		}
		seen[key], shapes[shape] = true, true
		if err := x.exact(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// unusable says why nothing works.
func (c *Calibration) unusable() error {
	for i := range c.Candidates {
		if x := &c.Candidates[i]; x.Failed != "" {
			return fmt.Errorf("no accelerator works here: %s: %s", x.Accelerator.Name, x.Failed)
		}
	}
	return errors.New("no accelerator was tried here")
}

// equalShares are rates at which every model asks for the same share of an accelerator's time.
func (x *chooser) equalShares() []float64 {
	out := make([]float64, len(x.Models))
	for m := range x.Models {
		sum := time.Duration(1)
		for l := range x.all[0].latency[m] {
			least := time.Duration(math.MaxInt64)
			for _, c := range x.all {
				if took := c.latency[m][l]; took >= 0 {
					least = min(least, took)
				}
			}
			sum += least
		}
		out[m] = 1 / sum.Seconds()
	}
	return out
}

// starts are sets to begin from: every way to use a GPU, with and without a core left, and the CPU's cores in groups
// of every size, as far as they go, at one level or two in turn.
func (x *chooser) starts() (out []set) {
	gpus := []int{-1}
	for i, c := range x.all {
		if !c.cpu() {
			gpus = append(gpus, i)
		}
	}
	for _, g := range gpus {
		for _, free := range []bool{false, true} {
			left := make([]int, len(x.Cores))
			for k, cores := range x.Cores {
				left[k] = len(cores)
			}
			base := set{counts: make([]int, len(x.all)), free: free}
			if last := len(left) - 1; g >= 0 {
				base.counts[g] = x.all[g].streams
				left[last] = max(0, left[last]-x.all[g].streams)
			}
			if free {
				if left[0] < 1 || left[0] == 1 && g < 0 {
					continue
				}
				left[0]--
			}
			out = append(out, x.filled(base, left)...)
		}
	}
	return out
}

// filled are ways to use so many cores of each kind.
func (x *chooser) filled(base set, left []int) (out []set) {
	for _, largest := range x.sizes() {
		for first := range levels {
			for _, mixed := range []bool{false, true} {
				s := set{counts: slices.Clone(base.counts), free: base.free}
				for k, n := range left {
					x.fill(&s, k, n, largest, first, mixed)
				}
				out = append(out, s)
			}
		}
	}
	return out
}

// sizes are those of the groups of cores that are known.
func (x *chooser) sizes() (out []int) {
	for i := range x.all {
		if c := &x.all[i]; c.cpu() && !slices.Contains(out, c.cores) {
			out = append(out, c.cores)
		}
	}
	if out == nil {
		return []int{1} // a GPU is all there is
	}
	slices.Sort(out)
	return out
}

// fill uses n cores of a kind, in groups up to a size, at one level or two in turn.
func (x *chooser) fill(s *set, kind, n, largest, first int, mixed bool) {
	for size, level := min(n, largest), first; size > 0; size-- {
		for n >= size && x.cpus(s.counts) < maxCPUs {
			at := x.class(kind, size, levels[level])
			if at < 0 {
				at = x.class(kind, size, levels[1-level])
			}
			if at < 0 {
				break
			}
			s.counts[at]++
			n -= size
			if mixed {
				level = 1 - level
			}
		}
	}
}

// class is the one of such accelerators of a CPU; -1 if there is none.
func (x *chooser) class(kind, cores int, level string) int {
	return slices.IndexFunc(x.all, func(c class) bool {
		return c.cpu() && c.kind == kind && c.cores == cores && c.spec.Optimization == level
	})
}

// climbed improves a set as long as exchanging one or two accelerators for others of as many cores improves it.
func (x *chooser) climbed(s set) set {
	s = x.quick(s.counts, s.free)
	for range maxMoves {
		best := s
		for a := range x.all {
			for b := range x.all {
				if from, to, ok := x.exchange(a, b); ok && s.counts[a] >= from {
					counts := slices.Clone(s.counts)
					counts[a] -= from
					counts[b] += to
					if n := x.quick(counts, s.free); x.compare(n, best) < 0 && n.bound > best.bound*(1+1e-4) || n.late < best.late {
						best = n
					}
				}
			}
		}
		if slices.Equal(best.counts, s.counts) {
			break
		}
		s = best
	}
	return s
}

// exchange is how many accelerators of one class make how many of another.
func (x *chooser) exchange(a, b int) (from, to int, ok bool) {
	p, q := &x.all[a], &x.all[b]
	if a == b || !p.cpu() || !q.cpu() || p.kind != q.kind {
		return 0, 0, false
	}
	from, to = max(1, q.cores/p.cores), max(1, p.cores/q.cores)
	return from, to, from*p.cores == to*q.cores
}

// quick is a set with a bound in which accelerators that are alike are one, as fast as all of them; deadlines count as
// whether a model can meet its own at all. It is never below the real one.
func (x *chooser) quick(counts []int, free bool) set {
	key := fmt.Sprint(counts)
	s, known := x.known[key]
	if !known {
		s = set{counts: counts}
		var merged []class
		for i, n := range counts {
			if n > 0 {
				c := x.all[i]
				c.latency = stretched(c.latency, 1/float64(n))
				merged = append(merged, c)
			}
		}
		if len(merged) > 0 && x.cpus(counts) <= maxCPUs {
			s.late = len(x.lateOnes(s))
			if t, err := x.tables(merged, make([]time.Duration, len(x.Deadlines))); err == nil {
				if c, err := fluid.CapacityOf(t, x.Rates); err == nil {
					s.bound = c.Scale
				}
			}
		}
		x.known[key] = s
	}
	s.free = free
	return s
}

// cpus is how many accelerators of the CPU there are.
func (x *chooser) cpus(counts []int) (n int) {
	for i, k := range counts {
		if x.all[i].cpu() {
			n += k
		}
	}
	return n
}

// exact gives a set its real bound.
func (x *chooser) exact(s *set) error {
	var all []class
	for i, n := range s.counts {
		for range n {
			all = append(all, x.all[i])
		}
	}
	t, err := x.tables(all, x.Deadlines)
	if err != nil {
		return err
	}
	c, err := fluid.CapacityOf(t, x.Rates)
	s.bound = c.Scale
	return err
}

// never is a deadline that does not bind.
const never = time.Hour

// tables are those of the models on accelerators of these classes. A deadline of zero does not bind.
func (x *chooser) tables(of []class, deadlines []time.Duration) (*sched.Tables, error) {
	s := x.system(of)
	for m := range s.Models {
		s.Models[m].Deadline = cmp.Or(deadlines[m], never)
		if x.Triggers != nil {
			s.Models[m].Trigger = x.Triggers[m]
		}
	}
	return sched.Compile(s)
}

// system is the models on accelerators of these classes, without deadlines.
func (c *Calibration) system(of []class) (s sched.System) {
	for k := range of {
		s.Accelerators = append(s.Accelerators, fmt.Sprint(k))
	}
	for m, model := range c.Models {
		sm := sched.Model{Name: model.Name, Deadline: never}
		for l, name := range model.Layers {
			i := sched.Implementation{Name: runtime.Original}
			for k := range of {
				i.Latency = append(i.Latency, of[k].latency[m][l])
			}
			sm.Layers = append(sm.Layers, sched.Layer{Name: name, Implementations: []sched.Implementation{i}})
		}
		s.Models = append(s.Models, sm)
	}
	return s
}

// worth is the bound less what a set without a free core loses.
func (x *chooser) worth(s set) float64 {
	if s.free {
		return s.bound
	}
	return (1 - x.crowded()) * s.bound
}

// crowded is what a set without a free core loses: what releases are noticed later by, as a share of the time that the
// most urgent requests have.
func (x *chooser) crowded() float64 {
	return min(mostCrowded, noticed.Seconds()/max(1, slices.Min(x.Deadlines)).Seconds())
}

// compare orders sets, the best first.
func (x *chooser) compare(a, b set) int {
	return cmp.Or(cmp.Compare(a.late, b.late), cmp.Compare(x.worth(b), x.worth(a)))
}

// accelerators is how many there are.
func (s *set) accelerators() (n int) {
	for _, k := range s.counts {
		n += k
	}
	return n
}
