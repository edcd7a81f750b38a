package variants

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
	"github.com/terastal/terastal/runtime"
	"gorgonia.org/tensor"
)

// Data is what a network is calibrated or judged with.
type Data interface {
	Len() int
	// Inputs is one request: a tensor for each of the model's inputs, in order.
	// It is not written to.
	Inputs(i int) ([]*tensor.Dense, error)
	// Label is the class of the request, from 0, or -1 where there is none.
	Label(i int) int
}

// memoryBudget bounds the activations of all calibration inputs that are kept
// between layers; what exceeds it is computed again.
const memoryBudget = 256 << 20

// Fitter fits candidates to a network's activations, layer after layer.
type Fitter struct {
	// Workers is how many candidates are fitted at once; 0 is one.
	Workers int

	reading sync.Mutex // guards data and streams
	network *runtime.Network
	data    Data
	clean   *stream // originals only
	own     *stream // with the variants that were adopted; clean until there is one
	last    map[string]int
}

// NewFitter checks that the data are inputs of the network. At least
// minImages are needed.
func NewFitter(n *runtime.Network, d Data) (*Fitter, error) {
	if d == nil || d.Len() < minImages {
		return nil, fmt.Errorf("model %q: %w: at least %d inputs are needed", n.Name, errNoRows, minImages)
	}
	if _, err := readInputs(n.Model, d, 0); err != nil {
		return nil, fmt.Errorf("model %q: %w", n.Name, err)
	}
	f := &Fitter{network: n, data: d, last: lastReaders(n)}
	f.clean = newStream(f)
	f.own = f.clean
	return f, nil
}

// minImages is the least that can be fitted to and checked with.
const minImages = 2 * checkEvery

// readInputs reads one request.
func readInputs(m *models.Model, d Data, i int) ([][]byte, error) {
	given, err := d.Inputs(i)
	if err != nil {
		return nil, fmt.Errorf("input %d: %w", i, err)
	}
	in, err := dense.Data(given, m.Inputs())
	if err != nil {
		return nil, fmt.Errorf("input %d: %w", i, err)
	}
	for n, t := range m.Inputs() {
		if t.Type == ort.Float && !finite(in[n]) {
			return nil, fmt.Errorf("input %d: tensor %s holds NaN or infinity", i, t)
		}
	}
	return in, nil
}

func finite(raw []byte) bool {
	for _, x := range floats(raw) {
		if x-x != 0 {
			return false
		}
	}
	return true
}

// lastReaders is the last layer that reads each tensor; results of the model
// are read after all layers.
func lastReaders(n *runtime.Network) map[string]int {
	last := map[string]int{}
	for i := range n.Layers {
		for _, t := range n.Layers[i].Inputs {
			last[t.Name] = i
		}
	}
	for _, t := range n.Model.Outputs() {
		last[t.Name] = len(n.Layers)
	}
	return last
}

// stream is the network's activations on all calibration inputs: kept at one
// layer's boundary, computed from there on.
type stream struct {
	f       *Fitter
	at      int
	kept    []map[string][]byte // by image; nil while at is 0
	runners map[int]*runner
	adopted map[int][]byte // ONNX models by layer
}

func newStream(f *Fitter) *stream {
	return &stream{f: f, runners: map[int]*runner{}, adopted: map[int][]byte{}}
}

func (s *stream) close() {
	for _, r := range s.runners {
		r.close()
	}
	clear(s.runners)
}

// open returns the runner of a layer.
func (s *stream) open(l int) (*runner, error) {
	if s.runners[l] != nil {
		return s.runners[l], nil
	}
	layer := &s.f.network.Layers[l]
	data := s.adopted[l]
	if data == nil {
		var err error
		if data, err = layer.ONNX(); err != nil {
			return nil, err
		}
	}
	r, err := openRunner(data, layer.Inputs, tensorNames(layer.Outputs), "all")
	if err != nil {
		return nil, fmt.Errorf("layer %q: %w", layer.Name, err)
	}
	s.runners[l] = r
	return r, nil
}

func tensorNames(ts []models.Tensor) []string {
	var out []string
	for _, t := range ts {
		out = append(out, t.Name)
	}
	return out
}

// before returns what is alive before a layer for one image.
func (s *stream) before(l, image int) (map[string][]byte, error) {
	env := map[string][]byte{}
	if s.kept != nil {
		maps.Copy(env, s.kept[image])
	} else {
		in, err := readInputs(s.f.network.Model, s.f.data, image)
		if err != nil {
			return nil, err
		}
		for i, t := range s.f.network.Model.Inputs() {
			env[t.Name] = in[i]
		}
	}
	for at := s.at; at < l; at++ {
		r, err := s.open(at)
		if err != nil {
			return nil, err
		}
		if err := advance(r, env); err != nil {
			return nil, fmt.Errorf("layer %q: %w", s.f.network.Layers[at].Name, err)
		}
		for name := range env {
			if s.f.last[name] <= at {
				delete(env, name)
			}
		}
	}
	return env, nil
}

