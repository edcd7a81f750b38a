package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/sched/plan"
)

func newVariantsShow(s *streams) *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:   "show PLAN",
		Short: "Print the variants of a plan as a table",
		Example: `  terastal variants show out/plan.json
  terastal variants show out/plan.json --all`,
		Args: exactArgs("PLAN"),
		RunE: func(_ *cobra.Command, args []string) error {
			p, _, err := plan.Read(args[0])
			if err != nil {
				return err
			}
			view.Variants(s.text(), p.Variants, all)
			return s.document(p.Variants)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "show all candidates, with the reasons why they are not in use")
	return cmd
}
