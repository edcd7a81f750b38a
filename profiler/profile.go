// Package profiler measures every layer, in every implementation, on every
// accelerator, and keeps the result as a document with its provenance. The
// scheduler and the simulator work from it.
//
// Layers of all models are timed in shuffled order, so that caches hold as
// little of a layer's weights as they do when a schedule mixes models, on the
// thread and cores they will have in a run, from host memory to host memory,
// with ORT's own profiling off. Unless told otherwise all accelerators work at the same time, as they do in a
// run, so that what they cost each other is in the numbers.
package profiler

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// ErrStale is wrapped by errors about a profile that was made for something
// else than what it is to be used for.
var ErrStale = errors.New("stale profile")

// Profile is what was measured, on what.
type Profile struct {
	Created string        `json:"created"` // RFC 3339
	Host    hostinfo.Info `json:"host"`
	ORT     string        `json:"onnxruntime"`
	// Together is true when all accelerators worked while each was measured.
	Together     bool           `json:"together"`
	Accelerators []runtime.Spec `json:"accelerators"`
	Models       []Model        `json:"models"`
	Cells        []Cell         `json:"cells"`
	// Handoffs are the conversions between tensor layouts that a change of
	// accelerator costs; those that cost nothing are left out.
	Handoffs []Handoff `json:"handoffs,omitempty"`
	// Warnings are doubts about the measurement as a whole.
	Warnings []string `json:"warnings,omitempty"`
}

// Model is a measured model.
type Model struct {
	Name        string  `json:"name"`
	SHA256      string  `json:"sha256"`
	Granularity string  `json:"granularity"`
	Layers      []Layer `json:"layers"`
}

// Layer is a measured layer; Implementations names what can run for it.
type Layer struct {
	Name            string   `json:"name"`
	SHA256          string   `json:"sha256"`
	Ops             []string `json:"ops"`
	MACs            int64    `json:"macs"`
	Parameters      int64    `json:"parameters"`
	Implementations []string `json:"implementations"`
}

// Cell is one implementation of one layer on one accelerator, all by index.
// Times are nanoseconds; Low and High enclose the median with 95 % confidence.
type Cell struct {
	Model          int           `json:"model"`
	Layer          int           `json:"layer"`
	Implementation int           `json:"implementation"`
	Accelerator    int           `json:"accelerator"`
	N              int           `json:"n"`
	Min            time.Duration `json:"min_ns"`
	Mean           time.Duration `json:"mean_ns"`
	P50            time.Duration `json:"p50_ns"`
	P90            time.Duration `json:"p90_ns"`
	P95            time.Duration `json:"p95_ns"`
	P99            time.Duration `json:"p99_ns"`
	Low            time.Duration `json:"p50_low_ns"`
	High           time.Duration `json:"p50_high_ns"`
	// Unstable is true when the time budget ended before the median was known
	// to the target precision.
	Unstable bool `json:"unstable,omitempty"`
	// Refused says why the accelerator cannot run it; there are no times then.
	Refused string `json:"refused,omitempty"`
}

// Handoff is the time to convert the inputs of a layer on accelerator To, when
// accelerator From has run the layers before it, all by index.
type Handoff struct {
	Model   int           `json:"model"`
	Layer   int           `json:"layer"`
	From    int           `json:"from"`
	To      int           `json:"to"`
	Tensors int           `json:"tensors"` // how many are converted
	P50     time.Duration `json:"p50_ns"`  // the sum of their medians
}

const (
	kind    = "profile"
	version = 2 // 2: layers in the accelerator's own layout, handoffs
)

// Write writes the profile to a file, atomically.
func (p *Profile) Write(path string) error { return document.Write(path, kind, version, p) }

// Read reads a profile and checks that it is complete.
func Read(path string) (*Profile, error) {
	var p Profile
	if err := document.Read(path, kind, version, &p); err != nil {
		return nil, err
	}
	if _, err := p.table(); err != nil {
		return nil, fmt.Errorf("read profile %s: %w", path, err)
	}
	return &p, nil
}

