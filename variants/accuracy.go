package variants

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// Metric judges one request. It is what tasks of a user's own plug in.
type Metric struct {
	// Name says what the number is.
	Name string
	// Score is how good outputs are, the more the better: those of the network,
	// those of the originals on the same inputs, and the label, -1 if there is
	// none. Its mean over all requests is the accuracy.
	Score func(outputs, originals [][]float32, label int) float64
	// Labels is true when it needs labels.
	Labels bool
}

// Top is the share of requests whose label is among the n largest elements of
// the first output.
func Top(n int) Metric {
	return Metric{Name: fmt.Sprintf("top-%d", n), Labels: true, Score: func(out, _ [][]float32, label int) float64 {
		larger := 0
		for i, x := range out[0] {
			if x > out[0][label] || x == out[0][label] && i < label || x != x {
				larger++
			}
		}
		if larger < n {
			return 1
		}
		return 0
	}}
}

// Agreement is the share of requests on which the largest element of the first
// output is at the place that it has with the originals: no accuracy, but all
// that can be said without labels.
func Agreement() Metric {
	return Metric{Name: "agreement with the original", Score: func(out, original [][]float32, _ int) float64 {
		if largest(out[0]) == largest(original[0]) {
			return 1
		}
		return 0
	}}
}

// Fidelity is 1 less the squared error of all outputs as a share of their size,
// at least 0: for networks whose outputs are no scores of classes.
func Fidelity() Metric {
	return Metric{Name: "1 - relative output error", Score: func(out, original [][]float32, _ int) float64 {
		e, size := 0.0, 0.0
		for o := range out {
			for i, x := range out[o] {
				off, y := float64(x)-float64(original[o][i]), float64(original[o][i])
				e, size = e+off*off, size+y*y
			}
		}
		if size == 0 {
			size = 1
		}
		return max(0, 1-e/size)
	}}
}

func largest(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

// Chosen is a variant in use: one implementation of a layer beside the original.
type Chosen struct {
	Layer int
	Name  string
	ONNX  []byte
}

// Proof is the accuracy of combinations of a model's variants. Variants are
// numbered as the scheduler does: in the order of layers, and of their chosen
// ones.
type Proof struct {
	Metric   string
	Requests int
	// Baseline is the accuracy without variants.
	Baseline float64
	// Sets are the combinations measured and Accuracy theirs as a share of the
	// baseline. Exhaustive is true when these are all.
	Sets       []sched.VariantSet
	Accuracy   []float64
	Exhaustive bool
	// Loss is, where not all were measured, what each variant costs at most:
	// the losses of the variants of every combination that was measured sum to
	// at least what it lost.
	Loss []float64
}

// maxCombinations is up to how many combinations all are measured.
const maxCombinations = 1 << 10

// ErrData is wrapped by errors about labelled data that do not fit.
var ErrData = errors.New("the data do not fit the model")

// ProveOptions say how combinations are measured.
type ProveOptions struct {
	// Verify are combinations to measure besides those that a bound is made from.
	Verify []sched.VariantSet
	// Workers is how many requests are computed at once; 0 is one. The metric is
	// then called from as many goroutines, the data from one at a time.
	Workers int
	// Progress, if not nil, is called with the share that is done, 0 to 1, from
	// any goroutine.
	Progress func(float64)
}

// Prove measures combinations of variants, in order of layers, on every request
// of the data. Combinations share the layers that they have in common: two that
// differ from some layer on are computed once up to there.
func Prove(ctx context.Context, n *runtime.Network, chosen []Chosen, d Data, m Metric, o ProveOptions) (*Proof, error) {
	fail := func(err error) (*Proof, error) { return nil, fmt.Errorf("model %q: %w", n.Name, err) }
	if d == nil || d.Len() == 0 {
		return fail(fmt.Errorf("%w: there are no requests", ErrData))
	}
	if !slices.IsSortedFunc(chosen, func(a, b Chosen) int { return a.Layer - b.Layer }) {
		return fail(errors.New("variants are not in the order of their layers"))
	}
	first := &prover{network: n, chosen: chosen, metric: m, last: lastReaders(n)}
	out := &Proof{Metric: m.Name, Requests: d.Len()}
	out.Sets, out.Exhaustive = first.combinations(o.Verify)
	first.sets = out.Sets
	sums, err := first.all(ctx, d, o)
	if err != nil {
		return fail(err)
	}
	out.Baseline = sums[0] / float64(d.Len())
	if !(out.Baseline > 0) {
		return fail(fmt.Errorf("%w: without variants the %s is %v, so that nothing can be a share of it; are labels and preprocessing right?", ErrData, m.Name, out.Baseline))
	}
	for _, s := range sums {
		out.Accuracy = append(out.Accuracy, s/sums[0])
	}
	if !out.Exhaustive {
		out.bound(len(chosen))
	}
	return out, nil
}

// prover computes requests, one at a time.
type prover struct {
	network *runtime.Network
	chosen  []Chosen
	metric  Metric
	last    map[string]int
	runners map[int]*runner // -1-layer for originals, else by variant
	sets    []sched.VariantSet
	// Of the current request: scores by combination, the outputs without
	// variants, and the label.
	scores    []float64
	originals [][]float32
	label     int
}

// all computes the requests on copies of p, and returns the scores by
// combination, added up in the order of requests, however many copies there are.
func (p *prover) all(ctx context.Context, d Data, o ProveOptions) ([]float64, error) {
	scores := make([][]float64, d.Len())
	errs := make([]error, d.Len())
	var reading sync.Mutex
	var next, done atomic.Int64
	var failed atomic.Bool
	work := func() error {
		w := *p
		w.runners = map[int]*runner{}
		defer w.close()
		if err := w.open(); err != nil {
			return err
		}
		for i := int(next.Add(1)) - 1; i < d.Len() && !failed.Load() && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
			w.scores = make([]float64, len(w.sets))
			if errs[i] = w.request(d, i, &reading); errs[i] != nil {
				failed.Store(true)
			}
			scores[i] = w.scores
			if n := done.Add(1); o.Progress != nil {
				o.Progress(float64(n) / float64(d.Len()))
			}
		}
		return nil
	}
	opened := make([]error, max(1, min(o.Workers, d.Len())))
	var workers sync.WaitGroup
	for i := range opened {
		workers.Go(func() { opened[i] = work() })
	}
	workers.Wait()
	if err := cmp.Or(cmp.Or(opened...), cmp.Or(errs...), ctx.Err()); err != nil {
		return nil, err
	}
	sums := make([]float64, len(p.sets))
	for _, of := range scores {
		for s, x := range of {
			sums[s] += x
		}
	}
	return sums, nil
}

