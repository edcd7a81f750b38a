package session

import (
	"fmt"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/profiler"
)

// OpenProfile opens a configuration on a profile alone, for planning and
// simulating: accelerators and layers are the profile's, and ONNX Runtime, the
// accelerators and the model files are not touched. The configuration's models
// are found in the profile by name; of its accelerators, if it lists any, those
// names are used and must be in the profile.
func OpenProfile(c *config.Config, p *profiler.Profile, o Options) (*Flow, error) {
	if len(c.Models) == 0 {
		return nil, fmt.Errorf("%w: no models: list at least one under `models:` in the --config file", config.ErrInvalid)
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
	return &Flow{Config: c, Host: part.Host, ORT: ort.Library{Version: part.ORT}, Specs: part.Accelerators, Profile: part, opts: o, tables: true}, nil
}

// describeTables says what stands in for hardware.
func (f *Flow) describeTables() string {
	names := map[string][]string{} // of accelerators, by where their latencies come from
	var order []string
	for _, s := range f.Specs {
		from := "measured on " + f.Host.CPU
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
