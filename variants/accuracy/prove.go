package accuracy

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
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants/internal/chain"
	"gorgonia.org/tensor"
)

// Data is what accuracy is measured on.
type Data interface {
	Len() int
	// Inputs is one request: a tensor for each of the model's inputs, in order. It is not written to.
	Inputs(i int) ([]*tensor.Dense, error)
	// Label is the class of the request, from 0, or -1 where it has none.
	Label(i int) int
}

// maxCombinations is up to how many combinations all are measured.
const maxCombinations = 1 << 10

// ErrData is wrapped by errors about data that do not fit the model or the metric.
var ErrData = errors.New("the data do not fit the model")

// Options say how combinations are measured.
type Options struct {
	// Verify are combinations to measure besides those that a bound is made from.
	Verify []sched.VariantSet
	// Alone measures nothing but each variant alone; then the proof is not exhaustive, and bounds nothing.
	Alone bool
	// Workers is how many requests are computed at once; 0 is one. The metric is
	// then called from as many goroutines, the data from one at a time.
	Workers int
	// Accelerators compute the variants that are for one provider; see variants.NewAccelerators. It may be nil where
	// there are none.
	Accelerators *chain.Accelerators
	// Progress, if not nil, is called with the share that is done, 0 to 1, from any goroutine.
	Progress func(float64)
}

// Prove measures the combinations of a network's variants on every request of the data. What combinations have in
// common is computed once: two that first differ at some layer share the results up to there.
func Prove(ctx context.Context, n *runtime.Network, d Data, m Metric, o Options) (*plan.Proof, error) {
	fail := func(err error) (*plan.Proof, error) { return nil, fmt.Errorf("model %q: %w", n.Name, err) }
	if d == nil || d.Len() == 0 {
		return fail(fmt.Errorf("%w: there are no requests", ErrData))
	}
	first := newProver(n, m)
	out := &plan.Proof{Metric: m.Name, Requests: d.Len()}
	out.Sets, out.Exhaustive = first.combinations(o)
	first.sets = out.Sets
	if err := first.openShared(o.Accelerators); err != nil {
		return fail(err)
	}
	defer first.close()
	scores, err := first.all(ctx, d, o)
	if err != nil {
		return fail(err)
	}
	if judge(out, scores); !(out.Baseline > 0) {
		return fail(fmt.Errorf("%w: without variants the %s is %v, so that nothing can be a share of it; "+
			"are labels and preprocessing right?", ErrData, m.Name, out.Baseline))
	}
	if !out.Exhaustive && !o.Alone {
		out.BoundLosses(len(first.layers))
	}
	return out, nil
}

// prover computes requests, one at a time.
type prover struct {
	network *runtime.Network
	layers  []int // by variant
	metric  Metric
	last    map[string]int
	runners map[int]*chain.Runner // -1-layer for originals, else by variant
	shared  map[int]*chain.Runner // those on accelerators, by variant: of all copies
	sets    []sched.VariantSet
	// Of the current request: scores by combination, the outputs without variants, and the label.
	scores    []float64
	originals [][]float32
	label     int
}

func newProver(n *runtime.Network, m Metric) *prover {
	p := &prover{network: n, metric: m, last: chain.LastReaders(n)}
	for l := range n.Layers {
		p.layers = append(p.layers, slices.Repeat([]int{l}, len(n.Variants[l]))...)
	}
	return p
}

