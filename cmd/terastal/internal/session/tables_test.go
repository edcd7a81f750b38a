package session

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// configured loads a configuration of this text.
func configured(t *testing.T, text string) *config.Config {
	t.Helper()
	path := testkit.Write(t, filepath.Join(t.TempDir(), "test.yaml"), text)
	c := testkit.Must(config.Load(path, pflag.NewFlagSet("test", pflag.ContinueOnError)))(t)
	c.Out = t.TempDir()
	return c
}

// quietly are options for when nobody looks; what is noted goes to the test's log.
func quietly(t *testing.T, profile string) Options {
	return Options{Profile: profile, Progress: Discard, Note: t.Logf, ORT: "/nowhere"}
}

// foreign is a profile of another machine, which has a CPU and a GPU with two streams.
func foreign(t testing.TB) string {
	t.Helper()
	p := &profiler.Profile{Created: "2026-01-01T00:00:00Z", ORT: "1.29.0",
		Host: profiler.Host{CPU: "another processor", LogicalCores: 1000},
		Accelerators: []runtime.Spec{{Name: "cpu"}, {Name: "gpu.0", Provider: "cuda", Of: "gpu"},
			{Name: "gpu.1", Provider: "cuda", Of: "gpu", Stream: 1}},
		Models: []profiler.Model{{Name: "net", SHA256: "0", Granularity: "op", Layers: []profiler.Layer{
			{Name: "conv", Implementations: []string{"original"}}}}},
		Devices: []profiler.Device{{Name: "gpu", Accelerators: []int{1, 2}, Contention: []float64{0, 0.25},
			Lead: 20 * time.Microsecond, Auto: 2}}}
	for k := range p.Accelerators {
		const ms = time.Millisecond
		p.Cells = append(p.Cells, profiler.Cell{Accelerator: k, N: 12, Min: ms, Mean: ms, P50: ms, P90: ms, P95: ms, P99: ms})
	}
	path := filepath.Join(t.TempDir(), "foreign.json")
	testkit.OK(t, p.Write(path))
	return path
}

// Simulating needs none of the accelerators that a profile is of, nor ONNX Runtime. A device's name stands for the
// streams that it has in the profile.
func TestSimulateElsewhere(t *testing.T) {
	path := foreign(t)
	const models = "\nmodels: [{name: net, rate: 50}]\ntraffic: {duration: 1s}\npolicies: [edf]"
	for _, c := range []struct{ accelerators, want, fails string }{
		{"auto", "cpu gpu.0 gpu.1", ""},
		{"[{name: cpu}]", "cpu", ""},
		{"[{name: gpu, provider: cuda, streams: 2}, {name: cpu}]", "gpu.0 gpu.1 cpu", ""},
		{"[{name: gpu, provider: cuda, streams: auto}]", "gpu.0 gpu.1", ""},
		{"[{name: gpu, provider: cuda, streams: 2, lead: 70us}]", "gpu.0 gpu.1", ""},
		{"[{name: gpu, provider: cuda, streams: 4}]", "", `streams of "gpu" is 4, but the profile has 2`},
		{"[{name: gpu, provider: cuda}]", "", `streams of "gpu" is 1, but the profile has 2`},
		{"[{name: npu, provider: qnn}]", "", `"npu"`},
	} {
		cfg := configured(t, "accelerators: "+c.accelerators+models)
		s, err := Prepare(context.Background(), cfg, true, quietly(t, path))
		if testkit.Says(t, err, c.fails); err != nil {
			continue
		}
		if got := strings.Join(s.Plan.Document.System.Accelerators, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.accelerators, got, c.want)
		}
		for _, d := range s.Plan.Document.System.Devices {
			want := 20 * time.Microsecond
			if strings.Contains(c.accelerators, "lead") {
				want = 70 * time.Microsecond
			}
			if d.Name != "gpu" || len(d.Accelerators) != 2 || d.Lead != want {
				t.Errorf("%s: %+v, want a lead of %v", c.accelerators, d, want)
			}
		}
		if devices := len(s.Plan.Document.System.Devices); devices != strings.Count(c.want, "gpu.1") {
			t.Errorf("%s: %d devices", c.accelerators, devices)
		}
		if r := testkit.Must(s.Simulate())(t); r.Policies[0].Met == 0 {
			t.Errorf("%s: %+v", c.accelerators, r.Policies[0].Totals)
		}
	}
	// Running is another matter, and so is a profile that nobody named.
	cfg := configured(t, models)
	if _, err := Prepare(context.Background(), cfg, false, quietly(t, path)); err == nil {
		t.Error("it would run on a machine that is not there")
	}
}

// gpuData names the environment variable that says where profiles and logs of a real GPU are.
const gpuData = "TERASTAL_GPU_DATA"

// What was measured on a real GPU, simulated here: five networks at 0.6 of what two CPU accelerators and the GPU can do.
func TestSimulateMeasuredGPU(t *testing.T) {
	folder := os.Getenv(gpuData)
	if folder == "" {
		t.Skip(gpuData + " names no folder")
	}
	packed := testkit.Must(os.Open(filepath.Join(folder, "profile.json.gz")))(t)
	defer packed.Close()
	profile := testkit.Must(io.ReadAll(testkit.Must(gzip.NewReader(packed))(t)))(t)
	path := testkit.Write(t, filepath.Join(t.TempDir(), "profile.json"), profile)
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(flags, "load", "duration", "arrivals", "policies")
	testkit.OK(t, flags.Parse([]string{"--load", "0.6", "--duration", "2s", "--arrivals", "poisson",
		"--policies", "pedf,rollout"}))
	cfg := testkit.Must(config.Load(filepath.Join(folder, "system.yaml"), flags))(t)
	s := testkit.Must(Prepare(context.Background(), cfg, true, quietly(t, path)))(t)
	r := testkit.Must(s.Study(context.Background(), StudyOptions{Seeds: 8, Noise: 0.3}))(t)
	for i, most := range []float64{0.02, 0.002} {
		if got := r[i].Miss; got > most {
			t.Errorf("%s misses %.4f, want at most %v", r[i].Policy, got, most)
		}
	}
}
