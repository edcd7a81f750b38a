package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/terastal/terastal/sched"
)

// Origin says where the embedded latencies come from, in a line.
const Origin = "XRBench edition of the MAESTRO cost model, cycles at 1 GHz; shapes and variants from the authors' " +
	"layer-variant repository (arXiv 2606.06818) and XRBench"

// Models returns the names of the models with embedded latencies, sorted.
func Models() ([]string, error) {
	networks, err := embedded()
	if err != nil {
		return nil, fmt.Errorf("embedded data: %w", err)
	}
	return slices.Sorted(maps.Keys(networks)), nil
}

// Kinds returns the accelerators that the embedded latencies are of, each once.
func Kinds() []Accelerator {
	return []Accelerator{{"ws2048", WeightStationary, 2048}, {"os1024", OutputStationary, 1024},
		{"os2048", OutputStationary, 2048}}
}

// Model returns a model with embedded latencies on the accelerators, under its name, without a deadline; with all
// combinations of variants that were measured. The error about an unknown name lists the names.
func Model(name string, accelerators []Accelerator) (sched.Model, error) {
	networks, err := embedded()
	if err != nil {
		return sched.Model{}, fmt.Errorf("embedded data: %w", err)
	}
	n, ok := networks[name]
	if !ok {
		return sched.Model{}, fmt.Errorf("%w: no published model %q, have %s", ErrUnknown, name,
			strings.Join(slices.Sorted(maps.Keys(networks)), ", "))
	}
	m, err := n.model(accelerators, 0)
	if err != nil {
		return sched.Model{}, fmt.Errorf("model %q: %w", name, err)
	}
	m.Name = name
	return m, nil
}
