// Package live shows how a run stands while it runs: a view for terminals, metrics for Prometheus, structured log
// lines. It only reads the statistics that the runtime hands out ten times a second, on the thread that does so;
// nothing here is on the way of a dispatch.
package live

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/runtime"
)

// View redraws a table of the run on a terminal. It is for one goroutine.
type View struct {
	w     io.Writer
	lines int
	drawn time.Duration
	busy  []time.Duration // by accelerator, when last drawn
}

// NewView makes a view that draws to a terminal.
func NewView(w io.Writer) *View { return &View{w: w} }

// redrawEvery is how often a person wants new numbers.
const redrawEvery = 500 * time.Millisecond

// Update redraws the view when it is time. total is how long requests are released.
func (v *View) Update(policy string, s runtime.Stats, total time.Duration) {
	if s.At < v.drawn { // another run
		v.drawn, v.busy = 0, nil
	}
	if s.At-v.drawn < redrawEvery {
		return
	}
	text := v.render(policy, s, total)
	v.Clear()
	fmt.Fprint(v.w, text)
	v.lines = strings.Count(text, "\n")
}

// Clear takes the view off the terminal.
func (v *View) Clear() {
	if v.lines > 0 {
		fmt.Fprintf(v.w, "\x1b[%dA\x1b[J", v.lines)
	}
	v.lines = 0
}

// render is the view as text; utilisation is since it was last drawn.
func (v *View) render(policy string, s runtime.Stats, total time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %.1f of %.1f s\n", policy, s.At.Seconds(), total.Seconds())
	t := table.New("model", ">released", ">missed", ">dropped", ">failed", ">miss rate", ">queue", ">variants", ">p50",
		">p99")
	for i := range s.Models {
		m := &s.Models[i]
		t.Add(m.Name, m.Released, m.Late+m.Dropped+m.Failed, m.Dropped, m.Failed, fmt.Sprintf("%.1f %%", 100*m.MissRate()),
			m.Active, m.Variants, ms(m.Latency.Quantile(.5)), ms(m.Latency.Quantile(.99)))
	}
	b.WriteString(t.String() + "\n")
	var use []string
	v.busy = append(v.busy, make([]time.Duration, max(0, len(s.Accelerators)-len(v.busy)))...)
	for k := range s.Accelerators {
		a := &s.Accelerators[k]
		state := fmt.Sprintf("%.0f %%", 100*(a.Busy-v.busy[k]).Seconds()/(s.At-v.drawn).Seconds())
		if a.Down {
			state = "out of service"
		}
		use = append(use, a.Name+" "+state)
		v.busy[k] = a.Busy
	}
	v.drawn = s.At
	if len(use) > 0 {
		b.WriteString("busy: " + strings.Join(use, ", ") + "\n")
	}
	return b.String()
}

func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
}