// advance runs a layer and keeps its outputs.
func advance(r *runner, env map[string][]byte) error {
	if err := r.run(env); err != nil {
		return err
	}
	for i, name := range r.names {
		env[name] = append([]byte(nil), r.results[i]...)
	}
	return nil
}

// keep remembers the activations before a layer where memory allows.
func (s *stream) keep(l int) error {
	if l <= s.at {
		return nil
	}
	env, err := s.before(l, 0)
	if err != nil {
		return err
	}
	size := 0
	for _, data := range env {
		size += len(data)
	}
	if size*s.f.data.Len() > memoryBudget {
		return nil
	}
	kept := make([]map[string][]byte, s.f.data.Len())
	for i := range kept {
		if kept[i], err = s.before(l, i); err != nil {
			return err
		}
	}
	for at := s.at; at < l; at++ {
		if r := s.runners[at]; r != nil {
			r.close()
			delete(s.runners, at)
		}
	}
	s.kept, s.at = kept, l
	return nil
}

// Adopt lets the layers that follow be fitted to what the candidate makes.
func (f *Fitter) Adopt(c *Candidate) error {
	data, err := c.ONNX()
	if err != nil {
		return err
	}
	if f.own == f.clean {
		f.own = newStream(f)
		if f.clean.at <= c.Layer {
			f.own.kept, f.own.at = f.clean.kept, f.clean.at
		}
	}
	f.own.adopted[c.Layer] = data
	if r := f.own.runners[c.Layer]; r != nil {
		r.close()
		delete(f.own.runners, c.Layer)
	}
	return nil
}

// Close frees what the fitter opened.
func (f *Fitter) Close() {
	f.clean.close()
	f.own.close()
}

// images calls visit with what arrives at a layer, and what would if all layers
// before it were originals. Where variants were adopted before it, every second
// image is one of the originals', since a request may use any of them.
func (f *Fitter) images(ctx context.Context, l int, only func(int) bool, visit func(image int, own, clean map[string][]byte) error) error {
	for i := range f.data.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !only(i) {
			continue
		}
		own, clean, err := f.arriving(l, i)
		if err != nil {
			return err
		}
		if err := visit(i, own, clean); err != nil {
			return err
		}
	}
	return nil
}

// arriving is what images gives for one image.
func (f *Fitter) arriving(l, image int) (own, clean map[string][]byte, err error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	if clean, err = f.clean.before(l, image); err != nil {
		return nil, nil, err
	}
	if f.own == f.clean || image%2 == 0 {
		return clean, clean, nil
	}
	own, err = f.own.before(l, image)
	return own, clean, err
}

// Fit fits candidates for one layer, those that were not refused, and measures
// their errors. Layers come in order. What cannot be fitted is refused; an error
// is about the layer as a whole. Where wants are given, those of 8 bits come
// first, and what then cannot be chosen any more is refused with ErrUnneeded.
// progress, if not nil, is called with the share that is done, from any
// goroutine.
func (f *Fitter) Fit(ctx context.Context, l int, list []*Candidate, wants []Want, progress func(float64)) error {
	layer := &f.network.Layers[l]
	fail := func(err error) error {
		return fmt.Errorf("model %q layer %q: %w", f.network.Name, layer.Name, err)
	}
	if progress == nil {
		progress = func(float64) {}
	}
	if err := f.clean.keep(l); err != nil {
		return fail(err)
	}
	if f.own != f.clean {
		if err := f.own.keep(l); err != nil {
			return fail(err)
		}
	}
	left := unfitted(list)
	if len(left) == 0 {
		return nil
	}
	// What the first operator reads is the same for all.
	first, err := f.collect(ctx, left[0], 0, allGammas(left, 0))
	if err != nil {
		return fail(err)
	}
	fit := func(some []*Candidate) error {
		err := f.each(len(some), func(i int) error { return f.fit(ctx, some[i], first) })
		if err == nil {
			err = f.measure(ctx, l, some)
		}
		progress(1 - float64(len(unfitted(list)))/float64(len(left)))
		return err
	}
	if len(wants) > 0 {
		precise := slices.DeleteFunc(slices.Clone(left), func(c *Candidate) bool { return !c.precise() })
		if err := fit(precise); err != nil {
			return fail(err)
		}
		settle(list, wants)
	}
	if err := fit(unfitted(list)); err != nil {
		return fail(err)
	}
	return nil
}

// unfitted is the candidates that are neither fitted nor refused.
func unfitted(list []*Candidate) []*Candidate {
	return slices.DeleteFunc(slices.Clone(list), func(c *Candidate) bool { return c.fitted || c.Refusal != nil })
}

// each calls do with 0 to n-1, on as many goroutines as there are workers, and
// returns the first error.
func (f *Fitter) each(n int, do func(int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, max(1, f.Workers)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs[i] = do(i)
			}
		})
	}
	all.Wait()
	return cmp.Or(errs...)
}

func allGammas(list []*Candidate, op int) (gammas []int) {
	for _, c := range list {
		if r, ok := c.replacements[op].(*d2s); ok {
			gammas = append(gammas, r.gamma)
		}
	}
	return gammas
}

