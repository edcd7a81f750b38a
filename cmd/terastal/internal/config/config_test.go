package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/testkit"
)

func flags(t testing.TB, args ...string) *pflag.FlagSet {
	t.Helper()
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(f, "duration", "seed", "policies", "drop")
	testkit.OK(t, f.Parse(args))
	return f
}

func write(t testing.TB, text string) string {
	t.Helper()
	return testkit.Write(t, filepath.Join(t.TempDir(), "test.yaml"), text)
}

// A flag beats the environment, which beats the file, which beats the default.
func TestPrecedence(t *testing.T) {
	const file = "traffic: {duration: 1s, seed: 11}\nmodels: [{source: a.onnx, rate: 5}]\n"
	for _, c := range []struct {
		file string
		env  string
		args []string
		want time.Duration
	}{
		{"", "", nil, 10 * time.Second},
		{file, "", nil, time.Second},
		{file, "2s", nil, 2 * time.Second},
		{file, "2s", []string{"--duration", "3s"}, 3 * time.Second},
		{file, "", []string{"--duration", "3s"}, 3 * time.Second},
	} {
		if c.env != "" {
			t.Setenv("TERASTAL_TRAFFIC_DURATION", c.env)
		} else {
			os.Unsetenv("TERASTAL_TRAFFIC_DURATION")
		}
		path := ""
		if c.file != "" {
			path = write(t, c.file)
		}
		got := testkit.Must(config.Load(path, flags(t, c.args...)))(t)
		if got.Traffic.Duration != c.want {
			t.Errorf("file %q, environment %q, flags %v: %v, want %v", c.file, c.env, c.args, got.Traffic.Duration, c.want)
		}
	}
}

// What has no scheduler is no policy that faults can strike; either alone is taken.
func TestUnscheduledFaults(t *testing.T) {
	for _, name := range []string{"unscheduled", "unscheduled-cpu"} {
		const faults = "faults: [\"error p=0.5\"]\n"
		policies := "policies: [" + name + ", edf]\n"
		_, err := config.Load(write(t, policies+faults), flags(t))
		testkit.Fails(t, err, config.ErrInvalid, "faults strike layers on accelerators, and "+name+" has neither")
		for _, text := range []string{policies, faults} {
			testkit.Must(config.Load(write(t, text), flags(t)))(t)
		}
	}
}

// Defaults of a flag can be changed, and lists given by the user replace the default instead of adding to it.
func TestSetDefault(t *testing.T) {
	f := flags(t)
	config.SetDefault(f, "policies", "terastal")
	config.SetDefault(f, "duration", "7s")
	c, err := config.Load("", f)
	testkit.OK(t, err)
	if len(c.Policies) != 1 || c.Policies[0] != "terastal" || c.Traffic.Duration != 7*time.Second {
		t.Errorf("policies %v, duration %v", c.Policies, c.Traffic.Duration)
	}
	f = pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(f, "policies")
	config.SetDefault(f, "policies", "terastal")
	testkit.OK(t, f.Parse([]string{"--policies", "edf,fcfs"}))
	if c, err = config.Load("", f); err != nil || strings.Join(c.Policies, " ") != "edf fcfs" {
		t.Errorf("policies %v, %v", c.Policies, err)
	}
}

func TestModelDefaults(t *testing.T) {
	c := testkit.Must(config.Load(write(t, `models:
  - {source: "sub/net.v2.onnx", rate: 5, dims: ["N=2", "T = 7"]}
  - {source: "zoo:resnet50", rate: 5}
accelerators: auto
`), flags(t)))(t)
	if c.Models[0].Name != "net.v2" || c.Models[1].Name != "resnet50" ||
		c.Models[0].Granularity != config.DefaultGranularity {
		t.Errorf("models %+v", c.Models)
	}
	if d, err := c.Models[0].Dimensions(); err != nil || d["N"] != 2 || d["T"] != 7 {
		t.Errorf("dims %v, %v", d, err)
	}
	if len(c.Specs()) != 0 {
		t.Errorf("accelerators %v, want none for auto", c.Specs())
	}
}

