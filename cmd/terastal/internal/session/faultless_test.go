package session

import (
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

// A simulation says that no faults strike it, and one of a scenario refuses them.
func TestFaultsInSimulations(t *testing.T) {
	var notes []string
	c := configured(t, aDevice+aModel+`faults: ["error p=0.5"]`)
	s := testkit.Must(Prepare(t.Context(), c, true, standingIn(t, &notes)))(t)
	testkit.Must(s.Simulate())(t)
	if !said(notes, faultless) {
		t.Errorf("notes %q", notes)
	}
	c = unconfigured(t)
	c.Faults = []string{"error p=0.5"}
	_, _, _, err := ofScenario("paper/mcv_heavy", c)
	if err == nil || !strings.Contains(err.Error(), faultless) {
		t.Errorf("a scenario with faults: %v", err)
	}
	c.Faults, c.Policies = nil, []string{"edf", "unscheduled-cpu"}
	_, _, _, err = ofScenario("paper/mcv_heavy", c)
	testkit.Fails(t, err, `"unscheduled-cpu" has no model of time`)
}
