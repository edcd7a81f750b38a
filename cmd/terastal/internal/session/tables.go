package session

import (
	"errors"
	"fmt"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
)

// OpenProfile plans a configuration from a profile alone, for simulating:
// accelerators and layers are the profile's, and ONNX Runtime, the accelerators
// and the model files are not touched. The configuration's models are found in
// the profile by name; of its accelerators, if it lists any, those names are
// used and must be in the profile.
func OpenProfile(c *config.Config, p *profiler.Profile, o Options) (*Session, error) {
	if err := needModels(c); err != nil {
		return nil, err
	}
	var models, accelerators []string
	for _, m := range c.Models {
		models = append(models, m.Name)
	}
	for _, a := range c.Accelerators {
		accelerators = append(accelerators, a.Name)
	}
	part, err := p.Select(models, accelerators)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", config.ErrInvalid, err)
	}
	for i := range c.Models {
		c.Models[i].Granularity = part.Models[i].Granularity
	}
	documents := make([]plan.Model, len(c.Models))
	m := Machine{Host: part.Host, ORT: ort.Library{Version: part.ORT}, Specs: part.Accelerators}
	planned, err := newPlan(c, part, documents, m.planned(), func(*sched.System) {})
	if err != nil {
		return nil, err
	}
	return &Session{Config: c, Profile: part, Plan: planned, ground: &tables{m}, options: o}, nil
}

// tables stand in for a machine: latencies that were measured elsewhere, or come
// from a table. Nothing can run on them.
type tables struct{ Machine }

func (t *tables) header() eventlog.Machine { return eventlog.Machine{} }

func (t *tables) open(string, runtime.OpenOptions) (*runtime.Executor, func(), error) {
	return nil, nil, errors.New("nothing can run on a profile alone")
}

// describe says what stands in for hardware.
func (t *tables) describe() string {
	names := map[string][]string{} // of accelerators, by where their latencies come from
	var order []string
	for _, s := range t.Specs {
		from := "measured on " + t.Host.CPU
		if s.Provider == profiler.TableProvider {
			from = "from " + s.Options["source"]
		}
		if names[from] == nil {
			order = append(order, from)
		}
		names[from] = append(names[from], s.Name)
	}
	var parts []string
	for _, from := range order {
		parts = append(parts, strings.Join(names[from], ", ")+" "+from)
	}
	return "No hardware: latencies are those of " + strings.Join(parts, "; ") + "."
}
