package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
	"github.com/terastal/terastal/variants/design"
)

// theta is the share of the accuracy that a valid combination keeps.
const theta = 0.9

// trainedSpecs are the accelerators of tables.sh.
var trainedSpecs = []runtime.Spec{{Name: "all", Optimization: "all"}, {Name: "basic", Optimization: "basic"}}

// trained is a network of the zoo with its trained D2S variants, as a plan holds
// them once they are proven and measured.
type trained struct {
	plan.Variants
	designer design.Designer
	profile  *profiler.Profile
	runs     int // the least number behind a median
}

// openTrained splits a network at every operator; nil if it has no variants.
func openTrained(name string) (*trained, error) {
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
	n, err := runtime.NewNetwork(name, m, "op")
	if err != nil {
		return nil, err
	}
	v := plan.Variants{Model: name, SHA256: m.SHA256(), Granularity: "op"}
	files := map[string][]byte{}
	for _, x := range list {
		l := slices.IndexFunc(n.Layers, func(l models.Layer) bool { return l.Name == x.Layer })
		if l < 0 {
			return nil, fmt.Errorf("network %q has no layer %q", name, x.Layer)
		}
		c := plan.Variant{Layer: l, LayerName: x.Layer, Family: "d2s", Parameters: fmt.Sprintf("gamma %d", x.Gamma),
			Name: fmt.Sprintf("d2s gamma %d, trained", x.Gamma), SHA256: variants.SHA256(x.ONNX), Bytes: int64(len(x.ONNX))}
		c.File = c.SHA256
		files[c.File], v.Chosen = x.ONNX, append(v.Chosen, c)
	}
	t := &trained{designer: design.Designer{Models: []*design.Model{{Network: n, Theta: theta}},
		Accelerators: trainedSpecs}}
	_, err = t.designer.Use([]plan.Variants{v}, func(file string) ([]byte, error) { return files[file], nil })
	return t, err
}

// prove measures every combination on the first test images.
func (t *trained) prove(ctx context.Context, images int) error {
	m := t.designer.Models[0]
	m.Labelled = design.Data{Source: "glyphs:test", Open: func() (accuracy.Data, error) {
		return dataset.Open(dataset.Spec{Source: "glyphs:test", Count: images}, m.Network.Model)
	}}
	_, err := t.designer.Prove(ctx, m, nil)
	t.Variants = *m.InUse
	return err
}

// measure times originals and variants in turn, in this process.
func (t *trained) measure(ctx context.Context, budget time.Duration) error {
	task := profiler.Task{Accelerators: trainedSpecs, Networks: []*runtime.Network{t.designer.Models[0].Network}, Seed: 1}
	var err error
	if t.profile, err = profiler.Measure(ctx, task, profiler.Options{Budget: budget}); err != nil {
		return err
	}
	t.Variants = t.designer.Documents(t.profile)[0]
	for i := range t.profile.Cells {
		c := &t.profile.Cells[i]
		if !c.Measured() {
			return fmt.Errorf("network %q layer %d on %s: %s", t.Model, c.Layer, trainedSpecs[c.Accelerator].Name, c.Refused)
		}
		if t.runs == 0 || c.N < t.runs {
			t.runs = c.N
		}
	}
	return nil
}

// with is what all layers take on an accelerator with a combination.
func (t *trained) with(k int, s sched.VariantSet) time.Duration {
	sum, _ := t.profile.Latency(0, k)
	for i := range t.Chosen {
		if c := &t.Chosen[i]; s>>i&1 != 0 {
			sum += c.Latency[k] - c.Original[k]
		}
	}
	return sum
}

// fastest is the valid combination with which all layers take least.
func (t *trained) fastest(k int) (best sched.VariantSet) {
	for i, s := range t.Sets {
		if t.Accuracy[i] >= theta && t.with(k, s) < t.with(k, best) {
			best = s
		}
	}
	return best
}

// gain is how many times faster all layers are with a combination.
func (t *trained) gain(k int, s sched.VariantSet) float64 {
	return float64(t.with(k, 0)) / float64(t.with(k, s))
}

