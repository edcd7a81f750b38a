package ort

import (
	"maps"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	machine := []int{2, 3, 6}
	for _, c := range []struct {
		config Config
		says   string // "" means valid
	}{
		{Config{}, ""},
		{Config{Provider: "WebGPU", Optimization: "Layout", Threads: 3, Cores: []int{6, 2, 3}}, ""},
		{Config{Provider: "gpu"}, `unknown provider "gpu": use one of cpu, webgpu, cuda`},
		{Config{Optimization: "max"}, `unknown optimization "max": use one of none, basic, extended, layout, all`},
		{Config{Threads: -1}, "threads is -1: use 1 to 3"},
		{Config{Threads: 4}, "threads is 4: use 1 to 3"},
		{Config{Threads: 2, Cores: []int{2}}, "1 cores for 2 threads"},
		{Config{Cores: []int{2, 3}}, "2 cores for 1 threads"},
		{Config{Cores: []int{0}}, "core 0 is not one that this process may use: use some of 2, 3, 6"},
		{Config{Threads: 2, Cores: []int{3, 3}}, "core 3 is listed twice"},
	} {
		err := c.config.validate(machine)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%+v: %v", c.config, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%+v: error %v does not say %q", c.config, err, c.says)
		}
	}
}

func TestEntries(t *testing.T) {
	quiet := map[string]string{"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}
	for _, c := range []struct {
		config Config
		more   map[string]string
	}{
		{Config{}, nil},
		{Config{Cores: []int{1}}, nil},
		{Config{Threads: 3, Cores: []int{0, 2, 4}}, map[string]string{"session.intra_op_thread_affinities": "3;5",
			"session.intra_op.allow_spinning": "1", "session.force_spinning_stop": "1"}},
		{Config{Threads: 3}, nil},
		{Config{Provider: "WebGPU"}, map[string]string{"session.disable_cpu_ep_fallback": "1"}},
		{Config{Provider: "webgpu", AllowFallback: true}, nil},
		{Config{Options: map[string]string{"session.x": "y", "own": "z"}}, map[string]string{"session.x": "y"}},
	} {
		want := maps.Clone(quiet)
		maps.Copy(want, c.more)
		if got := c.config.filled().entries(); !maps.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v", c.config, got, want)
		}
	}
}

// Float32 loses no precision on CUDA unless the user says so, and a caller's options stay as they are.
func TestTF32IsOffUnlessNamed(t *testing.T) {
	given := map[string]string{"device_id": "1"}
	for _, c := range []struct {
		config Config
		want   map[string]string
	}{
		{Config{Provider: "cuda"}, map[string]string{"use_tf32": "0"}},
		{Config{Provider: "CUDAExecutionProvider", Options: given}, map[string]string{"device_id": "1", "use_tf32": "0"}},
		{Config{Provider: "cuda", Options: map[string]string{"use_tf32": "1"}}, map[string]string{"use_tf32": "1"}},
		{Config{Provider: "tensorrt", Options: given}, given},
		{Config{}, nil},
	} {
		if got := c.config.filled().Options; !maps.Equal(got, c.want) {
			t.Errorf("%+v: options %v, want %v", c.config, got, c.want)
		}
	}
	if len(given) != 1 {
		t.Errorf("the caller's options became %v", given)
	}
}
