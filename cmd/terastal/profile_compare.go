package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/profiler"
)

func newProfileCompare(s *streams) *cobra.Command {
	var accelerators []string
	cmd := &cobra.Command{
		Use:   "compare A B | FILE --accelerators X,Y",
		Short: "Compare two profiles, or two accelerators of one",
		Long: `Compares the medians of all layers that have the same names in two profiles, or on
two accelerators of one profile. A change is shown where it is significant: by the
Mann-Whitney U test at 5 % on the samples that the profiles keep, else because
the medians' 95 % confidence intervals do not overlap; "~" stands where it is not.

p-values compare these two measurements. The runs of one measurement share the state
of the machine, so that two measurements of the same thing can differ significantly
by little: the last line says by how much cells differ.`,
		Example: `  terastal profile compare before.json after.json
  terastal profile compare out/profile.json --accelerators cpu-0,gpu
  terastal profile compare a.json b.json --json | jq .summary`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.Flags().Changed("accelerators") && len(accelerators) != 2:
				return usagef("--accelerators takes two names, got %d", len(accelerators))
			case cmd.Flags().Changed("accelerators"):
				return exactArgs("FILE")(cmd, args)
			}
			return exactArgs("A", "B")(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error { return compareProfiles(s, args, accelerators) },
	}
	cmd.Flags().StringSliceVar(&accelerators, "accelerators", nil, "compare these two accelerators of one profile")
	return cmd
}

func compareProfiles(s *streams, paths, accelerators []string) error {
	var profiles []*profiler.Profile
	for _, path := range paths {
		p, err := profiler.Read(path)
		if err != nil {
			return err
		}
		profiles = append(profiles, p)
	}
	var c *profiler.Comparison
	var err error
	if len(accelerators) == 2 {
		if c, err = profiler.CompareAccelerators(profiles[0], accelerators[0], accelerators[1]); err != nil {
			return err
		}
	} else {
		if c, err = profiler.Compare(profiles[0], profiles[1]); err != nil {
			return err
		}
		c.A, c.B = paths[0]+", measured "+profiles[0].Created, paths[1]+", measured "+profiles[1].Created
	}
	view.Comparison(s.text(), c)
	return s.document(c)
}
