package ort

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

// setup runs scripts/setup-onnxruntime.sh with only the named tools in PATH, so that it cannot download.
func setup(t *testing.T, cache, env string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	bin := t.TempDir()
	for _, tool := range []string{"bash", "uname", "sed", "head", "grep", "tr", "cut", "sha256sum", "shasum", "mktemp",
		"mkdir", "rm", "mv", "chmod", "dirname", "basename"} {
		if path, err := exec.LookPath(tool); err == nil {
			testkit.OK(t, os.Symlink(path, filepath.Join(bin, tool)))
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

// saysInOneLine asserts that an error is one line that says something.
func saysInOneLine(t *testing.T, stderr string, says ...string) {
	t.Helper()
	if strings.Count(stderr, "\n") != 1 {
		t.Errorf("not one line: %q", stderr)
	}
	for _, s := range says {
		if !strings.Contains(stderr, s) {
			t.Errorf("%q does not say %q", stderr, s)
		}
	}
}

// skipWindows skips where the script is not for the system.
func skipWindows(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the script is for Linux and macOS")
	}
}

func TestSetupScript(t *testing.T) {
	skipWindows(t)
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
		saysInOneLine(t, stderr, "checksum was not checked")
	})
	t.Run("explicit and old", func(t *testing.T) {
		stdout, stderr, err := setup(t, t.TempDir(), library(t, filepath.Join(t.TempDir(), "libold.so"), "1.18.0"))
		if err == nil || stdout != "" {
			t.Errorf("got %q, %v", stdout, err)
		}
		saysInOneLine(t, stderr, "ONNXRUNTIME_LIB", Version)
	})
	t.Run("explicit and missing", func(t *testing.T) {
		_, stderr, err := setup(t, t.TempDir(), "", "/no/such/library.so")
		if err == nil {
			t.Error("passed")
		}
		saysInOneLine(t, stderr, "/no/such/library.so", "not a file")
	})
}

// What the script installs besides the library is named, or refused in one line.
func TestSetupScriptWith(t *testing.T) {
	skipWindows(t)
	for _, c := range [][]string{
		{"--with", "rocm", "rocm", "--with cuda or --with openvino"}, {"--with", "", "--with cuda"},
		{"--with=cuda", "", "pip", "onnxruntime-gpu " + Version},
		{"--with", "openvino", "pip", "onnxruntime-ep-openvino " + pluginVersions["openvino"]},
	} {
		args, says := slices.DeleteFunc(slices.Clone(c[:2]), func(s string) bool { return s == "" }), c[2:]
		if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
			says = nil // there is no such package
		}
		// The library is named, so that nothing but the plugin is missing.
		args = append(args, library(t, filepath.Join(t.TempDir(), "libcustom.so"), Version))
		if c[1] == "" && c[0] == "--with" {
			args = args[:1]
		}
		cache := t.TempDir()
		stdout, stderr, err := setup(t, cache, "", args...)
		if err == nil || stdout != "" {
			t.Errorf("%q: got %q, %v", args, stdout, err)
		}
		saysInOneLine(t, stderr, says...)
		if left, _ := os.ReadDir(cache); len(left) > 0 {
			t.Errorf("%q: left behind: %v", args, left)
		}
	}
}

// An installed plugin is used while it is whole.
func TestSetupScriptPlugin(t *testing.T) {
	skipWindows(t)
	// As the script leaves it: files with their checksums, which it holds them against.
	cache := t.TempDir()
	folder := filepath.Join(cache, "plugins", "openvino", pluginVersions["openvino"])
	testkit.OK(t, os.MkdirAll(folder, 0o755))
	sum := sha256.Sum256([]byte("library"))
	for name, text := range map[string]string{"libx.so": "library", "SUMS": hex.EncodeToString(sum[:]) + "  libx.so\n"} {
		testkit.Write(t, filepath.Join(folder, name), text)
	}
	custom := library(t, filepath.Join(t.TempDir(), "libcustom.so"), Version)
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the plugin is for Linux on x86-64")
	}
	stdout, stderr, err := setup(t, cache, "", "--with", "openvino", custom)
	if err != nil || stdout != custom+"\n" || !strings.Contains(stderr, folder) {
		t.Errorf("got %q, %q, %v", stdout, stderr, err)
	}
	testkit.Write(t, filepath.Join(folder, "libx.so"), "damaged")
	if stdout, _, err := setup(t, cache, "", "--with", "openvino", custom); err == nil {
		t.Errorf("a damaged plugin is taken: %q", stdout)
	}
}

// A library in the cache is used while it is whole.
func TestSetupScriptCache(t *testing.T) {
	skipWindows(t)
	lib := cached(t)
	cache := t.TempDir()
	copied := filepath.Join(cache, "onnxruntime", Version, filepath.Base(lib))
	data := testkit.Must(os.ReadFile(lib))(t)
	testkit.Write(t, copied, data)
	stdout, stderr, err := setup(t, cache, "")
	if err != nil || stdout != copied+"\n" || stderr != "" {
		t.Errorf("whole: got %q, %q, %v", stdout, stderr, err)
	}
	data[len(data)/2]++
	testkit.Write(t, copied, data)
	stdout, stderr, err = setup(t, cache, "")
	if err == nil {
		t.Fatalf("a damaged library was taken: %q", stdout)
	}
	saysInOneLine(t, stderr, "damaged", "npm", "pip", "ONNXRUNTIME_LIB")
	if left, _ := filepath.Glob(filepath.Join(cache, "onnxruntime", Version, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
