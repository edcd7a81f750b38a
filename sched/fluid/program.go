package fluid

import (
	"fmt"
	"math"

	"github.com/terastal/terastal/sched"
)

// program is the linear program behind a capacity. Its columns say what one request of each model does: the
// implementation and the accelerator of every layer. A column has a row for each accelerator, the load that it puts
// there, and one for each model whose floor can bind: the loss less what the floor leaves, as a share of the greatest.
type program struct {
	accs, rows int
	models     []work
	inexact    bool // a search took too long: a column may not have been the cheapest
}

// work is what one model asks for.
type work struct {
	rate float64
	// seconds is by layer, implementation and accelerator: the work per second if all of the model's requests run the
	// layer so; infinite where it cannot.
	seconds [][][]float64
	// options are the combinations of implementations that a request may use; nil where these are originals only.
	options options
	floor   float64
	// row is that of the floor, -1 where it cannot bind; most is the greatest loss of a combination.
	row  int
	most float64
	// least and at are by layer and implementation, at the prices of the moment: the least cost, and on which accelerator.
	least  [][]float64
	at     [][]int
	chosen []int32
}

// options are combinations of implementations that a request may use together.
type options interface {
	// choose sets chosen to the implementation of every layer such that cost, summed over the layers, plus price times the
	// combination's loss is least. It returns the loss, a sum that none is below, and whether that is the combination's; else
	// the search took too long. Chosen are originals at first.
	choose(cost [][]float64, price float64, chosen []int32) (loss, bound float64, exact bool)
	// most is the greatest loss of a combination.
	most() float64
}

// newProgram builds the program of a system. Without floors all are 1.
func newProgram(t *sched.Tables, rates, floors []float64) (*program, error) {
	sys := t.System()
	if len(rates) != len(sys.Models) {
		return nil, fmt.Errorf("%d rates for %d models", len(rates), len(sys.Models))
	}
	if floors != nil && len(floors) != len(sys.Models) {
		return nil, fmt.Errorf("%d accuracy floors for %d models", len(floors), len(sys.Models))
	}
	rates = EffectiveRates(t, rates)
	p := &program{accs: len(sys.Accelerators)}
	for i, rate := range rates {
		if !(rate > 0) || math.IsInf(rate, 0) {
			return nil, fmt.Errorf("rate %v of model %q, must be positive", rate, sys.Models[i].Name)
		}
		floor := 1.0
		if floors != nil {
			floor = floors[i]
		}
		if !(floor >= 0 && floor <= 1) {
			return nil, fmt.Errorf("accuracy floor %v of model %q, must be 0 to 1", floor, sys.Models[i].Name)
		}
		p.models = append(p.models, p.newWork(t, i, rate, floor))
	}
	return p, nil
}

func (p *program) newWork(t *sched.Tables, model int, rate, floor float64) work {
	m := t.Model(int32(model))
	w := work{rate: rate, floor: floor, row: -1, options: optionsOf(&t.System().Models[model], m, floor),
		chosen: make([]int32, m.Layers())}
	for l := range int32(m.Layers()) {
		n := int32(1)
		if w.options != nil {
			n = m.Implementations(l)
		}
		var all [][]float64
		for i := range n {
			on := make([]float64, p.accs)
			for k, c := range m.Latency(l, i) {
				on[k] = math.Inf(1)
				if c < sched.Never {
					on[k] = rate * c.Seconds()
				}
			}
			all = append(all, on)
		}
		w.seconds = append(w.seconds, all)
		w.least, w.at = append(w.least, make([]float64, n)), append(w.at, make([]int, n))
	}
	if w.options != nil && floor > 0 {
		if w.most = w.options.most(); w.most > 1-floor {
			w.row = p.rows
			p.rows++
		}
	}
	return w
}

// keep drops all accelerators but these.
func (p *program) keep(accelerators []int) {
	p.accs = len(accelerators)
	p.each(func(on []float64) []float64 {
		kept := make([]float64, len(accelerators))
		for n, k := range accelerators {
			kept[n] = on[k]
		}
		return kept
	})
}

// divide divides all work by a unit.
func (p *program) divide(unit float64) {
	p.each(func(on []float64) []float64 {
		for k := range on {
			on[k] /= unit
		}
		return on
	})
}

// each changes the work of every implementation.
func (p *program) each(change func(on []float64) []float64) {
	for i := range p.models {
		for _, all := range p.models[i].seconds {
			for j, on := range all {
				all[j] = change(on)
			}
		}
	}
}

// originals is the column of the originals that cost least, without any loss.
func (p *program) originals(dual []float64) []float64 {
	column, cost := make([]float64, p.accs+p.rows), 0.0
	for i := range p.models {
		m := &p.models[i]
		m.price(dual[:p.accs])
		clear(m.chosen)
		p.add(column, &cost, m, 0)
	}
	return column
}

// cheapest is the column that costs least at the prices, and a cost that none is below.
func (p *program) cheapest(dual []float64) (column []float64, cost float64) {
	column = make([]float64, p.accs+p.rows)
	for i := range p.models {
		m := &p.models[i]
		m.price(dual[:p.accs])
		clear(m.chosen)
		if m.options == nil {
			p.add(column, &cost, m, 0)
			continue
		}
		price := 0.0
		if m.row >= 0 {
			price = dual[p.accs+m.row] / m.most
		}
		loss, bound, exact := m.options.choose(m.least, price, m.chosen)
		p.inexact = p.inexact || !exact
		cost += bound - price*(1-m.floor)
		p.add(column, new(float64), m, loss)
	}
	return column, cost
}

// price finds where every implementation costs least; of equals where it is quickest.
func (m *work) price(prices []float64) {
	for l, all := range m.seconds {
		for i, on := range all {
			at, low := -1, 0.0
			for k, c := range on {
				if math.IsInf(c, 1) {
					continue
				}
				if x := prices[k] * c; at < 0 || x < low || (x == low && c < on[at]) {
					at, low = k, x
				}
			}
			m.least[l][i], m.at[l][i] = low, at
			if at < 0 { // it runs on accelerators only that were left out
				m.least[l][i] = math.Inf(1)
			}
		}
	}
}

// add adds what is chosen for a model to a column, and its work's cost.
func (p *program) add(column []float64, cost *float64, m *work, loss float64) {
	for l, i := range m.chosen {
		at := m.at[l][i]
		column[at] += m.seconds[l][i][at]
		*cost += m.least[l][i]
	}
	if m.row >= 0 {
		column[p.accs+m.row] = (loss - (1 - m.floor)) / m.most
	}
}
