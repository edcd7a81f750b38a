package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
)

// TestWalkthrough writes the files and runs the commands of docs/PROFILES.md,
// in their order, in an empty folder.
func TestWalkthrough(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures and runs for some seconds")
	}
	orttest.Start(t)
	library, err := ort.Locate("")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "PROFILES.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	commands := 0
	for i, block := range strings.Split(string(text), "```") {
		kind, body, ok := strings.Cut(block, "\n")
		if i%2 == 0 || !ok {
			continue
		}
		switch kind {
		case "yaml":
			name, _, _ := strings.Cut(strings.TrimPrefix(body, "# "), "\n")
			if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
		case "sh":
			for line := range strings.Lines(body) {
				commands++
				shell(t, dir, library.Path, strings.TrimSpace(line))
			}
		}
	}
	if commands < 12 {
		t.Errorf("%d commands were found", commands)
	}
}

// shell runs a command that has to succeed. A run may be INVALID where other
// tests keep the machine busy, and is too short for a 99th percentile.
func shell(t *testing.T, dir, library, line string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+binaries+string(os.PathListSeparator)+os.Getenv("PATH"), "ONNXRUNTIME_LIB="+library, "TERASTAL_CACHE="+filepath.Join(dir, ".cache"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitInvalid && (strings.HasPrefix(line, "terastal run ") || strings.HasPrefix(line, "terastal validate ")) {
		return
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}
