package view

import (
	"fmt"
	"strings"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
)

// TestVerificationLanes: accelerators are listed with how busy they were; the
// lanes of a run without a scheduler, of which there are many, are summed up.
func TestVerificationLanes(t *testing.T) {
	lanes := map[string]float64{}
	for i := range 40 {
		lanes[fmt.Sprintf("lane %d", i+1)] = float64(i%2) / 2
	}
	var b strings.Builder
	Verification(&b, []result.PolicyResult{
		{Metrics: eventlog.Metrics{Policy: runtime.Unscheduled, Utilization: lanes}},
		{Metrics: eventlog.Metrics{Policy: "edf", Utilization: map[string]float64{"b": .5, "a": .25}}},
	})
	for _, text := range []string{"40 lanes, mean 25.0 %", "a 25.0 %, b 50.0 %"} {
		if !strings.Contains(b.String(), text) {
			t.Errorf("the table does not say %q:\n%s", text, b.String())
		}
	}
	if strings.Contains(b.String(), "lane 7") {
		t.Errorf("the table lists lanes:\n%s", b.String())
	}
}
