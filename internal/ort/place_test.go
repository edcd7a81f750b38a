package ort

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"github.com/terastal/terastal/internal/testkit"
)

// weighty is y = x + w with 1024 weights.
func weighty(weight float32) []byte {
	w := make([]float32, 1024)
	for i := range w {
		w[i] = weight
	}
	return modelBytes(node("Add", []string{"x", "w"}, []string{"y"}), constant("w", Float, []int64{1024}, floats(w...)),
		constant("small", Float, []int64{2}, floats(1, 2)), input("x", Float, 1024), output("y", Float, 1024))
}

// A session takes a tensor that lies where it wants it in place of its initializer, and keeps no copy.
func TestInitializersAreShared(t *testing.T) {
	start(t)
	model := testkit.Must(Optimize(weighty(2), Config{}))(t)
	list := testkit.Must(Initializers(model, 4096))(t)
	if len(list) != 1 || list[0].Name != "w" || !bytes.Equal(list[0].Data[:4], floats(2)) || list[0].Shape[0] != 1024 {
		t.Fatalf("the large initializers are %+v", list)
	}
	place := testkit.Must(NewPlace(Config{}))(t)
	defer place.Close()
	data := bytes.Clone(list[0].Data)
	defer runtime.KeepAlive(data)
	shared := testkit.Must(place.NewTensor(list[0].Type, list[0].Shape, unsafe.Pointer(&data[0])))(t)
	defer shared.Destroy()
	c := Config{Optimization: "none", Initializers: map[string]Value{"w": shared, "gone": shared}}
	one, two := open(t, model, nil, nil, c), open(t, model, nil, nil, c)
	x := newTensor(t, Float, []int64{1024}, make([]byte, 4096))
	for _, weight := range []float32{2, 5} {
		for i := range Numbers[float32](data) {
			Numbers[float32](data)[i] = weight
		}
		for _, s := range []*Session{one, two} {
			out := []Value{nil}
			testkit.OK(t, s.Run([]Value{x}, out))
			if got := Numbers[float32](bytesOf(t, out[0]))[7]; got != weight {
				t.Errorf("a session computes with weight %v, the shared one is %v", got, weight)
			}
			out[0].Destroy()
		}
	}
	shared.Destroy()
	testkit.Refused(NewSession(model, nil, nil, c))(t, `initializer "gone" has been destroyed`)
}

func TestPlace(t *testing.T) {
	start(t)
	testkit.Refused(NewPlace(Config{Provider: "openvino"}))(t, ErrNoMemory)
	testkit.Refused(NewPlace(Config{Provider: "cuda", Options: map[string]string{"device_id": "x"}}))(t, "device_id")
	p := testkit.Must(NewPlace(Config{}))(t)
	p.Close()
	p.Close()
	testkit.Refused(p.NewTensor(String, []int64{1}, nil))(t, "string")
	testkit.Refused(Optimize([]byte("no model"), Config{}))(t, "opening a session")
	testkit.Refused(Initializers([]byte("no model"), 1))(t, "reading a model's weights")
}

// Options by which a provider captures graphs itself do not reach layers.
func TestGraphOptionsAreDropped(t *testing.T) {
	given := map[string]string{"enable_cuda_graph": "1", "trt_cuda_graph_enable": "0", "x": "y"}
	for provider, want := range map[string]map[string]string{
		"CUDA":     {"trt_cuda_graph_enable": "0", "x": "y"},
		"tensorrt": given,
		"openvino": given,
	} {
		c := Config{Provider: provider, Options: given}
		if got := c.ForLayers().Options; !maps.Equal(got, want) || (len(c.NotForLayers()) > 0) != (len(want) == 2) {
			t.Errorf("%s: %v, dropped %v", provider, got, c.NotForLayers())
		}
	}
	c := Config{Provider: "trt", Options: map[string]string{"trt_cuda_graph_enable": "true"}}
	if got := c.NotForLayers(); len(got) != 1 {
		t.Errorf("dropped %v", got)
	}
}

// NVIDIA's libraries are told to compute exactly and to be modest, unless the user says otherwise.
func TestEnvironment(t *testing.T) {
	t.Setenv(tf32Override, "") // restored afterwards
	t.Setenv(workspaceConfig, "")
	for _, c := range []struct {
		config          Config
		tf32, workspace string
	}{
		{Config{Provider: "TensorRT"}, "0", workspace},
		{Config{Provider: "trt", Options: map[string]string{"trt_fp16_enable": "0"}}, "0", workspace},
		{Config{Provider: "trt", Options: map[string]string{"trt_fp16_enable": "1"}}, "", workspace},
		{Config{Provider: "cuda"}, "", workspace},
		{Config{Provider: "cpu"}, "", ""},
	} {
		testkit.OK(t, errors.Join(os.Unsetenv(tf32Override), os.Unsetenv(workspaceConfig)))
		c.config.filled().environment()
		if a, b := os.Getenv(tf32Override), os.Getenv(workspaceConfig); a != c.tf32 || b != c.workspace {
			t.Errorf("%+v: %q and %q, want %q and %q", c.config, a, b, c.tf32, c.workspace)
		}
	}
	os.Setenv(workspaceConfig, ":16:8")
	if (Config{Provider: "cuda"}).filled().environment(); os.Getenv(workspaceConfig) != ":16:8" {
		t.Error("what the user has set is overwritten")
	}
}