// table arranges the cells by model, layer, implementation and accelerator,
// and fails if one is missing, double or out of range.
func (p *Profile) table() ([][][][]*Cell, error) {
	out := make([][][][]*Cell, len(p.Models))
	for m := range p.Models {
		for i, l := range p.Models[m].Layers {
			if len(l.Implementations) == 0 {
				return nil, fmt.Errorf("layer %d of model %q has no implementation", i, p.Models[m].Name)
			}
			impls := make([][]*Cell, len(l.Implementations))
			for i := range impls {
				impls[i] = make([]*Cell, len(p.Accelerators))
			}
			out[m] = append(out[m], impls)
		}
	}
	want := 0
	for _, layers := range out {
		for _, impls := range layers {
			want += len(impls) * len(p.Accelerators)
		}
	}
	for n := range p.Cells {
		c := &p.Cells[n]
		if !in(c.Model, len(out)) || !in(c.Layer, len(out[c.Model])) || !in(c.Implementation, len(out[c.Model][c.Layer])) || !in(c.Accelerator, len(p.Accelerators)) {
			return nil, fmt.Errorf("cell %d is of a layer or accelerator that does not exist", n)
		}
		at := &out[c.Model][c.Layer][c.Implementation][c.Accelerator]
		if *at != nil {
			return nil, fmt.Errorf("cell %d is there twice", n)
		}
		if c.Refused == "" && c.P50 <= 0 {
			return nil, fmt.Errorf("cell %d has the median %v", n, c.P50)
		}
		*at = c
	}
	if len(p.Cells) != want {
		return nil, fmt.Errorf("%d of %d cells are there", len(p.Cells), want)
	}
	for n, h := range p.Handoffs {
		if !in(h.Model, len(out)) || !in(h.Layer, len(out[h.Model])) || !in(h.From, len(p.Accelerators)) || !in(h.To, len(p.Accelerators)) || h.P50 < 0 {
			return nil, fmt.Errorf("handoff %d is of a layer or accelerator that does not exist, or negative", n)
		}
	}
	return out, nil
}

// handoff arranges the handoffs of a model as sched.Layer.Handoff, by layer;
// nil for layers where all are free.
func (p *Profile) handoff(model int) [][][]time.Duration {
	out := make([][][]time.Duration, len(p.Models[model].Layers))
	for _, h := range p.Handoffs {
		if h.Model != model {
			continue
		}
		if out[h.Layer] == nil {
			for range p.Accelerators {
				out[h.Layer] = append(out[h.Layer], make([]time.Duration, len(p.Accelerators)))
			}
		}
		out[h.Layer][h.From][h.To] = h.P50
	}
	return out
}

func in(i, n int) bool { return i >= 0 && i < n }

// Matches returns nil when the profile was made for exactly these networks on
// these accelerators with this version of ORT and this processor, else an error
// around ErrStale that names the first difference.
func (p *Profile) Matches(host hostinfo.Info, ort string, specs []runtime.Spec, networks []*runtime.Network, granularity []string) error {
	stale := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrStale, fmt.Sprintf(format, args...))
	}
	if p.ORT != ort {
		return stale("made with ONNX Runtime %s, this is %s", p.ORT, ort)
	}
	if p.Host.CPU != host.CPU || p.Host.LogicalCores != host.LogicalCores {
		return stale("made on %s with %d cores, this is %s with %d", p.Host.CPU, p.Host.LogicalCores, host.CPU, host.LogicalCores)
	}
	if len(p.Accelerators) != len(specs) || len(p.Models) != len(networks) {
		return stale("made for %d accelerators and %d models, there are %d and %d", len(p.Accelerators), len(p.Models), len(specs), len(networks))
	}
	for k, s := range specs {
		if !sameSpec(s, p.Accelerators[k]) {
			return stale("accelerator %q has other settings", s.Name)
		}
	}
	for m, n := range networks {
		have := &p.Models[m]
		if have.Name != n.Name || have.SHA256 != n.Model.SHA256() || have.Granularity != granularity[m] || len(have.Layers) != len(n.Layers) {
			return stale("model %q has changed", n.Name)
		}
		for l := range n.Layers {
			if have.Layers[l].SHA256 != n.Layers[l].SHA256 || len(have.Layers[l].Implementations) != 1+len(n.Variants[l]) {
				return stale("layer %q of model %q has changed", n.Layers[l].Name, n.Name)
			}
		}
	}
	return nil
}

func sameSpec(a, b runtime.Spec) bool {
	return a.Name == b.Name && a.Provider == b.Provider && maps.Equal(a.Options, b.Options) &&
		a.Optimization == b.Optimization && a.Threads == b.Threads && slices.Equal(a.Cores, b.Cores)
}

// Quantile names one of a cell's statistics.
type Quantile string

// The statistics that decisions can be based on.
const (
	Min  Quantile = "min"
	Mean Quantile = "mean"
	P50  Quantile = "p50"
	P90  Quantile = "p90"
	P95  Quantile = "p95"
	P99  Quantile = "p99"
)

