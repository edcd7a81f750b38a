package profiler

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/runtime"
)

// Errors about a profile that exists but cannot be used.
var (
	// ErrStale is wrapped when a profile was made for something else than what it is to be used for.
	ErrStale = errors.New("stale profile")
	// ErrPartial is wrapped when a measurement was stopped before every cell was measured.
	ErrPartial = errors.New("partial profile")
)

// Host describes a machine: processor, cores, memory, graphics processors and their drivers, and nothing that names it.
type Host = hostinfo.Info

// ThisHost is the machine that the program runs on, as it is now.
func ThisHost() Host { return hostinfo.Read(hostinfo.This()) }

// created is a time in a document, by default the present.
func created(at time.Time) string {
	if at.IsZero() {
		at = time.Now()
	}
	return at.UTC().Format(time.RFC3339)
}

// Profile is what was measured, on what. [Profile.Cell] finds its cells.
type Profile struct {
	Created string `json:"created"`     // RFC 3339
	Host    Host   `json:"host"`        // where it was measured
	ORT     string `json:"onnxruntime"` // the version measured with
	// Precision is the half-width of the median's confidence interval that was aimed at, as a share of the median; Took
	// how long measuring took.
	Precision float64       `json:"precision,omitempty"`
	Took      time.Duration `json:"took_ns,omitempty"`
	// Partial is true when the measurement was stopped before its end.
	Partial      bool           `json:"partial,omitempty"`
	Accelerators []runtime.Spec `json:"accelerators"`
	Models       []Model        `json:"models"`
	Cells        []Cell         `json:"cells"`
	// Handoffs are the conversions between tensor layouts and the copies between memories that a change of accelerator
	// costs; those that cost nothing are left out.
	Handoffs []Handoff `json:"handoffs,omitempty"`
	// Devices are what accelerators with memory of their own share, or have to themselves.
	Devices []Device `json:"devices,omitempty"`
	// Interference is how much accelerators slow each other down, those of one device excepted.
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

	cells index
}

// Model is a measured model.
type Model struct {
	Name        string `json:"name"`
	SHA256      string `json:"sha256"`
	Granularity string `json:"granularity"`
	// Cut is the granularity that gives these layers again, also where Granularity measures.
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

// Cell is one implementation of one layer on one accelerator, all by index. Times are nanoseconds; Low and High enclose
// the median with 95 % confidence.
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
	// Outliers is how many runs took longer than the third quartile by more than three interquartile ranges.
	Outliers int `json:"outliers,omitempty"`
	// Load is how long the first loading took, Memory how many bytes it allocated in main memory, where the system tells.
	Load   time.Duration `json:"load_ns,omitempty"`
	Memory int64         `json:"memory_bytes,omitempty"`
	// Unstable is true when the time budget ended before the median was known to the target precision.
	Unstable bool `json:"unstable,omitempty"`
	// Refused says why the accelerator cannot run it; there are no times then.
	Refused string `json:"refused,omitempty"`
	// Samples are up to 128 of the runs' times, evenly spread and in order.
	Samples Times `json:"samples_ns,omitempty"`
}

// Measured reports whether there is such a cell, and it has times.
func (c *Cell) Measured() bool { return c != nil && c.Refused == "" && c.N > 0 }

// Times are durations, in documents as whole nanoseconds in one string, separated by spaces.
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

// Interference is how much longer layers take on an accelerator while another one is busy, both by index.
type Interference struct {
	Accelerator int `json:"accelerator"`
	Busy        int `json:"busy"`
	// Slowdown is the time of all layers next to the busy accelerator, by their medians, over that alone, less one. Q1
	// and Q3 are the quartiles of the single layers' slowdowns.
	Slowdown float64 `json:"slowdown"`
	Q1       float64 `json:"slowdown_q1"`
	Q3       float64 `json:"slowdown_q3"`
	N        int     `json:"n"` // rounds
}

// Dispatch is the time between the end of a layer and the start of the next one in the real executor, on an accelerator
// that always has work.
type Dispatch struct {
	Accelerator int           `json:"accelerator"`
	N           int           `json:"n"`
	P50         time.Duration `json:"p50_ns"`
	P99         time.Duration `json:"p99_ns"`
}

// Chain holds the layers of a model on one accelerator, by index, against the model as a whole.
type Chain struct {
	Model       int `json:"model"`
	Accelerator int `json:"accelerator"`
	N           int `json:"n"` // runs of each
	// Sum is that of the layers' medians. Chained is the median of all layers run one after the other, Whole that of a
	// session that has the whole model; it is zero where the accelerator refuses that. On a device whose memory has
	// events, inputs and outputs stay there in all of them; the first and the last layer in the sum have the copies.
	Sum     time.Duration `json:"sum_ns"`
	Chained time.Duration `json:"chained_ns"`
	Whole   time.Duration `json:"whole_ns,omitempty"`
	// Captured is how many of the layers are captured as graphs, as they are in a run; Plain is the median of all layers
	// when none is, and zero if none is. Graph is that of the whole model captured as one graph, zero where it cannot be.
	Captured int           `json:"captured,omitempty"`
	Plain    time.Duration `json:"plain_ns,omitempty"`
	Graph    time.Duration `json:"graph_ns,omitempty"`
}

// Peak is the roofline of an accelerator: what it reaches on work that suits it.
type Peak struct {
	Accelerator int `json:"accelerator"`
	// GMACs is the rate of multiply-accumulates of a large float32 matrix product, in 1e9 per second.
	GMACs float64 `json:"gmac_per_s"`
	// CopyGB is the rate at which a large tensor is read and written, both counted, in 1e9 bytes per second.
	CopyGB float64 `json:"copy_gb_per_s"`
}

// Noise is by how much the medians of cells differ, as a share, between the two processes that measured them one after
// the other, or between the first and the second half of the samples of one: what a comparison of profiles cannot tell
// apart.
type Noise struct {
	Median float64 `json:"median"` // of all cells
	P90    float64 `json:"p90"`
}

// Warning is a doubt about a measurement. Codes stay the same from version to version; texts may change.
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

// Handoff is the time to move a request's tensors to accelerator To, which runs a layer, from accelerator From, which
// has run those before it, all by index: to convert them to the layout that To reads, and to copy them from and to the
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
	if err := p.arrange(); err != nil {
		return nil, fmt.Errorf("read profile %s: %w", path, err)
	}
	return &p, nil
}
