package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/internal/config"
)

// demoModels are networks of different weight, so that requests with short and
// long deadlines meet.
var demoModels = []string{"resnet50", "mobilenetv2", "resnet18", "ds_cnn_kws"}

// demoMaxRate keeps the smallest network at a rate at which people run it,
// instead of thousands of requests per second.
const demoMaxRate = 100

func newDemo(s *streams) *cobra.Command {
	o := playOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole flow on built-in networks, in under three minutes",
		Long: `Builds four networks with seeded weights, splits them into layers, measures every
layer on this machine's accelerators, chooses rates that demand all of the
measured capacity (each request is due within one period), and plays the same
arrivals under every policy on the real accelerators. Outputs of sampled
requests are compared with those of the whole models. Needs no configuration
and no download.`,
		Example: `  terastal demo
  terastal demo --load 0.8 --duration 10s
  terastal demo --json | jq '.policies[] | {policy, mean_miss_rate, outputs_verified}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.demo(cmd) },
	}
	config.AddFlags(cmd.Flags(), trafficFlags...)
	for name, value := range map[string]string{"out": filepath.Join("out", "demo"), "load": "1", "duration": "15s", "budget": "15s"} {
		config.SetDefault(cmd.Flags(), name, value)
	}
	return cmd
}

func (o *playOptions) demo(cmd *cobra.Command) error {
	c, err := config.Load("", cmd.Flags())
	if err != nil {
		return err
	}
	for _, name := range demoModels {
		c.Models = append(c.Models, config.Model{Name: name, Source: "zoo:" + name, Rate: 1, Granularity: config.DefaultGranularity})
	}
	begin := time.Now()
	fmt.Fprintf(o.err, "building, splitting and loading %d networks\n", len(demoModels))
	f, err := o.openFlow(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintln(o.err, "measuring every layer on every accelerator")
	if err := f.Measure(cmd.Context(), f.ProfilePath()); err != nil {
		return err
	}
	if err := f.EqualShares(demoMaxRate); err != nil {
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
	return o.show(r, filepath.Join(c.Out, r.FileName()))
}
