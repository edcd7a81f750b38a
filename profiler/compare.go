package profiler

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/perf/benchmath"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/runtime"
)

// ErrNothingInCommon is wrapped when two profiles have no cell of the same names.
var ErrNothingInCommon = errors.New("nothing to compare")

// Comparison holds two profiles, or two accelerators of one, against each other, cell by cell. Differences are those of
// B from A.
type Comparison struct {
	A string `json:"a"`
	B string `json:"b"`
	// DoubtsA and DoubtsB are the noise floors and the warnings of the two measurements; of a comparison of
	// accelerators both are the profile's.
	DoubtsA Doubts `json:"doubts_a"`
	DoubtsB Doubts `json:"doubts_b"`
	// Differences are what else differs, in the order of weight.
	Differences []Difference `json:"provenance_differences"`
	// Accelerators are compared one after the other; comparing two of one profile gives a single one.
	Accelerators []AcceleratorComparison `json:"accelerators"`
	// OnlyA and OnlyB name the cells that one side has and the other has not; Unmeasured those that both have, but one
	// without times.
	OnlyA      []CellName `json:"only_a,omitempty"`
	OnlyB      []CellName `json:"only_b,omitempty"`
	Unmeasured []CellName `json:"unmeasured,omitempty"`
	Summary    Agreement  `json:"summary"`
}

// Doubts are why a measurement may be less good than its intervals say.
type Doubts struct {
	Noise    *Noise   `json:"noise,omitempty"`
	Warnings []string `json:"warnings"` // their codes
}

func (p *Profile) doubts() Doubts {
	d := Doubts{Noise: p.Noise, Warnings: []string{}}
	for _, w := range p.Warnings {
		d.Warnings = append(d.Warnings, w.Code)
	}
	return d
}

