package study

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/scenario"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

// Traffic is how requests arrive in a study, as one word of the command line.
type Traffic struct {
	Name     string
	Arrivals traffic.Process
	Phases   traffic.Phases
	Jitter   float64
	Short    string
}

// Traffics lists the arrival processes of studies.
func Traffics() []Traffic {
	return []Traffic{
		{"periodic", traffic.Periodic, traffic.RandomPhases, 0, "periodic, each stream with a random phase"},
		{"jitter", traffic.Periodic, traffic.RandomPhases, 0.25, "periodic, each release late by up to 25 % of the period"},
		{"aligned", traffic.Periodic, traffic.AlignedPhases, 0, "periodic, all streams begin at once"},
		{"poisson", traffic.Poisson, traffic.RandomPhases, 0, "independent exponential intervals"},
		{"bursts", traffic.Bursts, traffic.RandomPhases, 0, "Poisson, on and off for 200 ms each on average"},
	}
}

func findTraffic(name string) (Traffic, error) {
	var names []string
	for _, t := range Traffics() {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	return Traffic{}, fmt.Errorf("unknown traffic %q, have %s", name, strings.Join(names, ", "))
}

// name returns the traffic of a cell as one word.
func (c *Cell) traffic() string {
	for _, t := range Traffics() {
		if t.Arrivals == c.Arrivals && t.Phases == c.Phases && t.Jitter == c.Jitter {
			return t.Name
		}
	}
	return c.Arrivals.String()
}

// Grid is the product of its lists.
type Grid struct {
	Scenarios []string
	Traffics  []string
	Scales    []float64
	Noises    []float64
	Drops     []string
	Floors    []float64 // accuracy floors: see [Cell]; empty is 0 alone
	Policies  []string
}

// Cells lists the grid's cells, policies varying fastest, and floors next.
func (g *Grid) Cells() ([]Cell, error) {
	floors := g.Floors
	if len(floors) == 0 {
		floors = []float64{0}
	}
	for _, f := range floors {
		if err := CheckFloor(f); err != nil {
			return nil, err
		}
	}
	for _, p := range g.Policies {
		if _, err := policy.Find(p); err != nil {
			return nil, err
		}
	}
	var cells []Cell
	for _, s := range g.Scenarios {
		for _, name := range g.Traffics {
			t, err := findTraffic(name)
			if err != nil {
				return nil, err
			}
			for _, scale := range g.Scales {
				if !(scale > 0) || math.IsInf(scale, 0) {
					return nil, fmt.Errorf("scale %v, must be positive", scale)
				}
				for _, noise := range g.Noises {
					if !(noise >= 0 && noise <= 3) {
						return nil, fmt.Errorf("noise %v, must be 0 to 3", noise)
					}
					for _, d := range g.Drops {
						drop, err := sched.ParseDrop(d)
						if err != nil {
							return nil, err
						}
						for _, f := range floors {
							for _, p := range g.Policies {
								cells = append(cells, Cell{s, t.Arrivals, t.Phases, t.Jitter, scale, drop, noise, f, p})
							}
						}
					}
				}
			}
		}
	}
	return cells, nil
}

// CheckFloor refuses what is no accuracy floor.
func CheckFloor(f float64) error {
	if !(f >= 0 && f <= 1) {
		return fmt.Errorf("accuracy floor %v, must be 0 (none) to 1 (originals only)", f)
	}
	return nil
}

// Shard returns the part of the cells that belongs to shard i of n, both from
// 1. Whole groups of policies stay together, so that each shard compares them
// on the same arrivals.
func Shard(cells []Cell, i, n, policies int) []Cell {
	var out []Cell
	for at, c := range cells {
		if at/policies%n == i-1 {
			out = append(out, c)
		}
	}
	return out
}

// Sweep is a part of a grid of scenarios.
type Sweep struct {
	Grid
	// Loads, if any, take the place of the grid's Scales: shares of each scenario's capacity.
	Loads []float64
	// Find, if not nil, finds scenarios in place of [scenario.Load].
	Find func(name string) (*scenario.Scenario, error)
	// Part is which part of the grid to simulate, as I/N.
	Part string
	// Variation changes the scenarios; see [Vary]. Empty leaves them.
	Variation string
}

// Prepare lists the cells of the sweep and completes the options.
func (s *Sweep) Prepare(o *Options) ([]Cell, error) {
	i, n, err := parseShard(s.Part)
	if err != nil {
		return nil, err
	}
	grid := s.Grid
	for _, load := range s.Loads {
		if !(load > 0) || math.IsInf(load, 0) {
			return nil, fmt.Errorf("load %v, must be positive", load)
		}
		grid.Scales = s.Loads
	}
	cells, err := grid.Cells()
	if err != nil {
		return nil, err
	}
	find := s.Find
	if find == nil {
		find = scenario.Load
	}
	o.Systems = map[string]scenario.Scenario{}
	full := map[string]float64{} // scales at capacity
	for _, name := range s.Scenarios {
		x, err := find(name)
		if err != nil {
			return nil, err
		}
		if s.Variation != "" {
			if x, err = Vary(x, s.Variation); err != nil {
				return nil, err
			}
		}
		o.Systems[name] = *x
		if len(s.Loads) > 0 {
			if full[name], err = capacity(x); err != nil {
				return nil, err
			}
		}
	}
	if len(s.Loads) > 0 {
		for i := range cells {
			cells[i].Scale *= full[cells[i].Scenario]
		}
	}
	if len(cells) == 0 {
		return nil, errors.New("an empty list: there is nothing to simulate")
	}
	if o.Seeds < 1 || o.Duration <= 0 || o.Workers < 1 {
		return nil, fmt.Errorf("--seeds %d, --duration %v, --workers %d: all must be positive", o.Seeds, o.Duration,
			o.Workers)
	}
	if stalls := (sim.Stalls{Length: o.Stall, Period: o.StallEvery}); stalls.Check() != nil {
		return nil, fmt.Errorf("--stall %v, --stall-every %v: a stall may last half of the time between two at most", o.Stall,
			o.StallEvery)
	}
	share := func(x float64) bool { return x >= 0 && x <= 100 }
	if !share(o.Drift) || !share(o.Interference) || o.Overhead < 0 || o.SearchTime < 0 {
		return nil, fmt.Errorf("--drift %v, --interference %v, --overhead %v, --search-time %v: "+
			"none may be negative, the first two are at most 100", o.Drift, o.Interference, o.Overhead, o.SearchTime)
	}
	return Shard(cells, i, n, len(s.Grid.Policies)), nil
}

func parseShard(s string) (i, n int, err error) {
	a, b, ok := strings.Cut(s, "/")
	i, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || n < 1 || i < 1 || i > n {
		return 0, 0, fmt.Errorf("--shard %q: write I/N with I from 1 to N, such as 3/8", s)
	}
	return i, n, nil
}

// header are the columns of the CSV file, which scripts/evaluation.py reads.
var header = []string{"scenario", "traffic", "scale", "load", "noise", "stalls", "drop", "policy", "seeds", "mean_miss_rate",
	"low", "high", "miss_bound", "normalized_accuracy", "accuracy_floor", "by_model", "by_seed"}

// WriteCSV writes results, one row per cell. by_model holds model=miss rate/accuracy, and where the model has an
// accuracy floor /delivered accuracy/least window, with names escaped as in a URL; by_seed holds the mean miss rate of
// every seed.
func WriteCSV(w io.Writer, results []Result) error {
	out := csv.NewWriter(w)
	if err := out.Write(header); err != nil {
		return err
	}
	for _, r := range results {
		var models, seeds []string
		for _, m := range r.Models {
			text := url.QueryEscape(m.Model) + "=" + number(m.MissRate) + "/" + optional(m.NormalizedAccuracy)
			if m.AccuracyFloor > 0 {
				text += "/" + optional(m.DeliveredAccuracy) + "/" + optional(m.WorstWindow)
			}
			models = append(models, text)
		}
		for _, x := range r.BySeed {
			seeds = append(seeds, number(x))
		}
		if err := out.Write([]string{r.Scenario, r.traffic(), number(r.Scale), number(r.Load), number(r.Noise), r.Stalls,
			r.Drop.String(), r.Policy, strconv.Itoa(r.Seeds), number(r.Miss), number(r.Low), number(r.High), number(r.Bound),
			optional(r.Accuracy), number(r.Floor), strings.Join(models, " "), strings.Join(seeds, " ")}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', 6, 64) }

// MarshalJSON writes a result under the names of the CSV's columns.
func (r Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Scenario string    `json:"scenario"`
		Traffic  string    `json:"traffic"`
		Scale    float64   `json:"scale"`
		Load     float64   `json:"load"`
		Noise    float64   `json:"noise"`
		Stalls   string    `json:"stalls,omitempty"`
		Drop     string    `json:"drop"`
		Policy   string    `json:"policy"`
		Seeds    int       `json:"seeds"`
		Miss     float64   `json:"mean_miss_rate"`
		Low      float64   `json:"low"`
		High     float64   `json:"high"`
		Bound    float64   `json:"miss_bound"`
		Floor    float64   `json:"accuracy_floor,omitempty"`
		BySeed   []float64 `json:"by_seed"`
		Summary
	}{r.Scenario, r.traffic(), r.Scale, r.Load, r.Noise, r.Stalls, r.Drop.String(), r.Policy, r.Seeds, r.Miss, r.Low,
		r.High, r.Bound, r.Floor, r.BySeed, r.Summary})
}

// optional writes an accuracy that may not have been measured.
func optional(x *float64) string {
	if x == nil {
		return "unknown"
	}
	return number(*x)
}
