package ort

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// Nodes that a provider does not take are named. It needs a second provider:
// WebGPU on a Vulkan device, real or software.
func TestRefusedNodes(t *testing.T) {
	start(t)
	if err := Probe(Config{Provider: "webgpu"}); err != nil {
		if os.Getenv("TERASTAL_REQUIRE_WEBGPU") == "1" {
			t.Fatal(err)
		}
		t.Skipf("WebGPU finds no device (make test-webgpu brings a software one): %v", err)
	}
	model := modelBytes(
		node("Relu", []string{"x"}, []string{"r"}),
		node("Det", []string{"r"}, []string{"d"}),
		node("Neg", []string{"d"}, []string{"y"}),
		input("x", Float, 2, 3, 3), output("y", Float, 2),
	)
	_, err := NewSession(model, nil, nil, Config{Provider: "webgpu"})
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("%v, want a RefusedError", err)
	}
	if !slices.ContainsFunc(refused.Nodes, func(n string) bool { return strings.HasSuffix(n, "(Det)") }) ||
		slices.ContainsFunc(refused.Nodes, func(n string) bool { return strings.HasSuffix(n, "(Relu)") }) {
		t.Errorf("%v, want the determinant and not the rectifier", err)
	}
}

func TestRefusedError(t *testing.T) {
	e := RefusedError{Provider: "webgpu"}
	for range 10 {
		e.Nodes = append(e.Nodes, "n (Det)")
	}
	if want := "webgpu does not take " + strings.Repeat("n (Det), ", 7) + "n (Det) and 2 more"; e.Error() != want {
		t.Errorf("%q", e.Error())
	}
}
