package plan

import (
	"cmp"
	"slices"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// CapacityAtFloor is the fluid bound with variants, where every model keeps an accuracy floor.
type CapacityAtFloor struct {
	// Floor is the floor of all models that have variants, 1 for originals only; 0 where each keeps its own, and these
	// differ.
	Floor float64 `json:"floor,omitempty"`
	fluid.Capacity
}

// VariantPrice is what a variant of a layer buys, and for how much accuracy.
type VariantPrice struct {
	Model          string `json:"model"`
	Layer          string `json:"layer"`
	Implementation string `json:"implementation"`
	// SavedUS is the time that a request saves with it, where both it and the original run where they are cheapest, in
	// microseconds weighted with the accelerators' prices. It is negative where the variant costs more.
	SavedUS float64 `json:"saved_us"`
	// Loss is the share of the accuracy that a request loses with this variant alone; nil where it is not known, or where
	// it may not be used alone.
	Loss *float64 `json:"loss,omitempty"`
}

// shownFloors are those that every plan with variants has the capacity at.
func shownFloors() []float64 { return []float64{1, 0.999, 0.99, 0.9} }

// capacitiesOf are the capacities at floors that are the same for all, the highest first, and at those of the system
// where these are others; nil without variants.
func (p *Plan) capacitiesOf(t *sched.Tables) ([]CapacityAtFloor, error) {
	models := p.System.Models
	if !slices.ContainsFunc(models, func(m sched.Model) bool { return m.Variants > 0 }) {
		return nil, nil
	}
	floors, own := shownFloors(), p.Floor()
	if own > 0 && !slices.Contains(floors, own) {
		floors = append(floors, own)
	}
	slices.SortFunc(floors, func(a, b float64) int { return cmp.Compare(b, a) })
	if own == 0 && fluid.FloorsOf(t) != nil {
		floors = append(floors, 0)
	}
	return capacitiesAt(t, p.Rates(), floors)
}

// Floor is the accuracy floor of all models with variants; 0 where they differ or promise nothing.
func (p *Plan) Floor() float64 {
	floor, found := 0.0, false
	for i := range p.System.Models {
		if m := &p.System.Models[i]; m.Variants > 0 {
			if found && m.Floor != floor {
				return 0
			}
			floor, found = m.Floor, true
		}
	}
	return floor
}

// CapacitiesAt computes the capacities at floors, 0 being each model's own.
func (p *Plan) CapacitiesAt(floors []float64) ([]CapacityAtFloor, error) {
	t, err := sched.Compile(p.System)
	if err != nil {
		return nil, err
	}
	return capacitiesAt(t, p.Rates(), floors)
}

func capacitiesAt(t *sched.Tables, rates, floors []float64) ([]CapacityAtFloor, error) {
	var out []CapacityAtFloor
	for _, f := range floors {
		all := fluid.Same(t, f)
		if f == 0 {
			all = fluid.FloorsOf(t)
		}
		c, err := fluid.CapacityAt(t, rates, all)
		if err != nil {
			return nil, err
		}
		out = append(out, CapacityAtFloor{f, c})
	}
	return out, nil
}

// pricesOf are the variants of a system with prices, the best bargain first.
func pricesOf(t *sched.Tables) []VariantPrice {
	var out []VariantPrice
	s := t.System()
	for _, x := range fluid.Savings(t, s.Pricing.Prices) {
		m := &s.Models[x.Model]
		l := &m.Layers[x.Layer]
		v := VariantPrice{Model: m.Name, Layer: l.Name, Implementation: l.Implementations[x.Implementation].Name,
			SavedUS: x.Time * 1e6}
		if x.Loss >= 0 {
			v.Loss = &x.Loss
		}
		out = append(out, v)
	}
	return out
}
