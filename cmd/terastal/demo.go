package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/models/zoo"
)

// demoModels are the trained networks of the zoo, which differ in what their
// layers like, each due within a few times what it takes alone.
var demoModels = []struct {
	name     string
	deadline time.Duration
}{
	{"glyph_mobile", 10 * time.Millisecond},
	{"glyph_resnet", 15 * time.Millisecond},
	{"glyph_vgg", 20 * time.Millisecond},
	{"glyph_vit", 25 * time.Millisecond},
}

// demoImages is how many labelled glyphs the accuracy of the variants is
// measured on; demoCalibration how many others to design from the written
// configuration.
const (
	demoImages      = 500
	demoCalibration = 200
)

func newDemo(s *streams) *cobra.Command {
	o := playOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole flow on trained networks, layer variants included, in a minute",
		Long: `Takes four small networks that were trained to name glyphs (99 % accurate each;
a residual one, inverted bottlenecks, plain convolutions, attention), splits
them into layers, and takes the cheaper variants of some layers that were fitted
for them. The accuracy of every combination of variants is measured on labelled
glyphs, the latency of every layer and variant on this machine's accelerators.
Rates are chosen that demand 1.1 times the capacity of the originals, in equal
shares, and the same arrivals are played under every policy on the real
accelerators. Requests are due after 10 to 25 ms. Outputs of sampled requests are
compared with those of the whole models. Needs no configuration and no download.

The configuration is written to OUT/demo.yaml, for other verbs to go on with.`,
		Example: `  terastal demo
  terastal demo --load 0.9 --duration 20s
  terastal compare --config out/demo/demo.yaml --repeats 6
  terastal demo --json | jq '.policies[] | {policy, mean_miss_rate, outputs_verified}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.demo(cmd) },
	}
	config.AddFlags(cmd.Flags(), trafficFlags...)
	o.watchFlags(cmd)
	for name, value := range map[string]string{
		"out": filepath.Join("out", "demo"), "load": "1.1", "duration": "4s", "budget": "8s",
		"policies": "fcfs,edf,dream,terastal-novariants,terastal,pedf,rollout"} {
		config.SetDefault(cmd.Flags(), name, value)
	}
	return cmd
}

func (o *playOptions) demo(cmd *cobra.Command) error {
	c, err := config.Load("", cmd.Flags())
	if err != nil {
		return err
	}
	for _, m := range demoModels {
		c.Models = append(c.Models, config.Model{Name: m.name, Source: zooPrefix + m.name, Rate: 1, Deadline: m.deadline,
			Granularity: zoo.FittedGranularity, Theta: config.DefaultTheta,
			Calibration: config.Data{Source: "glyphs:calibration", Count: demoCalibration},
			Labelled:    config.Data{Source: "glyphs:test", Count: demoImages}})
	}
	begin := time.Now()
	fmt.Fprintf(o.err, "splitting and loading %d networks\n", len(demoModels))
	f, err := o.openFlow(cmd.Context(), c, "")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := o.takeVariants(cmd.Context(), f); err != nil {
		return err
	}
	fmt.Fprintln(o.err, "measuring every layer and variant on every accelerator")
	if err := f.MeasureAside(cmd.Context(), f.ProfilePath()); err != nil {
		return err
	}
	if err := f.EqualShares(); err != nil {
		return err
	}
	if err := f.Plan(); err != nil {
		return err
	}
	path := filepath.Join(c.Out, "demo.yaml")
	if err := document.WriteFile(path, demoConfig(c, f.Rates)); err != nil {
		return err
	}
	fmt.Fprintf(o.err, "running %d policies, %v each, on the same arrivals\n", len(c.Policies), c.Traffic.Duration)
	r, err := o.execute(cmd.Context(), f)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.err, "done in %v\n\n", time.Since(begin).Round(time.Second))
	if err := o.shown(r, o.show(r, filepath.Join(c.Out, r.FileName()))); err != nil {
		return err
	}
	return printLines(o.text(), "configuration: "+path+" (go on with `terastal compare --config "+path+" --repeats 6`)")
}

// demoConfig is the demo's models and traffic as a configuration file.
func demoConfig(c *config.Config, rates []float64) []byte {
	var b bytes.Buffer
	b.WriteString("# What `terastal demo` ran. The rates are those that it chose for this machine: at load 1\n" +
		"# they demand all that its accelerators can do with the original layers.\nmodels:\n")
	for i, m := range c.Models {
		fmt.Fprintf(&b, "  - {name: %s, source: %q, rate: %.1f, deadline: %v, granularity: %s,\n",
			m.Name, m.Source, rates[i], m.Deadline, m.Granularity)
		fmt.Fprintf(&b, "     calibration: {source: %q, count: %d}, labelled: {source: %q, count: %d}}\n",
			m.Calibration.Source, m.Calibration.Count, m.Labelled.Source, m.Labelled.Count)
	}
	fmt.Fprintf(&b, "traffic: {load: %g, duration: %v, seed: %d}\npolicies: [%s]\nout: %q\n",
		c.Traffic.Load, c.Traffic.Duration, c.Traffic.Seed, strings.Join(c.Policies, ", "), c.Out)
	return b.Bytes()
}

// takeVariants gives the networks the variants that were fitted for them, and
// proves them on this machine.
func (o *playOptions) takeVariants(ctx context.Context, f *session.Flow) error {
	f.WithoutVariants()
	for m, x := range demoModels {
		if err := f.TakeVariants(m, zoo.Fitted(x.name)); err != nil {
			return err
		}
	}
	fmt.Fprintf(o.err, "measuring the accuracy of every combination of their layer variants, on %d labelled glyphs each\n",
		demoImages)
	_, err := f.Prove(ctx, nil)
	return err
}

// shown lets a demo on a busy machine end well: it shows the flow and claims no
// figures. What is wrong with its outputs remains an error.
func (o *playOptions) shown(r *result.Result, err error) error {
	var invalid invalidError
	if !errors.As(err, &invalid) || !r.MachineOnly() {
		return err
	}
	fmt.Fprintf(o.err, "\nwhat the demo shows is right, but its figures are no measurement: as one, %v\n", invalid)
	return nil
}
