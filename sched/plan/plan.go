// Package plan is the document between planning and running. A plan is all that is needed to run: the accelerators with
// their settings, the models with their files, cuts and rates, and the task system with deadlines, latencies, budgets
// and layer variants. The command line and applications open the same file; runtime.Open does it.
package plan

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// Plan is what a run needs to know.
type Plan struct {
	// Accelerators has one entry for each accelerator of System, in its order.
	Accelerators []Accelerator `json:"accelerators"`
	// Models has one entry for each model of System, in its order.
	Models []Model `json:"models"`
	// System holds deadlines, triggers, implementations and latencies.
	System sched.System `json:"system"`
	// Capacity is the fluid bound at the models' rates. The prices that policies use are those of System.Pricing, which
	// leave out accelerators that nothing runs on.
	Capacity fluid.Capacity `json:"capacity"`
	// Hopeless are the models that meet their deadline nowhere.
	Hopeless []Hopeless `json:"hopeless,omitempty"`
	// Capacities are the same with variants: how much traffic an accuracy floor buys. The highest floor comes first.
	Capacities []CapacityAtFloor `json:"capacities,omitempty"`
	// VariantPrices say for every variant of every layer what it saves and loses, at the prices of System.Pricing, the
	// best first.
	VariantPrices []VariantPrice `json:"variant_prices,omitempty"`
	// Variants are the layer variants that the system's implementations are, by model that has any. Models that the
	// plan does not run may have some that are kept for later; these are off.
	Variants []Variants `json:"variants,omitempty"`
}

// Accelerator is an accelerator with its settings: the fields of runtime.Spec that documents hold.
type Accelerator struct {
	Name string `json:"name"`
	// Provider is empty for the CPU. The accelerators of a plan that was made
	// from tables have provider "table": nothing can run on them.
	Provider      string            `json:"provider,omitempty"`
	Options       map[string]string `json:"options,omitempty"`
	Optimization  string            `json:"optimization,omitempty"`
	Threads       int               `json:"threads,omitempty"`
	Cores         []int             `json:"cores,omitempty"`
	Device        string            `json:"device,omitempty"`
	LibrarySHA256 string            `json:"library_sha256,omitempty"`
	// Of is the device that this is a stream of, and Stream its number there, from 0; empty where it shares no device.
	Of     string `json:"of,omitempty"`
	Stream int    `json:"stream,omitempty"`
	// KeepWarm keeps the device from falling asleep.
	KeepWarm bool `json:"keep_warm,omitempty"`
	// Cache is "off" where compiled engines are not kept from run to run.
	Cache string `json:"cache,omitempty"`
	// Emulated are the latencies of an emulated accelerator.
	Emulated Latencies `json:"emulated_ns,omitempty"`
}

// Latencies are those of units by model, layer and implementation; what is not listed cannot run.
type Latencies map[string]map[string]map[string]time.Duration

// Model is where a model comes from and how it is run.
type Model struct {
	Name string `json:"name"`
	// Source is the ONNX file, relative to the plan's folder or to the folder that models may be read from, or
	// SCHEME:NAME for one that is made, such as zoo:resnet50. It is empty in plans that can only be simulated.
	Source string `json:"source,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	// Granularity is how the model was asked to be split, Cut what gives the same layers again.
	Granularity string           `json:"granularity,omitempty"`
	Cut         string           `json:"cut,omitempty"`
	Dims        map[string]int64 `json:"dims,omitempty"` // sizes of symbolic dimensions
	// Rate is the releases per second that the plan was made for.
	Rate float64 `json:"rate_per_s"`
	// Budgets are Algorithm 1's. They follow from the system and are here for readers.
	Budgets sched.Budgets `json:"budgets"`
}

// New compiles the system and computes budgets, capacities and prices. The tables
// include the prices. Models and accelerators are in the system's order; their
// names may be left out. Without accelerators the plan can only be simulated.
func New(s sched.System, ms []Model, accs []Accelerator) (*Plan, *sched.Tables, error) {
	p := &Plan{Accelerators: accs, Models: ms, System: s}
	if accs == nil {
		p.Accelerators = make([]Accelerator, len(s.Accelerators))
	}
	if err := p.complete(); err != nil {
		return nil, nil, err
	}
	p.System.Pricing = nil
	t, err := sched.Compile(p.System)
	if err != nil {
		return nil, nil, err
	}
	rates := p.Rates()
	p.Hopeless = HopelessOf(t)
	if p.Capacity, err = fluid.CapacityOf(t, rates); err != nil {
		return nil, nil, err
	}
	if p.Capacities, err = p.capacitiesOf(t); err != nil {
		return nil, nil, err
	}
	if p.System.Pricing, err = fluid.Price(t, rates); err != nil {
		return nil, nil, err
	}
	if t, err = sched.Compile(p.System); err != nil {
		return nil, nil, err
	}
	p.VariantPrices = pricesOf(t)
	for m := range p.Models {
		p.Models[m].Budgets = t.Budgets(m)
	}
	return p, t, nil
}

// complete fills in names and checks that the lists fit the system.
func (p *Plan) complete() error {
	s := &p.System
	if len(p.Models) != len(s.Models) || len(p.Accelerators) != len(s.Accelerators) {
		return fmt.Errorf("plan: %d models and %d accelerators for a system of %d and %d",
			len(p.Models), len(p.Accelerators), len(s.Models), len(s.Accelerators))
	}
	for i := range p.Models {
		if err := named(&p.Models[i].Name, "model", s.Models[i].Name); err != nil {
			return err
		}
	}
	for i := range p.Accelerators {
		if err := named(&p.Accelerators[i].Name, "accelerator", s.Accelerators[i]); err != nil {
			return err
		}
	}
	return nil
}

func named(name *string, what, want string) error {
	if *name == "" {
		*name = want
	}
	if *name != want {
		return fmt.Errorf("plan: %s %q is called %q in the system", what, *name, want)
	}
	return nil
}

// Rates are the models' releases per second, in the system's order.
func (p *Plan) Rates() []float64 {
	rates := make([]float64, len(p.Models))
	for m := range p.Models {
		rates[m] = p.Models[m].Rate
	}
	return rates
}

const (
	kind    = "plan"
	version = 3
)

// Write writes the plan to a file, atomically.
func (p *Plan) Write(path string) error { return document.Write(path, kind, version, p) }

// ErrStale is wrapped by the error about a plan whose prices are not those of its system and rates.
var ErrStale = errors.New("stale plan")

// Read reads a plan and checks that its system compiles, and that the prices
// follow from it. A plan of an older version is refused.
func Read(path string) (*Plan, *sched.Tables, error) {
	var p Plan
	if err := document.Read(path, kind, version, &p); err != nil {
		if errors.Is(err, document.ErrVersion) {
			err = fmt.Errorf("%w with `terastal plan`, which a profile of any machine will do for", err)
		}
		return nil, nil, err
	}
	t, err := p.check()
	if err != nil {
		return nil, nil, fmt.Errorf("read plan %s: %w", path, err)
	}
	return &p, t, nil
}

func (p *Plan) check() (*sched.Tables, error) {
	t, err := sched.Compile(p.System)
	if err != nil {
		return nil, err
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	pricing, err := fluid.Price(t, p.Rates())
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(pricing, p.System.Pricing) {
		return nil, fmt.Errorf("%w: its prices are not those of its system and rates; plan again", ErrStale)
	}
	return t, nil
}
