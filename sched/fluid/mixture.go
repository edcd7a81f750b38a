package fluid

import (
	"math"
	"slices"
)

// mixture is the best mixture of the columns entered so far: shares s >= 0 that sum to 1 and minimise z, with
//
//	sum over columns of s * column[k] + slack[k] = z for every accelerator k,
//	sum over columns of s * column[r] + slack[r] = 0 for every row r after those.
//
// It is the revised simplex method: inverse is that of the basis, whose row i
// belongs to basis[i]; the last row is that of the shares' sum.
type mixture struct {
	inverse [][]float64
	basis   []mixed
	accs    int
	z       int // the row in which z is basic; it never leaves
}

// mixed is a variable: the share of this column, or, without one, the slack of a row.
type mixed struct {
	column *column
	slack  int
}

// newMixture starts with one column, in which the rows after the accelerators' are at most 0.
func newMixture(first *column, accs int) *mixture {
	column := first.rows
	n := len(column)
	m := &mixture{inverse: make([][]float64, n+1), basis: make([]mixed, n+1), accs: accs}
	for k, x := range column[:accs] {
		if x > column[m.z] {
			m.z = k
		}
	}
	for k := range n {
		m.inverse[k] = make([]float64, n+1)
		m.inverse[k][k]++
		m.inverse[k][n] = -column[k]
		if k < accs {
			m.inverse[k][m.z]--
			m.inverse[k][n] = column[m.z] - column[k]
		}
		m.basis[k].slack = k
	}
	m.inverse[m.z][m.z], m.inverse[m.z][n] = -1, column[m.z]
	m.inverse[n] = make([]float64, n+1)
	m.inverse[n][n] = 1
	m.basis[n].column = first
	return m
}

// sums is the mixture's column, added up from the shares, the load of the busiest accelerator in it, and whether some of
// its requests miss their deadline.
func (m *mixture) sums() (sums []float64, busiest float64, late bool) {
	n := len(m.basis) - 1
	sums, shares := make([]float64, n), 0.0
	for i, v := range m.basis {
		s := max(0, m.inverse[i][n])
		if i == m.z || v.column == nil {
			continue
		}
		shares += s
		late = late || s > 0 && v.column.late
		for k, x := range v.column.rows {
			sums[k] += s * x
		}
	}
	busiest = slices.Max(sums[:m.accs]) / shares
	for k := range sums {
		sums[k] /= shares
	}
	return sums, busiest, late
}

// prices sets price to the shadow prices of the rows, those of accelerators summing to 1, and returns -1. If a row's
// price is negative, it returns that one instead: its slack wants to grow.
func (m *mixture) prices(price []float64) int {
	const zero = 1e-12
	lowest, sum := 0, 0.0
	for k := range price {
		price[k] = -m.inverse[m.z][k]
		if price[k] < price[lowest] {
			lowest = k
		}
	}
	if price[lowest] < -zero {
		return lowest
	}
	for k, p := range price {
		price[k] = max(0, p)
		if k < m.accs {
			sum += price[k]
		}
	}
	for k := range price {
		price[k] /= sum
	}
	return -1
}

// improvedBy reports whether a column costs less at the shadow prices than the mixture.
func (m *mixture) improvedBy(column, price []float64) bool {
	cost := 0.0
	for k, x := range column {
		cost += price[k] * x
	}
	return cost < m.inverse[m.z][len(column)]*(1-1e-9)
}

// enter brings a variable into the basis in place of the one that reaches zero first.
func (m *mixture) enter(v mixed) {
	n := len(m.basis) - 1
	change := make([]float64, n+1)
	for i, row := range m.inverse {
		if v.column == nil {
			change[i] = row[v.slack]
			continue
		}
		change[i] = row[n]
		for k, x := range v.column.rows {
			change[i] += row[k] * x
		}
	}
	// Among equals the largest change, which divides best.
	const zero = 1e-12
	out, least := -1, math.Inf(1)
	for i, c := range change {
		if i == m.z || c <= zero {
			continue
		}
		ratio := max(0, m.inverse[i][n]) / c
		if ratio < least-zero || (ratio <= least+zero && c > change[out]) {
			out, least = i, ratio
		}
	}
	if out < 0 { // only rounding says that it helps
		return
	}
	pivot := m.inverse[out]
	for j := range pivot {
		pivot[j] /= change[out]
	}
	for i, row := range m.inverse {
		if i != out && change[i] != 0 {
			for j := range row {
				row[j] -= change[i] * pivot[j]
			}
		}
	}
	m.basis[out] = v
}
