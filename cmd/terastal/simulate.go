package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/traffic"
)

// scenarioOptions are what `simulate --scenario` takes beside the traffic.
type scenarioOptions struct {
	playOptions
	name  string
	seeds int
	noise float64
	// durations is what layers take, where it is not what decisions expect.
	durations    string
	interference float64
}

func newSimulate(s *streams) *cobra.Command {
	o := scenarioOptions{playOptions: playOptions{streams: s, simulated: true}}
	cmd := &cobra.Command{
		Use:   "simulate (--config FILE | --scenario NAME)",
		Short: "Play traffic in virtual time: your models, or a published scenario",
		Long: `With --config: as "terastal run", on the simulator: the same engine and policies,
with durations drawn from the layers' measured distributions, and accelerators
that slow each other down as measured. A profile is measured first unless one is
there already.

With --scenario: a task system of the published evaluation or of XRBench, from
embedded tables; no ONNX Runtime is needed. "--scenario help" lists them.
Seeds --seed to --seed + --seeds - 1 are simulated in parallel, and miss rates come
with 95 % confidence intervals.`,
		Example: `  terastal simulate --config my.yaml
  terastal simulate --config my.yaml --profile out/profile.json --duration 10m --arrivals poisson
  terastal simulate --scenario paper/mcv_heavy --seeds 24 --duration 2s
  terastal simulate --scenario help`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.name != "":
				return o.simulate(cmd)
			case o.seeds != 1 || o.noise != 0 || o.interference != 0 || o.durations != "":
				return o.study(cmd)
			}
			return o.play(cmd)
		},
	}
	o.flags(cmd, "")
	f := cmd.Flags()
	f.StringVar(&o.name, "scenario", "", "published scenario to simulate instead of a configuration")
	f.IntVar(&o.seeds, "seeds", 1, "how many seeds; more than one gives confidence intervals and no logs")
	f.Float64Var(&o.noise, "noise", 0, "sigma of the lognormal factor on every layer's duration")
	f.StringVar(&o.durations, "durations", "", "what layers really take, with --config: measured (drawn from the profile's distributions, slowed down by busy accelerators as measured), expected (what decisions expect), or min, mean, p50, p90, p95 or p99 of the profile (default: measured, expected with --noise)")
	f.Float64Var(&o.interference, "interference", 0, "how much longer layers take for every other accelerator that is busy, beside what was measured: 0.1 is 10 %")
	return cmd
}

// scenarioDocument is the JSON document of a scenario's simulation.
type scenarioDocument struct {
	Driver   string           `json:"driver"`
	Scenario string           `json:"scenario"`
	Source   string           `json:"source"`
	Note     string           `json:"note,omitempty"`
	Capacity fluid.Capacity   `json:"capacity"`
	Seeds    int              `json:"seeds"`
	Policies []scenarioPolicy `json:"policies"`
}

type scenarioPolicy struct {
	Policy       string  `json:"policy"`
	MeanMissRate float64 `json:"mean_miss_rate"`
	Low          float64 `json:"mean_miss_rate_low"`
	High         float64 `json:"mean_miss_rate_high"`
	study.Summary
}

func (o *scenarioOptions) simulate(cmd *cobra.Command) error {
	if o.name == "help" {
		return o.list()
	}
	if o.config != "" || o.profile != "" {
		return usagef("--scenario brings its own models: leave out --config and --profile")
	}
	s, err := scenario.Load(o.name)
	if err != nil {
		return usageError{err}
	}
	c, err := config.Load("", cmd.Flags())
	if err != nil {
		return err
	}
	cells, err := o.cells(c)
	if err != nil {
		return usageError{err}
	}
	t, err := sched.Compile(s.System)
	if err != nil {
		return err
	}
	capacity, err := fluid.CapacityOf(t, s.Rates)
	if err != nil {
		return err
	}
	meter := o.progress("simulating " + o.name)
	results, err := study.Run(cmd.Context(), cells, study.Options{Seeds: o.seeds, FirstSeed: c.Traffic.Seed, Duration: c.Traffic.Duration,
		Workers: runtime.NumCPU(), Interference: o.interference, Progress: meter.Set})
	meter.Done()
	if err != nil {
		return err
	}
	table.Paragraph(o.text(), strings.TrimSuffix(s.Name+": "+s.Note, ": "))
	fmt.Fprintf(o.text(), "demand: %.3g of the fluid capacity at scale %g; seeds: %d of %v; drop: %s\n\n", c.Traffic.Scale/capacity.Scale, c.Traffic.Scale, o.seeds, c.Traffic.Duration, c.Drop)
	return o.showStudy(scenarioDocument{Scenario: s.Name, Source: s.Source, Note: s.Note, Capacity: capacity}, results)
}

