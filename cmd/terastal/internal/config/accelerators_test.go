package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
)

func load(t testing.TB, accelerators string) (*config.Config, error) {
	t.Helper()
	return config.Load(write(t, "accelerators: ["+accelerators+"]\n"), flags(t))
}

func names(c *config.Config) string {
	var out []string
	for _, s := range c.Specs() {
		out = append(out, s.Name)
	}
	return strings.Join(out, " ")
}

// A device becomes an accelerator for each of its streams, which share its settings and its cores.
func TestStreams(t *testing.T) {
	c := testkit.Must(load(t, "{name: cpu, cores: [0]}, "+
		"{name: gpu, provider: cuda, streams: 3, cores: [1, 2, 3], keep_warm: true, lead: 20us}, "+
		"{name: one, provider: cuda, streams: 1}, {name: auto, provider: cuda, streams: auto, cores: [9]}"))(t)
	if got := names(c); got != "cpu gpu.0 gpu.1 gpu.2 one auto" {
		t.Fatalf("accelerators %s", got)
	}
	for k, s := range c.Specs()[1:4] {
		if s.Of != "gpu" || s.OnDevice() != "gpu" || s.Stream != k || !s.KeepWarm || len(s.Cores) != 1 ||
			s.Cores[0] != 1+k || s.Provider != "cuda" {
			t.Errorf("stream %d: %+v", k, s)
		}
		if a := c.Accelerator(&s); a == nil || a.Name != "gpu" || *a.Lead != 20*time.Microsecond {
			t.Errorf("%s was made of %+v", s.Name, a)
		}
	}
	if one := c.Specs()[4]; one.Of != "" || one.OnDevice() != "one" {
		t.Errorf("a single stream: %+v", one)
	}
	testkit.OK(t, c.Accelerators[3].SetStreams(2))
	if got := names(c); !strings.HasSuffix(got, "one auto.0 auto.1") {
		t.Errorf("accelerators %s", got)
	}
	if s := c.Specs()[5:]; len(s[0].Cores) != 1 || len(s[1].Cores) != 0 {
		t.Errorf("two streams on one core: %+v", s)
	}
}

// The name of a device stands for its streams, in flags and in faults, and so does that of each.
func TestStreamsByName(t *testing.T) {
	const gpu = "{name: cpu}, {name: gpu, provider: cuda, streams: 3}, {name: auto, provider: cuda, streams: auto}"
	for chosen, want := range map[string]string{"gpu": "gpu.0 gpu.1 gpu.2", "gpu.1": "gpu.1",
		"gpu.2,cpu,gpu.0": "gpu.0 gpu.2 cpu",
		"gpu.1,gpu":       "gpu.0 gpu.1 gpu.2", "gpu,gpu.1": "gpu.0 gpu.1 gpu.2", "gpu.3": "gpu.3", "auto.1": "auto"} {
		c := testkit.Must(load(t, gpu))(t)
		c.ChooseAccelerators(strings.Split(chosen, ","))
		if got := names(c); got != want {
			t.Errorf("%s: %s, want %s", chosen, got, want)
		}
	}
	c := testkit.Must(load(t, gpu))(t)
	c.ChooseAccelerators([]string{"auto.1"})
	if err := c.Accelerators[0].SetStreams(1); err == nil || !errors.Is(err, config.ErrInvalid) {
		t.Errorf("a stream that does not pay: %v", err)
	}
	testkit.OK(t, c.Accelerators[0].SetStreams(4))
	if got := names(c); got != "auto.1" {
		t.Errorf("chosen of four: %s", got)
	}
	for name, ok := range map[string]bool{"gpu": true, "gpu.2": true, "gpu.3": false, "cpu.0": false, "auto.7": true,
		"auto.16": false, "npu": false} {
		_, err := config.Load(write(t, "accelerators: ["+gpu+"]\nfaults: [\"lost accelerator="+name+"\"]\n"), flags(t))
		if ok != (err == nil) {
			t.Errorf("a fault of %s: %v", name, err)
		}
	}
}

