package main

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/validation"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

// validateOptions are the flags of validate.
type validateOptions struct {
	*streams
	session.ValidateOptions
}

func newValidate(s *streams) *cobra.Command {
	o := validateOptions{streams: s}
	cmd := &cobra.Command{
		Use:   "validate LOG...",
		Short: "Hold real runs against the simulator, or against someone else's",
		Long: `Replays the decisions of a recorded real run through the engine (they have to come
out the same), simulates its arrivals with durations drawn from the profile, and
compares layers, requests, miss rates and utilisation; names what prediction and
hardware disagree about. With several logs, also whether the policies come out in
the same order. A folder stands for the logs of real runs in it; its report.html
is made again.

Logs and profiles may be of another machine, and gzipped: nothing of it is needed.
Predictions can come from files instead: --layers for the times of layers, --requests
for the completions of requests, each as CSV or JSON (docs/VALIDATION.md).

Exits with 1 when a replayed decision differs from the recorded one, and with 3
when the run is too short or too disturbed for its claims. Checks that a
prediction does not pass are reported, and no failure.`,
		Example: `  terastal validate out/demo/terastal.log.json
  terastal validate out/demo
  terastal validate out/edf.log.json out/terastal.log.json --profile out/profile.json
  terastal validate other/terastal.log.json.gz --profile other/profile.json.gz
  terastal validate out/terastal.log.json --requests predicted.csv
  terastal validate out/terastal.log.json --json | jq '.validations[0].sources'`,
		Args: atLeastOne("log of a real run"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.Logs, o.Progress = args, o.progress
			return o.validate()
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Profile, "profile", "", "profile or plan that predicts, of any machine (default: profile.json next to each log)")
	f.StringVar(&o.Layers, "layers", "", "predicted times of layers, a CSV or JSON file, in place of the profile")
	f.StringVar(&o.Jobs, "requests", "", "predicted completions of requests, a CSV or JSON file, in place of simulations")
	f.IntVar(&o.Draws, "draws", validation.DefaultDraws, "how many simulations predict each run")
	f.StringVar(&o.Write, "write", "", "file for the validation (default: validation.json next to the first log)")
	return cmd
}

func (o *validateOptions) validate() error {
	if o.Draws < 1 || o.Draws > 1000 {
		return usagef("--draws is %d, must be 1 to 1000", o.Draws)
	}
	if o.Layers != "" && o.Profile != "" {
		return usagef("--layers and --profile both say how long layers take: leave one out")
	}
	d, path, err := session.Validate(o.ValidateOptions)
	if err != nil {
		return err
	}
	view.Validation(o.text(), d)
	fmt.Fprintf(o.text(), "\nwritten: %s\n", path)
	if dir, one := d.Folder(); one && dir == filepath.Dir(path) {
		o.report(dir)
	}
	_, reasons := d.Valid()
	return cmp.Or(o.document(d), d.Replayed(), invalid(reasons))
}
