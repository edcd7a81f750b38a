package validation

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/eventlog"
)

// Document is what `terastal validate` writes: one validation per log, and what several logs say together.
type Document struct {
	// Profile is the file that predicted, if any; Notes are doubts about it.
	Profile     string       `json:"profile,omitempty"`
	Notes       []string     `json:"notes,omitempty"`
	Validations []Validation `json:"validations"`
	// Order holds, for every two policies that played the same traffic, whether
	// the prediction orders them as the hardware did.
	Order []Order `json:"order,omitempty"`
}

// Order is two policies by their mean miss rate, over models and repeats. Better
// is the one that missed less on the hardware.
type Order struct {
	Better          string  `json:"better"`
	Worse           string  `json:"worse"`
	RealBetter      float64 `json:"real_better"`
	RealWorse       float64 `json:"real_worse"`
	PredictedBetter float64 `json:"predicted_better"`
	PredictedWorse  float64 `json:"predicted_worse"`
	// Decided is false where the intervals of the hardware overlap: there is no order to keep then.
	Decided bool `json:"decided"`
	Kept    bool `json:"kept"`
}

const (
	kind    = "validation"
	version = 2
)

// Write writes the document to a file, atomically.
func (d *Document) Write(path string) error { return document.Write(path, kind, version, d) }

// Read reads a document.
func Read(path string) (*Document, error) {
	var d Document
	if err := document.Read(path, kind, version, &d); err != nil {
		return nil, err
	}
	return &d, nil
}

// Valid reports whether all runs can support their checks; the reasons are those that cannot.
func (d *Document) Valid() (bool, []string) {
	var reasons []string
	for i := range d.Validations {
		v := &d.Validations[i]
		for _, r := range v.Reasons {
			if len(d.Validations) > 1 {
				r = v.Policy + ": " + r
			}
			reasons = append(reasons, r)
		}
	}
	return len(reasons) == 0, reasons
}

// Held counts the checks that hold over all runs, those that hold at the runs' own pace, and all.
func (d *Document) Held() (held, given, checks int) {
	for i := range d.Validations {
		h, g := d.Validations[i].Held()
		held, given, checks = held+h, given+g, checks+len(d.Validations[i].Checks)
	}
	return held, given, checks
}

// Add adds the validation of a log.
func (d *Document) Add(v *Validation, log *eventlog.Log) {
	v.traffic = fmt.Sprint(log.Header.Rates, log.Header.Duration, log.Header.Drop, log.Header.System.Accelerators)
	d.Validations = append(d.Validations, *v)
	d.order()
}

// standing is a policy's mean miss rate over models and repeats.
type standing struct {
	policy, traffic            string
	real, low, high, predicted float64
	models                     int
}

// order compares the policies of logs with the same traffic.
func (d *Document) order() {
	var all []standing
	for i := range d.Validations {
		v := &d.Validations[i]
		n := slices.IndexFunc(all, func(s standing) bool { return s.policy == v.Policy && s.traffic == v.traffic })
		if n < 0 {
			n, all = len(all), append(all, standing{policy: v.Policy, traffic: v.traffic})
		}
		for _, m := range v.Models {
			all[n].real += m.Real.MissRate
			all[n].low += m.Real.MissLow
			all[n].high += m.Real.MissHigh
			all[n].predicted += m.Predicted.MissRate
			all[n].models++
		}
	}
	for i := range all {
		n := float64(max(1, all[i].models))
		all[i].real, all[i].low, all[i].high, all[i].predicted = all[i].real/n, all[i].low/n, all[i].high/n,
			all[i].predicted/n
	}
	slices.SortStableFunc(all, func(a, b standing) int { return cmp.Compare(a.real, b.real) })
	d.Order = nil
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.traffic != b.traffic {
				continue
			}
			d.Order = append(d.Order, Order{Better: a.policy, Worse: b.policy, RealBetter: a.real, RealWorse: b.real,
				PredictedBetter: a.predicted, PredictedWorse: b.predicted,
				Decided: a.high < b.low, Kept: a.predicted < b.predicted})
		}
	}
}

// Note adds a doubt, once.
func (d *Document) Note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(d.Notes, text) {
		d.Notes = append(d.Notes, text)
	}
}

// Folder is the folder of the logs, if all lie in one.
func (d *Document) Folder() (dir string, one bool) {
	for i := range d.Validations {
		next := filepath.Dir(d.Validations[i].Log)
		if i > 0 && next != dir {
			return "", false
		}
		dir = next
	}
	return dir, true
}

// Replayed returns an error if a replayed decision was another than the recorded one.
func (d *Document) Replayed() error {
	for i := range d.Validations {
		if v := &d.Validations[i]; v.Difference != "" {
			return fmt.Errorf("%s: a replayed decision differs: %s", v.Log, v.Difference)
		}
	}
	return nil
}
