package scenario

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// TestMeasured holds the scenarios that were measured against what was found on the machine: the demand, the models and
// the chains' times on each accelerator.
func TestMeasured(t *testing.T) {
	for name, want := range map[string]struct {
		models, accelerators, layers int
		handoffs                     bool
	}{
		"hw/h100-5nets":  {5, 3, 101, true},
		"hw/h100-webgpu": {3, 2, 49, true},
		"hw/h100-demo":   {4, 3, 9, true},
	} {
		s := load(t, name)
		layers, handoffs := 0, false
		for _, m := range s.System.Models {
			layers += len(m.Layers)
			for _, l := range m.Layers {
				handoffs = handoffs || l.Handoff != nil
			}
		}
		if len(s.System.Models) != want.models || len(s.System.Accelerators) != want.accelerators || layers != want.layers ||
			handoffs != want.handoffs {
			t.Errorf("%s: %d models, %d accelerators, %d layers, handoffs %v", name, len(s.System.Models),
				len(s.System.Accelerators), layers, handoffs)
		}
		for _, word := range []string{"Xeon", "H100", "ONNX Runtime 1.29.0", "2026-11-27", "07e6bcf"} {
			if !strings.Contains(s.Source, word) {
				t.Errorf("%s: its source %q does not say %q", name, s.Source, word)
			}
		}
		capacity := testkit.Must(fluid.CapacityOf(compile(t, s), s.Rates))(t)
		if load := 1 / capacity.Scale; math.Abs(load-0.6) > 1e-6 || !strings.Contains(s.Note, "scale 1 is load 0.6") {
			t.Errorf("%s has load %v at scale 1, its note says %q", name, load, s.Note)
		}
	}
}

// TestMeasuredPromise: theta takes combinations of variants away from scenarios that were measured, too.
func TestMeasuredPromise(t *testing.T) {
	m := sched.Model{Variants: 2, Valid: []sched.VariantSet{1, 2, 0, 3}, Accuracy: []float64{0.95, 0.85, 1, 0.9},
		AccuracyError: []float64{1, 2, 3, 4}}
	promise(&m, 0.9)
	testkit.Equal(t, sched.Model{Variants: 2, Valid: []sched.VariantSet{1, 0, 3}, Accuracy: []float64{0.95, 1, 0.9},
		AccuracyError: []float64{1, 3, 4}}, m)
	m = sched.Model{Variants: 1, Loss: []float64{0.1}, MaxLoss: 0.2}
	promise(&m, 0.9)
	if math.Abs(m.MaxLoss-0.1) > 1e-12 {
		t.Errorf("a loss of up to %v is left", m.MaxLoss)
	}
}

func document(change func(*Scenario)) []byte {
	s, err := Load("hw/h100-demo")
	if err != nil {
		panic(err)
	}
	change(s)
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return data
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		says string
		data []byte
	}{
		{"EOF", nil},
		{"unknown field", []byte(`{"nam":"x"}`)},
		{"follows", append(document(func(*Scenario) {}), '1')},
		{"needs a name", document(func(s *Scenario) { s.Name = "" })},
		{"a source", document(func(s *Scenario) { s.Source = "" })},
		{"3 rates for 4 models", document(func(s *Scenario) { s.Rates = s.Rates[1:] })},
		{"rate -1 of model \"glyph_mobile\"", document(func(s *Scenario) { s.Rates[0] = -1 })},
		{"rate 0 of model \"glyph_vit\"", document(func(s *Scenario) { s.Rates[3] = 0 })},
		{"deadline", document(func(s *Scenario) { s.System.Models[1].Deadline = 0 })},
	} {
		if _, err := Parse(c.data); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %q", err, c.says)
		}
	}
	// Names of other files are no scenarios.
	for _, name := range []string{"hw/", "hw/none", "hw/../layers", "hw/h100-demo.json", "hw/./h100-demo"} {
		testkit.Refused(Load(name))(t, ErrUnknown, "hw/h100-demo, ")
	}
}

// FuzzParseScenario: what is read makes sense, and is the same when it is written and read again.
func FuzzParseScenario(f *testing.F) {
	f.Add(document(func(*Scenario) {}))
	f.Add(document(func(s *Scenario) { s.System.Models[1].Trigger = &sched.Trigger{Parent: "glyph_vgg", Probability: 1} }))
	f.Add([]byte(`{"name":"a","source":"b","system":{"accelerators":["x"],"models":[]},"rates":[1e400]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		if _, err := sched.Compile(s.System); err != nil {
			t.Errorf("it does not compile: %v", err)
		}
		again, err := json.Marshal(s)
		testkit.OK(t, err)
		x := testkit.Must(Parse(again))(t)
		if once := testkit.Must(json.Marshal(x))(t); !bytes.Equal(again, once) || !reflect.DeepEqual(s.Rates, x.Rates) {
			t.Errorf("%s\nbecomes\n%s", again, once)
		}
	})
}