// study simulates a configuration over several seeds.
func (o *scenarioOptions) study(cmd *cobra.Command) error {
	if err := o.check(); err != nil {
		return usageError{err}
	}
	if o.noise > 0 && o.durations != "" {
		return usagef("--noise and --durations both say what layers take: leave one out")
	}
	f, err := o.planned(cmd)
	if err != nil {
		return err
	}
	defer f.Close()
	results, err := f.Study(cmd.Context(), session.StudyOptions{Seeds: o.seeds, Durations: o.durations, Noise: o.noise, Interference: o.interference})
	if err != nil {
		return err
	}
	view.Plan(o.text(), f.ModelInfos(), f.Load)
	fmt.Fprintln(o.text())
	return o.showStudy(scenarioDocument{Scenario: o.config, Source: "configuration", Capacity: f.Planned.Capacity}, results)
}

// check looks at the numbers that both kinds of simulation take.
func (o *scenarioOptions) check() error {
	if o.seeds < 1 || !(o.noise >= 0 && o.noise <= 3) || !(o.interference >= 0 && o.interference <= 100) {
		return fmt.Errorf("--seeds %d, --noise %v, --interference %v: seeds must be positive, noise 0 to 3, interference 0 to 100", o.seeds, o.noise, o.interference)
	}
	return nil
}

// showStudy prints results and writes the document.
func (o *scenarioOptions) showStudy(doc scenarioDocument, results []study.Result) error {
	view.Scenario(o.text(), results)
	doc.Driver, doc.Seeds = eventlog.Simulated, o.seeds
	for i := range results {
		r := &results[i]
		doc.Policies = append(doc.Policies, scenarioPolicy{r.Policy, r.Miss, r.Low, r.High, r.Summary})
	}
	return o.document(doc)
}

// cells are the configured traffic under each policy.
func (o *scenarioOptions) cells(c *config.Config) ([]study.Cell, error) {
	arrivals, err := traffic.ParseProcess(c.Traffic.Arrivals)
	if err != nil {
		return nil, err
	}
	if arrivals == traffic.Recorded {
		return nil, fmt.Errorf("a scenario has no recorded arrivals")
	}
	phases, err := traffic.ParsePhases(c.Traffic.Phases)
	if err != nil {
		return nil, err
	}
	drop, err := sched.ParseDrop(c.Drop)
	if err != nil {
		return nil, err
	}
	if c.Traffic.Load > 0 {
		return nil, fmt.Errorf("--load is for configurations; use --scale")
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.durations != "" {
		return nil, fmt.Errorf("--durations is for configurations: a scenario has one latency per layer")
	}
	var cells []study.Cell
	for _, p := range c.Policies {
		cells = append(cells, study.Cell{Scenario: o.name, Arrivals: arrivals, Phases: phases, Jitter: c.Traffic.Jitter,
			Scale: c.Traffic.Scale, Drop: drop, Noise: o.noise, Policy: p})
	}
	return cells, nil
}

func (o *scenarioOptions) list() error {
	type entry struct {
		Name         string   `json:"name"`
		Accelerators []string `json:"accelerators"`
		Models       []string `json:"models"`
	}
	var doc []entry
	t := table.New("scenario", "accelerators", "models at requests per second")
	for _, name := range scenario.Names() {
		s, err := scenario.Load(name)
		if err != nil {
			return err
		}
		e := entry{Name: name, Accelerators: s.System.Accelerators}
		for m := range s.System.Models {
			text := fmt.Sprintf("%s %g", s.System.Models[m].Name, s.Rates[m])
			if tr := s.System.Models[m].Trigger; tr != nil {
				text = fmt.Sprintf("%s after %s", s.System.Models[m].Name, tr.Parent)
			}
			e.Models = append(e.Models, text)
		}
		doc = append(doc, e)
		for i, m := range e.Models {
			first, accs := "", ""
			if i == 0 {
				first, accs = name, fmt.Sprint(len(e.Accelerators))
			}
			t.Add(first, accs, m)
		}
	}
	t.Text(o.text())
	return o.document(doc)
}