// A model's accuracy floor beats that of all models, which a flag sets. Published models have one only if it is given.
func TestFloor(t *testing.T) {
	const models = "models:\n  - {source: a.onnx, rate: 5}\n  - {source: b.onnx, rate: 5, accuracy: 0}\n"
	parse := func(args ...string) *pflag.FlagSet {
		f := pflag.NewFlagSet("test", pflag.ContinueOnError)
		config.AddFlags(f, "accuracy")
		testkit.OK(t, f.Parse(args))
		return f
	}
	for _, c := range []struct {
		file                     string
		flags                    *pflag.FlagSet
		first, second, published float64
	}{
		{models, parse(), 0.99, 0, 0},
		{models + "accuracy: 0.98", parse(), 0.98, 0, 0.98},
		{models + "accuracy: 0.98", parse("--accuracy=1"), 1, 0, 1},
		{models + "accuracy: 0.98", flags(t), 0.98, 0, 0.98},
		{models, parse("--accuracy=0.99"), 0.99, 0, 0.99},
	} {
		got := testkit.Must(config.Load(write(t, c.file), c.flags))(t)
		first, second, published := got.Floor(&got.Models[0]), got.Floor(&got.Models[1]), got.PublishedFloor()
		if first != c.first || second != c.second || published != c.published {
			t.Errorf("%q: floors %v, %v and %v, want %v, %v and %v", c.file, first, second, published, c.first, c.second,
				c.published)
		}
	}
	for text, want := range map[string]string{
		"accuracy: 99":   "accuracy is 99, must be 0 to 1",
		"accuracy: .nan": "accuracy is NaN, must be 0 to 1",
		"accuracy: -0.1": "accuracy is -0.1, must be 0 to 1",
		"accuracy: high": "accuracy",
		"models: [{source: a.onnx, rate: 5, accuracy: 1.5}]": `models[0]: accuracy of "a" is 1.5, must be 0 to 1`,
	} {
		_, err := config.Load(write(t, text), flags(t))
		if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Files that a configuration names stay inside its folder.
func TestPath(t *testing.T) {
	root := t.TempDir()
	inside, outside := filepath.Join(root, "in"), filepath.Join(root, "out")
	for _, f := range []string{"in/a.onnx", "in/sub/b.onnx", "out/c.onnx"} {
		testkit.Write(t, filepath.Join(root, f), "")
	}
	links := map[string]string{"good": "a.onnx", "bad": filepath.Join(outside, "c.onnx"), "sub/up": "../../out/c.onnx"}
	for link, to := range links {
		testkit.OK(t, os.Symlink(to, filepath.Join(inside, link)))
	}
	file := filepath.Join(inside, "test.yaml")
	testkit.Write(t, file, "")
	c := testkit.Must(config.Load(file, flags(t)))(t)
	for source, ok := range map[string]bool{
		"a.onnx": true, "./sub/../a.onnx": true, "sub/b.onnx": true, "good": true,
		filepath.Join(inside, "a.onnx"): true, filepath.Join(outside, "c.onnx"): false,
		"../out/c.onnx": false, "sub/../../out/c.onnx": false, "bad": false, "sub/up": false,
	} {
		_, err := c.Path(source, "")
		if ok != (err == nil) || !ok && !errors.Is(err, config.ErrInvalid) {
			t.Errorf("%s: %v", source, err)
		}
	}
	if _, err := c.Path(filepath.Join(outside, "c.onnx"), outside); err != nil {
		t.Errorf("a folder named on the command line: %v", err)
	}
}

// Whatever the file holds, loading it ends with a configuration or an error.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"", "models: [", "models: {a: b}", "models: [{source: x, rate: 1}]", "accelerators: auto",
		`accelerators: [{name: a, options: ["a=b"]}]`, "traffic: {duration: 1s, load: .9}", "traffic: 3", "policies: edf",
		"? [a]: b", "a: &a [*a]", "models:\n- source: x\n  rate: 1\n  after: y",
		"accuracy: .99\nmodels: [{source: x, rate: 1, accuracy: 1e400}]", "accuracy: [1]", "accuracy: ~",
	} {
		f.Add([]byte(s))
	}
	fs := flags(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Load(write(t, string(data)), fs)
		switch {
		case err == nil:
			c.Specs()
		case !errors.Is(err, config.ErrInvalid) || strings.Contains(err.Error(), "\n"):
			t.Errorf("%q: %q, want one line of ErrInvalid", data, err)
		}
	})
}

// Flags choose among the accelerators of the file, or name execution providers.
func TestChoose(t *testing.T) {
	for names, want := range map[string]string{"": "a/cpu b/webgpu", "auto": "", "b": "b/webgpu",
		"b,cuda": "b/webgpu cuda/cuda"} {
		c := config.Config{Accelerators: []config.Accelerator{{Name: "a", Provider: "cpu"}, {Name: "b", Provider: "webgpu"}}}
		c.ChooseAccelerators(strings.FieldsFunc(names, func(r rune) bool { return r == ',' }))
		var got []string
		for _, s := range c.Specs() {
			got = append(got, s.Name+"/"+s.Provider)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", names, got, want)
		}
	}
	var c config.Config
	testkit.OK(t, errors.Join(c.AddSource("zoo:resnet50", "op"), c.AddSource("sub/net.v2.onnx", "op")))
	if c.Models[0].Name != "resnet50" || c.Models[1].Name != "net.v2" || !filepath.IsAbs(c.Models[1].Source) {
		t.Errorf("models %+v", c.Models)
	}
}
