package profiler

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/gobench"
	"github.com/terastal/terastal/models"
)

// csvColumns are the columns of WriteCSV. Times are nanoseconds.
var csvColumns = []string{"model", "layer_index", "layer", "implementation", "accelerator", "provider", "ops", "shape", "macs", "parameters",
	"n", "min_ns", "mean_ns", "p50_ns", "p50_low_ns", "p50_high_ns", "p90_ns", "p95_ns", "p99_ns", "outliers", "unstable",
	"share_of_model", "gmac_per_s", "share_of_peak", "load_ns", "memory_bytes", "refused"}

// WriteCSV writes a row per cell, after a line that names the columns. Times
// are whole nanoseconds, shares 0 to 1; a number that is not known is empty.
// MACs, and what follows from them, are those of the layer's original.
func (p *Profile) WriteCSV(w io.Writer) error {
	cells, err := p.table()
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	out := csv.NewWriter(w)
	out.Write(csvColumns) // errors stay until Flush
	sums := p.Sums()
	p.eachPlace(func(at [4]int) { out.Write(p.csvRow(cells[at[0]][at[1]][at[2]][at[3]], sums)) })
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

func (p *Profile) csvRow(c *Cell, sums [][]time.Duration) []string {
	m := &p.Models[c.Model]
	l := &m.Layers[c.Layer]
	acc := &p.Accelerators[c.Accelerator]
	row := []string{m.Name, strconv.Itoa(c.Layer), l.Name, l.Implementations[c.Implementation], acc.Name, providerName(acc.Provider),
		strings.Join(l.Ops, "+"), l.Shape, strconv.FormatInt(l.MACs, 10), strconv.FormatInt(l.Parameters, 10)}
	known := func(x int64) string {
		if x == 0 || !c.Measured() {
			return ""
		}
		return strconv.FormatInt(x, 10)
	}
	real := func(x float64, ok bool) string {
		if !ok {
			return ""
		}
		return strconv.FormatFloat(x, 'g', 6, 64)
	}
	part, rate, peak, unstable, outliers := "", "", "", "", ""
	if c.Measured() {
		unstable, outliers = strconv.FormatBool(c.Unstable), strconv.Itoa(c.Outliers)
		part = real(share(c, sums))
		rate = real(p.Rate(c))
		peak = real(p.PeakShare(c))
	}
	return append(row, strconv.Itoa(c.N), known(int64(c.Min)), known(int64(c.Mean)), known(int64(c.P50)), known(int64(c.Low)), known(int64(c.High)),
		known(int64(c.P90)), known(int64(c.P95)), known(int64(c.P99)), outliers, unstable, part, rate, peak,
		known(int64(c.Load)), known(c.Memory), c.Refused)
}

// Sums are the sums of the medians of the models' originals, by model and
// accelerator; 0 where a layer has no time.
func (p *Profile) Sums() [][]time.Duration {
	sums, missing := make([][]time.Duration, len(p.Models)), make([][]int, len(p.Models))
	for m := range p.Models {
		sums[m], missing[m] = make([]time.Duration, len(p.Accelerators)), make([]int, len(p.Accelerators))
		for k := range missing[m] {
			missing[m][k] = len(p.Models[m].Layers)
		}
	}
	for i := range p.Cells {
		if c := &p.Cells[i]; c.Implementation == 0 && c.Measured() {
			sums[c.Model][c.Accelerator] += c.P50
			missing[c.Model][c.Accelerator]--
		}
	}
	for m := range sums {
		for k := range sums[m] {
			if missing[m][k] > 0 {
				sums[m][k] = 0
			}
		}
	}
	return sums
}

// share is an original's part of its model's sum on its accelerator, 0 to 1;
// false where there is none.
func share(c *Cell, sums [][]time.Duration) (float64, bool) {
	sum := sums[c.Model][c.Accelerator]
	return float64(c.P50) / float64(max(1, sum)), sum > 0 && c.Implementation == 0 && c.Measured()
}

// Rate is how fast the cell computes, in 1e9 multiply-accumulates per second of
// its median; false for variants, whose MACs the profile does not know, and for
// layers without any.
func (p *Profile) Rate(c *Cell) (float64, bool) {
	macs := p.Models[c.Model].Layers[c.Layer].MACs
	if !c.Measured() || c.Implementation != 0 || macs <= 0 {
		return 0, false
	}
	return float64(macs) / float64(c.P50), true
}

// PeakShare is the cell's rate as a share of what its accelerator reaches on a
// large matrix product; false where either is unknown.
func (p *Profile) PeakShare(c *Cell) (float64, bool) {
	rate, ok := p.Rate(c)
	for _, x := range p.Peaks {
		if ok && x.Accelerator == c.Accelerator && x.GMACs > 0 {
			return rate / x.GMACs, true
		}
	}
	return 0, false
}

// providerName is the provider as people write it.
func providerName(s string) string {
	if s == "" {
		return "cpu"
	}
	return strings.ToLower(s)
}

// WriteBenchfmt writes the times as results of Go benchmarks, a line per
// sample, so that benchstat reads them; cells without samples, such as imported
// ones, give their median. The name of a result is
//
//	BenchmarkLayer/model=M/layer=INDEX:NAME/impl=I/acc=A-1
//
// with %2F for a / in a name, %25 for a %, and _ for white space; the 1 is the
// number of runs at a time.
func (p *Profile) WriteBenchfmt(w io.Writer) error {
	cells, err := p.table()
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	out := gobench.NewWriter(w)
	out.Config(gobench.Fact{Key: "goos", Value: p.Host.OS}, gobench.Fact{Key: "goarch", Value: p.Host.Arch}, gobench.Fact{Key: "cpu", Value: p.Host.CPU},
		gobench.Fact{Key: "onnxruntime", Value: p.ORT}, gobench.Fact{Key: "governor", Value: p.Host.Governor})
	p.eachPlace(func(at [4]int) {
		c := cells[at[0]][at[1]][at[2]][at[3]]
		if !c.Measured() {
			return
		}
		samples, n := c.Samples, 1
		if len(samples) == 0 {
			samples, n = Times{c.P50}, c.N
		}
		for _, t := range samples {
			out.Result("Layer", p.benchName(c), n, gobench.Value{Number: float64(t), Unit: "ns/op"})
		}
	})
	return out.Err()
}

func (p *Profile) benchName(c *Cell) []gobench.Part {
	m := &p.Models[c.Model]
	l := &m.Layers[c.Layer]
	return []gobench.Part{{Key: "model", Value: m.Name}, {Key: "layer", Value: fmt.Sprintf("%d:%s", c.Layer, l.Name)},
		{Key: "impl", Value: l.Implementations[c.Implementation]}, {Key: "acc", Value: p.Accelerators[c.Accelerator].Name}}
}

// shapeText is the shape of the first tensor, such as "1x64x56x56".
func shapeText(tensors []models.Tensor) string {
	if len(tensors) == 0 {
		return ""
	}
	var dims []string
	for _, d := range tensors[0].Shape {
		dims = append(dims, strconv.FormatInt(d, 10))
	}
	return strings.Join(dims, "x")
}