// ParseQuantile reads "min", "mean", "p50", "p90", "p95" or "p99".
func ParseQuantile(s string) (Quantile, error) {
	all := []Quantile{Min, Mean, P50, P90, P95, P99}
	if !slices.Contains(all, Quantile(s)) {
		return "", fmt.Errorf("unknown statistic %q, have %v", s, all)
	}
	return Quantile(s), nil
}

// At returns a statistic of the cell's latency.
func (c *Cell) At(q Quantile) time.Duration {
	switch q {
	case Min:
		return c.Min
	case Mean:
		return c.Mean
	case P90:
		return c.P90
	case P95:
		return c.P95
	case P99:
		return c.P99
	}
	return c.P50
}

// Durations draws layer durations for the simulator from the measured
// distributions.
func (p *Profile) Durations(seed uint64) (sim.Durations, error) {
	cells, err := p.table()
	if err != nil {
		return nil, err
	}
	points := map[*Cell][]sim.Point{}
	for i := range p.Cells {
		c := &p.Cells[i]
		if c.Refused != "" {
			continue
		}
		// The 99th percentile stands for the slowest: what lies above is not
		// in the profile.
		ps := []sim.Point{{Share: 0, Time: c.Min}, {Share: 0.50, Time: c.P50}, {Share: 0.90, Time: c.P90}, {Share: 0.95, Time: c.P95}, {Share: 1, Time: c.P99}}
		if err := sim.CheckPoints(ps); err != nil {
			return nil, fmt.Errorf("cell %d: %w", i, err)
		}
		points[c] = ps
	}
	drawn := sim.Measured(func(d sched.Dispatch) []sim.Point {
		return points[cells[d.Model][d.Layer][d.Implementation][d.Accelerator]]
	}, seed)
	handoffs := make([][][][]time.Duration, len(p.Models))
	for m := range p.Models {
		handoffs[m] = p.handoff(m)
	}
	return func(at time.Duration, d sched.Dispatch) time.Duration {
		took := drawn(at, d)
		if h := handoffs[d.Model][d.Layer]; h != nil && d.From >= 0 {
			took += h[d.From][d.Accelerator]
		}
		return took
	}, nil
}

// System makes the scheduler's task system from the given statistic of the
// latencies. deadlines are relative, one per model.
func (p *Profile) System(deadlines []time.Duration, q Quantile) (sched.System, error) {
	cells, err := p.table()
	if err != nil {
		return sched.System{}, fmt.Errorf("profile: %w", err)
	}
	if len(deadlines) != len(p.Models) {
		return sched.System{}, fmt.Errorf("profile: %d deadlines for %d models", len(deadlines), len(p.Models))
	}
	var s sched.System
	for _, a := range p.Accelerators {
		s.Accelerators = append(s.Accelerators, a.Name)
	}
	for m, model := range p.Models {
		sm := sched.Model{Name: model.Name, Deadline: deadlines[m]}
		handoff := p.handoff(m)
		for l, layer := range model.Layers {
			sl := sched.Layer{Name: layer.Name, Handoff: handoff[l]}
			for i, name := range layer.Implementations {
				im := sched.Implementation{Name: name}
				if i > 0 {
					sm.Variants++
					im.Variant = sm.Variants
				}
				for _, c := range cells[m][l][i] {
					if c.Refused != "" {
						im.Latency = append(im.Latency, sched.Unavailable)
					} else {
						im.Latency = append(im.Latency, c.At(q))
					}
				}
				sl.Implementations = append(sl.Implementations, im)
			}
			sm.Layers = append(sm.Layers, sl)
		}
		s.Models = append(s.Models, sm)
	}
	return s, s.Validate()
}

// Latency returns the sum of the layers' medians for a model when each runs on
// the given accelerator, and false if one cannot; with Fastest as the
// accelerator each runs where it is fastest.
func (p *Profile) Latency(model, accelerator int) (time.Duration, bool) {
	cells, err := p.table()
	if err != nil {
		return 0, false
	}
	var sum time.Duration
	for _, impls := range cells[model] {
		low := time.Duration(-1)
		for k, c := range impls[0] {
			if (accelerator == Fastest || k == accelerator) && c.Refused == "" && (low < 0 || c.P50 < low) {
				low = c.P50
			}
		}
		if low < 0 {
			return 0, false
		}
		sum += low
	}
	return sum, true
}

// Fastest asks for the fastest accelerator of each layer.
const Fastest = -1
