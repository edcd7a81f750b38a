package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
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

// A module that is not ours opens a plan that the command line wrote, submits by name and runs traffic under a policy
// that it brings, with what our packages export and nothing else. The plan brings the file of a built-in network along.
func TestOutside(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds programs")
	}
	orttest.Start(t)
	library := testkit.Must(ort.Locate(""))(t)
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
	run(terastal, "models", "build", "glyph_mobile", "--out", "glyphs.onnx")
	put := func(name, text string) {
		t.Helper()
		testkit.Write(t, filepath.Join(dir, name), text)
	}
	put("my.yaml", `
accelerators: [{name: all}, {name: basic, optimization: basic}]
models:
  - {name: kws, source: "zoo:ds_cnn_kws", rate: 50, deadline: 1s}
  - {name: detector, source: glyphs.onnx, rate: 20, deadline: 1s}
`)
	run(terastal, "plan", "--config", "my.yaml", "--budget", "200ms")

	root := testkit.Must(filepath.Abs("../.."))(t)
	for _, name := range []string{"go.mod", "go.sum"} {
		data := testkit.Must(os.ReadFile(filepath.Join(root, name)))(t)
		put(name, string(data))
	}
	mod := testkit.Must(os.ReadFile(filepath.Join(dir, "go.mod")))(t)
	const ours = "github.com/terastal/terastal"
	put("go.mod", regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(string(mod), "module example.com/outside")+
		"\nrequire "+ours+" v0.0.0\nreplace "+ours+" => "+root+"\n")
	for _, p := range []struct{ name, from string }{
		{"outside", filepath.Join("testdata", "outside")}, {"serve", filepath.Join("..", "..", "docs", "examples", "serve")},
	} {
		program, err := os.ReadFile(filepath.Join(p.from, "main.go"))
		if err == nil {
			err = os.Mkdir(filepath.Join(dir, p.name), 0o755)
		}
		testkit.OK(t, err)
		put(filepath.Join(p.name, "main.go"), string(program))
	}
	run("go", "build", "-o", "bin/", "./...")
	if got, want := run(filepath.Join(dir, "bin", "outside")),
		"detector: met, 1 output\nkws: met, 1 output\nlifo: 14 of 14 requests ended\n"; got != want {
		t.Errorf("it says\n%swant\n%s", got, want)
	}
	serve(t, exec.Command(filepath.Join(dir, "bin", "serve"), filepath.Join(dir, "out", "plan.json"), dir, "localhost:0"),
		library.Path)
}

// serve starts the example that serves the plan's models and asks it for both.
func serve(t *testing.T, cmd *exec.Cmd, library string) {
	t.Helper()
	cmd.Env = append(os.Environ(), "ONNXRUNTIME_LIB="+library)
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	testkit.OK(t, err)
	defer func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	lines := bufio.NewScanner(out)
	at := regexp.MustCompile(`serving \["kws" "detector"\] on (\S+)`)
	for lines.Scan() {
		if found := at.FindStringSubmatch(lines.Text()); found != nil {
			for model, size := range map[string]int{"kws": 4 * 490, "detector": 4 * 48 * 48, "other": 0} {
				r := testkit.Must(http.Post("http://"+found[1]+"/"+model, "", bytes.NewReader(make([]byte, size))))(t)
				text, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || strings.Contains(string(text), `"outcome":"met"`) != (model != "other") {
					t.Errorf("%s: %s %v", model, text, err)
				}
			}
			return
		}
	}
	t.Fatal("it does not serve")
}
