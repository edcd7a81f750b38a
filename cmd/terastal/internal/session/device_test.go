package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
)

// asWorker has the test binary measure, as the command line does in its hidden verb.
const asWorker = "TERASTAL_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) == "" {
		os.Exit(m.Run())
	}
	if err := work(os.Stdin, profiler.Output(), onCPU); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// onCPU has the CPU stand in for devices where layers are measured, which takes a fraction of a device's time.
func onCPU(s runtime.Spec) (runtime.Accelerator, error) {
	if s.CPU() {
		return runtime.OpenORT(s)
	}
	return runtime.OpenORT(runtime.Spec{Name: s.Name, Optimization: "basic", Cores: s.Cores}) // portable layers
}

// pretending opens streams of pretended devices, which compute on the CPU, in place of those of a GPU.
func pretending() opening {
	devices := map[string]*rig.Device{}
	return func(s runtime.Spec) (runtime.Accelerator, error) {
		on, err := onCPU(s)
		if s.CPU() || err != nil {
			return on, err
		}
		d := devices[s.OnDevice()]
		if d == nil {
			d = rig.NewDevice(s.OnDevice(), 1)
			devices[s.OnDevice()] = d
		}
		return d.Stream(s.Name, on), nil
	}
}

// onDevice is a configuration's plan for a pretended device, whose profile says what it shares.
func onDevice(t *testing.T, c *config.Config, o Options) *Session {
	t.Helper()
	s := testkit.Must(Prepare(context.Background(), c, false, o))(t)
	p := s.Profile
	p.Devices = []profiler.Device{{Name: "gpu", Accelerators: []int{0, 1}, Contention: []float64{0, 0.1},
		Lead: 20 * time.Microsecond, Memory: 1 << 30}}
	for i := range p.Cells { // the device is fast, so that it is used
		x := &p.Cells[i]
		if x.Samples = nil; x.Accelerator < 2 {
			for _, d := range []*time.Duration{&x.Min, &x.Mean, &x.P50, &x.P90, &x.P95, &x.P99} {
				*d = max(1, *d/10)
			}
		}
	}
	testkit.OK(t, p.Write(ownProfile(c)))
	return testkit.Must(Prepare(context.Background(), c, false, o))(t)
}

// standingIn are options with which pretended devices stand in for GPUs, and what was noted.
func standingIn(t *testing.T, notes *[]string) Options {
	t.Helper()
	orttest.Start(t)
	return Options{Progress: Discard, open: pretending(),
		Note: func(format string, args ...any) {
			t.Logf(format, args...)
			*notes = append(*notes, fmt.Sprintf(format, args...))
		},
		Probe: func(string, runtime.Spec) (runtime.Offer, error) {
			return runtime.Offer{Free: 20 << 30, Total: 24 << 30, Streams: true}, nil
		},
		Worker: func() *exec.Cmd {
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), asWorker+"=1")
			return c
		}}
}

// said reports whether a note contains a text.
func said(notes []string, text string) bool { return strings.Contains(strings.Join(notes, "\n"), text) }

const (
	aDevice = "accelerators: [{name: gpu, provider: cuda, streams: 2, lead: 30us, keep_warm: true, " +
		`options: ["use_tf32=1"]}, {name: cpu, optimization: none}]`
	aModel = `
models: [{name: kws, source: "zoo:ds_cnn_kws", rate: 60}]
traffic: {duration: 500ms}
profile: {budget: 200ms}
policies: [edf]
drop: none
`
)

