package ort_test

import (
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
)

// childEnv makes this test binary do one thing and exit, in a fresh process.
const childEnv = "TERASTAL_ORT_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "probe":
		if _, err := ort.Start(""); err != nil {
			panic(err)
		}
		if err := ort.Probe(ort.Config{}); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	exe := testkit.Must(os.Executable())(t)
	cmd := exec.Command(exe, "-test.run=^TestOrttestNeedsTheLibrary$")
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

func TestStartIsIdempotent(t *testing.T) {
	orttest.Start(t)
	first := testkit.Must(ort.Start(""))(t)
	if first.Version != ort.Version || first.Path == "" || first.Source == "" {
		t.Errorf("Start = %+v", first)
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if again, err := ort.Start(first.Path); err != nil || again != first {
				t.Errorf("Start again = %+v, %v", again, err)
			}
		})
	}
	wait.Wait()
	testkit.Refused(ort.Start("/somewhere/else.so"))(t, first.Path)
}

func TestStartIsSilent(t *testing.T) {
	orttest.Start(t)
	cmd := child(t, childEnv+"=probe")
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) != 0 {
		t.Errorf("starting and probing the CPU printed %q, %v", out, err)
	}
}

func TestOrttestNeedsTheLibrary(t *testing.T) {
	if os.Getenv(childEnv) == "start" {
		orttest.Start(t)
		return
	}
	orttest.Start(t)
	lib, _ := ort.Start("")
	if lib.Source == "system" {
		t.Skip("an installed library cannot be hidden")
	}
	empty := t.TempDir()
	hidden := []string{childEnv + "=start", "TERASTAL_CACHE=" + empty, "ONNXRUNTIME_LIB=", "LD_LIBRARY_PATH=", "CI="}
	if out, err := child(t, append(hidden, "TERASTAL_REQUIRE_ORT=")...).CombinedOutput(); err != nil {
		t.Errorf("without a library the test did not skip: %v\n%s", err, out)
	}
	if out, err := child(t, append(hidden, "TERASTAL_REQUIRE_ORT=1")...).CombinedOutput(); err == nil {
		t.Errorf("with TERASTAL_REQUIRE_ORT=1 a missing library passed:\n%s", out)
	}
}

func TestProbe(t *testing.T) {
	orttest.Start(t)
	if err := ort.Probe(ort.Config{}); err != nil {
		t.Errorf("Probe of the CPU: %v", err)
	}
	if err := ort.Probe(ort.Config{Provider: "CPU", Optimization: "None"}); err != nil {
		t.Errorf("names are not taken in any case: %v", err)
	}
	testkit.Fails(t, ort.Probe(ort.Config{Options: map[string]string{"speed": "9"}}), `"speed"`)
	if err := ort.Probe(ort.Config{Provider: "snpe"}); err == nil {
		t.Error("SNPE opened, which no desktop build of ONNX Runtime has")
	}
}
