// Package orttest starts ONNX Runtime for tests.
package orttest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/terastal/terastal/internal/ort"
)

// Start starts ONNX Runtime, or skips the test with the reason when there is no library of the right version. Where CI
// or TERASTAL_REQUIRE_ORT=1 is set a missing library fails the test, so that a build server cannot pass by skipping. A
// library that is there but does not start always fails.
func Start(t testing.TB) {
	t.Helper()
	_, err := ort.Start("")
	if err == nil {
		return
	}
	missing := errors.Is(err, ort.ErrNotFound) || errors.Is(err, ort.ErrVersion)
	if missing && !required() {
		t.Skip(err)
	}
	t.Fatal(err)
}

// WebGPU is Start for tests that need a Vulkan device, real or software: it skips the test with the reason where none
// opens. Where TERASTAL_REQUIRE_WEBGPU=1 is set, as by make test-webgpu, a missing device fails it.
func WebGPU(t testing.TB) {
	t.Helper()
	Start(t)
	if err := ort.Probe(ort.Config{Provider: "webgpu"}); err != nil {
		if os.Getenv("TERASTAL_REQUIRE_WEBGPU") == "1" {
			t.Fatal(err)
		}
		t.Skipf("WebGPU finds no device (make test-webgpu brings a software one): %v", err)
	}
}

// CUDA is Start for tests that need an NVIDIA GPU: it skips the test with the reason where none opens. Where
// TERASTAL_REQUIRE_CUDA=1 is set a missing GPU fails it.
func CUDA(t testing.TB) {
	t.Helper()
	Start(t)
	if err := ort.Probe(ort.Config{Provider: "cuda"}); err != nil {
		if os.Getenv("TERASTAL_REQUIRE_CUDA") == "1" {
			t.Fatal(err)
		}
		t.Skipf("CUDA finds no GPU: %v", err)
	}
}

func required() bool {
	return os.Getenv("CI") != "" || os.Getenv("TERASTAL_REQUIRE_ORT") == "1"
}

// Main runs a package's tests and examples. Examples cannot skip: where there
// is no library, the whole package is skipped with the reason.
func Main(m *testing.M) {
	if _, err := ort.Start(""); err != nil && !required() {
		fmt.Println("skipped:", err)
		return
	}
	os.Exit(m.Run())
}
