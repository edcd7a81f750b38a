// Package profiler measures every layer, in every implementation, on every
// accelerator, and keeps the result as a document with its provenance. The
// scheduler and the simulator work from it.
//
// Every accelerator is driven by a worker, which the command line runs in a
// process of its own ([Start]): a crash or a hang costs the one cell that it
// happened in. A worker runs short pieces of the models, a few consecutive
// layers at a time, in shuffled order, so that caches hold about as little of a
// layer's weights as they do when a schedule mixes models; on the thread and
// cores that the accelerator has in a run, from host memory to host memory,
// with ONNX Runtime's own profiling off. Rounds of all accelerators alternate
// until every median is known well enough. A cell's times are those of an
// accelerator that works alone; what the others cost it when they are busy is
// measured in between, and kept as [Interference].
package profiler

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// Errors about a profile that exists but cannot be used.
var (
	// ErrStale is wrapped when a profile was made for something else than what
	// it is to be used for.
	ErrStale = errors.New("stale profile")
	// ErrPartial is wrapped when a measurement was stopped before every cell
	// was measured.
	ErrPartial = errors.New("partial profile")
)

// Profile is what was measured, on what.
type Profile struct {
	Created string        `json:"created"` // RFC 3339
	Host    hostinfo.Info `json:"host"`
	ORT     string        `json:"onnxruntime"`
	// Precision is the half-width of the median's confidence interval that was
	// aimed at, as a share of the median; Took how long measuring took.
	Precision float64       `json:"precision,omitempty"`
	Took      time.Duration `json:"took_ns,omitempty"`
	// Partial is true when the measurement was stopped before its end.
	Partial      bool           `json:"partial,omitempty"`
	Accelerators []runtime.Spec `json:"accelerators"`
	Models       []Model        `json:"models"`
	Cells        []Cell         `json:"cells"`
	// Handoffs are the conversions between tensor layouts and the copies between
	// memories that a change of accelerator costs; those that cost nothing are left out.
	Handoffs []Handoff `json:"handoffs,omitempty"`
	// Interference is how much accelerators slow each other down.
	Interference []Interference `json:"interference,omitempty"`
	// Dispatches is what the executor needs between two layers.
	Dispatches []Dispatch `json:"dispatches,omitempty"`
	// Chains hold sums of layers against whole models.
	Chains []Chain `json:"chains,omitempty"`
	// Peaks are what the accelerators reach on ideal work.
	Peaks []Peak `json:"peaks,omitempty"`
	// Noise is what two measurements of the same thing differ by.
	Noise *Noise `json:"noise,omitempty"`
	// Warnings are doubts about the measurement as a whole.
	Warnings []Warning `json:"warnings,omitempty"`
}

// Model is a measured model.
type Model struct {
	Name        string `json:"name"`
	SHA256      string `json:"sha256"`
	Granularity string `json:"granularity"`
	// Cut is the granularity that gives these layers again, also where
	// Granularity measures.
	Cut    string  `json:"cut,omitempty"`
	Layers []Layer `json:"layers"`
}

// Layer is a measured layer; Implementations names what can run for it.
type Layer struct {
	Name            string   `json:"name"`
	SHA256          string   `json:"sha256"`
	Ops             []string `json:"ops"`
	MACs            int64    `json:"macs"`
	Parameters      int64    `json:"parameters"`
	Implementations []string `json:"implementations"`
	// Shape is that of the first output, such as "1x64x56x56".
	Shape string `json:"shape,omitempty"`
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
	// Outliers is how many runs took longer than the third quartile by more than
	// three interquartile ranges.
	Outliers int `json:"outliers,omitempty"`
	// Load is how long the first loading took, Memory how many bytes it
	// allocated in main memory, where the system tells.
	Load   time.Duration `json:"load_ns,omitempty"`
	Memory int64         `json:"memory_bytes,omitempty"`
	// Unstable is true when the time budget ended before the median was known
	// to the target precision.
	Unstable bool `json:"unstable,omitempty"`
	// Refused says why the accelerator cannot run it; there are no times then.
	Refused string `json:"refused,omitempty"`
	// Samples are up to 128 of the runs' times, evenly spread and in order.
	Samples Times `json:"samples_ns,omitempty"`
}

