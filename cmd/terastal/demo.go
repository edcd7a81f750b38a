package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

func newDemo(s *streams) *cobra.Command {
	o := playOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show every step on trained networks, layer variants included, in a minute",
		Long: `Takes four small networks that were trained to name glyphs (99 % accurate each;
a residual one, inverted bottlenecks, plain convolutions, attention), splits
them into layers, and takes the cheaper variants of some layers that were fitted
for them. The accuracy of every combination of variants is measured on labelled
glyphs, the latency of every layer and variant on this machine's accelerators,
which "auto" chooses: on two cores without a GPU, one on each.
Rates are chosen that demand 1.5 times the capacity of the originals, in equal
shares, and the same arrivals are played under every policy on the real
accelerators: under two that keep models whole, as servers do, under four that
schedule original layers, and under three that use variants. Requests are due
after 10 to 25 ms. Their inputs are labelled glyphs, so that what each policy
delivers is scored; outputs of sampled requests are compared with those of the
whole models. Needs no configuration and no download.

The configuration is written to OUT/demo.yaml, for other verbs to continue with,
and the plan to OUT/plan.json, which applications open.`,
		Example: `  terastal demo
  terastal demo --load 0.9 --duration 20s
  terastal demo --accuracy 0.98
  terastal compare --config out/demo/demo.yaml --repeats 6
  terastal demo --json | jq '.policies[] | {policy, mean_miss_rate, outputs_verified}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.demo(cmd) },
	}
	config.AddFlags(cmd.Flags(), trafficFlags...)
	config.AddFlags(cmd.Flags(), "accuracy")
	o.watchFlags(cmd)
	for name, value := range map[string]string{
		"out": filepath.Join("out", "demo"), "load": "1.5", "duration": "3s", "budget": "8s",
		"policies": "fifo,triton-like,edf,terastal-novariants,terastal,pedf-novariants,rollout-novariants,pedf,rollout"} {
		config.SetDefault(cmd.Flags(), name, value)
	}
	return cmd
}

func (o *playOptions) demo(cmd *cobra.Command) error {
	begin := time.Now()
	s, path, err := o.planDemo(cmd)
	if err != nil {
		return err
	}
	view.Hopeless(o.text(), s.Plan.Document.Hopeless)
	view.Capacities(o.text(), s.Plan.Document)
	c := s.Config
	fmt.Fprintf(o.err, "\nrunning %d policies, %v each, on the same arrivals\n", len(c.Policies), c.Traffic.Duration)
	r, err := o.execute(cmd.Context(), s)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.err, "done in %v\n\n", time.Since(begin).Round(time.Second))
	if err := o.shown(r, o.show(r, c.Out)); err != nil {
		return err
	}
	fmt.Fprintf(o.text(), "configuration: %s (continue with `terastal compare --config %s --repeats 6`)\n", path, path)
	return nil
}

// planDemo measures the demo's networks and variants, and plans. It also names the configuration that it wrote.
func (o *playOptions) planDemo(cmd *cobra.Command) (*session.Session, string, error) {
	ctx := cmd.Context()
	c, err := config.Load("", cmd.Flags())
	if err != nil {
		return nil, "", err
	}
	c.Models = session.DemoModels()
	fmt.Fprintf(o.err, "splitting and loading %d networks\n", len(c.Models))
	options, err := o.options(ctx, "")
	if err != nil {
		return nil, "", err
	}
	options.EqualShares = true
	w, err := session.Open(ctx, c, options)
	if err != nil {
		return nil, "", err
	}
	if err := w.Variants.TakeFitted(); err != nil {
		return nil, "", err
	}
	fmt.Fprintf(o.err, "measuring the accuracy of every combination of their layer variants, on %d labelled glyphs each\n",
		session.DemoImages)
	if _, err := w.Variants.Prove(ctx, nil); err != nil {
		return nil, "", err
	}
	fmt.Fprintln(o.err, "measuring every layer and variant on every accelerator")
	if _, err := w.Measure(ctx, session.MoveAside); err != nil {
		return nil, "", err
	}
	if err := w.EqualShares(); err != nil {
		return nil, "", err
	}
	s, err := w.Plan()
	if err != nil {
		return nil, "", err
	}
	path, err := session.WriteDemo(s)
	return s, path, err
}

// shown lets a demo on a busy machine end well: it shows all the steps and claims
// no figures. What is wrong with its outputs remains an error.
func (o *playOptions) shown(r *result.Result, err error) error {
	var invalid invalidError
	if !errors.As(err, &invalid) || !r.MachineOnly() {
		return err
	}
	fmt.Fprintf(o.err, "\nwhat the demo shows is right, but its figures are no measurement: as one, %v\n", invalid)
	return nil
}
