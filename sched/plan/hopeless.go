package plan

import (
	"fmt"
	"math"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// Hopeless is a model that meets its deadline nowhere, whatever runs besides it. Capacities count it as if it had none.
type Hopeless struct {
	Model      string  `json:"model"`
	DeadlineMS float64 `json:"deadline_ms"`
	// NeedsMS is the deadline that it would need: what the quickest of its paths takes, handoffs included.
	NeedsMS float64 `json:"needs_ms"`
}

// HopelessOf lists the models of a system that meet their deadline nowhere.
func HopelessOf(t *sched.Tables) []Hopeless {
	var out []Hopeless
	for _, x := range fluid.Hopeless(t) {
		m := &t.System().Models[x.Model]
		out = append(out, Hopeless{m.Name, m.Deadline.Seconds() * 1e3, x.Needs.Seconds() * 1e3})
	}
	return out
}

// String is a line for a user. What is needed is rounded up.
func (h Hopeless) String() string {
	step := math.Pow(10, math.Floor(math.Log10(h.NeedsMS))-2)
	return fmt.Sprintf("%s meets its deadline of %.3g ms nowhere: it would need %.*f ms", h.Model, h.DeadlineMS,
		int(max(0, -math.Round(math.Log10(step)))), math.Ceil(h.NeedsMS/step*(1-1e-12))*step)
}
