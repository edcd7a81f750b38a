package profiler

import (
	"cmp"
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
var csvColumns = []string{"model", "layer_index", "layer", "implementation", "accelerator", "provider", "ops", "shape",
	"macs", "parameters", "n", "min_ns", "mean_ns", "p50_ns", "p50_low_ns", "p50_high_ns", "p90_ns", "p95_ns", "p99_ns",
	"outliers", "unstable", "share_of_model", "gmac_per_s", "share_of_peak", "load_ns", "memory_bytes", "refused", "device"}

// WriteCSV writes a row per cell, after a line that names the columns. Times are whole nanoseconds, shares 0 to 1; a
// number that is not known is empty. MACs, and what follows from them, are those of the layer's original.
func (p *Profile) WriteCSV(w io.Writer) error {
	sums := p.Sums()
	out := csv.NewWriter(w)
	out.Write(csvColumns) // errors stay until Flush
	if err := p.walk(func(c *Cell) { out.Write(p.csvRow(c, sums[c.Model][c.Accelerator])) }); err != nil {
		return err
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

// csvRow describes a cell; sum is what its model takes on its accelerator, 0 if it cannot run there.
func (p *Profile) csvRow(c *Cell, sum time.Duration) []string {
	n, l := p.Name(c), p.layer(c)
	whole := func(x int64) string {
		if x == 0 || !c.Measured() {
			return ""
		}
		return strconv.FormatInt(x, 10)
	}
	real := func(x float64, ok bool) string {
		if !ok || !c.Measured() {
			return ""
		}
		return strconv.FormatFloat(x, 'g', 6, 64)
	}
	row := []string{n.Model, strconv.Itoa(c.Layer), n.Layer, n.Implementation, n.Accelerator,
		providerName(p.Accelerators[c.Accelerator]), strings.Join(l.Ops, "+"), l.Shape,
		strconv.FormatInt(l.MACs, 10), strconv.FormatInt(l.Parameters, 10), strconv.Itoa(c.N)}
	for _, t := range []time.Duration{c.Min, c.Mean, c.P50, c.Low, c.High, c.P90, c.P95, c.P99} {
		row = append(row, whole(int64(t)))
	}
	unstable, outliers := "", ""
	if c.Measured() {
		unstable, outliers = strconv.FormatBool(c.Unstable), strconv.Itoa(c.Outliers)
	}
	share := float64(c.P50) / float64(max(1, sum))
	return append(row, outliers, unstable, real(share, sum > 0 && c.Implementation == 0), real(p.Rate(c)),
		real(p.PeakShare(c)), whole(int64(c.Load)), whole(c.Memory), c.Refused, p.Accelerators[c.Accelerator].Of)
}

// WriteBenchfmt writes the times as results of Go benchmarks, a line per sample, so that benchstat reads them; cells
// without samples, such as imported ones, give their median. The name of a result is
//
//	BenchmarkLayer/model=M/layer=INDEX:NAME/impl=I/acc=A-1
//
// with %2F for a / in a name, %25 for a %, and _ for white space; the 1 is the number of runs at a time.
func (p *Profile) WriteBenchfmt(w io.Writer) error {
	out := gobench.NewWriter(w)
	out.Config(gobench.Fact{Key: "goos", Value: p.Host.OS}, gobench.Fact{Key: "goarch", Value: p.Host.Arch},
		gobench.Fact{Key: "cpu", Value: p.Host.CPU}, gobench.Fact{Key: "onnxruntime", Value: p.ORT},
		gobench.Fact{Key: "governor", Value: p.Host.Governor})
	err := p.walk(func(c *Cell) {
		if !c.Measured() {
			return
		}
		n := p.Name(c)
		parts := []gobench.Part{{Key: "model", Value: n.Model}, {Key: "layer", Value: fmt.Sprintf("%d:%s", c.Layer, n.Layer)},
			{Key: "impl", Value: n.Implementation}, {Key: "acc", Value: n.Accelerator}}
		samples, runs := c.Samples, 1
		if len(samples) == 0 {
			samples, runs = Times{c.P50}, c.N
		}
		for _, t := range samples {
			out.Result("Layer", parts, runs, gobench.Value{Number: float64(t), Unit: "ns/op"})
		}
	})
	return cmp.Or(err, out.Err())
}

// shapeText is the shape of the first tensor, such as "1x64x56x56".
func shapeText(tensors []models.Tensor) string {
	if len(tensors) == 0 {
		return ""
	}
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(tensors[0].Shape), "[]"), " ", "x")
}