func (p *prover) open() error {
	for _, t := range p.network.Model.Outputs() {
		if t.Type != ort.Float {
			return fmt.Errorf("output %s is not float32: accuracy cannot be measured", t)
		}
	}
	for l := range p.network.Layers {
		layer := &p.network.Layers[l]
		data, err := layer.ONNX()
		if err != nil {
			return err
		}
		if p.runners[-1-l], err = openRunner(data, layer.Inputs, tensorNames(layer.Outputs), "all"); err != nil {
			return err
		}
	}
	for i, c := range p.chosen {
		layer := &p.network.Layers[c.Layer]
		var err error
		if p.runners[i], err = openRunner(c.ONNX, layer.Inputs, tensorNames(layer.Outputs), "all"); err != nil {
			return fmt.Errorf("layer %q: %s: %w", layer.Name, c.Name, err)
		}
	}
	return nil
}

func (p *prover) close() {
	for _, r := range p.runners {
		if r != nil {
			r.close()
		}
	}
}

// combinations lists what is measured, nothing first: all, or singles, pairs,
// some drawn at random, those to verify and as many at once as can be.
func (p *prover) combinations(verify []sched.VariantSet) (sets []sched.VariantSet, exhaustive bool) {
	all := 1
	for l, n := 0, 0; l < len(p.network.Layers) && all <= maxCombinations; l++ {
		own := 0
		for n < len(p.chosen) && p.chosen[n].Layer == l {
			own, n = own+1, n+1
		}
		all *= 1 + own
	}
	sets = []sched.VariantSet{0}
	add := func(s sched.VariantSet) {
		if p.possible(s) && !slices.Contains(sets, s) {
			sets = append(sets, s)
		}
	}
	if all <= maxCombinations {
		for i := range p.chosen {
			for _, s := range slices.Clone(sets) {
				if s |= 1 << i; p.possible(s) {
					sets = append(sets, s)
				}
			}
		}
		slices.Sort(sets)
		return sets, true
	}
	for i := range p.chosen {
		add(1 << i)
	}
	for i := range p.chosen {
		for j := range i {
			add(1<<i | 1<<j)
		}
	}
	rng := rand.New(rand.NewPCG(uint64(len(p.chosen)), 0))
	for range drawn {
		add(p.fill(sched.VariantSet(rng.Uint64())))
	}
	add(p.fill(math.MaxUint64))
	for _, s := range verify {
		add(s)
	}
	return sets, false
}

