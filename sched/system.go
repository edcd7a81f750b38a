package sched

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"
)

// Unavailable as a latency says that the accelerator cannot run the implementation.
const Unavailable time.Duration = -1

// Bounds of a system. They keep state small enough to copy and every loop bounded; no workstation comes near them.
const (
	MaxAccelerators    = 64
	MaxModels          = 1024
	MaxLayers          = 1 << 16 // of one model
	MaxImplementations = 64      // of one layer
	MaxVariants        = 20      // of one model whose valid sets are listed: they are stored exactly
	MaxBoundedVariants = 64      // of one model with an additive accuracy bound
)

// ErrInvalidSystem is wrapped by every error about a System that makes no sense.
var ErrInvalidSystem = errors.New("invalid task system")

// VariantSet is a set of the layer variants of one model: bit i is variant i+1.
type VariantSet uint64

// Len returns the number of variants in the set.
func (s VariantSet) Len() int { return bits.OnesCount64(uint64(s)) }

// System is everything the scheduler knows before the first release.
type System struct {
	// Accelerators are the names of the accelerators; everywhere else they are named by their index here.
	Accelerators []string `json:"accelerators"`
	Models       []Model  `json:"models"`
	// Devices are what accelerators share; those of no device share nothing.
	Devices []Device `json:"devices,omitempty"`
	// Pricing is what was computed offline for policies that use it; nil if it
	// was not. It says nothing about the system itself.
	Pricing *Pricing `json:"pricing,omitempty"`
}

// Model is one network, a chain of layers.
type Model struct {
	Name string `json:"name"`
	// Deadline is relative to the scheduled release.
	Deadline time.Duration `json:"deadline_ns"`
	Layers   []Layer       `json:"layers"`
	// Variants is how many layer variants the model has; implementations name them by the numbers 1 to Variants.
	Variants int `json:"variants,omitempty"`
	// Valid lists the sets of variants that one request may use together without breaking the accuracy promise. The empty
	// set is always valid. It need not be monotone: a subset of a valid set may be invalid.
	Valid []VariantSet `json:"valid,omitempty"`
	// Loss, if not nil, replaces Valid by an additive bound, for models with too many variants to measure every set: a set
	// is valid when the losses of its variants sum to at most MaxLoss.
	Loss    []float64 `json:"loss,omitempty"`
	MaxLoss float64   `json:"max_loss,omitempty"`
	// Trigger, if set, makes the model depend on another: completions of that one release it.
	Trigger *Trigger `json:"trigger,omitempty"`
	// Energy[l][k] is the energy of layer l's original on accelerator k, in any
	// unit; nil when unknown. Only DREAM reads it.
	Energy [][]float64 `json:"energy,omitempty"`
	// Accuracy is the normalised accuracy of each valid set, in the order of Valid; nil when it was not measured.
	Accuracy []float64 `json:"accuracy,omitempty"`
	// AccuracyError is the standard error of each of them, paired with the originals; nil when it is unknown.
	AccuracyError []float64 `json:"accuracy_error,omitempty"`
	// Floor is the least mean normalised accuracy of finished requests, over any [AccuracyWindow] of them in a row, that
	// policies keep which spend accuracy for time; 1 is originals only. 0 promises nothing: they use variants as a last
	// resort.
	Floor float64 `json:"accuracy_floor,omitempty"`
}

// AccuracyWindow is how many finished requests of a model in a row keep its [Model.Floor] on the mean; so do the first
// ones of a run, of which there are fewer.
const AccuracyWindow = 100

// Trigger is a dependency between models, as in XRBench: whenever a request of Parent completes, a request of the
// dependent model is released at that instant, with its own relative deadline, with the given probability: 1 for a data
// dependency, less for a control dependency.
type Trigger struct {
	Parent      string  `json:"parent"`
	Probability float64 `json:"probability"`
}

// Layer is one step of a model.
type Layer struct {
	Name string `json:"name"`
	// Implementations are what can run for the layer: the original first, then its variants.
	Implementations []Implementation `json:"implementations"`
	// Handoff[from][to] is the time to make the layer's inputs, left by
	// accelerator from, usable on accelerator to. Nil: free everywhere.
	Handoff [][]time.Duration `json:"handoff_ns,omitempty"`
}

// Implementation is one way to compute a layer.
type Implementation struct {
	Name string `json:"name"`
	// Variant is 0 for the original, else the number of the layer variant in its model, counted from 1.
	Variant int `json:"variant,omitempty"`
	// Latency is indexed by accelerator; [Unavailable] where it cannot run.
	Latency []time.Duration `json:"latency_ns"`
}

// Validate returns the first thing wrong with the system, wrapped around [ErrInvalidSystem], or nil.
func (s *System) Validate() error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidSystem, err)
	}
	return nil
}

func (s *System) validate() error {
	if n := len(s.Accelerators); n == 0 || n > MaxAccelerators {
		return fmt.Errorf("%d accelerators, need 1 to %d", n, MaxAccelerators)
	}
	if n := len(s.Models); n == 0 || n > MaxModels {
		return fmt.Errorf("%d models, need 1 to %d", n, MaxModels)
	}
	if err := distinct("accelerator", s.Accelerators); err != nil {
		return err
	}
	names := make([]string, len(s.Models))
	for i := range s.Models {
		names[i] = s.Models[i].Name
	}
	if err := distinct("model", names); err != nil {
		return err
	}
	for i := range s.Models {
		if err := s.Models[i].validate(len(s.Accelerators)); err != nil {
			return fmt.Errorf("model %q: %w", s.Models[i].Name, err)
		}
	}
	for i := range s.Models {
		if err := s.validateTrigger(i); err != nil {
			return fmt.Errorf("model %q: %w", s.Models[i].Name, err)
		}
	}
	if err := s.validateDevices(); err != nil {
		return err
	}
	if s.Pricing != nil {
		return s.Pricing.validate(s)
	}
	return nil
}