// Difference is a fact of the provenance that is not the same on both sides.
type Difference struct {
	What string `json:"what"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// AcceleratorComparison compares the cells of one accelerator.
type AcceleratorComparison struct {
	Accelerator string           `json:"accelerator"`
	Cells       []CellComparison `json:"cells"`
	// Models are in the order of A; All is over all cells.
	Models []Geomean `json:"models"`
	All    Geomean   `json:"all"`
}

// CellComparison compares two medians.
type CellComparison struct {
	Model          string `json:"model"`
	Layer          string `json:"layer"`
	Implementation string `json:"implementation"`
	A              Median `json:"a"`
	B              Median `json:"b"`
	// Change is (B - A) / A of the medians. Significant says whether it is one: by the Mann-Whitney U test at 5 % where
	// both have samples, else because the intervals do not overlap.
	Change      float64 `json:"change"`
	Significant bool    `json:"significant"`
	// P is the test's p-value, nil where intervals were compared. It says that these two measurements differ, not why:
	// runs of one measurement share the state of the machine, which another measurement does not.
	P *float64 `json:"p,omitempty"`
}

// Median is a cell's median with its 95 % confidence interval.
type Median struct {
	P50  time.Duration `json:"p50_ns"`
	Low  time.Duration `json:"p50_low_ns"`
	High time.Duration `json:"p50_high_ns"`
	N    int           `json:"n"` // samples compared, or runs where intervals were
}

// Within is the half-width of the interval as a share of the median: the larger of the two sides.
func (m Median) Within() float64 {
	return float64(max(m.High-m.P50, m.P50-m.Low)) / float64(m.P50)
}

// Geomean sums up cells. Sums are of the originals that both sides have.
type Geomean struct {
	Model string  `json:"model,omitempty"`
	Cells int     `json:"cells"`
	A     float64 `json:"geomean_a_ns"`
	B     float64 `json:"geomean_b_ns"`
	// Change is (B - A) / A of the geometric means.
	Change float64       `json:"change"`
	SumA   time.Duration `json:"sum_a_ns"`
	SumB   time.Duration `json:"sum_b_ns"`
	// SumBest takes each layer where it is faster: what an ideal split between the two would need.
	SumBest time.Duration `json:"sum_best_ns"`
	// FasterA and FasterB count the cells that are significantly faster there.
	FasterA int `json:"faster_a"`
	FasterB int `json:"faster_b"`

	logA, logB float64
}

// Agreement is how well two profiles agree.
type Agreement struct {
	Cells int `json:"cells"`
	// MedianChange is the median of |B - A| / A; Beyond the share of cells where it is larger than AgreementLimit;
	// Significant the share with a significant change.
	MedianChange float64 `json:"median_abs_change"`
	Beyond       float64 `json:"share_beyond_3_percent"`
	Significant  float64 `json:"share_significant"`
}

// AgreementLimit is how far a repeated measurement of a cell should be off at most.
const AgreementLimit = 0.03

// Compare compares the cells of two profiles that have the same names of model, layer, implementation and accelerator.
// The error wraps ErrNothingInCommon if none have.
func Compare(a, b *Profile) (*Comparison, error) {
	c := &Comparison{Differences: differences(a, b), DoubtsA: a.doubts(), DoubtsB: b.doubts()}
	if err := c.compare(a.named(), b.named()); err != nil {
		return nil, fmt.Errorf("%w: the first has %s, the second %s", err, a.contents(), b.contents())
	}
	return c, nil
}

// CompareAccelerators compares two accelerators of one profile, by name.
func CompareAccelerators(p *Profile, a, b string) (*Comparison, error) {
	if a == b {
		return nil, fmt.Errorf("accelerator %q is given twice", a)
	}
	var parts [2]*Profile
	var settings [2]string
	for i, name := range []string{a, b} {
		part, err := p.Select(p.modelNames(), []string{p.firstStream(name)})
		if err != nil {
			return nil, err
		}
		parts[i], settings[i] = part, DescribeSpec(part.Accelerators[0])
		part.Accelerators[0].Name = a + " against " + b
	}
	c := &Comparison{A: a, B: b, Differences: []Difference{}, DoubtsA: p.doubts(), DoubtsB: p.doubts()}
	if settings[0] != settings[1] {
		c.Differences = append(c.Differences, Difference{"settings", settings[0], settings[1]})
	}
	if err := c.compare(parts[0].named(), parts[1].named()); err != nil {
		return nil, fmt.Errorf("%w: no layer has times on both %q and %q", err, a, b)
	}
	return c, nil
}

// firstStream is the name of the first stream of a device of this name; other names stay as they are.
func (p *Profile) firstStream(name string) string {
	for i := range p.Accelerators {
		if s := &p.Accelerators[i]; s.Of == name && s.Stream == 0 {
			return s.Name
		}
	}
	return name
}

// namedCell is a cell that can be found in another profile. turn counts cells of the same names.
type namedCell struct {
	CellName
	turn int
}

type namedCells struct {
	order []namedCell // by accelerator, then model, layer and implementation
	cells map[namedCell]*Cell
}

// named lists the cells under their names.
func (p *Profile) named() namedCells {
	out := namedCells{cells: map[namedCell]*Cell{}}
	p.walk(func(c *Cell) { // nothing where a cell is missing: Read refuses such a profile
		n := namedCell{CellName: p.Name(c)}
		for out.cells[n] != nil {
			n.turn++
		}
		out.order, out.cells[n] = append(out.order, n), c
	})
	return out
}

func (c *Comparison) compare(a, b namedCells) error {
	for _, n := range b.order {
		if a.cells[n] == nil {
			c.OnlyB = append(c.OnlyB, n.CellName)
		}
	}
	for _, n := range a.order {
		x, y := a.cells[n], b.cells[n]
		switch {
		case y == nil:
			c.OnlyA = append(c.OnlyA, n.CellName)
			continue
		case !x.Measured() || !y.Measured():
			c.Unmeasured = append(c.Unmeasured, n.CellName)
			continue
		}
		if last := len(c.Accelerators) - 1; last < 0 || c.Accelerators[last].Accelerator != n.Accelerator {
			c.Accelerators = append(c.Accelerators, AcceleratorComparison{Accelerator: n.Accelerator})
		}
		acc := &c.Accelerators[len(c.Accelerators)-1]
		acc.add(compareCells(n.CellName, x, y), x.Implementation == 0 && y.Implementation == 0)
	}
	if len(c.Accelerators) == 0 {
		return ErrNothingInCommon
	}
	var changes []float64
	for i := range c.Accelerators {
		acc := &c.Accelerators[i]
		acc.All.finish()
		for m := range acc.Models {
			acc.Models[m].finish()
		}
		for _, x := range acc.Cells {
			change := math.Abs(x.Change)
			changes = append(changes, change)
			c.Summary.Significant += float64(count(x.Significant))
			c.Summary.Beyond += float64(count(change > AgreementLimit))
		}
	}
	slices.Sort(changes)
	n := len(changes)
	c.Summary.Cells, c.Summary.MedianChange = n, stats.Quantile(changes, 0.5)
	c.Summary.Significant /= float64(n)
	c.Summary.Beyond /= float64(n)
	return nil
}

// add appends a cell and counts it.
func (x *AcceleratorComparison) add(c CellComparison, original bool) {
	x.Cells = append(x.Cells, c)
	at := slices.IndexFunc(x.Models, func(g Geomean) bool { return g.Model == c.Model })
	if at < 0 {
		at = len(x.Models)
		x.Models = append(x.Models, Geomean{Model: c.Model})
	}
	for _, g := range []*Geomean{&x.Models[at], &x.All} {
		g.Cells++
		g.logA += math.Log(float64(c.A.P50))
		g.logB += math.Log(float64(c.B.P50))
		if original {
			g.SumA += c.A.P50
			g.SumB += c.B.P50
			g.SumBest += min(c.A.P50, c.B.P50)
		}
		g.FasterA += count(c.Significant && c.Change > 0)
		g.FasterB += count(c.Significant && c.Change < 0)
	}
}

func (g *Geomean) finish() {
	n := float64(g.Cells)
	g.A, g.B = math.Exp(g.logA/n), math.Exp(g.logB/n)
	g.Change = math.Expm1((g.logB - g.logA) / n)
}

// enoughSamples is how many both cells need for the U test: below 4 it cannot find anything at 5 %, and few runs of one
// measurement say little.
const enoughSamples = 6

func compareCells(n CellName, a, b *Cell) CellComparison {
	c := CellComparison{Model: n.Model, Layer: n.Layer, Implementation: n.Implementation, A: a.median(), B: b.median()}
	c.Change = float64(c.B.P50-c.A.P50) / float64(c.A.P50)
	if len(a.Samples) < enoughSamples || len(b.Samples) < enoughSamples {
		c.Significant = c.A.High < c.B.Low || c.B.High < c.A.Low
		return c
	}
	r := benchmath.AssumeNothing.Compare(a.sample(), b.sample())
	c.A.N, c.B.N, c.P = r.N1, r.N2, &r.P
	c.Significant = r.P <= r.Alpha && c.Change != 0
	return c
}

// median is the cell's median and its interval; the median alone where the document has no interval around it.
func (c *Cell) median() Median {
	m := Median{P50: c.P50, Low: c.Low, High: c.High, N: c.N}
	if m.Low <= 0 || m.Low > m.P50 {
		m.Low = m.P50
	}
	m.High = max(m.High, m.P50)
	return m
}

func (c *Cell) sample() *benchmath.Sample {
	values := make([]float64, len(c.Samples))
	for i, t := range c.Samples {
		values[i] = float64(t)
	}
	return benchmath.NewSample(values, &benchmath.DefaultThresholds)
}

// differences lists what of the provenance matters to times and differs.
func differences(a, b *Profile) []Difference {
	out := []Difference{}
	add := func(what, x, y string) {
		if x != y {
			out = append(out, Difference{what, cmp.Or(x, "unknown"), cmp.Or(y, "unknown")})
		}
	}
	add("processor", a.Host.CPU, b.Host.CPU)
	add("instruction sets", strings.Join(a.Host.CPUFlags, " "), strings.Join(b.Host.CPUFlags, " "))
	add("ONNX Runtime", a.ORT, b.ORT)
	add("cores", strconv.Itoa(a.Host.LogicalCores), strconv.Itoa(b.Host.LogicalCores))
	add("cores allowed", fmt.Sprint(a.Host.AllowedCores), fmt.Sprint(b.Host.AllowedCores))
	add("CPU quota", number(a.Host.CPUQuota, "none"), number(b.Host.CPUQuota, "none"))
	add("governor", a.Host.Governor, b.Host.Governor)
	add("NVIDIA driver", a.Host.CUDA.Driver, b.Host.CUDA.Driver)
	add("operating system", a.Host.OS+"/"+a.Host.Arch, b.Host.OS+"/"+b.Host.Arch)
	add("kernel", a.Host.Kernel, b.Host.Kernel)
	add("precision aimed at", number(a.Precision, ""), number(b.Precision, ""))
	add("partial", strconv.FormatBool(a.Partial), strconv.FormatBool(b.Partial))
	for _, x := range a.Accelerators {
		if k := b.accelerator(x.Name); k >= 0 {
			add("accelerator "+x.Name, DescribeSpec(x), DescribeSpec(b.Accelerators[k]))
		}
	}
	for _, x := range a.Devices {
		n := slices.IndexFunc(b.Devices, func(d Device) bool { return d.Name == x.Name })
		if n >= 0 {
			add("streams of "+x.Name, strconv.Itoa(len(x.Accelerators)), strconv.Itoa(len(b.Devices[n].Accelerators)))
		}
	}
	for _, x := range a.Models {
		if m := b.model(x.Name); m >= 0 {
			add("granularity of "+x.Name, x.Granularity, b.Models[m].Granularity)
			add("content of "+x.Name, short(x.SHA256), short(b.Models[m].SHA256))
		}
	}
	return out
}

func number(x float64, zero string) string {
	if x == 0 {
		return zero
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

// short is as much of a checksum as people compare.
func short(sum string) string { return sum[:min(12, len(sum))] }

// providerName is the provider as people write it.
func providerName(s runtime.Spec) string { return cmp.Or(strings.ToLower(s.Provider), "cpu") }

// DescribeSpec is an accelerator's settings in one line.
func DescribeSpec(s runtime.Spec) string {
	parts := []string{providerName(s)}
	for _, k := range slices.Sorted(maps.Keys(s.Options)) {
		parts = append(parts, k+"="+s.Options[k])
	}
	if s.Provider != TableProvider {
		parts = append(parts, "optimization "+cmp.Or(s.Optimization, "all"), fmt.Sprintf("threads %d", max(1, s.Threads)))
	}
	if len(s.Cores) > 0 {
		parts = append(parts, fmt.Sprintf("cores %v", s.Cores))
	}
	if s.KeepWarm {
		parts = append(parts, "kept warm")
	}
	return strings.Join(parts, ", ")
}

// contents says what a profile is of.
func (p *Profile) contents() string {
	return fmt.Sprintf("models %s on %s", quoted(p.modelNames()), quoted(p.acceleratorNames()))
}

// quoted lists names, the first ones of many.
func quoted(names []string) string {
	const most = 8
	var parts []string
	for _, n := range names[:min(most, len(names))] {
		parts = append(parts, strconv.Quote(n))
	}
	text := cmp.Or(strings.Join(parts, ", "), "none")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