// trainedD2S proves and measures the trained variants, and writes the tables.
// Plans of the same networks give the fitted variants to compare them with.
func trainedD2S(ctx context.Context, w io.Writer, plans []string, images int, budget time.Duration) error {
	if _, err := runtime.Start(""); err != nil {
		return err
	}
	fitted, err := readPlans(plans)
	if err != nil {
		return err
	}
	var nets []*trained
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

func trainedSummary(w io.Writer, nets []*trained, fitted []plan.Variants) {
	fmt.Fprint(w, "| network | baseline | variants | KB | valid | all together | accelerator | fastest valid | accuracy |")
	fmt.Fprintln(w, " network's gain | fitted variants' gain | accuracy |")
	fmt.Fprintln(w, "| --- | --- | ---: | ---: | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: |")
	for _, t := range nets {
		valid, bytes := 0, int64(0)
		for _, a := range t.Accuracy {
			if a >= theta {
				valid++
			}
		}
		for i := range t.Chosen {
			bytes += t.Chosen[i].Bytes
		}
		_, all := t.Largest()
		for k, spec := range trainedSpecs {
			s := t.fastest(k)
			a, _ := t.Of(s)
			fmt.Fprintf(w, "| %s | top-1 %.4f, n = %d | %d | %.0f | %d of %d | %.2f %% | %s | %s | %.2f %% | %.2fx | %s |\n",
				t.Model, t.Baseline, t.Requests, len(t.Chosen), float64(bytes)/1e3,
				valid, len(t.Sets), 100*all, spec.Name, letters(s), 100*a, t.gain(k, s), t.fittedGain(fitted, k))
		}
	}
}

// fittedGain is how many times faster all layers are with those variants of a
// plan that are faster, and the accuracy with all that it chose.
func (t *trained) fittedGain(list []plan.Variants, k int) string {
	for i := range list {
		v := &list[i]
		if v.Model != t.Model || len(v.Chosen) == 0 || allD2S(v) {
			continue
		}
		all := t.with(k, 0)
		left := all
		for n := range v.Chosen {
			if c := &v.Chosen[n]; c.Gain(k) > 1 {
				o := t.profile.Medians(0, c.Layer, 0)[k]
				left -= o - time.Duration(float64(o)/c.Gain(k))
			}
		}
		_, accuracy := v.Largest()
		return fmt.Sprintf("%.2fx | %.2f %%", float64(all)/float64(left), 100*accuracy)
	}
	return "|"
}

func allD2S(v *plan.Variants) bool {
	return !slices.ContainsFunc(v.Candidates, func(c plan.Variant) bool { return c.Family != "d2s" })
}

func trainedLayers(w io.Writer, nets []*trained, fitted []plan.Variants) {
	fmt.Fprint(w, "\n| network | layer | | gamma |")
	for _, s := range trainedSpecs {
		fmt.Fprintf(w, " %s | gain |", s.Name)
	}
	fmt.Fprint(w, " KB | accuracy alone | by least squares | fitted instead |\n| --- | --- | --- | ---: |")
	fmt.Fprintf(w, "%s ---: | ---: | ---: | --- |\n", strings.Repeat(" ---: | ---: |", len(trainedSpecs)))
	for _, t := range nets {
		for i := range t.Chosen {
			c := &t.Chosen[i]
			fmt.Fprintf(w, "| %s | %s | %s | %s |", t.Model, c.LayerName, letters(1<<i),
				strings.TrimPrefix(c.Parameters, "gamma "))
			latencies(w, c)
			squares, other := fittedFor(fitted, t.Model, c)
			fmt.Fprintf(w, " %.1f | %.2f %% | %s | %s |\n", float64(c.Bytes)/1e3, 100*c.Alone, squares, other)
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
func fittedFor(list []plan.Variants, model string, x *plan.Variant) (squares, other string) {
	for n := range list {
		v := &list[n]
		if v.Model != model {
			continue
		}
		if allD2S(v) {
			for n := range v.Candidates {
				c := &v.Candidates[n]
				if c.Layer == x.Layer && c.Parameters == x.Parameters && c.Alone > 0 {
					squares = fmt.Sprintf("%.2f %%", 100*c.Alone)
				}
			}
			continue
		}
		k := slow(v)
		for n := range v.Chosen {
			if c := &v.Chosen[n]; c.Layer == x.Layer {
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

// combinations writes the accuracy of every combination: the first half of its variants by row, the others by column.
func (t *trained) combinations(w io.Writer) {
	rows := len(t.Chosen) / 2
	columns := len(t.Chosen) - rows
	fmt.Fprintf(w, "\n%s, every combination, in %% of the baseline; those in brackets are not valid:\n\n| |", t.Model)
	for c := range 1 << columns {
		fmt.Fprintf(w, " %s |", letters(sched.VariantSet(c)<<rows))
	}
	fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" ---: |", 1<<columns))
	for r := range 1 << rows {
		fmt.Fprintf(w, "| %s |", letters(sched.VariantSet(r)))
		for c := range 1 << columns {
			a, _ := t.Of(sched.VariantSet(r) | sched.VariantSet(c)<<rows)
			if a >= theta {
				fmt.Fprintf(w, " %.1f |", 100*a)
			} else {
				fmt.Fprintf(w, " (%.1f) |", 100*a)
			}
		}
		fmt.Fprintln(w)
	}
}
