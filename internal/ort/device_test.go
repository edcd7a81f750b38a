package ort

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

// devices are the configurations of devices to test: the CPU, whose memory is the host's, and WebGPU where it opens.
func devices(t *testing.T, each func(t *testing.T, c Config)) {
	start(t)
	for _, provider := range []string{"cpu", "webgpu"} {
		t.Run(provider, func(t *testing.T) {
			c := Config{Provider: provider}
			if err := Probe(c); provider != "cpu" && err != nil {
				if os.Getenv("TERASTAL_REQUIRE_WEBGPU") == "1" {
					t.Fatal(err)
				}
				t.Skipf("WebGPU finds no device (make test-webgpu brings a software one): %v", err)
			}
			each(t, c)
		})
	}
}

func memory(t *testing.T, c Config) *Memory {
	t.Helper()
	m := testkit.Must(OpenMemory(c))(t)
	t.Cleanup(func() {
		testkit.OK(t, m.Close())
	})
	return m
}

func buffer(t *testing.T, m *Memory, size int) *Buffer {
	t.Helper()
	b := testkit.Must(m.NewBuffer(size))(t)
	t.Cleanup(b.Close)
	return b
}

func onDevice(t *testing.T, b *Buffer, typ DataType, shape ...int64) Value {
	t.Helper()
	v := testkit.Must(b.NewTensor(typ, shape))(t)
	t.Cleanup(func() { v.Destroy() })
	return v
}

// A session computes from a device's memory to a device's memory, another one
// continues there, and the result comes to the host.
func TestMemory(t *testing.T) {
	devices(t, func(t *testing.T, c Config) {
		m := memory(t, c)
		double := modelBytes(node("Add", []string{"x", "x"}, []string{"y"}), input("x", Float, 1, 3),
			output("y", Float, 1, 3))
		first, second := open(t, double, nil, nil, c), open(t, double, nil, nil, c)
		// Of different sizes, so that tensors are smaller than their buffers.
		a, b := buffer(t, m, 12), buffer(t, m, 4096)
		x, y := onDevice(t, a, Float, 1, 3), onDevice(t, b, Float, 1, 3)
		host := make([]byte, 12)
		flatHost, flatA := newTensor(t, Int32, []int64{3}, host), onDevice(t, a, Int32, 3)
		for n := range 3 {
			v := float32(n)
			copy(host, floats(v, 2, -3))
			testkit.OK(t, m.Copy([]Value{flatHost}, []Value{flatA}))
			clear(host) // it may be changed at once
			testkit.OK(t, errors.Join(first.Run([]Value{x}, []Value{y}), second.Run([]Value{y}, []Value{x}), m.Wait()))
			testkit.OK(t, m.Copy([]Value{flatA}, []Value{flatHost}))
			if want := floats(4*v, 8, -12); !bytes.Equal(host, want) {
				t.Errorf("run %d: %v, want %v", n, host, want)
			}
		}
		if _, err := Bytes(x); err == nil {
			t.Error("the host was given a device's memory to look at")
		}
		if _, err := a.NewTensor(Float, []int64{4}); err == nil {
			t.Error("a tensor is larger than its buffer")
		}
		if _, err := a.NewTensor(Float, []int64{0}); err == nil {
			t.Error("a tensor of nothing is on a device")
		}
		if got := m.Queue() != ""; got != (c.Provider == "webgpu") {
			t.Errorf("its queue is %q", m.Queue())
		}
	})
}

// Pinned host memory is tried with the one kind of memory that is always there.
func TestPinnedMemory(t *testing.T) {
	start(t)
	m := memory(t, Config{})
	if b, err := m.NewPinned(64); b != nil || err != nil {
		t.Errorf("pinned memory of the CPU: %v %v", b, err)
	}
	var err error
	if m.host, err = openMemory(m.session.native, "Cpu", 0, 0); err != nil {
		t.Fatal(err)
	}
	b := testkit.Must(m.NewPinned(64))(t)
	defer b.Close()
	if len(b.Bytes()) != 64 {
		t.Errorf("%d bytes", len(b.Bytes()))
	}
	copy(b.Bytes(), floats(1, 2))
	in, out := newTensor(t, Int32, []int64{2}, b.Bytes()[:8]), make([]byte, 8)
	if err := m.Copy([]Value{in}, []Value{newTensor(t, Int32, []int64{2}, out)}); err != nil ||
		!bytes.Equal(out, floats(1, 2)) {
		t.Errorf("%v %v", out, err)
	}
}

func TestNoMemory(t *testing.T) {
	start(t)
	testkit.Refused(OpenMemory(Config{Provider: "coreml"}))(t, ErrNoMemory)
	if _, err := OpenMemory(Config{Options: map[string]string{"speed": "9"}}); err == nil || errors.Is(err, ErrNoMemory) {
		t.Errorf("%v, want what is wrong with the options", err)
	}
}

func TestForLayers(t *testing.T) {
	for _, c := range []struct {
		provider    string
		given, want map[string]string
	}{
		{"cpu", nil, nil},
		{"WebGPU", nil, map[string]string{"preferredLayout": "NCHW"}},
		{"webgpu", map[string]string{"a": "b"}, map[string]string{"a": "b", "preferredLayout": "NCHW"}},
		{"webgpu", map[string]string{"preferredLayout": "NHWC"}, map[string]string{"preferredLayout": "NHWC"}},
		{"webgpu", map[string]string{"ep.webgpuexecutionprovider.preferredLayout": "NHWC"},
			map[string]string{"ep.webgpuexecutionprovider.preferredLayout": "NHWC"}},
	} {
		before := maps.Clone(c.given)
		if got := (Config{Provider: c.provider, Options: c.given}).ForLayers().Options; !maps.Equal(got, c.want) ||
			!maps.Equal(before, c.given) {
			t.Errorf("%s %v: %v, want %v", c.provider, c.given, got, c.want)
		}
	}
}
