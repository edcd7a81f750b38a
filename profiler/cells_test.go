package profiler_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// Every cell is found where it belongs, in a profile that was read as in one made by hand; what is not there is nil.
func TestCell(t *testing.T) {
	p := synthetic(3, 16, noisy(1, flat))
	for _, p := range []*profiler.Profile{p, roundTrip(t, p)} {
		for i := range p.Cells {
			c := &p.Cells[i]
			if got := p.Cell(c.Model, c.Layer, c.Implementation, c.Accelerator); got != c {
				t.Errorf("cell %d was not found", i)
			}
			if got := p.Medians(c.Model, c.Layer, c.Implementation)[c.Accelerator]; got != c.P50 {
				t.Errorf("the median of cell %d is %v, want %v", i, got, c.P50)
			}
		}
		for _, at := range [][4]int{{1, 0, 0, 0}, {0, 3, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 2}, {-1, 0, 0, 0}, {0, 0, 0, -1}} {
			if c := p.Cell(at[0], at[1], at[2], at[3]); c != nil || c.Measured() {
				t.Errorf("%v is %+v", at, c)
			}
		}
		if got := p.Medians(0, 0, 7); !slices.Equal(got, []time.Duration{0, 0}) {
			t.Errorf("medians of no implementation %v", got)
		}
		p.Cell(0, 1, 0, 1).Refused = "no"
		if d := p.Medians(0, 1, 0); d[0] == 0 || d[1] != 0 {
			t.Errorf("medians with a refused one %v", d)
		}
		// Other cells are found once they are in the profile's place.
		p.Cells = slices.Clone(p.Cells)
		p.Cells[5].P50 = 7
		if p.Cell(0, 2, 0, 1) != &p.Cells[5] {
			t.Error("an exchanged cell was not found")
		}
		want := profiler.CellName{Model: "net", Layer: "/block/convc", Implementation: "original", Accelerator: "b"}
		if got := p.Name(&p.Cells[5]); got != want {
			t.Errorf("its name is %+v", got)
		}
		p.Cells = p.Cells[1:]
		if p.Cell(0, 2, 0, 1) != nil {
			t.Error("an incomplete profile has an index")
		}
	}
}

// An accelerator that cannot be opened ends the measurement, with the reason.
func TestMeasureUnopened(t *testing.T) {
	tk := task(t)
	tk.Open = func(runtime.Spec) (runtime.Accelerator, error) { return nil, errors.New("no driver") }
	if p, err := profiler.Measure(t.Context(), tk, options(time.Millisecond)); p != nil || err == nil ||
		!strings.Contains(err.Error(), `accelerator "all": no driver`) {
		t.Errorf("%v, %v", p, err)
	}
}
