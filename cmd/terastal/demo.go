package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/internal/config"
	"github.com/terastal/terastal/internal/flow"
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

// demoGranularity keeps layers large beside the cost of dispatching them: the
// networks take about a millisecond in all.
const demoGranularity = "auto:250us"

func newDemo(s *streams) *cobra.Command {
	o := playOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole flow on trained networks, in about a minute",
		Long: `Takes four small networks that were trained to name glyphs (99 % accurate each;
a residual one, inverted bottlenecks, plain convolutions, attention), splits
them into layers, measures every layer on this machine's accelerators, chooses
rates that demand 70 % of the measured capacity in equal shares, and plays the
same arrivals under every policy on the real accelerators. Requests are due
after 10 to 25 ms. Outputs of sampled requests are compared with those of the
whole models. Needs no configuration and no download.`,
		Example: `  terastal demo
  terastal demo --load 0.9 --duration 20s
  terastal demo --json | jq '.policies[] | {policy, mean_miss_rate, outputs_verified}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.demo(cmd) },
	}
	config.AddFlags(cmd.Flags(), trafficFlags...)
	o.watchFlags(cmd)
	for name, value := range map[string]string{"out": filepath.Join("out", "demo"), "load": "0.7", "duration": "6s", "budget": "8s", "policies": "fcfs,edf,dream,terastal,rollout"} {
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
		c.Models = append(c.Models, config.Model{Name: m.name, Source: zooPrefix + m.name, Rate: 1, Deadline: m.deadline, Granularity: demoGranularity})
	}
	begin := time.Now()
	fmt.Fprintf(o.err, "splitting and loading %d networks\n", len(demoModels))
	f, err := o.openFlow(cmd.Context(), c, "")
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintln(o.err, "measuring every layer on every accelerator")
	if err := f.MeasureAside(cmd.Context(), f.ProfilePath()); err != nil {
		return err
	}
	if err := f.EqualShares(); err != nil {
		return err
	}
	if err := f.Plan(); err != nil {
		return err
	}
	fmt.Fprintf(o.err, "running %d policies, %v each, on the same arrivals\n", len(c.Policies), c.Traffic.Duration)
	r, err := o.execute(cmd.Context(), f)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.err, "done in %v\n\n", time.Since(begin).Round(time.Second))
	return o.shown(r, o.show(r, filepath.Join(c.Out, r.FileName())))
}

// shown lets a demo on a busy machine end well: it shows the flow and claims no
// figures. What is wrong with its outputs remains an error.
func (o *playOptions) shown(r *flow.Result, err error) error {
	var invalid invalidError
	if !errors.As(err, &invalid) || !r.MachineOnly() {
		return err
	}
	fmt.Fprintf(o.err, "\nwhat the demo shows is right, but its figures are no measurement: as one, %v\n", invalid)
	return nil
}
