package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/internal/flow"
	"github.com/terastal/terastal/internal/report"
	"github.com/terastal/terastal/sched/eventlog"
)

func newValidate(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "validate LOG",
		Short: "Hold a real run against the simulator",
		Long: `Replays the decisions of a recorded real run through the engine (they have to come
out the same), compares every layer run with its predicted duration, and
simulates the run's own arrivals to compare miss rates and response times.

Exits with 1 when a replayed decision differs from the recorded one.`,
		Example: `  terastal validate out/demo/terastal.log.json
  terastal validate out/terastal.log.json --json | jq .layers`,
		Args: exactArgs("LOG"),
		RunE: func(_ *cobra.Command, args []string) error {
			log, err := eventlog.Read(args[0])
			if err != nil {
				return err
			}
			v, err := flow.Validate(log)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			report.Validation(s.text(), v)
			if err := s.document(v); err != nil {
				return err
			}
			if v.Difference != "" {
				return fmt.Errorf("%s: a replayed decision differs: %s", args[0], v.Difference)
			}
			return nil
		},
	}
}