// Measured reports whether the cell has times.
func (c *Cell) Measured() bool { return c.Refused == "" && c.N > 0 }

// Times are durations, in documents as whole nanoseconds in one string,
// separated by spaces.
type Times []time.Duration

// MarshalText writes the times.
func (t Times) MarshalText() ([]byte, error) {
	var b []byte
	for i, x := range t {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, int64(x), 10)
	}
	return b, nil
}

// UnmarshalText reads what MarshalText writes.
func (t *Times) UnmarshalText(text []byte) error {
	*t = nil
	for field := range strings.FieldsSeq(string(text)) {
		x, err := strconv.ParseInt(field, 10, 64)
		if err != nil || x <= 0 {
			return fmt.Errorf("time %q: need a positive whole number of nanoseconds", field)
		}
		*t = append(*t, time.Duration(x))
	}
	return nil
}

// Interference is how much longer layers take on an accelerator while another
// one is busy with layers of its own, both by index.
type Interference struct {
	Accelerator int `json:"accelerator"`
	Busy        int `json:"busy"`
	// Slowdown is the time of all layers beside the busy accelerator, by their
	// medians, over that alone, less one. Q1 and Q3 are the quartiles of the
	// single layers' slowdowns.
	Slowdown float64 `json:"slowdown"`
	Q1       float64 `json:"slowdown_q1"`
	Q3       float64 `json:"slowdown_q3"`
	N        int     `json:"n"` // rounds
}

// Dispatch is the time between the end of a layer and the start of the next one
// in the real executor, on an accelerator that always has work.
type Dispatch struct {
	Accelerator int           `json:"accelerator"`
	N           int           `json:"n"`
	P50         time.Duration `json:"p50_ns"`
	P99         time.Duration `json:"p99_ns"`
}

// Chain holds the layers of a model on one accelerator, by index, against the
// model as a whole.
type Chain struct {
	Model       int `json:"model"`
	Accelerator int `json:"accelerator"`
	N           int `json:"n"` // runs of each
	// Sum is that of the layers' medians. Chained is the median of all layers
	// run one after the other, Whole that of a session that has the whole model;
	// it is zero where the accelerator refuses that.
	Sum     time.Duration `json:"sum_ns"`
	Chained time.Duration `json:"chained_ns"`
	Whole   time.Duration `json:"whole_ns,omitempty"`
}

// Peak is the roofline of an accelerator: what it reaches on work that suits it.
type Peak struct {
	Accelerator int `json:"accelerator"`
	// GMACs is the rate of multiply-accumulates of a large float32 matrix
	// product, in 1e9 per second.
	GMACs float64 `json:"gmac_per_s"`
	// CopyGB is the rate at which a large tensor is read and written, both
	// counted, in 1e9 bytes per second.
	CopyGB float64 `json:"copy_gb_per_s"`
}

// Noise is by how much the medians of cells differ, as a share, between the two
// processes that measured them one after the other, or between the first and
// the second half of the samples of one: what a comparison of profiles cannot
// tell apart.
type Noise struct {
	Median float64 `json:"median"` // of all cells
	P90    float64 `json:"p90"`
}

// Warning is a doubt about a measurement. Codes stay the same from version to
// version; texts may change.
type Warning struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Codes of warnings.
const (
	WarnUnstable  = "unstable"  // cells did not reach the precision
	WarnFailed    = "failed"    // cells crashed, hung or failed while running
	WarnGovernor  = "governor"  // the frequency governor saves power
	WarnLoad      = "load"      // something else was running
	WarnThrottled = "throttled" // the processor or the container was slowed down
	WarnNoise     = "noise"     // the noise floor is above the precision
	WarnPartial   = "partial"   // the measurement was stopped
	WarnImport    = "import"    // a table was imported in part
)

