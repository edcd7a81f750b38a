package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/sched"
)

// DefaultTheta is the published accuracy promise: a combination of variants is
// valid when its accuracy is at least this share of the original model's.
const DefaultTheta = 0.9

// ErrUnknown is wrapped by the error about a name that is no scenario's.
var ErrUnknown = errors.New("unknown scenario")

// Scenario is a task system and its traffic.
type Scenario struct {
	// Name is the one that Names lists.
	Name string `json:"name"`
	// Source says where the scenario and its numbers come from.
	Source string `json:"source"`
	// Note says what a reader of results has to know about it.
	Note   string       `json:"note,omitempty"`
	System sched.System `json:"system"`
	// Rates holds the releases per second of each model of the system; 0 for
	// models with a Trigger, which completions of another model release.
	Rates []float64 `json:"rates"`
}

// Names returns the name of every scenario on every hardware, sorted, each once. A scenario published for one hardware
// has its bare name there and carries the hardware on the other; all other published ones carry it always. Those that
// were measured begin with [Measured].
func Names() []string {
	var names []string
	for _, d := range definitions() {
		for _, p := range Hardware() {
			names = append(names, d.on(p.Name))
		}
	}
	names = append(names, measuredNames()...)
	slices.Sort(names)
	return names
}

// on is the scenario's name on the hardware.
func (d *definition) on(hardware string) string {
	if len(d.published) == 1 && d.published[0] == hardware {
		return d.name
	}
	return d.name + "@" + hardware
}

// Load returns the scenario of this name with the published accuracy promise. Any scenario may be named with or without
// its hardware: paper/mcv_heavy and paper/mcv_heavy@6K are one. Without it, those published for one hardware get that
// and the others 6K. The error lists the names. The result shares nothing with that of another call.
func Load(name string) (*Scenario, error) { return LoadTheta(name, DefaultTheta) }

// LoadTheta is [Load] with another accuracy promise, 0 to 1. With 0 every combination of variants is valid. The sets
// need not be monotone: between 0.942 and 0.948, Swin-Tiny's variants 1 and 3 are valid together with 2 only.
func LoadTheta(name string, theta float64) (*Scenario, error) {
	if !(theta >= 0 && theta <= 1) {
		return nil, fmt.Errorf("scenario %q: accuracy promise theta %v, must be 0 to 1", name, theta)
	}
	if s, err := loadMeasured(name, theta); s != nil || err != nil {
		return s, err
	}
	d, p, err := find(name)
	if err != nil {
		return nil, err
	}
	networks, err := embedded()
	if err != nil {
		return nil, fmt.Errorf("scenario %q: embedded data: %w", name, err)
	}
	s := &Scenario{Name: d.on(p.Name), Source: d.source, Note: d.note}
	for _, a := range p.Accelerators {
		s.System.Accelerators = append(s.System.Accelerators, a.Name)
	}
	for _, t := range d.tasks {
		n, ok := networks[t.model]
		if !ok {
			return nil, fmt.Errorf("scenario %q: embedded data: no model %q", name, t.model)
		}
		m, err := n.model(p.Accelerators, theta)
		if err != nil {
			return nil, fmt.Errorf("scenario %q: embedded data: model %q: %w", name, t.model, err)
		}
		m.Name, m.Deadline = t.model, time.Duration(float64(time.Second)/t.rate)
		rate := t.rate
		if t.parent != "" {
			m.Trigger, rate = &sched.Trigger{Parent: t.parent, Probability: t.probability}, 0
		}
		s.System.Models = append(s.System.Models, m)
		s.Rates = append(s.Rates, rate)
	}
	return s, nil
}

func find(name string) (definition, Platform, error) {
	bare, hardware, named := strings.Cut(name, "@")
	for _, d := range definitions() {
		if d.name != bare {
			continue
		}
		if !named {
			hardware = d.usual
		}
		for _, p := range Hardware() {
			if p.Name == hardware {
				return d, p, nil
			}
		}
	}
	why := ""
	for _, o := range Missing() {
		if o.Name == bare {
			why = ": left out because " + o.Reason
		}
	}
	return definition{}, Platform{}, fmt.Errorf("%w %q%s; have %s", ErrUnknown, name, why, strings.Join(Names(), ", "))
}
