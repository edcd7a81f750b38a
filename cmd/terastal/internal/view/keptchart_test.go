package view

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// promised is a page of the logs of two policies, the first of which spends more than the floor leaves.
func promised(t *testing.T, floor float64) *Page {
	t.Helper()
	dir := t.TempDir()
	s := system("net")
	m := &s.Models[0]
	m.Valid, m.Accuracy, m.AccuracyError, m.Floor = []sched.VariantSet{0, 1}, []float64{1, 0.97}, []float64{0, 0.01}, floor
	for _, policy := range []string{"terastal", "terastal-novariants"} {
		testkit.OK(t, simulateOn(t, s, policy, eventlog.Real, time.Second).Write(filepath.Join(dir, policy+".log.json")))
	}
	return testkit.Must(Open(dir))(t)
}

// TestAccuracyAgainstFloor: the page holds what was kept against the floor, in a table and as a curve.
func TestAccuracyAgainstFloor(t *testing.T) {
	p := promised(t, 0.998)
	s := p.accuracy(p.allSeries())
	if len(s.Figures) != 1 || s.Figures[0].Caption != "net" || strings.Count(string(s.Figures[0].SVG), "<path") != 2 ||
		!strings.Contains(string(s.Figures[0].SVG), ">floor</text>") {
		t.Errorf("figures %+v", s.Figures)
	}
	text := s.Tables[0].String()
	rows := strings.Split(text, "\n")
	for _, want := range []string{"its interval", "floor", "worst of 100", "99.8 %"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	spared, spent := rows[2], rows[3] // in the order of the files
	metrics := p.Logs[1].Metrics().Models[0]
	if p.Logs[1].Header.Policy != "terastal" || *metrics.WorstWindow >= 0.998 {
		t.Fatalf("%s has the worst window %v", p.Logs[1].Header.Policy, *metrics.WorstWindow)
	}
	if !strings.Contains(spent, kept(*metrics.WorstWindow)+"!") || !strings.Contains(spent, accuracyInterval(&metrics)) ||
		strings.Contains(spared, "!") || !strings.Contains(spared, "100.00 to 100.00 %") {
		t.Errorf("worst window %v\n%s", *metrics.WorstWindow, text)
	}
	// Where nothing is promised there is nothing to hold it against.
	p = promised(t, 0)
	s = p.accuracy(p.allSeries())
	if text := s.Tables[0].String(); len(s.Figures) > 0 || strings.Contains(text, "floor") || strings.Contains(text, "worst") {
		t.Errorf("without a floor: %d figures\n%s", len(s.Figures), text)
	}
}

// TestOutcomesAgainstFloor: tables of runs have the floor and the worst window where there is a floor, and say what
// they are.
func TestOutcomesAgainstFloor(t *testing.T) {
	for floor, want := range map[float64]bool{0.998: true, 0: false} {
		var b bytes.Buffer
		p := promised(t, floor)
		Policies(&b, []eventlog.Metrics{p.Logs[0].Metrics(), p.Logs[1].Metrics()})
		text := b.String()
		if strings.Contains(text, "worst of 100") != want || strings.Contains(text, "99.8 %") != want ||
			strings.Contains(text, "promised to keep") != want {
			t.Errorf("floor %v:\n%s", floor, text)
		}
	}
}