// Handoff is the time to move a request's tensors to accelerator To, which runs
// a layer, from accelerator From, which has run those before it, all by index:
// to convert them to the layout that To reads, and to copy them from and to the
// accelerators' own memories.
type Handoff struct {
	Model   int           `json:"model"`
	Layer   int           `json:"layer"`
	From    int           `json:"from"`
	To      int           `json:"to"`
	Tensors int           `json:"tensors"` // how many are converted and copied
	P50     time.Duration `json:"p50_ns"`  // the sum of their medians
}

const (
	kind    = "profile"
	version = 3 // 2: layers in the accelerator's own layout, handoffs; 3: cells alone, interference, samples
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
		if c.Measured() && c.P50 <= 0 {
			return nil, fmt.Errorf("cell %d has the median %v", n, c.P50)
		}
		if c.Refused == "" && c.N <= 0 && !p.Partial {
			return nil, fmt.Errorf("cell %d was not measured, in a profile that is not marked partial", n)
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
	for n, x := range p.Interference {
		if !in(x.Accelerator, len(p.Accelerators)) || !in(x.Busy, len(p.Accelerators)) || !(x.Slowdown > -1 && x.Slowdown <= maxSlowdown) {
			return nil, fmt.Errorf("interference %d is of an accelerator that does not exist, or not a slowdown from -1 to %v", n, maxSlowdown)
		}
	}
	for n, d := range p.Dispatches {
		if !in(d.Accelerator, len(p.Accelerators)) || d.P50 < 0 || d.P50 > time.Hour {
			return nil, fmt.Errorf("dispatch %d is of an accelerator that does not exist, or not a time", n)
		}
	}
	for n, c := range p.Chains {
		if !in(c.Model, len(out)) || !in(c.Accelerator, len(p.Accelerators)) {
			return nil, fmt.Errorf("chain %d is of a model or accelerator that does not exist", n)
		}
	}
	for n, x := range p.Peaks {
		if !in(x.Accelerator, len(p.Accelerators)) {
			return nil, fmt.Errorf("peak %d is of an accelerator that does not exist", n)
		}
	}
	return out, nil
}

// maxSlowdown is what the simulator takes.
const maxSlowdown = 1000

// crowd is by how much the layers of an accelerator are stretched while all
// others are busy: the sum of what each costs it.
func (p *Profile) crowd(accelerator int) float64 {
	f := 1.0
	for _, x := range p.Interference {
		if x.Accelerator == accelerator {
			f += max(0, x.Slowdown)
		}
	}
	return f
}

// dispatch is the median time that the executor needs before a layer.
func (p *Profile) dispatch(accelerator int) time.Duration {
	for _, d := range p.Dispatches {
		if d.Accelerator == accelerator {
			return d.P50
		}
	}
	return 0
}

// Slowdowns is the interference in the form that the simulator takes
// ([sim.Config]): what accelerator k loses while o is busy, by k and o, never
// negative; nil when none was measured.
func (p *Profile) Slowdowns() [][]float64 {
	if len(p.Interference) == 0 {
		return nil
	}
	out := make([][]float64, len(p.Accelerators))
	for k := range out {
		out[k] = make([]float64, len(p.Accelerators))
	}
	for _, x := range p.Interference {
		out[x.Accelerator][x.Busy] = max(0, x.Slowdown)
	}
	return out
}

// stretch multiplies a time.
func stretch(t time.Duration, by float64) time.Duration {
	return time.Duration(min(math.Round(float64(t)*by), math.MaxInt64/4))
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
		if !s.CPU() && (p.Host.CUDA.Driver != host.CUDA.Driver || p.Host.Kernel != host.Kernel) {
			return stale("accelerator %q was measured with another driver or kernel", s.Name)
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
			for i, v := range n.Variants[l] {
				if have.Layers[l].Implementations[1+i] != v.Name {
					return stale("layer %q of model %q has the variant %q, measured was %q", n.Layers[l].Name, n.Name, v.Name, have.Layers[l].Implementations[1+i])
				}
			}
		}
	}
	return nil
}

