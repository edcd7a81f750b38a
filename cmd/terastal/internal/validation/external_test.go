package validation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// TestLayersBothFormats: the same predictions as CSV and JSON.
func TestLayersBothFormats(t *testing.T) {
	table := "\ufeffmodel,layer,accelerator,latency_us,x_note\n# ours\na,a0,x,400.5,\na,a1,y,1e3,anything\n"
	list := `{"layers": [{"model": "a", "layer": "a0", "accelerator": "x", "latency_us": 400.5},
	{"model": "a", "layer": "a1", "implementation": "original", "accelerator": "y", "latency_us": "1000"}]}`
	for _, text := range []string{table, list} {
		got := testkit.Must(ReadLayers("f", strings.NewReader(text)))(t)
		if len(got) != 2 || got[0].Latency != 400500 || got[1].Latency != time.Millisecond ||
			got[0].Implementation != "original" || got[1].Accelerator != "y" {
			t.Errorf("%+v", got)
		}
	}
}

// TestExternalErrors: one clear error with the file and the line.
func TestExternalErrors(t *testing.T) {
	for _, c := range []struct{ kind, text, want string }{
		{"layers", "", "f: it predicts nothing"},
		{"layers", "model,layer\n", "f: it predicts nothing"},
		{"layers", "layer\nx\n", `f:1: there is no column "model"`},
		{"layers", "model,latency\n", `f:1: unknown column "latency"`},
		{"layers", "model,model\n", `f:1: column "model" is there twice`},
		{"layers", "model,latency_us\na,1\nb,-1\n", `f:3: latency_us "-1" is not a number`},
		{"layers", "model,latency_us\na,NaN\n", `f:2: latency_us "NaN" is not a number`},
		{"layers", "model,latency_us\na,1e300\n", `f:2: latency_us "1e300"`},
		{"layers", "model,latency_us\na,\n", "f:2: latency_us is missing"},
		{"layers", "model,latency_us\na\n", "f:2: wrong number of fields"},
		{"layers", "model,\"lat\n", "f:1: extraneous"},
		{"layers", `{"requests": []}`, `f:1: it has to be {"layers": [...]}`},
		{"layers", "{\"layers\": [\n{\"model\": \"a\", \"latency_us\": 1},\n{\"model\": true}]}",
			"f:3: model is neither text nor a number"},
		{"layers", "{\"layers\": [\n{\"what\": 1}]}", `f:2: unknown column "what"`},
		{"layers", "{\"layers\": [{\"model\": \"a\", \"latency_us\": 1}]} {}", "f:1: something follows"},
		{"layers", "{\"layers\": [", "f:1: it has to be"},
		{"requests", "model,request,response_ms\na,x,1\n", `f:2: request "x" is not a whole number`},
		{"requests", "model,response_ms\na,1\n", "f:2: it needs either request or release_us"},
		{"requests", "model,request,release_us,response_ms\na,1,1,1\n", "f:2: it needs either request or release_us"},
		{"requests", "model,request,response_ms,completion_us\na,1,1,1\n", "f:2: it has both"},
		{"requests", "model,request\na,1\n", "f:2: it needs response_ms or completion_us"},
		{"requests", "model,request,outcome\na,1,met\n", "f:2: it needs response_ms or completion_us"},
		{"requests", "model,request,outcome,response_ms\na,1,dropped,3\n", "f:2: it is dropped, and has a time"},
		{"requests", "model,request,outcome\na,1,lost\n", `f:2: outcome "lost", can be`},
	} {
		var err error
		if c.kind == "layers" {
			_, err = ReadLayers("f", strings.NewReader(c.text))
		} else {
			_, err = ReadJobs("f", strings.NewReader(c.text))
		}
		testkit.Fails(t, err, ErrExternal, c.want)
	}
}

