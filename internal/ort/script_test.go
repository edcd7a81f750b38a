package ort

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// setup runs scripts/setup-onnxruntime.sh with only the named tools in PATH,
// so that it cannot download.
func setup(t *testing.T, cache, env string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	bin := t.TempDir()
	for _, tool := range []string{"bash", "uname", "sed", "head", "grep", "tr", "cut", "sha256sum", "shasum", "mktemp", "mkdir", "rm", "mv", "chmod", "dirname", "basename"} {
		if path, err := exec.LookPath(tool); err == nil {
			if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command(bash, append([]string{filepath.Join("..", "..", "scripts", "setup-onnxruntime.sh")}, args...)...)
	cmd.Env = []string{"PATH=" + bin, "TERASTAL_CACHE=" + cache, "ONNXRUNTIME_LIB=" + env}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// cached is the library that the script itself downloaded on this machine.
func cached(t *testing.T) string {
	t.Helper()
	lib, err := Locate("")
	if err != nil {
		t.Skip(err)
	}
	if lib.Source != "cache" {
		t.Skip("ONNX Runtime does not come from the cache folder")
	}
	return lib.Path
}

func TestSetupScript(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the script is for Linux and macOS")
	}
	oneLine := func(t *testing.T, stderr string, says ...string) {
		t.Helper()
		if strings.Count(stderr, "\n") != 1 {
			t.Errorf("stderr is not one line: %q", stderr)
		}
		for _, s := range says {
			if !strings.Contains(stderr, s) {
				t.Errorf("stderr %q does not say %q", stderr, s)
			}
		}
	}
	t.Run("explicit", func(t *testing.T) {
		lib := cached(t)
		for _, c := range [][2]string{{"", lib}, {lib, ""}} {
			var args []string
			if c[1] != "" {
				args = []string{c[1]}
			}
			stdout, stderr, err := setup(t, t.TempDir(), c[0], args...)
			if err != nil || stdout != lib+"\n" || stderr != "" {
				t.Errorf("got %q, %q, %v", stdout, stderr, err)
			}
		}
	})
	t.Run("explicit and custom", func(t *testing.T) {
		custom := library(t, filepath.Join(t.TempDir(), "libcustom.so"), Version)
		stdout, stderr, err := setup(t, t.TempDir(), custom)
		if err != nil || stdout != custom+"\n" {
			t.Errorf("got %q, %q, %v", stdout, stderr, err)
		}
		oneLine(t, stderr, "checksum was not checked")
	})
	t.Run("explicit and old", func(t *testing.T) {
		stdout, stderr, err := setup(t, t.TempDir(), library(t, filepath.Join(t.TempDir(), "libold.so"), "1.18.0"))
		if err == nil || stdout != "" {
			t.Errorf("got %q, %v", stdout, err)
		}
		oneLine(t, stderr, "ONNXRUNTIME_LIB", Version)
	})
	t.Run("explicit and missing", func(t *testing.T) {
		_, stderr, err := setup(t, t.TempDir(), "", "/no/such/library.so")
		if err == nil {
			t.Error("passed")
		}
		oneLine(t, stderr, "/no/such/library.so", "not a file")
	})
	t.Run("cache", func(t *testing.T) {
		lib := cached(t)
		cache := t.TempDir()
		copied := filepath.Join(cache, "onnxruntime", Version, filepath.Base(lib))
		if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(lib)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, data, 0o644); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, err := setup(t, cache, "")
		if err != nil || stdout != copied+"\n" || stderr != "" {
			t.Errorf("whole: got %q, %q, %v", stdout, stderr, err)
		}
		data[len(data)/2]++
		if err := os.WriteFile(copied, data, 0o644); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, err = setup(t, cache, "")
		if err == nil {
			t.Fatalf("a damaged library was taken: %q", stdout)
		}
		oneLine(t, stderr, "damaged", "npm", "pip", "ONNXRUNTIME_LIB")
		if left, _ := filepath.Glob(filepath.Join(cache, "onnxruntime", Version, ".*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}