// collect gathers the statistics of one operator: what reaches it in the layer
// with the candidate's replacements before it, and what the original makes.
func (f *Fitter) collect(ctx context.Context, c *Candidate, op int, gammas []int) (*statistics, error) {
	o := c.ops[op]
	original := c.base.clone()
	original.expose(o.Output)
	target, err := newRunner(original, c.layer.Inputs, []string{o.Output}, "all")
	if err != nil {
		return nil, err
	}
	defer target.close()
	var probe *runner
	boundary := false
	for _, t := range c.layer.Inputs {
		boundary = boundary || t.Name == o.Input
	}
	if !boundary {
		partial := c.upTo(op)
		partial.expose(o.Input)
		if probe, err = newRunner(partial, c.layer.Inputs, []string{o.Input}, "all"); err != nil {
			return nil, err
		}
		defer probe.close()
	}
	s := newStatistics(o, gammas, f.data.Len())
	defer s.finish()
	err = f.images(ctx, c.Layer, func(int) bool { return true }, func(i int, own, clean map[string][]byte) error {
		if err := target.run(clean); err != nil {
			return err
		}
		in := own[o.Input]
		if probe != nil {
			if err := probe.run(own); err != nil {
				return err
			}
			in = probe.results[0]
		}
		s.add(i, floats(in), floats(target.results[0]))
		return nil
	})
	return s, err
}

// fit sets the weights of a candidate, operator after operator.
func (f *Fitter) fit(ctx context.Context, c *Candidate, first *statistics) error {
	for i, r := range c.replacements {
		if r == nil || c.Refusal != nil {
			continue
		}
		s := first
		if i > 0 {
			var err error
			if s, err = f.collect(ctx, c, i, allGammas([]*Candidate{c}, i)); err != nil {
				return err
			}
		}
		promise, err := r.fit(s)
		if err != nil {
			c.Refusal = fmt.Errorf("%s: %w", c.ops[i].Name, err)
			return nil
		}
		if math.IsNaN(promise) || math.IsInf(promise, 0) {
			c.Refusal = ErrNotFinite
			return nil
		}
		variance, err := s.outputVariance()
		if err != nil {
			variance = 0 // half precision needs no moments
		}
		c.Promise += promise * variance * float64(c.ops[i].OutH*c.ops[i].OutW)
	}
	c.fitted = c.Refusal == nil
	return nil
}

// measure runs the candidates on the images for checking, behind originals, and
// compares.
func (f *Fitter) measure(ctx context.Context, l int, list []*Candidate) error {
	if len(list) == 0 {
		return nil
	}
	layer := &f.network.Layers[l]
	data, err := layer.ONNX()
	if err != nil {
		return err
	}
	names := tensorNames(layer.Outputs)
	original, err := openRunner(data, layer.Inputs, names, "all")
	if err != nil {
		return err
	}
	defer original.close()
	runners := make([]*runner, len(list))
	defer func() {
		for _, r := range runners {
			if r != nil {
				r.close()
			}
		}
	}()
	for n, c := range list {
		if !c.fitted {
			continue
		}
		if data, err = c.ONNX(); err != nil {
			return err
		}
		if runners[n], err = openRunner(data, layer.Inputs, names, "all"); err != nil {
			c.Refusal = fmt.Errorf("ONNX Runtime refuses it: %w", err)
		}
	}
	errors := make([]float64, len(list))
	sum, squares, count := make([]float64, len(names)), make([]float64, len(names)), make([]float64, len(names))
	err = f.images(ctx, l, func(i int) bool { return i%checkEvery == checkEvery-1 }, func(_ int, _, clean map[string][]byte) error {
		if err := original.run(clean); err != nil {
			return err
		}
		for o, t := range layer.Outputs {
			if t.Type != ort.Float {
				continue
			}
			for _, x := range floats(original.results[o]) {
				sum[o] += float64(x)
				squares[o] += float64(x) * float64(x)
				count[o]++
			}
		}
		for n, c := range list {
			if runners[n] == nil || c.Refusal != nil {
				continue
			}
			if err := runners[n].run(clean); err != nil {
				c.Refusal = fmt.Errorf("it fails: %w", err)
				continue
			}
			for o, t := range layer.Outputs {
				if t.Type != ort.Float {
					continue
				}
				want := floats(original.results[o])
				for i, x := range floats(runners[n].results[o]) {
					off := float64(x) - float64(want[i])
					errors[n] += off * off
				}
			}
			if math.IsNaN(errors[n]) || math.IsInf(errors[n], 0) {
				c.Refusal = ErrNotFinite
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	variance, images := 0.0, float64(f.data.Len()/checkEvery)
	for o := range names {
		if count[o] > 0 {
			variance += squares[o] - sum[o]*sum[o]/count[o]
		}
	}
	for n, c := range list {
		if runners[n] == nil || c.Refusal != nil {
			continue
		}
		c.Error = relative(errors[n], variance)
		c.Promise = relative(c.Promise*images, variance)
		c.judge()
	}
	return nil
}