// validateTrigger checks that the chain of parents exists and ends.
func (s *System) validateTrigger(m int) error {
	for steps := 0; s.Models[m].Trigger != nil; steps++ {
		t := s.Models[m].Trigger
		if !(t.Probability > 0 && t.Probability <= 1) {
			return fmt.Errorf("it is triggered with probability %v, must be above 0 and at most 1", t.Probability)
		}
		if m = s.index(t.Parent); m < 0 {
			return fmt.Errorf("it is triggered by %q, which is no model", t.Parent)
		}
		if steps == len(s.Models) {
			return fmt.Errorf("it is triggered by itself, through %q", t.Parent)
		}
	}
	return nil
}

// index returns the index of the model with this name, or -1.
func (s *System) index(name string) int {
	return slices.IndexFunc(s.Models, func(m Model) bool { return m.Name == name })
}

func distinct(what string, names []string) error {
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if n == "" {
			return fmt.Errorf("one of the %ss has no name", what)
		}
		if seen[n] {
			return fmt.Errorf("two %ss are named %q", what, n)
		}
		seen[n] = true
	}
	return nil
}

func (m *Model) validate(accs int) error {
	if m.Deadline <= 0 || m.Deadline > maxDeadline {
		return fmt.Errorf("deadline %v, must be above 0 and at most %v", m.Deadline, maxDeadline)
	}
	if n := len(m.Layers); n == 0 || n > MaxLayers {
		return fmt.Errorf("%d layers, need 1 to %d", n, MaxLayers)
	}
	if err := m.validateVariants(); err != nil {
		return err
	}
	if m.Energy != nil && len(m.Energy) != len(m.Layers) {
		return fmt.Errorf("energies of %d layers, want %d", len(m.Energy), len(m.Layers))
	}
	for l, row := range m.Energy {
		if len(row) != accs {
			return fmt.Errorf("energies of layer %d on %d accelerators, want %d", l, len(row), accs)
		}
	}
	for i := range m.Layers {
		if err := m.Layers[i].validate(accs, m.Variants); err != nil {
			return fmt.Errorf("layer %d %q: %w", i, m.Layers[i].Name, err)
		}
	}
	return nil
}

func (m *Model) validateVariants() error {
	most := MaxVariants
	if m.Loss != nil {
		most = MaxBoundedVariants
	}
	if m.Variants < 0 || m.Variants > most {
		return fmt.Errorf("%d variants, at most %d are supported", m.Variants, most)
	}
	if !(m.Floor >= 0 && m.Floor <= 1) {
		return fmt.Errorf("accuracy floor %v, must be 0 to 1", m.Floor)
	}
	if m.Loss != nil && (len(m.Loss) != m.Variants || m.Valid != nil) {
		return fmt.Errorf("%d losses for %d variants, and %d valid sets: a bound needs a loss for each variant and no sets",
			len(m.Loss), m.Variants, len(m.Valid))
	}
	for i, x := range m.Loss {
		if !(x >= 0) {
			return fmt.Errorf("loss %v of variant %d, must not be negative", x, i+1)
		}
	}
	for _, v := range m.Valid {
		if m.Variants < 64 && v>>uint(m.Variants) != 0 {
			return fmt.Errorf("valid set %#x names a variant above %d", uint64(v), m.Variants)
		}
	}
	for _, xs := range [][]float64{m.Accuracy, m.AccuracyError} {
		if xs != nil && len(xs) != len(m.Valid) {
			return fmt.Errorf("%d accuracies or standard errors of them for %d valid sets", len(xs), len(m.Valid))
		}
	}
	if slices.ContainsFunc(m.AccuracyError, func(x float64) bool { return !(x >= 0) }) {
		return fmt.Errorf("standard errors %v, must not be negative", m.AccuracyError)
	}
	return nil
}

func (l *Layer) validate(accs, variants int) error {
	if n := len(l.Implementations); n == 0 || n > MaxImplementations {
		return fmt.Errorf("%d implementations, need 1 to %d", n, MaxImplementations)
	}
	for i, im := range l.Implementations {
		if len(im.Latency) != accs {
			return fmt.Errorf("implementation %q has %d latencies for %d accelerators", im.Name, len(im.Latency), accs)
		}
		if (im.Variant == 0) != (i == 0) {
			return fmt.Errorf("implementation %q: the original comes first and only it has variant 0", im.Name)
		}
		if im.Variant < 0 || im.Variant > variants {
			return fmt.Errorf("implementation %q is variant %d of %d", im.Name, im.Variant, variants)
		}
		runs := false
		for k, c := range im.Latency {
			if c != Unavailable && (c <= 0 || c > maxLatency) {
				return fmt.Errorf("implementation %q: latency %v on accelerator %d, must be above 0 and at most %v", im.Name, c, k,
					maxLatency)
			}
			runs = runs || c != Unavailable
		}
		if !runs {
			return fmt.Errorf("implementation %q runs on no accelerator", im.Name)
		}
	}
	if l.Handoff != nil && len(l.Handoff) != accs {
		return fmt.Errorf("handoffs from %d accelerators, want %d", len(l.Handoff), accs)
	}
	for from, row := range l.Handoff {
		if len(row) != accs {
			return fmt.Errorf("handoffs from accelerator %d to %d accelerators, want %d", from, len(row), accs)
		}
		for to, c := range row {
			if c < 0 || c > maxLatency {
				return fmt.Errorf("handoff %v from accelerator %d to %d, must be 0 to %v", c, from, to, maxLatency)
			}
		}
	}
	return nil
}