// Where nothing is configured, names are of the accelerators that suit the machine, unless all are providers'.
func TestAmongAutomatic(t *testing.T) {
	gpu := runtime.Spec{Name: "gpu", Provider: "cuda"}
	for _, c := range []struct{ names, want, whole, fails string }{
		{"gpu", "gpu.0 gpu.1", "gpu", ""},
		{"gpu.1", "gpu.1", "gpu", ""},
		{"a,gpu.0", "a gpu.0", "a gpu", ""},
		{"auto", "a b gpu.0 gpu.1", "a b gpu", ""},
		{"b", "b", "b", ""},
		{"gpu.2", "", "gpu", `"gpu.2" is no accelerator`},
		{"npu", "", "", `"npu" is no accelerator`},
	} {
		var cfg config.Config
		cfg.ChooseAccelerators(strings.Split(c.names, ","))
		for n, want := range map[int]string{1: c.whole, 2: c.want} {
			got, err := cfg.Among(append([]runtime.Spec{{Name: "a"}, {Name: "b"}}, gpu.Streams(n)...))
			if want == "" {
				testkit.Fails(t, err, config.ErrInvalid, c.fails)
				continue
			}
			var names []string
			for _, s := range got {
				names = append(names, s.Name)
			}
			if testkit.OK(t, err); strings.Join(names, " ") != want || len(cfg.Specs()) != 0 {
				t.Errorf("%s of %d streams: %v, want %s", c.names, n, names, want)
			}
		}
	}
	var cfg config.Config
	if cfg.ChooseAccelerators([]string{"cpu", "webgpu"}); len(cfg.Specs()) != 2 {
		t.Errorf("providers: %+v", cfg.Specs())
	}
	cfg = config.Config{}
	if cfg.ChooseAccelerators([]string{"cpu", "mine"}, "mine"); len(cfg.Specs()) != 2 {
		t.Errorf("a plugin: %+v", cfg.Specs())
	}
}

func TestBadStreams(t *testing.T) {
	for _, c := range [][2]string{
		{"{name: gpu, provider: cuda, streams: 0}",
			`streams of "gpu" is "0", must be 1 to 16 or auto`},
		{"{name: gpu, provider: cuda, streams: 1000}",
			`streams of "gpu" is "1000", must be 1 to 16 or auto`},
		{"{name: gpu, provider: cuda, streams: some}",
			`streams of "gpu" is "some", must be 1 to 16 or auto`},
		{"{name: c, streams: 2}",
			`a device has streams, such as a GPU`},
		{"{name: c, streams: auto}",
			`a device has streams, such as a GPU`},
		{"{name: e, provider: emulated, table: x, streams: 2}",
			`a device has streams, such as a GPU`},
		{"{name: gpu, provider: webgpu, streams: 2}",
			`the provider "webgpu" has one queue`},
		{"{name: gpu, provider: cuda, streams: 2, threads: 4}",
			`each of its streams has one thread`},
		{"{name: gpu, provider: cuda, streams: 2, cores: [1]}",
			`1 for 2 streams, must be one for each`},
		{"{name: c, keep_warm: true}",
			`it is for devices that fall asleep`},
		{"{name: c, lead: 1us}",
			`it is for devices that layers are submitted to`},
		{"{name: gpu, provider: cuda, lead: 20}",
			`not a duration`},
		{"{name: gpu, provider: cuda, lead: -1us}",
			`must be 0s to 100ms`},
		{"{name: gpu, provider: cuda, streams: 2}, {name: gpu.1, provider: cpu}",
			`"gpu.1" is the name of a stream of "gpu"`},
	} {
		_, err := load(t, c[0])
		testkit.Says(t, err, c[1])
	}
	for _, file := range []string{"{name: gpu, provider: webgpu, streams: auto}", "{name: c, streams: 1}",
		"{name: gpu, provider: cuda, lead: 0s}", "{name: gpu, provider: cuda, streams: 2}, {name: gpu.2}"} {
		if _, err := load(t, file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
