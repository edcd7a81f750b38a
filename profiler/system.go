package profiler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// Matches returns nil when the profile was made for exactly this task on this host, with the ONNX Runtime of this
// program, else an error around ErrStale that names the first difference.
func (p *Profile) Matches(host Host, t Task) error {
	stale := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrStale, fmt.Sprintf(format, args...))
	}
	if p.ORT != ort.Version {
		return stale("made with ONNX Runtime %s, this is %s", p.ORT, ort.Version)
	}
	if p.Host.CPU != host.CPU || p.Host.LogicalCores != host.LogicalCores {
		return stale("made on %s with %d cores, this is %s with %d",
			p.Host.CPU, p.Host.LogicalCores, host.CPU, host.LogicalCores)
	}
	if len(p.Accelerators) != len(t.Accelerators) || len(p.Models) != len(t.Networks) {
		return stale("made for %d accelerators and %d models, there are %d and %d",
			len(p.Accelerators), len(p.Models), len(t.Accelerators), len(t.Networks))
	}
	for k, s := range t.Accelerators {
		if !sameSpec(s, p.Accelerators[k]) {
			return stale("accelerator %q has other settings", s.Name)
		}
		if !s.CPU() && (p.Host.CUDA.Driver != host.CUDA.Driver || p.Host.Kernel != host.Kernel) {
			return stale("accelerator %q was measured with another driver or kernel", s.Name)
		}
	}
	for m, n := range t.Networks {
		have, want := &p.Models[m], describe(n)
		if have.Name != want.Name || have.SHA256 != want.SHA256 || have.Granularity != want.Granularity ||
			len(have.Layers) != len(want.Layers) {
			return stale("model %q has changed", n.Name)
		}
		for l, x := range want.Layers {
			if have.Layers[l].SHA256 != x.SHA256 {
				return stale("layer %q of model %q has changed", x.Name, n.Name)
			}
			if was := have.Layers[l].Implementations; !slices.Equal(was, x.Implementations) {
				return stale("layer %q of model %q has the implementations %s, measured were %s",
					x.Name, n.Name, quoted(x.Implementations), quoted(was))
			}
		}
	}
	return nil
}

// sameSpec reports whether documents say the same of two accelerators.
func sameSpec(a, b runtime.Spec) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
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

// dispatches lists the median time that the executor needs before a layer, by accelerator.
func (p *Profile) dispatches() []time.Duration {
	out := make([]time.Duration, len(p.Accelerators))
	for _, d := range p.Dispatches {
		out[d.Accelerator] = d.P50
	}
	return out
}

// Slowdowns is the interference in the form that the simulator takes ([sim.Config]): what accelerator k loses while o
// is busy, by k and o, never negative; nil when none was measured.
func (p *Profile) Slowdowns() [][]float64 {
	if len(p.Interference) == 0 {
		return nil
	}
	out := matrix[float64](len(p.Accelerators), len(p.Accelerators))
	for _, x := range p.Interference {
		out[x.Accelerator][x.Busy] = max(0, x.Slowdown)
	}
	return out
}

// crowd is how many times as long layers take, by accelerator, while all others work.
func (p *Profile) crowd() []float64 {
	out := slices.Repeat([]float64{1}, len(p.Accelerators))
	for k, row := range p.Slowdowns() {
		for _, x := range row {
			out[k] += x
		}
	}
	for k := range out {
		if d := p.Device(k); d != nil && len(d.Contention) > 0 {
			out[k] += d.Contention[len(d.Contention)-1]
		}
	}
	return out
}

// matrix is empty.
func matrix[T any](rows, columns int) [][]T {
	out := make([][]T, rows)
	for i := range out {
		out[i] = make([]T, columns)
	}
	return out
}

// stretch multiplies a time.
func stretch(t time.Duration, by float64) time.Duration {
	return time.Duration(min(math.Round(float64(t)*by), math.MaxInt64/4))
}