func sameSpec(a, b runtime.Spec) bool {
	return a.Name == b.Name && a.Provider == b.Provider && maps.Equal(a.Options, b.Options) &&
		a.Optimization == b.Optimization && a.Threads == b.Threads && slices.Equal(a.Cores, b.Cores) &&
		a.Device == b.Device && a.LibrarySHA256 == b.LibrarySHA256
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
// distributions: of an accelerator that works alone, with the handoff and the
// dispatch before the layer. Give the simulator [Profile.Slowdowns] too.
func (p *Profile) Durations(seed uint64) (sim.Durations, error) {
	cells, err := p.complete()
	if err != nil {
		return nil, err
	}
	points := map[*Cell][]sim.Point{}
	for i := range p.Cells {
		c := &p.Cells[i]
		if !c.Measured() {
			continue
		}
		ps := c.points()
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
	dispatch := make([]time.Duration, len(p.Accelerators))
	for k := range dispatch {
		dispatch[k] = p.dispatch(k)
	}
	return func(at time.Duration, d sched.Dispatch) time.Duration {
		took := drawn(at, d) + dispatch[d.Accelerator]
		if h := handoffs[d.Model][d.Layer]; h != nil && d.From >= 0 {
			took += h[d.From][d.Accelerator]
		}
		return took
	}, nil
}

// points describe the cell's distribution: by its samples where there are
// enough, else by its statistics. The slowest stands for all beyond it.
func (c *Cell) points() []sim.Point {
	const enough = 20
	if n := len(c.Samples); n >= enough {
		sorted := stats.Sorted(c.Samples)
		ps := make([]sim.Point, n)
		for i, t := range sorted {
			ps[i] = sim.Point{Share: float64(i) / float64(n-1), Time: t}
		}
		return ps
	}
	return []sim.Point{{Share: 0, Time: c.Min}, {Share: 0.50, Time: c.P50}, {Share: 0.90, Time: c.P90}, {Share: 0.95, Time: c.P95}, {Share: 1, Time: c.P99}}
}

// complete is table for a profile of which every cell is needed.
func (p *Profile) complete() ([][][][]*Cell, error) {
	cells, err := p.table()
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	missing := 0
	for i := range p.Cells {
		if c := &p.Cells[i]; c.Refused == "" && !c.Measured() {
			missing++
		}
	}
	if missing > 0 {
		return nil, fmt.Errorf("%w: %d of %d cells were not measured", ErrPartial, missing, len(p.Cells))
	}
	return cells, nil
}

// System makes the scheduler's task system from the given statistic of the
// latencies. deadlines are relative, one per model.
//
// A latency is what the layer is expected to take in a system that has work for
// every accelerator: as measured alone, stretched by what all other
// accelerators cost this one, and the dispatch before it.
func (p *Profile) System(deadlines []time.Duration, q Quantile) (sched.System, error) {
	cells, err := p.complete()
	if err != nil {
		return sched.System{}, err
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
				for k, c := range cells[m][l][i] {
					if !c.Measured() {
						im.Latency = append(im.Latency, sched.Unavailable)
					} else {
						im.Latency = append(im.Latency, stretch(c.At(q), p.crowd(k))+p.dispatch(k))
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
			if (accelerator == Fastest || k == accelerator) && c.Measured() && (low < 0 || c.P50 < low) {
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

// Refusals says, for a model of the profile, what an accelerator cannot run, as
// runtime.Network.Skip does: also what took the accelerator's worker with it.
func (p *Profile) Refusals(model int) func(layer, implementation, accelerator int) error {
	cells, err := p.table()
	if err != nil || !in(model, len(cells)) {
		return nil
	}
	return func(layer, implementation, accelerator int) error {
		if c := cells[model][layer][implementation][accelerator]; c.Refused != "" {
			return errors.New(c.Refused)
		}
		return nil
	}
}

// Fastest asks for the fastest accelerator of each layer.
const Fastest = -1