// TestOthersPredictions: the log's own times, given back as somebody's
// predictions, agree; and what does not belong to the log is refused.
func TestOthersPredictions(t *testing.T) {
	log := world{}.play(t, pairOfModels(), "fcfs", 3)
	sys := &log.Header.System
	layers := "model,layer,accelerator,latency_us\n"
	for _, m := range sys.Models {
		for _, l := range m.Layers {
			for k, d := range l.Implementations[0].Latency {
				layers += fmt.Sprintf("%s,%s,%s,%v\n", m.Name, l.Name, sys.Accelerators[k], float64(d)/1e3)
			}
		}
	}
	jobs := "model,request,response_ms\n"
	byRelease := "model,release_us,completion_us,outcome\n"
	for m, ends := range endings(log) {
		for n, e := range ends {
			jobs += fmt.Sprintf("%s,%d,%v\n", sys.Models[m].Name, n, ms(e.response))
			byRelease += fmt.Sprintf("%s,%.3f,%.3f,%s\n", sys.Models[m].Name, float64(e.release)/1e3,
				float64(e.release+e.response)/1e3, e.outcome)
		}
	}
	for _, text := range []string{jobs, byRelease} {
		v := testkit.Must(validateWith(t, log, layers, text))(t)
		if !v.Valid || v.Draws != 0 || v.Layers.MAPE > 1e-9 {
			t.Errorf("reasons %q, draws %d, layers %+v", v.Reasons, v.Draws, v.Layers)
		}
		for _, c := range v.Checks {
			if !c.OK || c.Off > 1e-6 {
				t.Errorf("%+v", c)
			}
		}
	}
	// Only layers: requests are simulated with them.
	if v, err := validateWith(t, log, layers, ""); err != nil || v.Draws != 1 || v.Models[0].Jobs.MAPE > 1e-9 {
		t.Errorf("layers alone: %+v, %v", v, err)
	}
	lines := strings.SplitAfter(layers, "\n")
	for _, c := range []struct{ layers, jobs, want string }{
		{strings.Join(slices.Delete(slices.Clone(lines), 1, 2), ""), "", `nothing about layer "a0" of "a"`},
		{layers + "a,a0,z,1\n", "", `f:12: the log has no accelerator "z", it has x, y`},
		{layers + "c,a0,x,1\n", "", `f:12: the log has no model "c"`},
		{layers + "a,b0,x,1\n", "", `f:12: the log has no layer "b0"`},
		{layers + "a,a0,x,1\n", "", `f:12: layer "a0" of "a" on "x" is there twice`},
		{layers, "model,request,response_ms\na,1000000,1\n", "f:2: the log has no such request"},
		{layers, "model,release_us,response_ms\na,0.5,1\n", "f:2: the log has no such request"},
		{layers, "model,request,response_ms\na,0,1\na,0,1\n", "f:3: the request is there already, at f:2"},
		{layers, "model,request,completion_us\na,5,1\n", "f:2: it completes before its release"},
		{layers, "model,request,response_ms\nz,5,1\n", `f:2: the log has no model "z"`},
	} {
		testkit.Refused(validateWith(t, log, c.layers, c.jobs))(t, c.want)
	}
}

// A prediction for a device is one for each of its streams.
func TestDeviceStandsForItsStreams(t *testing.T) {
	sys := &sched.System{Accelerators: []string{"gpu.0", "cpu", "gpu.1"},
		Devices: []sched.Device{{Name: "gpu", Accelerators: []int{0, 2}}, {Name: "cpu", Accelerators: []int{1}}}}
	var got []string
	for _, x := range byStream(sys, []LayerPrediction{{Accelerator: "cpu"}, {Accelerator: "gpu", Latency: 7},
		{Accelerator: "npu"}}) {
		got = append(got, fmt.Sprint(x.Accelerator, " ", int(x.Latency)))
	}
	testkit.Equal(t, []string{"cpu 0", "gpu.0 7", "gpu.1 7", "npu 0"}, got)
}

func FuzzExternal(f *testing.F) {
	f.Add("model,layer,accelerator,latency_us\na,a0,x,1\n")
	f.Add("model,request,response_ms,outcome\na,0,1,met\n")
	f.Add("model,release_us,completion_us\na,0,1e6\n")
	f.Add(`{"layers": [{"model": "a", "layer": "a0", "accelerator": "x", "latency_us": 4}]}`)
	f.Add(`{"requests": [{"model": "a", "request": 0, "response_ms": 4}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		layers, err := ReadLayers("f", strings.NewReader(text))
		checkExternal(t, len(layers), err)
		for _, l := range layers {
			if l.Latency <= 0 {
				t.Errorf("%+v", l)
			}
		}
		jobs, err := ReadJobs("f", strings.NewReader(text))
		checkExternal(t, len(jobs), err)
		for _, j := range jobs {
			if j.Response < 0 || j.Release < 0 || j.Outcome > sched.Failed {
				t.Errorf("%+v", j)
			}
		}
	})
}

func checkExternal(t *testing.T, n int, err error) {
	if err != nil && !errors.Is(err, ErrExternal) || (err == nil) != (n > 0) {
		t.Errorf("%d predictions, error %v", n, err)
	}
}

// validateWith holds a log against the text of two files.
func validateWith(t *testing.T, log *eventlog.Log, layers, jobs string) (*Validation, error) {
	t.Helper()
	list, err := ReadLayers("f", strings.NewReader(layers))
	testkit.OK(t, err)
	in := Input{Log: log}
	if in.Predictor, err = FromLayers("f", list, log); err != nil {
		return nil, err
	}
	if jobs != "" {
		if in.Jobs, err = ReadJobs("f", strings.NewReader(jobs)); err != nil {
			t.Fatal(err)
		}
	}
	return Validate(in)
}
