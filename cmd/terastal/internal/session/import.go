package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/scenario"
)

// PublishedPrefix marks a source that is one of the published tables.
const PublishedPrefix = "paper:"

// ImportOptions say how a table of latencies becomes a profile.
type ImportOptions struct {
	// Source is a CSV file, or a set of published tables.
	Source string
	// Clock is the frequency that cycles are counted at; empty for none.
	Clock string
	// Into is a measured profile to put the accelerators next to. Its layers are found by Match, "name" or "order", its
	// models by ModelMap, "TABLE=PROFILE" each, where names differ.
	Into     string
	Match    string
	ModelMap []string
}

// Import makes a profile of a table.
func Import(o ImportOptions) (*profiler.Profile, error) {
	models, err := o.models()
	if err != nil {
		return nil, err
	}
	p, err := o.read()
	if err != nil || o.Into == "" {
		return p, err
	}
	measured, err := profiler.Read(o.Into)
	if err != nil {
		return nil, err
	}
	p, err = measured.Merge(p, profiler.MergeOptions{Models: models, ByOrder: o.Match == "order"})
	if err != nil {
		return nil, fmt.Errorf("%s into %s: %w", o.Source, o.Into, err)
	}
	return p, nil
}

// models reads the map of models and checks what belongs to Into.
func (o *ImportOptions) models() (map[string]string, error) {
	if o.Match != "name" && o.Match != "order" {
		return nil, Usagef("--match is %q, must be name or order", o.Match)
	}
	if o.Into == "" && (len(o.ModelMap) > 0 || o.Match != "name") {
		return nil, Usagef("--model-map and --match are about the profile of --into: name one")
	}
	out := map[string]string{}
	for _, pair := range o.ModelMap {
		from, to, ok := strings.Cut(pair, "=")
		if !ok || from == "" || to == "" {
			return nil, Usagef("--model-map %q is not of the form TABLE=PROFILE", pair)
		}
		if _, twice := out[from]; twice {
			return nil, Usagef("--model-map names %q twice", from)
		}
		out[from] = to
	}
	return out, nil
}

func (o *ImportOptions) read() (*profiler.Profile, error) {
	if set, ok := strings.CutPrefix(o.Source, PublishedPrefix); ok {
		if o.Clock != "" {
			return nil, Usagef("--clock is for CSV tables: the published ones have theirs")
		}
		return publishedTables(set)
	}
	clock := 0.0
	if o.Clock != "" {
		var err error
		if clock, err = parseClock(o.Clock); err != nil {
			return nil, UsageError{err}
		}
	}
	f, err := os.Open(o.Source)
	if err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	defer f.Close()
	p, err := profiler.ReadTable(f, profiler.TableOptions{Source: filepath.Base(o.Source), Clock: clock, Now: time.Now()})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Source, err)
	}
	return p, nil
}

// publishedTables makes a profile of published tables: names of models with
// commas between them, or all, and @ a published platform.
func publishedTables(set string) (*profiler.Profile, error) {
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
			return nil, Usagef("no published platform %q, have %s", hardware, strings.Join(have, ", "))
		}
	}
	list := strings.Split(names, ",")
	if names == "all" {
		var err error
		if list, err = scenario.Models(); err != nil {
			return nil, err
		}
	}
	s := sched.System{Accelerators: mapped(accelerators, func(a scenario.Accelerator) string { return a.Name })}
	for _, name := range list {
		m, err := scenario.Model(name, accelerators)
		if errors.Is(err, scenario.ErrUnknown) {
			return nil, Usagef("%w, all", err)
		}
		if err != nil {
			return nil, err
		}
		m.Deadline = time.Second // has to be one; the profile leaves it behind
		s.Models = append(s.Models, m)
	}
	return profiler.FromSystem(&s,
		profiler.TableOptions{Source: PublishedPrefix + set, Origin: scenario.Origin, Now: time.Now()})
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

// PublishedTable is a published table of latencies.
type PublishedTable struct {
	Set      string `json:"set"`
	Layers   int    `json:"layers"`
	Variants int    `json:"variants"`
}

// PublishedTables lists the published tables.
func PublishedTables() ([]PublishedTable, error) {
	names, err := scenario.Models()
	if err != nil {
		return nil, err
	}
	var out []PublishedTable
	for _, name := range names {
		m, err := scenario.Model(name, scenario.Kinds())
		if err != nil {
			return nil, err
		}
		out = append(out, PublishedTable{PublishedPrefix + name, len(m.Layers), m.Variants})
	}
	return out, nil
}