// A device's streams are accelerators in profile, plan, log and result, and say whose they are.
func TestStreamsFromConfigurationToResult(t *testing.T) {
	var notes []string
	o := standingIn(t, &notes)
	c := configured(t, aDevice+aModel)
	s := onDevice(t, c, o)
	for k, want := range []runtime.Spec{{Name: "gpu.0", Of: "gpu"}, {Name: "gpu.1", Of: "gpu", Stream: 1}, {Name: "cpu"}} {
		got := s.Profile.Accelerators[k]
		if got.Name != want.Name || got.Of != want.Of || got.Stream != want.Stream || got.KeepWarm != (want.Of != "") {
			t.Errorf("profile: %+v", got)
		}
	}
	if !said(notes, "one model on 2 streams take 1.0 GiB of its memory (measured), and 20.0 GiB of 24.0 GiB are free") {
		t.Errorf("memory is not told: %q", notes)
	}
	r := testkit.Must(s.Run(context.Background(), Real{}))(t)
	ran(t, r)
	if notes := r.Policies[0].Notes; !said(notes, `"gpu" computes float32 in TF32`) ||
		strings.Count(strings.Join(notes, " "), "TF32") != 1 {
		t.Errorf("notes %q", notes)
	}
	p, _, err := plan.Read(PlanPath(c))
	testkit.OK(t, err)
	if a := p.Accelerators[1]; a.Name != "gpu.1" || a.Of != "gpu" || a.Stream != 1 || !a.KeepWarm {
		t.Errorf("plan: %+v", a)
	}
	if a := r.Accelerators[0]; a.Name != "gpu.0" || a.Of != "gpu" || a.Provider != "cuda" {
		t.Errorf("result: %+v", a)
	}
	if d := p.System.Devices; len(d) != 1 || d[0].Lead != 30*time.Microsecond || len(d[0].Accelerators) != 2 {
		t.Errorf("plan: %+v", d)
	}
	if d := r.Policies[0].Devices; len(d) != 1 || d[0].Name != "gpu" || len(d[0].Accelerators) != 2 || !d[0].KeepWarm {
		t.Errorf("result: %+v", d)
	}
	log := testkit.Must(eventlog.Read(r.Policies[0].Log))(t)
	if _, diff, err := log.Replay(nil); err != nil || diff != "" {
		t.Errorf("replay: %v %s", err, diff)
	}
	if !said(notes, "using the profile") {
		t.Errorf("measured again: %q", notes)
	}
}

func ran(t *testing.T, r *result.Result) {
	t.Helper()
	p := &r.Policies[0]
	if !p.Balanced() || p.Released == 0 || p.Verification == nil || p.Verification.Wrong > 0 {
		t.Errorf("%+v, verified %+v", p.Totals, p.Verification)
	}
}

// A device that is lost takes all its streams with it; the rest goes on.
func TestLostDevice(t *testing.T) {
	var notes []string
	o := standingIn(t, &notes)
	c := configured(t, aDevice+aModel+`faults: ["lost accelerator=gpu after=5"]`)
	s := onDevice(t, c, o)
	r := testkit.Must(s.Run(context.Background(), Real{}))(t)
	ran(t, r)
	if p := &r.Policies[0]; p.Failed == 0 || p.Met+p.Late == 0 {
		t.Errorf("%+v: requests fail on the device, and others finish", p.Totals)
	}
}

// What does not fit into a device is refused before anything is measured or loaded.
func TestTooLittleMemory(t *testing.T) {
	var notes []string
	o := standingIn(t, &notes)
	o.Probe = func(string, runtime.Spec) (runtime.Offer, error) {
		return runtime.Offer{Free: 1 << 28, Total: 1 << 30}, nil
	}
	c := configured(t, aDevice+aModel)
	testkit.Refused(Prepare(context.Background(), c, false, o))(t, `device "gpu"`, "256 MiB of 1.0 GiB are free",
		"leave the accelerator out")
	if _, err := os.Stat(filepath.Join(c.Out, "profile.json")); err == nil {
		t.Error("it was measured")
	}
}

// Streams that are to be as many as pay are counted by measuring, and chosen among by name.
func TestAutomaticStreams(t *testing.T) {
	var notes []string
	o := standingIn(t, &notes)
	const text = "accelerators: [{name: gpu, provider: cuda, streams: auto, cores: [0, 0]}]"
	w := testkit.Must(Open(context.Background(), configured(t, text+aModel), o))(t)
	n := len(w.Machine.Specs)
	if !said(notes, fmt.Sprintf("gpu: %d of up to 2 streams pay", n)) || n > 2 || w.Machine.counted["gpu"] != n {
		t.Errorf("%d streams: %q", n, notes)
	}
}

// A device that does not open is told before a model that is not there, though both are looked at together.
func TestDeviceThatDoesNotOpen(t *testing.T) {
	var notes []string
	o := standingIn(t, &notes)
	const missing = "\nmodels: [{source: missing.onnx, rate: 1}]\n"
	testkit.Refused(Open(context.Background(), configured(t, aDevice+missing), o))(t, "there is no file")
	o.Probe = func(string, runtime.Spec) (o runtime.Offer, err error) { return o, errors.New("no such device") }
	testkit.Refused(Open(context.Background(), configured(t, aDevice+missing), o))(t, `accelerator "gpu": no such device`)
	testkit.Refused(Open(context.Background(), configured(t, aDevice+aModel), o))(t, `accelerator "gpu": no such device`)
}
