package session

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
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

// onCPU has the CPU stand in for devices, under their names.
func onCPU(s runtime.Spec) (runtime.Accelerator, error) {
	if s.CPU() {
		return runtime.OpenORT(s)
	}
	return runtime.OpenORT(runtime.Spec{Name: s.Name, Cores: s.Cores})
}

// standingIn are options with which the CPU stands in for devices, and what was noted.
func standingIn(t *testing.T, notes *[]string) Options {
	t.Helper()
	orttest.Start(t)
	return Options{Progress: Discard, open: onCPU,
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
	s := testkit.Must(Prepare(context.Background(), c, false, o))(t)
	for k, want := range []runtime.Spec{{Name: "gpu.0", Of: "gpu"}, {Name: "gpu.1", Of: "gpu", Stream: 1}, {Name: "cpu"}} {
		got := s.Profile.Accelerators[k]
		if got.Name != want.Name || got.Of != want.Of || got.Stream != want.Stream || got.KeepWarm != (want.Of != "") {
			t.Errorf("profile: %+v", got)
		}
	}
	if !said(notes, "gpu: one model on 2 streams take") || !said(notes, "20.0 GiB of 24.0 GiB are free") {
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
	// The profile is found again.
	notes = nil
	again := configured(t, aDevice+aModel)
	again.Out = c.Out
	testkit.Must(Prepare(context.Background(), again, false, o))(t)
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
	s := testkit.Must(Prepare(context.Background(), c, false, o))(t)
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
