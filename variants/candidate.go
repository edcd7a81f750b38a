package variants

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants/internal/chain"
)

// Candidate is an implementation of a layer that is no original: what documents say about it, and the model. Those that
// [Candidates] lists have replaced the operators that one family applies to; the rest of the layer is as it was.
type Candidate struct {
	// Variant is what is known so far. MACs and Bytes are of the replaced operators. Error is measured on calibration
	// inputs that were not fitted to: the squared error of the layer's outputs as a share of their variance. Promise is
	// the squared error of the replaced operators' outputs that the fit expects, as a share of the same: activations,
	// sums and pooling do not make it larger. Latency is the median by accelerator, 0 where it was not measured.
	plan.Variant
	// OriginalMACs and OriginalBytes are of the replaced operators as they were.
	OriginalMACs, OriginalBytes int64
	// Refusal says why it may not be used; nil while nothing speaks against it.
	Refusal error

	onnx         []byte // of one that is complete; nil where it is made of the rest
	own          bool   // it is the layer's own model, with options
	layer        *models.Layer
	base         graph
	ops          []*Op
	replacements []Replacement // by op; nil where it stays
	fitted       bool
}

// Candidates lists the candidates for a layer, unfitted. notes says why families or operators were left out. a is the
// arithmetic in which 8-bit products have to be exact. providers are those of the accelerators, for families of lower
// precision, which have a candidate for each; the CPU has none.
func Candidates(l *models.Layer, a Arithmetic, providers ...string) (list []*Candidate, notes []error) {
	data, err := l.ONNX()
	var g graph
	if err == nil {
		g, err = parseGraph(data)
	}
	if err != nil {
		return nil, []error{fmt.Errorf("layer %q: %w", l.Name, err)}
	}
	g.raise()
	ops, reasons := findOps(g, l.Shape)
	for _, err := range reasons {
		notes = append(notes, fmt.Errorf("layer %q: %w", l.Name, err))
	}
	for _, f := range Families() {
		some, reasons := f.candidates(l, g, ops, a, providers)
		list = append(list, some...)
		for _, err := range reasons {
			notes = append(notes, fmt.Errorf("layer %q: %w", l.Name, err))
		}
	}
	return list, notes
}

// candidates are those of one family.
func (f *Family) candidates(l *models.Layer, g graph, ops []*Op, a Arithmetic,
	providers []string) (list []*Candidate, notes []error) {
	if f.lower != nil {
		for _, p := range providers {
			c, err := f.lower.candidate(f.Name, l, g, p)
			if err == nil {
				list = append(list, c)
			} else if !errors.Is(err, errNoProvider) {
				notes = append(notes, fmt.Errorf("%s does not apply: %w", f.Name, err))
			}
		}
		return list, notes
	}
	choices, most := make([][]Replacement, len(ops)), 0
	for i, o := range ops {
		var err error
		if choices[i], err = f.replace(o, a); err != nil {
			notes = append(notes, fmt.Errorf("%s does not apply to %s: %w", f.Name, o.Name, err))
		}
		most = max(most, len(choices[i]))
	}
	for n := range most {
		c := &Candidate{Variant: plan.Variant{Layer: l.Index, LayerName: l.Name, Family: f.Name},
			layer: l, base: g, ops: ops, replacements: make([]Replacement, len(ops))}
		var parameters []string
		for i := range ops {
			if len(choices[i]) == 0 {
				continue
			}
			r := choices[i][min(n, len(choices[i])-1)]
			if n >= len(choices[i]) { // candidates share no replacements: each is fitted
				again, _ := f.replace(ops[i], a)
				r = again[len(again)-1]
			}
			c.replacements[i] = r
			macs, bytes := r.Cost()
			c.MACs, c.Bytes = c.MACs+macs, c.Bytes+bytes
			c.OriginalMACs += ops[i].MACs()
			c.OriginalBytes += 4 * int64(len(ops[i].Weight)+ops[i].K)
			parameters = append(parameters, r.Parameters())
		}
		c.Parameters = strings.Join(slices.Compact(parameters), "; ")
		list = append(list, c)
	}
	return list, notes
}

// String is the family with its parameters.
func (c *Candidate) String() string { return c.Family + " " + c.Parameters }

// Loaded is a variant of a plan with the ONNX model from its file, nil for one that has none.
func Loaded(l *models.Layer, v plan.Variant, onnx []byte) *Candidate {
	return &Candidate{Variant: v, onnx: onnx, own: onnx == nil, layer: l, fitted: true}
}

// ONNX is the candidate as an ONNX model with the layer's inputs and outputs.
func (c *Candidate) ONNX() ([]byte, error) {
	switch {
	case c.onnx != nil:
		return c.onnx, nil
	case c.own:
		return c.layer.ONNX()
	}
	return c.upTo(len(c.ops)).bytes()
}

// upTo is the layer with the replacements of its first n operators.
func (c *Candidate) upTo(n int) graph {
	g := c.replaced(n)
	g.fuse()
	return g
}

// replaced is upTo with everything as replacements have it.
func (c *Candidate) replaced(n int) graph {
	g := c.base.clone()
	for i, r := range c.replacements[:n] {
		if r == nil {
			continue
		}
		b := &builder{prefix: fmt.Sprintf("variant%d", i)}
		r.build(b)
		b.result(c.ops[i].Output)
		g.replace(c.ops[i].Output, b)
	}
	return g
}

// Unit is the candidate as accelerators take it. Its name, unless it has one, holds the beginning of the SHA-256 of its
// model and options, so that equal names are equal units.
func (c *Candidate) Unit() (runtime.Unit, error) {
	data, err := c.ONNX()
	if err != nil {
		return runtime.Unit{}, fmt.Errorf("layer %q: %s: %w", c.layer.Name, c, err)
	}
	u := runtime.Unit{Name: c.Name, ONNX: data, Inputs: c.layer.Inputs, Outputs: c.layer.Outputs,
		Provider: c.Provider, Options: c.Options}
	if u.Name == "" {
		identity := data
		for _, key := range slices.Sorted(maps.Keys(c.Options)) {
			identity = fmt.Appendf(slices.Clip(identity), "%q=%q", key, c.Options[key])
		}
		u.Name = c.String() + " " + SHA256(identity)[:8]
	}
	if c.own {
		u.ONNX = nil
	}
	return u, nil
}

// SHA256 is the hexadecimal checksum of data.
func SHA256(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// Why candidates are refused.
var (
	// ErrPromise: the measured error is above what the fit promised.
	ErrPromise = errors.New("its measured error is above what its fit promised")
	// ErrNotFinite: it makes NaN or infinity.
	ErrNotFinite = chain.ErrNotFinite
)

// judge refuses a candidate that does not keep its promise, give or take a factor of two for the operators behind it
// and the choice of inputs. What is tiny may differ by more: the noise of quantisation is estimated only. Lower
// precision is not fitted and promises nothing.
func (c *Candidate) judge() {
	const slack = 1e-3
	if c.Refusal == nil && c.Provider == "" && !(c.Error <= 2*c.Promise+slack) {
		c.Refusal = fmt.Errorf("%w: %.3g, promised %.3g", ErrPromise, c.Error, c.Promise)
	}
}
