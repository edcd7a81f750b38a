package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
)

// TestGPUCheck runs steps of scripts/gpu/check.sh with a CPU in the GPU's place: what it reads of profiles, results and
// logs is there, and its table has no goal that these steps do not measure.
func TestGPUCheck(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures and runs for some seconds")
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	orttest.Start(t)
	t.Parallel()
	bin, scripts := t.TempDir(), filepath.Join("..", "..", "scripts", "gpu")
	for _, file := range testkit.Must(filepath.Glob(filepath.Join(scripts, "*")))(t) {
		testkit.Must(os.Stat(file))(t) // that a result is kept depends on the scripts
	}
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go")
	headers := testkit.Must(list.Output())(t)
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	build := exec.Command(compiler, "-Wall", "-Werror", "-O1", "-I", strings.TrimSpace(string(headers)),
		filepath.Join(scripts, "chain.c"), "-o", filepath.Join(bin, "chain"), "-ldl", "-lpthread", "-lm")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testkit.OK(t, os.Symlink(filepath.Join(binaries, "terastal"), filepath.Join(bin, "terastal")))
	check := exec.Command(filepath.Join(scripts, "check.sh"), "cpu", filepath.Join(t.TempDir(), "out"))
	check.Env = append(os.Environ(), "TERASTAL_BIN="+bin, "ONNXRUNTIME_LIB="+testkit.Must(ort.Locate(""))(t).Path,
		"BUDGET=480", "SCALE=0.02", "NETS=ds_cnn_kws", "MIXED=ds_cnn_kws", "STEPS=doctor chains mixed validate bad-input waking")
	out, err := check.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`cpu: opens`,
		`ds_cnn_kws \(10 layers, 0 captured\), us: chain \d+, whole \d+`,
		`chain.c: whole \d+, chain synchronised \d+; outputs apart`,
		`misses in % fcfs .*, pedf .*, rollout .*, unscheduled `,
		`pedf: stalls .* % of the GPU`,
		`1 stream\(s\), pedf: \d+ decisions replayed`,
		`ds_cnn_kws, chain synchronised, us after pauses in ms: 0: \d+, 0.3: \d+, 1: \d+, 10: \d+, 100: \d+`,
		`(?m)^outputs that are wrong +0 +0 of [1-9]\d* +pass$`,
		`(?m)^chain over chain.c's best, ds_cnn_kws +\d+\.\d+ +<= 1.10  (pass|FAIL)$`,
		`(?m)^misses in %, rollout, gpu with 1 stream\(s\), load 0.6 +\d+\.\d+ +<= 2.00  (pass|FAIL)$`,
		`(?m)^first uses and stalls, % of a run, 1 stream\(s\) +\d+\.\d+ `,
		`(?m)^runs whose decisions replay +4 +4  pass$`,
		`(?m)^bad input refused in one line +4 +4  pass$`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %s", want)
		}
	}
	if t.Failed() || strings.Contains(string(out), "not as expected") {
		t.Errorf("the check says\n%s", out)
	}
}