// drawn is how many combinations are measured at random to verify the bound.
const drawn = 64

// fill is a combination out of s with one variant a layer, the first.
func (p *prover) fill(s sched.VariantSet) (out sched.VariantSet) {
	taken := -1
	for i, c := range p.chosen {
		if s>>i&1 != 0 && c.Layer != taken {
			out |= 1 << i
			taken = c.Layer
		}
	}
	return out
}

// possible tells whether a combination uses no two variants of one layer.
func (p *prover) possible(s sched.VariantSet) bool {
	return p.fill(s) == s
}

// request scores all combinations on one request.
func (p *prover) request(d Data, i int, reading *sync.Mutex) error {
	in, label, err := read(d, i, reading)
	if err != nil {
		return fmt.Errorf("%w: input %d: %w", ErrData, i, err)
	}
	if err := checkTensors(p.network.Model, in, i); err != nil {
		return fmt.Errorf("%w: %w", ErrData, err)
	}
	env := map[string][]byte{}
	for n, t := range p.network.Model.Inputs() {
		env[t.Name] = in[n]
	}
	if p.label = label; p.metric.Labels {
		if size := p.network.Model.Outputs()[0].Elements(); p.label < 0 || int64(p.label) >= size {
			return fmt.Errorf("%w: request %d has the label %d, the first output has classes 0 to %d", ErrData, i, p.label, size-1)
		}
	}
	p.originals = nil
	return p.descend(0, env, upTo(len(p.sets)))
}

// read reads one request.
func read(d Data, i int, reading *sync.Mutex) (in [][]byte, label int, err error) {
	reading.Lock()
	defer reading.Unlock()
	in, err = d.Inputs(i)
	return in, d.Label(i), err
}

// descend computes layer l and those behind it for the listed combinations,
// which were alike before it. The one without variants is always the first.
func (p *prover) descend(l int, env map[string][]byte, list []int) error {
	if l == len(p.network.Layers) {
		return p.score(env, list)
	}
	layer := &p.network.Layers[l]
	by := map[int][]int{}
	order := []int{}
	for _, n := range list {
		use := -1 - l
		for i, c := range p.chosen {
			if c.Layer == l && p.sets[n]>>i&1 != 0 {
				use = i
			}
		}
		if by[use] == nil {
			order = append(order, use)
		}
		by[use] = append(by[use], n)
	}
	for _, use := range order {
		next := maps.Clone(env)
		if err := advance(p.runners[use], next); err != nil {
			return fmt.Errorf("layer %q: %w", layer.Name, err)
		}
		for name := range next {
			if p.last[name] <= l {
				delete(next, name)
			}
		}
		if err := p.descend(l+1, next, by[use]); err != nil {
			return err
		}
	}
	return nil
}

func (p *prover) score(env map[string][]byte, list []int) error {
	var out [][]float32
	for _, t := range p.network.Model.Outputs() {
		v := floats(env[t.Name])
		for _, x := range v {
			if x-x != 0 {
				return fmt.Errorf("output %q, variants %b: %w", t.Name, p.sets[list[0]], ErrNotFinite)
			}
		}
		out = append(out, v)
	}
	if p.originals == nil {
		p.originals = out
	}
	s := p.metric.Score(out, p.originals, p.label)
	if math.IsNaN(s) || math.IsInf(s, 0) {
		return fmt.Errorf("the metric %s gave %v", p.metric.Name, s)
	}
	for _, n := range list {
		p.scores[n] += s
	}
	return nil
}

// bound makes each variant's loss so large that no measured combination lost
// more than the sum of its variants' losses: the loss alone, then shares of what
// a combination lost beyond, the smallest combinations first.
func (p *Proof) bound(variants int) {
	p.Loss = make([]float64, variants)
	order := upTo(len(p.Sets))
	slices.SortStableFunc(order, func(a, b int) int { return p.Sets[a].Len() - p.Sets[b].Len() })
	for _, i := range order {
		s := p.Sets[i]
		lost, sum := 1-p.Accuracy[i], p.Bound(s)
		if s == 0 || lost <= sum {
			continue
		}
		for v := range p.Loss {
			if s>>v&1 != 0 {
				p.Loss[v] += (lost - sum) / float64(s.Len())
			}
		}
	}
}

