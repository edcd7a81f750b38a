package main

import (
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

func newProfileImport(s *streams) *cobra.Command {
	var o session.ImportOptions
	var out string
	cmd := &cobra.Command{
		Use:   "import (FILE.csv | paper:SET) --out FILE",
		Short: "Make accelerators from a table of latencies",
		Long: `Reads latencies from elsewhere, such as a simulator's, as accelerators whose provider
is "table": they can be shown, compared and simulated, and nothing can run on them.
docs/FORMATS.md describes the CSV; it needs the columns model, layer, accelerator and
one of latency_us, latency_ns and cycles (with --clock or a column clock_hz).

paper:SET takes published tables: a model's name, several with commas between them, or
"all"; with @4K or @6K on that platform's arrays. "terastal profile import help" lists
them. Variants come as implementations of their layers.

With --into the accelerators stand next to those of a measured profile, whose layers must
have the same names (or be as many, with --match order). Without it the profile is of
the table alone.`,
		Example: `  terastal profile import npu.csv --out npu.json
  terastal profile import maestro.csv --clock 800MHz --out maestro.json
  terastal profile import npu.csv --into out/profile.json --model-map resnet=resnet50 --out both.json
  terastal profile import paper:resnet50,vgg11@6K --out arrays.json
  terastal simulate --config my.yaml --profile both.json`,
		Args: exactArgs("FILE.csv, paper:SET or help"),
		RunE: func(_ *cobra.Command, args []string) error {
			if o.Source = args[0]; o.Source == "help" {
				return shows(s, view.PublishedTables)(session.PublishedTables())
			}
			if out == "" {
				return usagef("name the profile to write with --out FILE")
			}
			p, err := session.Import(o)
			if err != nil {
				return err
			}
			if err := p.Write(out); err != nil {
				return err
			}
			view.ProfileSummary(s.text(), p)
			return s.written(p, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "profile to write")
	f.StringVar(&o.Clock, "clock", "", "frequency that cycles are counted at, such as 1GHz or 800MHz")
	f.StringVar(&o.Into, "into", "", "measured profile to put the accelerators next to (it is not changed)")
	f.StringVar(&o.Match, "match", "name", "how --into finds layers: name or order")
	f.StringSliceVar(&o.ModelMap, "model-map", nil,
		"TABLE=PROFILE: the table's model is that of the profile under another name (repeatable)")
	return cmd
}