// handoff arranges the handoffs of a model as sched.Layer.Handoff, by layer; nil for layers where all are free.
func (p *Profile) handoff(model int) [][][]time.Duration {
	out := make([][][]time.Duration, len(p.Models[model].Layers))
	for _, h := range p.Handoffs {
		if h.Model != model {
			continue
		}
		if out[h.Layer] == nil {
			out[h.Layer] = matrix[time.Duration](len(p.Accelerators), len(p.Accelerators))
		}
		out[h.Layer][h.From][h.To] = h.P50
	}
	return out
}

// Durations draws layer durations for the simulator from the measured distributions: of an accelerator that works
// alone, with the handoff and the dispatch before the layer. Give the simulator [Profile.Slowdowns] and
// [Profile.Contentions] too.
func (p *Profile) Durations(seed uint64) (sim.Durations, error) {
	cells, err := p.complete()
	if err != nil {
		return nil, err
	}
	points := map[cellIndex][]sim.Point{}
	for at, c := range cells {
		if !c.Measured() {
			continue
		}
		points[at] = c.points()
		if err := sim.CheckPoints(points[at]); err != nil {
			return nil, fmt.Errorf("%v: %w", p.Name(c), err)
		}
	}
	drawn := sim.Measured(func(d sched.Dispatch) []sim.Point {
		return points[cellIndex{d.Model, d.Layer, d.Implementation, d.Accelerator}]
	}, seed)
	handoffs := make([][][][]time.Duration, len(p.Models))
	for m := range p.Models {
		handoffs[m] = p.handoff(m)
	}
	dispatch := p.dispatches()
	return func(at time.Duration, d sched.Dispatch) time.Duration {
		took := drawn(at, d) + dispatch[d.Accelerator]
		if h := handoffs[d.Model][d.Layer]; h != nil && d.From >= 0 {
			took += h[d.From][d.Accelerator]
		}
		return took
	}, nil
}

// points describe the cell's distribution: by its samples where there are enough, else by its statistics. The slowest
// stands for all beyond it.
func (c *Cell) points() []sim.Point {
	const enough = 20
	if n := len(c.Samples); n >= enough {
		ps := make([]sim.Point, n)
		for i, t := range stats.Sorted(c.Samples) {
			ps[i] = sim.Point{Share: float64(i) / float64(n-1), Time: t}
		}
		return ps
	}
	return []sim.Point{{Share: 0, Time: c.Min}, {Share: 0.50, Time: c.P50}, {Share: 0.90, Time: c.P90},
		{Share: 0.95, Time: c.P95}, {Share: 1, Time: c.P99}}
}

// complete is table for a profile of which every cell is needed.
func (p *Profile) complete() (map[cellIndex]*Cell, error) {
	cells, err := p.table()
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	missing := 0
	for i := range p.Cells {
		missing += count(p.Cells[i].Refused == "" && !p.Cells[i].Measured())
	}
	if missing > 0 {
		return nil, fmt.Errorf("%w: %d of %d cells were not measured", ErrPartial, missing, len(p.Cells))
	}
	return cells, nil
}

// System makes the scheduler's task system from the given statistic of the latencies. deadlines are relative, one per
// model.
//
// A latency is what the layer is expected to take in a system that has work for every accelerator: as measured alone,
// stretched by what all other accelerators cost this one, the streams of the same device among them, and the dispatch
// before it.
func (p *Profile) System(deadlines []time.Duration, q Quantile) (sched.System, error) {
	cells, err := p.complete()
	if err != nil {
		return sched.System{}, err
	}
	if len(deadlines) != len(p.Models) {
		return sched.System{}, fmt.Errorf("profile: %d deadlines for %d models", len(deadlines), len(p.Models))
	}
	s := sched.System{Accelerators: p.acceleratorNames(), Devices: p.devices()}
	dispatch := p.dispatches()
	crowd := p.crowd()
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
				for k := range p.Accelerators {
					latency := time.Duration(sched.Unavailable)
					if c := cells[cellIndex{m, l, i, k}]; c.Measured() {
						latency = stretch(c.At(q), crowd[k]) + dispatch[k]
					}
					im.Latency = append(im.Latency, latency)
				}
				sl.Implementations = append(sl.Implementations, im)
			}
			sm.Layers = append(sm.Layers, sl)
		}
		s.Models = append(s.Models, sm)
	}
	return s, s.Validate()
}
