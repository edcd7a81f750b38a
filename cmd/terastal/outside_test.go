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
)

// A module that is not ours opens a plan that the command line wrote, submits
// by name and runs traffic, with what our packages export and nothing else.
func TestOutside(t *testing.T) {
	orttest.Start(t)
	library, err := ort.Locate("")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "ONNXRUNTIME_LIB="+library.Path, "GOFLAGS=-mod=mod", "GOPROXY=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	terastal := filepath.Join(binaries, "terastal")
	run(terastal, "models", "build", "ds_cnn_kws", "--out", "kws.onnx")
	run(terastal, "models", "build", "glyph_mobile", "--out", "glyphs.onnx")
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("my.yaml", `
accelerators: [{name: all}, {name: basic, optimization: basic}]
models:
  - {name: kws, source: kws.onnx, rate: 50, deadline: 1s}
  - {name: detector, source: glyphs.onnx, rate: 20, deadline: 1s}
`)
	run(terastal, "plan", "--config", "my.yaml", "--budget", "200ms")

	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		put(name, string(data))
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	const ours = "github.com/terastal/terastal"
	put("go.mod", regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(string(mod), "module example.com/outside")+
		"\nrequire "+ours+" v0.0.0\nreplace "+ours+" => "+root+"\n")
	program, err := os.ReadFile(filepath.Join("testdata", "outside", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	put("main.go", string(program))
	if got, want := run("go", "run", "."), "detector: met, 1 output\nkws: met, 1 output\nlast come, first served: all of 14 ended\n"; got != want {
		t.Errorf("it says\n%swant\n%s", got, want)
	}
}
