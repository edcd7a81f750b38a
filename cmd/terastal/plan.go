package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

func newPlan(s *streams) *cobra.Command {
	o := playOptions{streams: s, simulated: true} // nothing is run
	cmd := &cobra.Command{
		Use:   "plan (--config FILE | --profile PLAN | --scenario NAME)",
		Short: "Compute rates, capacity and virtual budgets from a profile",
		Long: `Computes, from a profile (measured first unless one is there), the share of the
capacity that the configured rates demand, and every layer's virtual budget
(Algorithm 1 of arXiv 2606.06818), and writes plan.json to the output folder: all
that an application needs to run the models. With a profile of another machine, or a
plan in place of a configuration, nothing of that machine is needed; the accuracy of
layer variants is proven where the models are, and taken from a plan as it is.`,
		Example: `  terastal plan --config my.yaml
  terastal plan --config my.yaml --profile out/profile.json --load 0.9
  terastal plan --config my.yaml --accuracy 0.98
  terastal plan --profile other/plan.json.gz --load 0.9
  terastal plan --scenario hw/h100-5nets`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.plan(cmd) },
	}
	configFlag(cmd, &o.config)
	profileFlag(cmd, &o.profile)
	scenarioFlag(cmd, &o.scenario, "")
	config.AddFlags(cmd.Flags(), "load", "accuracy", "auto", "out", "budget", "precision", "seed")
	return cmd
}

func (o *playOptions) plan(cmd *cobra.Command) error {
	c, err := o.load(cmd)
	if err != nil {
		return err
	}
	s, err := o.planned(cmd, c)
	if err != nil {
		return err
	}
	path, err := s.WritePlan()
	if err != nil {
		return err
	}
	view.Plan(o.text(), s.ModelInfos(), s.Plan.Document.Accelerators, s.Plan.Load)
	view.Capacities(o.text(), s.Plan.Document)
	return o.written(s.Plan.Document, path)
}