// all computes the requests on copies of p, and returns the scores by request and combination.
func (p *prover) all(ctx context.Context, d Data, o Options) ([][]float64, error) {
	scores := make([][]float64, d.Len())
	errs := make([]error, d.Len())
	var reading sync.Mutex
	var next, done atomic.Int64
	var failed atomic.Bool
	work := func() error {
		w := *p
		w.runners = map[int]*chain.Runner{}
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
	return scores, nil
}

func (p *prover) open() error {
	for _, t := range p.network.Model.Outputs() {
		if t.Type != ort.Float {
			return fmt.Errorf("output %s is not float32: accuracy cannot be measured", t)
		}
	}
	i := 0
	for l := range p.network.Layers {
		layer := &p.network.Layers[l]
		var err error
		if p.runners[-1-l], err = chain.OpenLayer(layer, nil); err != nil {
			return err
		}
		for _, u := range p.network.Variants[l] {
			if p.shared[i] == nil {
				if p.runners[i], err = chain.OpenLayer(layer, u.ONNX); err != nil {
					return fmt.Errorf("layer %q: %s: %w", layer.Name, u.Name, err)
				}
			}
			i++
		}
	}
	return nil
}

// openShared opens the variants that are for one provider.
func (p *prover) openShared(on *chain.Accelerators) (err error) {
	p.runners, p.shared = map[int]*chain.Runner{}, map[int]*chain.Runner{}
	i := 0
	for l := range p.network.Layers {
		layer := &p.network.Layers[l]
		for _, u := range p.network.Variants[l] {
			if u.Provider != "" {
				if p.runners[i], err = chain.OpenUnit(layer, u, on); err != nil {
					p.close()
					return fmt.Errorf("layer %q: %s: %w", layer.Name, u.Name, err)
				}
				p.shared[i] = p.runners[i]
			}
			i++
		}
	}
	return nil
}

func (p *prover) close() {
	for _, r := range p.runners {
		if r != nil {
			r.Close()
		}
	}
}

// runner is that of an implementation: -1-layer for originals, else a variant.
func (p *prover) runner(use int) *chain.Runner {
	if r := p.shared[use]; r != nil {
		return r
	}
	return p.runners[use]
}

// combinations lists what is measured, nothing first: all, or singles, pairs,
// some drawn at random, those to verify and as many at once as can be.
func (p *prover) combinations(o Options) (sets []sched.VariantSet, exhaustive bool) {
	all := 1
	for l := range p.network.Layers {
		all = min(all*(1+len(p.network.Variants[l])), maxCombinations+1)
	}
	sets = []sched.VariantSet{0}
	add := func(s sched.VariantSet) {
		if p.possible(s) && !slices.Contains(sets, s) {
			sets = append(sets, s)
		}
	}
	if all <= maxCombinations && !o.Alone {
		for i := range p.layers {
			for _, s := range slices.Clone(sets) {
				if s |= 1 << i; p.possible(s) {
					sets = append(sets, s)
				}
			}
		}
		slices.Sort(sets)
		return sets, true
	}
	for i := range p.layers {
		add(1 << i)
	}
	if o.Alone {
		return sets, false
	}
	for i := range p.layers {
		for j := range i {
			add(1<<i | 1<<j)
		}
	}
	rng := rand.New(rand.NewPCG(uint64(len(p.layers)), 0))
	for range drawn {
		add(p.fill(sched.VariantSet(rng.Uint64())))
	}
	add(p.fill(math.MaxUint64))
	for _, s := range o.Verify {
		add(s)
	}
	return sets, false
}

// drawn is how many combinations are measured at random to verify the bound.
const drawn = 64

// fill is a combination out of s with one variant a layer, the first.
func (p *prover) fill(s sched.VariantSet) (out sched.VariantSet) {
	taken := -1
	for i, l := range p.layers {
		if s>>i&1 != 0 && l != taken {
			out |= 1 << i
			taken = l
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
	reading.Lock()
	in, err := chain.Read(p.network.Model, d, i)
	label := d.Label(i)
	reading.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrData, err)
	}
	env := map[string][]byte{}
	for n, t := range p.network.Model.Inputs() {
		env[t.Name] = in[n]
	}
	if p.label = label; p.metric.Labels {
		if size := p.network.Model.Outputs()[0].Elements(); p.label < 0 || int64(p.label) >= size {
			return fmt.Errorf("%w: request %d has the label %d, the first output has classes 0 to %d", ErrData, i, p.label,
				size-1)
		}
	}
	p.originals = nil
	all := make([]int, len(p.sets))
	for i := range all {
		all[i] = i
	}
	return p.descend(0, env, all)
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
		for i, of := range p.layers {
			if of == l && p.sets[n]>>i&1 != 0 {
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
		if err := p.runner(use).Advance(next); err != nil {
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
		v := ort.Numbers[float32](env[t.Name])
		if !chain.Finite(v) {
			return fmt.Errorf("output %q, variants %b: %w", t.Name, p.sets[list[0]], chain.ErrNotFinite)
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
