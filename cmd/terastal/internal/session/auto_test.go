package session

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/auto"
	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
)

// Accelerators that no one names are chosen by a calibration, which is kept; those of a profile that is there are kept.
func TestAuto(t *testing.T) {
	orttest.Start(t)
	library := testkit.Must(ort.Start(""))(t).Path // it may lie in the cache
	t.Setenv("TERASTAL_CACHE", t.TempDir())
	t.Setenv("ONNXRUNTIME_LIB", library)
	var notes []string
	o := standingIn(t, &notes)
	c := configured(t, aModel)
	w := testkit.Must(Open(context.Background(), c, o))(t)
	if !said(notes, "auto chose ") || !said(notes, "--auto again") || len(notes) != 3 || len(w.Machine.Specs) == 0 {
		t.Fatalf("%q", notes)
	}
	kept := auto.Kept(ort.CalibrationsDir())
	if len(kept) != 1 || kept[0].Choice == nil || kept[0].Took <= 0 || kept[0].Created == "" {
		t.Fatalf("kept: %+v", kept)
	}
	testkit.Equal(t, kept[0].Choice.Accelerators, w.Machine.Specs)

	var measured atomic.Int32 // worker processes, which start at the same time
	worker := o.Worker
	o.Worker = func() *exec.Cmd { measured.Add(1); return worker() }
	again := testkit.Must(Open(context.Background(), c, o))(t)
	testkit.Equal(t, w.Machine.Specs, again.Machine.Specs)
	if n := measured.Load(); n != 0 {
		t.Errorf("calibrated again by %d processes", n)
	}
	testkit.OK(t, again.EnsureProfile(context.Background()))

	t.Setenv("TERASTAL_CACHE", t.TempDir())
	notes = nil
	measured.Store(0)
	c = configured(t, strings.Replace(aModel, "rate: 60", "rate: 6", 1))
	o.Profile = again.profilePath()
	third := testkit.Must(Open(context.Background(), c, o))(t)
	testkit.Equal(t, w.Machine.Specs, third.Machine.Specs)
	testkit.OK(t, third.EnsureProfile(context.Background()))
	if n := measured.Load(); n != 0 || !said(notes, "auto keeps the accelerators of") {
		t.Errorf("%d processes, %q", n, notes)
	}
	c.Auto = config.AutoChoose
	testkit.Must(Open(context.Background(), c, o))(t)
	if measured.Load() == 0 {
		t.Error("it was not calibrated")
	}
	c = configured(t, strings.Replace(aModel, "ds_cnn_kws", "glyph_mobile", 1))
	notes = nil
	testkit.Must(Open(context.Background(), c, o))(t)
	if !said(notes, "auto chose ") {
		t.Errorf("the profile is of another model: %q", notes)
	}
}

// A GPU is tried with every provider that it may open with.
func TestTryGPU(t *testing.T) {
	m := gpuOf(4, 0, 0)
	library := testkit.Write(t, filepath.Join(t.TempDir(), "library.so"), "code")
	o := &Options{Plugins: map[string]string{"cuda": library, "webgpu": library, "coreml": library}, Probe: func(_ string, s runtime.Spec) (runtime.Offer, error) {
		if s.Provider != "webgpu" && s.Provider != "cuda" {
			return runtime.Offer{}, errors.New("no")
		}
		return runtime.Offer{Free: 1}, nil
	}}
	if m.tryGPU(o); m.gpus != nil {
		t.Errorf("there is no GPU: %v", m.gpus)
	}
	m.Host.GPUs = []hostinfo.GPU{{Vendor: "AMD"}}
	m.tryGPU(o)
	testkit.Equal(t, []string{"cuda", "webgpu"}, m.gpus)
}
