package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/scenario"
)

// publishedPrefix marks a source that is one of the published tables.
const publishedPrefix = "paper:"

type importOptions struct {
	*streams
	out      string
	clock    string
	into     string
	match    string
	modelMap []string
}

func newProfileImport(s *streams) *cobra.Command {
	o := importOptions{streams: s}
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

With --into the accelerators stand beside those of a measured profile, whose layers must
have the same names (or be as many, with --match order). Without it the profile is of
the table alone.`,
		Example: `  terastal profile import npu.csv --out npu.json
  terastal profile import maestro.csv --clock 800MHz --out maestro.json
  terastal profile import npu.csv --into out/profile.json --model-map resnet=resnet50 --out both.json
  terastal profile import paper:resnet50,vgg11@6K --out arrays.json
  terastal simulate --config my.yaml --profile both.json`,
		Args: exactArgs("FILE.csv, paper:SET or help"),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "profile to write")
	f.StringVar(&o.clock, "clock", "", "frequency that cycles are counted at, such as 1GHz or 800MHz")
	f.StringVar(&o.into, "into", "", "measured profile to put the accelerators beside (it is not changed)")
	f.StringVar(&o.match, "match", "name", "how --into finds layers: name or order")
	f.StringSliceVar(&o.modelMap, "model-map", nil, "TABLE=PROFILE: the table's model is that of the profile under another name (repeatable)")
	return cmd
}

func (o *importOptions) run(source string) error {
	if source == "help" {
		return o.list()
	}
	if o.out == "" {
		return usagef("name the profile to write with --out FILE")
	}
	models, err := o.models()
	if err != nil {
		return err
	}
	p, err := o.read(source)
	if err != nil {
		return err
	}
	if o.into != "" {
		measured, err := profiler.Read(o.into)
		if err != nil {
			return err
		}
		if p, err = measured.Merge(p, profiler.MergeOptions{Models: models, ByOrder: o.match == "order"}); err != nil {
			return fmt.Errorf("%s into %s: %w", source, o.into, err)
		}
	}
	if err := p.Write(o.out); err != nil {
		return err
	}
	view.ProfileSummary(o.text(), p)
	if err := printLines(o.text(), "written: "+o.out); err != nil {
		return err
	}
	return o.document(p)
}

// models reads --model-map and checks what belongs to --into.
func (o *importOptions) models() (map[string]string, error) {
	if o.match != "name" && o.match != "order" {
		return nil, usagef("--match is %q, must be name or order", o.match)
	}
	if o.into == "" && (len(o.modelMap) > 0 || o.match != "name") {
		return nil, usagef("--model-map and --match are about the profile of --into, and there is none")
	}
	out := map[string]string{}
	for _, pair := range o.modelMap {
		from, to, ok := strings.Cut(pair, "=")
		if !ok || from == "" || to == "" {
			return nil, usagef("--model-map %q is not of the form TABLE=PROFILE", pair)
		}
		if _, twice := out[from]; twice {
			return nil, usagef("--model-map names %q twice", from)
		}
		out[from] = to
	}
	return out, nil
}

func (o *importOptions) read(source string) (*profiler.Profile, error) {
	if set, ok := strings.CutPrefix(source, publishedPrefix); ok {
		if o.clock != "" {
			return nil, usagef("--clock is for CSV tables: the published ones have theirs")
		}
		return published(set)
	}
	clock := 0.0
	if o.clock != "" {
		var err error
		if clock, err = parseClock(o.clock); err != nil {
			return nil, usageError{err}
		}
	}
	f, err := os.Open(source)
	if err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	defer f.Close()
	p, err := profiler.ReadTable(f, profiler.TableOptions{Source: filepath.Base(source), Clock: clock, Now: time.Now()})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return p, nil
}

// published makes a profile of published tables.
func published(set string) (*profiler.Profile, error) {
	names, hardware, on := strings.Cut(set, "@")
	accelerators := scenario.Kinds()
	if on {
		accelerators = nil
		var have []string
		for _, p := range scenario.Hardware() {
			have = append(have, p.Name)
			if p.Name == hardware {
				accelerators = p.Accelerators
			}
		}
		if accelerators == nil {
			return nil, usagef("no published platform %q, have %s", hardware, strings.Join(have, ", "))
		}
	}
	list := strings.Split(names, ",")
	if names == "all" {
		var err error
		if list, err = scenario.Models(); err != nil {
			return nil, err
		}
	}
	var s sched.System
	for _, a := range accelerators {
		s.Accelerators = append(s.Accelerators, a.Name)
	}
	for _, name := range list {
		m, err := scenario.Model(name, accelerators)
		if errors.Is(err, scenario.ErrUnknown) {
			return nil, usageError{fmt.Errorf("%w, all", err)}
		}
		if err != nil {
			return nil, err
		}
		m.Deadline = time.Second // has to be one; the profile leaves it behind
		s.Models = append(s.Models, m)
	}
	return profiler.FromSystem(&s, profiler.TableOptions{Source: publishedPrefix + set, Origin: scenario.Origin, Now: time.Now()})
}

// parseClock reads a frequency in Hz, such as 1GHz, 800MHz or 1e9.
func parseClock(s string) (float64, error) {
	number, unit := strings.TrimSpace(s), 1.0
	if n, ok := strings.CutSuffix(number, "Hz"); ok {
		number = n
		for suffix, factor := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9} {
			if n, ok := strings.CutSuffix(number, suffix); ok {
				number, unit = n, factor
				break
			}
		}
	}
	hz, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil {
		return 0, fmt.Errorf("--clock %q is not a frequency: write it as 1GHz, 800MHz or 1e9", s)
	}
	if err := profiler.CheckClock(hz * unit); err != nil {
		return 0, fmt.Errorf("--clock: %w", err)
	}
	return hz * unit, nil
}

// list prints the published tables.
func (o *importOptions) list() error {
	names, err := scenario.Models()
	if err != nil {
		return err
	}
	type entry struct {
		Set      string `json:"set"`
		Layers   int    `json:"layers"`
		Variants int    `json:"variants"`
	}
	var doc []entry
	t := table.New("set", ">layers", ">variants")
	for _, name := range names {
		m, err := scenario.Model(name, scenario.Kinds())
		if err != nil {
			return err
		}
		doc = append(doc, entry{publishedPrefix + name, len(m.Layers), m.Variants})
		t.Add(publishedPrefix+name, len(m.Layers), m.Variants)
	}
	t.Add(publishedPrefix+"all", "all of them", "")
	t.Text(o.text())
	var accs []string
	for _, a := range scenario.Kinds() {
		accs = append(accs, fmt.Sprintf("%s (%s, %d processing elements)", a.Name, a.Dataflow, a.PEs))
	}
	table.Paragraph(o.text(), "Accelerators: "+strings.Join(accs, ", ")+"; with @4K or @6K those of a published platform. From: "+scenario.Origin+".")
	return o.document(doc)
}
