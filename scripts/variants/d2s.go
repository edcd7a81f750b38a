package main

import (
	"context"
	"fmt"
	"io"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// theta is the share of the accuracy that a valid combination keeps.
const theta = 0.9

// trainedSpecs are the accelerators of tables.sh.
var trainedSpecs = []runtime.Spec{{Name: "all", Optimization: "all"}, {Name: "basic", Optimization: "basic"}}

// trainedNet is a network of the zoo with its trained D2S variants.
type trainedNet struct {
	*runtime.Network
	list   []zoo.TrainedVariant
	chosen []int // their layers
	proof  *plan.Proof
	// originals are the layers' medians by accelerator and layer, variants those
	// of the variants by accelerator and variant; runs the least number of runs
	// behind one of them.
	originals, variants [][]time.Duration
	runs                int
}

// openTrained splits a network at every operator; nil if it has no variants.
func openTrained(name string) (*trainedNet, error) {
	list, err := zoo.D2S(name)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	data, err := zoo.Build(name, 0)
	if err != nil {
		return nil, err
	}
	m, err := models.Parse(name, data, models.Options{})
	if err != nil {
		return nil, err
	}
	op, err := models.ParseGranularity("op")
	if err != nil {
		return nil, err
	}
	layers, err := m.Split(op)
	if err != nil {
		return nil, err
	}
	n := &runtime.Network{Name: name, Model: m, Layers: layers, Variants: map[int][]runtime.Unit{}}
	t := &trainedNet{Network: n, list: list}
	for _, v := range list {
		l := slices.IndexFunc(layers, func(l models.Layer) bool { return l.Name == v.Layer })
		if l < 0 {
			return nil, fmt.Errorf("network %q has no layer %q", name, v.Layer)
		}
		u := variants.NewUnit(&layers[l], fmt.Sprintf("d2s gamma %d, trained", v.Gamma), v.ONNX)
		t.Variants[l] = append(t.Variants[l], u)
		t.chosen = append(t.chosen, l)
	}
	return t, nil
}

// prove measures every combination on the first test images.
func (t *trainedNet) prove(ctx context.Context, images int) error {
	d, err := dataset.Open(dataset.Spec{Source: "glyphs:test", Count: images}, t.Model)
	if err != nil {
		return err
	}
	t.proof, err = variants.Prove(ctx, t.Network, d, variants.Top(1), variants.ProveOptions{Workers: goruntime.NumCPU()})
	return err
}

// measure times originals and variants in turn, in this process.
func (t *trainedNet) measure(ctx context.Context, budget time.Duration) error {
	task := profiler.Task{Accelerators: trainedSpecs, Networks: []*runtime.Network{t.Network}, Seed: 1}
	p, err := profiler.Measure(ctx, task, profiler.Options{Budget: budget})
	if err != nil {
		return err
	}
	for range trainedSpecs {
		t.originals = append(t.originals, make([]time.Duration, len(t.Layers)))
		t.variants = append(t.variants, make([]time.Duration, len(t.chosen)))
	}
	for _, c := range p.Cells {
		if !c.Measured() {
			return fmt.Errorf("network %q layer %d on %s: %s", t.Name, c.Layer, trainedSpecs[c.Accelerator].Name, c.Refused)
		}
		if c.Implementation == 0 {
			t.originals[c.Accelerator][c.Layer] = c.P50
		} else {
			i := slices.Index(t.chosen, c.Layer)
			t.variants[c.Accelerator][i] = c.P50
		}
		if t.runs == 0 || c.N < t.runs {
			t.runs = c.N
		}
	}
	return nil
}

// with is what all layers take on an accelerator with a combination.
func (t *trainedNet) with(k int, s sched.VariantSet) time.Duration {
	sum := time.Duration(0)
	for _, c := range t.originals[k] {
		sum += c
	}
	for i, l := range t.chosen {
		if s>>i&1 != 0 {
			sum += t.variants[k][i] - t.originals[k][l]
		}
	}
	return sum
}

// fastest is the valid combination with which all layers take least.
func (t *trainedNet) fastest(k int) (best sched.VariantSet) {
	for i, s := range t.proof.Sets {
		if t.proof.Accuracy[i] >= theta && t.with(k, s) < t.with(k, best) {
			best = s
		}
	}
	return best
}

// gain is how many times faster all layers are with a combination.
func (t *trainedNet) gain(k int, s sched.VariantSet) float64 {
	return float64(t.with(k, 0)) / float64(t.with(k, s))
}

// trainedD2S proves and measures the trained variants, and writes the tables.
// Plans of the same networks give the fitted variants to compare them with.
func trainedD2S(ctx context.Context, w io.Writer, plans []string, images int, budget time.Duration) error {
	_, err := ort.Start("")
	if err != nil {
		return err
	}
	fitted, err := readPlans(plans)
	if err != nil {
		return err
	}
	var nets []*trainedNet
	for _, name := range zoo.Names() {
		t, err := openTrained(name)
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		if err := t.prove(ctx, images); err != nil {
			return err
		}
		if err := t.measure(ctx, budget); err != nil {
			return err
		}
		nets = append(nets, t)
	}
	trainedSummary(w, nets, fitted)
	trainedLayers(w, nets, fitted)
	for _, t := range nets {
		t.combinations(w)
	}
	return nil
}

func readPlans(paths []string) (list []plan.Variants, err error) {
	for _, path := range paths {
		p, _, err := plan.Read(path)
		if err != nil {
			return nil, err
		}
		list = append(list, p.Variants...)
	}
	return list, nil
}

func trainedSummary(w io.Writer, nets []*trainedNet, fitted []plan.Variants) {
	fmt.Fprint(w, "| network | baseline | variants | KB | valid | all together | accelerator | fastest valid | accuracy |")
	fmt.Fprintln(w, " network's gain | fitted variants' gain | accuracy |")
	fmt.Fprintln(w, "| --- | --- | ---: | ---: | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: |")
	for _, t := range nets {
		valid, bytes := 0, 0
		for _, a := range t.proof.Accuracy {
			if a >= theta {
				valid++
			}
		}
		for _, v := range t.list {
			bytes += len(v.ONNX)
		}
		last := len(t.proof.Sets) - 1
		for k, spec := range trainedSpecs {
			s := t.fastest(k)
			a, _ := t.proof.Of(s)
			fmt.Fprintf(w, "| %s | top-1 %.4f, n = %d | %d | %.0f | %d of %d | %.2f %% | %s | %s | %.2f %% | %.2fx | %s |\n",
				t.Name, t.proof.Baseline, t.proof.Requests, len(t.chosen), float64(bytes)/1e3,
				valid, last+1, 100*t.proof.Accuracy[last], spec.Name, letters(s), 100*a, t.gain(k, s), t.fittedGain(fitted, k))
		}
	}
}

// fittedGain is how many times faster all layers are with those variants of a
// plan that are faster, and the accuracy with all that it chose.
func (t *trainedNet) fittedGain(list []plan.Variants, k int) string {
	for i := range list {
		v := &list[i]
		if v.Model != t.Name || len(v.Chosen) == 0 || allD2S(v) {
			continue
		}
		all := t.with(k, 0)
		left := all
		for n := range v.Chosen {
			if c := &v.Chosen[n]; c.Gain(k) > 1 {
				o := t.originals[k][c.Layer]
				left -= o - time.Duration(float64(o)/c.Gain(k))
			}
		}
		return fmt.Sprintf("%.2fx | %.2f %%", float64(all)/float64(left), 100*together(v))
	}
	return "|"
}

func allD2S(v *plan.Variants) bool {
	return !slices.ContainsFunc(v.Candidates, func(c plan.Variant) bool { return c.Family != "d2s" })
}

func trainedLayers(w io.Writer, nets []*trainedNet, fitted []plan.Variants) {
	fmt.Fprint(w, "\n| network | layer | | gamma |")
	for _, s := range trainedSpecs {
		fmt.Fprintf(w, " %s | gain |", s.Name)
	}
	fmt.Fprint(w, " KB | accuracy alone | by least squares | fitted instead |\n| --- | --- | --- | ---: |")
	fmt.Fprintf(w, "%s ---: | ---: | ---: | --- |\n", strings.Repeat(" ---: | ---: |", len(trainedSpecs)))
	for _, t := range nets {
		for i, v := range t.list {
			fmt.Fprintf(w, "| %s | %s | %s | %d |", t.Name, v.Layer, letters(1<<i), v.Gamma)
			for k := range trainedSpecs {
				o, c := t.originals[k][t.chosen[i]], t.variants[k][i]
				fmt.Fprintf(w, " %.0f us | %.2fx |", float64(c)/1e3, float64(o)/float64(c))
			}
			alone, _ := t.proof.Of(1 << i)
			squares, other := t.fittedFor(fitted, i)
			fmt.Fprintf(w, " %.1f | %.2f %% | %s | %s |\n", float64(len(v.ONNX))/1e3, 100*alone, squares, other)
		}
	}
	runs := nets[0].runs
	for _, t := range nets {
		runs = min(runs, t.runs)
	}
	fmt.Fprintf(w, "\nLatencies are medians of at least %d runs of each original and variant, in turn.\n", runs)
}

// fittedFor is what plans say of the layer of a variant: the accuracy alone of
// D2S of the same gamma by least squares, and what was chosen out of all families.
func (t *trainedNet) fittedFor(list []plan.Variants, i int) (squares, other string) {
	for n := range list {
		v := &list[n]
		if v.Model != t.Name {
			continue
		}
		if allD2S(v) {
			for n := range v.Candidates {
				c := &v.Candidates[n]
				if c.Layer == t.chosen[i] && c.Parameters == fmt.Sprintf("gamma %d", t.list[i].Gamma) && c.Alone > 0 {
					squares = fmt.Sprintf("%.2f %%", 100*c.Alone)
				}
			}
			continue
		}
		k := slow(v)
		for n := range v.Chosen {
			if c := &v.Chosen[n]; c.Layer == t.chosen[i] {
				other = fmt.Sprintf("%s, %s: %.2fx on %s, %.2f %%",
					c.Family, c.Parameters, c.Gain(k), v.Accelerators[k], 100*c.Alone)
			}
		}
	}
	return squares, other
}

// letters names a combination after its variants, the first of which is a.
func letters(s sched.VariantSet) string {
	if s == 0 {
		return "-"
	}
	var b strings.Builder
	for i := range 64 {
		if s>>i&1 != 0 {
			b.WriteByte(byte('a' + i))
		}
	}
	return b.String()
}

// combinations writes the accuracy of every combination: the first half of its
// variants by row, the others by column.
func (t *trainedNet) combinations(w io.Writer) {
	rows := len(t.chosen) / 2
	columns := len(t.chosen) - rows
	fmt.Fprintf(w, "\n%s, every combination, in %% of the baseline; those in brackets are not valid:\n\n| |", t.Name)
	for c := range 1 << columns {
		fmt.Fprintf(w, " %s |", letters(sched.VariantSet(c)<<rows))
	}
	fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" ---: |", 1<<columns))
	for r := range 1 << rows {
		fmt.Fprintf(w, "| %s |", letters(sched.VariantSet(r)))
		for c := range 1 << columns {
			a, _ := t.proof.Of(sched.VariantSet(r) | sched.VariantSet(c)<<rows)
			if a >= theta {
				fmt.Fprintf(w, " %.1f |", 100*a)
			} else {
				fmt.Fprintf(w, " (%.1f) |", 100*a)
			}
		}
		fmt.Fprintln(w)
	}
}
