package study

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
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
	Policies  []string
}

// Cells lists the grid's cells, policies varying fastest.
func (g *Grid) Cells() ([]Cell, error) {
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
						for _, p := range g.Policies {
							if _, err := sched.FindPolicy(p); err != nil {
								return nil, err
							}
							cells = append(cells, Cell{s, t.Arrivals, t.Phases, t.Jitter, scale, drop, noise, p})
						}
					}
				}
			}
		}
	}
	return cells, nil
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

var header = []string{"scenario", "traffic", "scale", "noise", "drop", "policy", "seeds", "mean_miss_rate", "low", "high", "normalized_accuracy", "by_model", "by_seed"}

// WriteCSV writes results, one row per cell. by_model holds model=miss rate
// and accuracy with names escaped as in a URL, by_seed the mean miss rate of every seed.
func WriteCSV(w io.Writer, results []Result) error {
	out := csv.NewWriter(w)
	if err := out.Write(header); err != nil {
		return err
	}
	for _, r := range results {
		var models, seeds []string
		for _, m := range r.Models {
			models = append(models, url.QueryEscape(m.Model)+"="+number(m.MissRate)+"/"+optional(m.NormalizedAccuracy))
		}
		for _, x := range r.BySeed {
			seeds = append(seeds, number(x))
		}
		if err := out.Write([]string{r.Scenario, r.traffic(), number(r.Scale), number(r.Noise), r.Drop.String(), r.Policy, strconv.Itoa(r.Seeds),
			number(r.Miss), number(r.Low), number(r.High), optional(r.Accuracy), strings.Join(models, " "), strings.Join(seeds, " ")}); err != nil {
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
		Noise    float64   `json:"noise"`
		Drop     string    `json:"drop"`
		Policy   string    `json:"policy"`
		Seeds    int       `json:"seeds"`
		Miss     float64   `json:"mean_miss_rate"`
		Low      float64   `json:"low"`
		High     float64   `json:"high"`
		BySeed   []float64 `json:"by_seed"`
		Summary
	}{r.Scenario, r.traffic(), r.Scale, r.Noise, r.Drop.String(), r.Policy, r.Seeds, r.Miss, r.Low, r.High, r.BySeed, r.Summary})
}

// unknown is how an accuracy that was not measured is written.
const unknown = "unknown"

func optional(x *float64) string {
	if x == nil {
		return unknown
	}
	return number(*x)
}

func parseOptional(s string) (*float64, error) {
	if s == unknown {
		return nil, nil
	}
	x, err := strconv.ParseFloat(s, 64)
	return &x, err
}

// ReadCSV reads what WriteCSV wrote.
func ReadCSV(r io.Reader) ([]Result, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = len(header)
	first, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	if !slices.Equal(first, header) {
		return nil, fmt.Errorf("sweep: the header is %q, want %q", strings.Join(first, ","), strings.Join(header, ","))
	}
	var out []Result
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("sweep: %w", err)
		}
		r, err := parse(row)
		if err != nil {
			line, _ := in.FieldPos(0)
			return nil, fmt.Errorf("sweep, line %d: %w", line, err)
		}
		out = append(out, r)
	}
}

func parse(row []string) (Result, error) {
	t, err := findTraffic(row[1])
	if err != nil {
		return Result{}, err
	}
	drop, err := sched.ParseDrop(row[4])
	if err != nil {
		return Result{}, err
	}
	r := Result{Cell: Cell{Scenario: row[0], Arrivals: t.Arrivals, Phases: t.Phases, Jitter: t.Jitter, Drop: drop, Policy: row[5]}}
	if r.Seeds, err = strconv.Atoi(row[6]); err != nil {
		return r, fmt.Errorf("seeds: %w", err)
	}
	for _, f := range []struct {
		to   *float64
		text string
	}{{&r.Scale, row[2]}, {&r.Noise, row[3]}, {&r.Miss, row[7]}, {&r.Low, row[8]}, {&r.High, row[9]}} {
		if *f.to, err = strconv.ParseFloat(f.text, 64); err != nil {
			return r, err
		}
	}
	if r.Accuracy, err = parseOptional(row[10]); err != nil {
		return r, err
	}
	for _, pair := range strings.Fields(row[11]) {
		name, numbers, ok := strings.Cut(pair, "=")
		name, err0 := url.QueryUnescape(name)
		miss, accuracy, ok2 := strings.Cut(numbers, "/")
		m := eventlog.ModelMetrics{Model: name}
		var err1, err2 error
		m.MissRate, err1 = strconv.ParseFloat(miss, 64)
		m.NormalizedAccuracy, err2 = parseOptional(accuracy)
		if err := errors.Join(err0, err1, err2); !ok || !ok2 || err != nil {
			return r, fmt.Errorf("by_model has %q, want model=miss/accuracy", pair)
		}
		r.Models = append(r.Models, m)
	}
	for _, text := range strings.Fields(row[12]) {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return r, fmt.Errorf("by_seed: %w", err)
		}
		r.BySeed = append(r.BySeed, x)
	}
	return r, nil
}

// sortKey orders results: by everything but the policy, then by policy in the order
// given.
func sortKey(r *Result) string {
	return strings.Join([]string{r.Scenario, r.traffic(), fmt.Sprintf("%015.6f", r.Scale), fmt.Sprintf("%015.6f", r.Noise), r.Drop.String()}, "\x00")
}

// Merge joins the results of shards. The same cell twice is an error.
func Merge(shards ...[]Result) ([]Result, error) {
	var all []Result
	seen := map[string]bool{}
	for _, s := range shards {
		for _, r := range s {
			key := sortKey(&r) + "\x00" + r.Policy
			if seen[key] {
				return nil, fmt.Errorf("%s, %s, scale %v, drop %v, %s is there twice", r.Scenario, r.traffic(), r.Scale, r.Drop, r.Policy)
			}
			seen[key] = true
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b Result) int { return strings.Compare(sortKey(&a), sortKey(&b)) })
	return all, nil
}