// Bound is the sum of the losses of a combination.
func (p *Proof) Bound(s sched.VariantSet) float64 {
	sum := 0.0
	for v, x := range p.Loss {
		if s>>v&1 != 0 {
			sum += x
		}
	}
	return sum
}

// Of is the normalised accuracy that was measured for a combination; false if
// it was not.
func (p *Proof) Of(s sched.VariantSet) (float64, bool) {
	if i := slices.Index(p.Sets, s); i >= 0 {
		return p.Accuracy[i], true
	}
	return 0, false
}

// Allow lets the scheduler use the combinations whose normalised accuracy is at
// least theta: those measured, or all that a bound allows.
func (p *Proof) Allow(m *sched.Model, theta float64) {
	m.Valid, m.Accuracy, m.Loss, m.MaxLoss = nil, nil, nil, 0
	if m.Variants == 0 {
		return
	}
	if !p.Exhaustive {
		m.Loss, m.MaxLoss = slices.Clone(p.Loss), 1-theta
		return
	}
	for i, s := range p.Sets {
		if s == 0 || p.Accuracy[i] >= theta {
			m.Valid, m.Accuracy = append(m.Valid, s), append(m.Accuracy, p.Accuracy[i])
		}
	}
}

// Without leaves out variants, by index, and the combinations that use them;
// the others are numbered anew.
func (p *Proof) Without(drop map[int]bool, variants int) *Proof {
	out := &Proof{Metric: p.Metric, Requests: p.Requests, Baseline: p.Baseline, Exhaustive: p.Exhaustive}
	for n, s := range p.Sets {
		var left sched.VariantSet
		kept, uses := 0, false
		for i := range variants {
			if drop[i] {
				uses = uses || s>>i&1 != 0
				continue
			}
			left |= s >> i & 1 << kept
			kept++
		}
		if !uses {
			out.Sets, out.Accuracy = append(out.Sets, left), append(out.Accuracy, p.Accuracy[n])
		}
	}
	for i, x := range p.Loss {
		if !drop[i] {
			out.Loss = append(out.Loss, x)
		}
	}
	return out
}

// Prune chooses variants to leave out, beside those dropped already, until all
// that are left together keep the given share of the accuracy, and returns with
// each what they left before it went. One after the other, it is the one
// without which most is left. With a bound, combinations that were not measured
// count with theirs.
func (p *Proof) Prune(drop map[int]bool, variants int, least float64) map[int]float64 {
	return p.PruneOthers(nil, drop, variants, least)
}

// PruneOthers is Prune, but never leaves out those to keep, whatever is left.
func (p *Proof) PruneOthers(keep, drop map[int]bool, variants int, least float64) map[int]float64 {
	var all, free sched.VariantSet
	for i := range variants {
		if !drop[i] {
			all |= 1 << i
		}
		if !drop[i] && !keep[i] {
			free |= 1 << i
		}
	}
	out := map[int]float64{}
	for free != 0 && p.Together(all) < least {
		best := -1
		for i := range variants {
			if free>>i&1 != 0 && (best < 0 || p.Together(all&^(1<<i)) > p.Together(all&^(1<<best))) {
				best = i
			}
		}
		out[best] = p.Together(all)
		all, free = all&^(1<<best), free&^(1<<best)
	}
	return out
}

// Together is the least accuracy of the combinations out of s that use most of
// its variants, of which a layer can have one: that of s itself where it has no
// two of a layer. Where not all were measured, it is what the bound allows.
func (p *Proof) Together(s sched.VariantSet) float64 {
	if a, measured := p.Of(s); measured {
		return a
	}
	if !p.Exhaustive {
		return 1 - p.Bound(s)
	}
	most, least := 0, 1.0
	for i, t := range p.Sets {
		if t&^s != 0 || t.Len() < most {
			continue
		}
		if t.Len() > most {
			most, least = t.Len(), p.Accuracy[i]
		}
		least = min(least, p.Accuracy[i])
	}
	return least
}
