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
	on         []int // the accelerators
	accs, rows int
	models     []work
	inexact    bool // a search took too long: a column may not have been the cheapest
	within     bool // only paths that meet their deadline
	labels     bool // these are searched as thoroughly as there is time
	paying     bool // handoffs occupy the accelerator that they go to
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
	// limit is the deadline; nil where it binds no path, or where no path of originals meets it. cost are the costs at the
	// prices of the moment, for paths within it.
	limit *limit
	path  path
	cost  [][][]float64
	table *sched.ModelTable
	// scale is the rate in the unit of seconds; carry is that of prices where handoffs cost something, else nil.
	scale float64
	carry []float64
}

// column is what one request of each model puts on the rows.
type column struct {
	rows []float64
	late bool // one of them misses its deadline
}

// options are combinations of implementations that a request may use together.
type options interface {
	// choose sets chosen to the implementation of every layer such that cost, summed over the layers, plus price times the
	// combination's loss is least. It returns the loss, a sum that none is below, and whether that is the combination's; else
	// the search took too long. Chosen are originals at first.
	choose(cost [][]float64, price float64, chosen []int32) (loss, bound float64, exact bool)
	// most is the greatest loss of a combination.
	most() float64
	// prepare is told costs by layer and implementation, and the price of all of the accuracy, for the calls to come of rest:
	// a lower bound on what a request costs from a layer on, its loss included, that used these variants, whose parts sum to
	// share.
	prepare(cost [][]float64, price float64)
	rest(l int, used sched.VariantSet, share float64) float64
	// part is that of an implementation in the loss: what its variant loses over how many use it.
	part(l, i int) float64
	losses
}

// newProgram builds the program of a system, for some of its accelerators, or all. Without floors all are 1.
func newProgram(t *sched.Tables, rates, floors []float64, on []int) (*program, error) {
	sys := t.System()
	if len(rates) != len(sys.Models) {
		return nil, fmt.Errorf("%d rates for %d models", len(rates), len(sys.Models))
	}
	if floors != nil && len(floors) != len(sys.Models) {
		return nil, fmt.Errorf("%d accuracy floors for %d models", len(floors), len(sys.Models))
	}
	rates = EffectiveRates(t, rates)
	if on == nil {
		on = every(sys)
	}
	p := &program{on: on, accs: len(on)}
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

// limit has the models' deadlines looked at.
func (p *program) limit(t *sched.Tables) {
	for i := range p.models {
		m := &p.models[i]
		if p.paying {
			m.limit, m.carry = pathsOf(t, i, m.seconds, p.on), make([]float64, p.accs)
			continue
		}
		m.limit = limitOf(t, i, m.seconds, p.on)
	}
}

// every lists all accelerators of a system.
func every(sys *sched.System) []int {
	out := make([]int, len(sys.Accelerators))
	for k := range out {
		out[k] = k
	}
	return out
}

func (p *program) newWork(t *sched.Tables, model int, rate, floor float64) work {
	m := t.Model(int32(model))
	w := work{rate: rate, scale: rate, floor: floor, row: -1, options: optionsOf(&t.System().Models[model], m, floor),
		chosen: make([]int32, m.Layers()), path: newPath(m.Layers()), table: m}
	for l := range int32(m.Layers()) {
		n := int32(1)
		if w.options != nil {
			n = m.Implementations(l)
		}
		var all [][]float64
		for i := range n {
			on := make([]float64, p.accs)
			for n, k := range p.on {
				on[n] = math.Inf(1)
				if c := m.Latency(l, i)[k]; c < sched.Never {
					on[n] = rate * c.Seconds()
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

// divide divides all work by a unit.
func (p *program) divide(unit float64) {
	for i := range p.models {
		p.models[i].scale /= unit
		for _, all := range p.models[i].seconds {
			for _, on := range all {
				for k := range on {
					on[k] /= unit
				}
			}
		}
	}
}

// originals is the column of the originals that cost least, without any loss.
func (p *program) originals(dual []float64) column {
	c, cost := column{rows: make([]float64, p.accs+p.rows)}, 0.0
	for i := range p.models {
		m := &p.models[i]
		m.price(dual[:p.accs])
		clear(m.chosen)
		if p.paying || p.within && m.late() {
			m.hold(dual, 0, true, false)
		}
		p.add(&c, &cost, m, 0)
	}
	return c
}

// cheapest is the column that costs least at the prices, and a cost that none is below.
func (p *program) cheapest(dual []float64) (c column, cost float64) {
	c = column{rows: make([]float64, p.accs+p.rows)}
	for i := range p.models {
		m := &p.models[i]
		m.price(dual[:p.accs])
		clear(m.chosen)
		price := 0.0
		if m.row >= 0 {
			price = dual[p.accs+m.row] / m.most
		}
		loss, bound, exact := 0.0, 0.0, true
		if m.options != nil {
			loss, bound, exact = m.options.choose(m.least, price, m.chosen)
		}
		if p.paying || p.within && m.late() {
			loss, bound, exact = m.hold(dual, price, m.options == nil, p.labels)
		} else if m.options == nil {
			p.add(&c, &cost, m, 0)
			continue
		}
		p.inexact = p.inexact || !exact
		cost += bound - price*(1-m.floor)
		p.add(&c, new(float64), m, loss)
	}
	return c, cost
}

// late reports whether a request misses the deadline with what is chosen.
func (m *work) late() bool {
	if m.limit == nil {
		return false
	}
	for l, i := range m.chosen {
		m.path.implementation[l], m.path.at[l] = i, int32(m.at[l][i])
	}
	return m.limit.takes(m.path) > m.limit.deadline
}

// hold chooses the cheapest of what meets the deadline. It returns its loss, a sum that none is below, and whether that
// is what it costs: for sure only with labels, as in [limit.cheapest].
func (m *work) hold(dual []float64, price float64, originals, labels bool) (loss, bound float64, exact bool) {
	if m.cost == nil {
		for _, all := range m.seconds {
			var costs [][]float64
			for _, on := range all {
				costs = append(costs, make([]float64, len(on)))
			}
			m.cost = append(m.cost, costs)
		}
	}
	for l, all := range m.seconds {
		for i, on := range all {
			for k, c := range on {
				if m.cost[l][i][k] = c; !math.IsInf(c, 1) {
					m.cost[l][i][k] = dual[k] * c
				}
			}
		}
	}
	for k := range m.carry {
		m.carry[k] = dual[k] * m.scale * 1e-9
	}
	var r rests = &direct{}
	toGo := m.limit.originals
	if !originals {
		r, toGo = &combined{options: m.options, t: m.table}, m.limit.toGo
	}
	best, bound, exact := m.limit.cheapest(r, toGo, prices{m.cost, price, m.carry}, labels)
	var used sched.VariantSet
	for l, i := range best.implementation {
		m.chosen[l], m.at[l][i] = i, int(best.at[l])
		m.least[l][i] = m.cost[l][i][best.at[l]]
		used |= m.table.Variant(int32(l), i)
	}
	return r.lossOf(used), bound, exact
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
func (p *program) add(c *column, cost *float64, m *work, loss float64) {
	for l, i := range m.chosen {
		at := m.at[l][i]
		c.rows[at] += m.seconds[l][i][at]
		*cost += m.least[l][i]
		if m.carry != nil && l > 0 {
			c.rows[at] += m.scale * m.limit.moved(l, int32(m.at[l-1][m.chosen[l-1]]), at).Seconds()
		}
	}
	if m.row >= 0 {
		c.rows[p.accs+m.row] = (loss - (1 - m.floor)) / m.most
	}
	c.late = c.late || !p.within && m.late()
}
