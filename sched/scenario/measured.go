package scenario

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"github.com/terastal/terastal/sched"
)

// Measured begins the names of scenarios that were measured on real machines.
const Measured = "hw/"

//go:embed data/hw/*.json
var measured embed.FS

// measuredNames lists the scenarios that were measured, sorted.
func measuredNames() []string {
	var names []string
	files, err := measured.ReadDir("data/hw")
	if err != nil {
		return nil // it is embedded
	}
	for _, f := range files {
		names = append(names, Measured+strings.TrimSuffix(f.Name(), ".json"))
	}
	return names
}

// loadMeasured reads an embedded scenario; nil where there is none of the name.
func loadMeasured(name string, theta float64) (*Scenario, error) {
	file, ok := strings.CutPrefix(name, Measured)
	if !ok || file != path.Base(file) {
		return nil, nil
	}
	data, err := measured.ReadFile(path.Join("data/hw", file+".json"))
	if err != nil {
		return nil, nil
	}
	s, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("scenario %q: embedded data: %w", name, err)
	}
	for m := range s.System.Models {
		promise(&s.System.Models[m], theta)
	}
	return s, nil
}

// promise leaves the combinations of variants that keep this share of the accuracy, and those of unknown accuracy.
func promise(m *sched.Model, theta float64) {
	m.MaxLoss = min(m.MaxLoss, 1-theta)
	if len(m.Accuracy) != len(m.Valid) {
		return
	}
	n := 0
	for i, set := range m.Valid {
		if set != 0 && m.Accuracy[i] < theta {
			continue
		}
		m.Valid[n], m.Accuracy[n] = set, m.Accuracy[i]
		if m.AccuracyError != nil {
			m.AccuracyError[n] = m.AccuracyError[i]
		}
		n++
	}
	m.Valid, m.Accuracy = m.Valid[:n], m.Accuracy[:n]
	if m.AccuracyError != nil {
		m.AccuracyError = m.AccuracyError[:n]
	}
}

// Parse reads a scenario from its JSON document, as scenarios that were measured are embedded. It refuses one whose
// system, rates or names make no sense; nothing else is checked.
func Parse(data []byte) (*Scenario, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	s := new(Scenario)
	if err := d.Decode(s); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the scenario")
	}
	if err := s.System.Validate(); err != nil {
		return nil, err
	}
	if s.Name == "" || s.Source == "" {
		return nil, errors.New("a scenario needs a name and a source")
	}
	if len(s.Rates) != len(s.System.Models) {
		return nil, fmt.Errorf("%d rates for %d models", len(s.Rates), len(s.System.Models))
	}
	for i, m := range s.System.Models {
		if r := s.Rates[i]; !(r >= 0) || math.IsInf(r, 1) || (r == 0) != (m.Trigger != nil) {
			return nil, fmt.Errorf("rate %v of model %q, must be above 0, or 0 where another model triggers it", r, m.Name)
		}
	}
	return s, nil
}
