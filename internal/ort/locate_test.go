package ort

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

// library builds a shared library that says it is ONNX Runtime of a version.
func library(t *testing.T, path, version string) string {
	t.Helper()
	testkit.OK(t, os.MkdirAll(filepath.Dir(path), 0o755))
	source := filepath.Join(t.TempDir(), "lib.c")
	code := fmt.Sprintf(`
static const char *version(void) { return %q; }
static const struct { const void *api; const char *(*version)(void); } base = { 0, version };
const void *OrtGetApiBase(void) { return &base; }
`, version)
	if version == "none" {
		code = "int unrelated;"
	}
	testkit.Write(t, source, code)
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-o", path, source).CombinedOutput(); err != nil {
		t.Fatalf("building a library: %v\n%s", err, out)
	}
	return path
}

func TestLocate(t *testing.T) {
	name := fileNames(runtime.GOOS)[0]
	dir := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	right := library(t, at("right", name), Version)
	old := library(t, at("old", name), "1.18.0")
	unrelated := library(t, at("unrelated", name), "none")
	library(t, at("cache", "onnxruntime", Version, name), Version)
	library(t, at("home", ".cache", "terastal", "onnxruntime", Version, name), Version)
	library(t, at("cuda", "onnxruntime", Version, name), Version)
	library(t, at("cuda", "onnxruntime", Version+"-cuda", name), Version)
	whole := testkit.Must(os.ReadFile(right))(t)
	short := at("short.so")
	testkit.Write(t, short, whole[:len(whole)/2])
	garbage := at("garbage.so")
	testkit.Write(t, garbage, "not a library")
	t.Chdir(dir)

	for _, c := range []struct {
		name     string
		explicit string
		env      map[string]string
		home     string
		dirs     []string
		path     string // wanted
		source   string
		is       error
		says     []string
	}{
		{name: "flag wins", explicit: right, env: map[string]string{"ONNXRUNTIME_LIB": old}, path: right, source: "flag"},
		{name: "relative flag", explicit: filepath.Join("right", name), path: right, source: "flag"},
		{name: "environment before cache", env: map[string]string{"ONNXRUNTIME_LIB": right, "TERASTAL_CACHE": at("cache")},
			path: right, source: "ONNXRUNTIME_LIB"},
		{name: "cache before system", env: map[string]string{"TERASTAL_CACHE": at("cache")}, dirs: []string{at("right")},
			path: at("cache", "onnxruntime", Version, name), source: "cache"},
		{name: "the build with CUDA first", env: map[string]string{"TERASTAL_CACHE": at("cuda")},
			path: at("cuda", "onnxruntime", Version+"-cuda", name), source: "cache"},
		{name: "home's cache", home: at("home"), source: "cache",
			path: at("home", ".cache", "terastal", "onnxruntime", Version, name)},
		{name: "system, past an old one", dirs: []string{at("old"), at("right")}, path: right, source: "system"},
		{name: "loader path", env: map[string]string{"LD_LIBRARY_PATH": at("right")}, path: right, source: "system"},
		{name: "nothing", home: at("empty"), is: ErrNotFound, says: []string{"scripts/setup-onnxruntime.sh"}},
		{name: "only an old one", dirs: []string{at("old")}, is: ErrVersion,
			says: []string{"1.18.0", Version, "scripts/setup-onnxruntime.sh"}},
		{name: "old flag", explicit: old, is: ErrVersion, says: []string{"--ort", "1.18.0", Version, old}},
		{name: "old environment", env: map[string]string{"ONNXRUNTIME_LIB": old}, is: ErrVersion,
			says: []string{"ONNXRUNTIME_LIB"}},
		{name: "missing flag", explicit: at("gone.so"), is: ErrNotFound, says: []string{at("gone.so")}},
		{name: "folder", explicit: dir, is: ErrNotFound, says: []string{"not a file"}},
		{name: "unrelated library", explicit: unrelated, is: ErrVersion, says: []string{"OrtGetApiBase"}},
		{name: "cut short", explicit: short, is: ErrVersion, says: []string{short}},
		{name: "garbage", explicit: garbage, is: ErrVersion, says: []string{garbage}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lib, err := search{getenv: func(k string) string { return c.env[k] }, home: c.home, dirs: c.dirs}.locate(c.explicit)
			if c.is == nil {
				if want := (Library{Path: c.path, Version: Version, Source: c.source}); err != nil || lib != want {
					t.Fatalf("got %+v, %v; want %+v", lib, err, want)
				}
				return
			}
			testkit.Fails(t, err, c.is)
			saysInOneLine(t, err.Error()+"\n", c.says...)
		})
	}
}

// TestFunctionTable holds the function numbers of api.h against the header that the wrapper is compiled with.
func TestFunctionTable(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		t.Skipf("the wrapper's source is not at hand: %v", err)
	}
	folder := strings.TrimSpace(string(out))
	header := testkit.Must(os.ReadFile(filepath.Join(folder, "onnxruntime_c_api.h")))(t)
	if want := fmt.Sprintf("#define ORT_API_VERSION %d\n", apiVersion); !strings.Contains(string(header), want) {
		t.Errorf("the wrapper's header has no %q", want)
	}
	ours := testkit.Must(os.ReadFile("api.h"))(t)
	numbers := map[string]int{}
	for line := range strings.Lines(string(ours)) {
		var function string
		var number int
		line = strings.TrimSuffix(strings.TrimSpace(line), ",")
		if n, _ := fmt.Sscanf(line, "TERASTAL_%s = %d", &function, &number); n == 2 {
			numbers[function] = number
		}
	}
	if len(numbers) < 20 {
		t.Errorf("only %d functions found in api.h", len(numbers))
	}
	// The library that stands in front of OpenVINO's plugin has a few, too.
	front := testkit.Must(os.ReadFile(filepath.Join("..", "..", "scripts", "openvino", "any-cpu.c")))(t)
	var fronts int
	for line := range strings.Lines(string(front)) {
		var function string
		var number int
		line = strings.TrimSuffix(strings.TrimSpace(line), ",")
		if n, _ := fmt.Sscanf(line, "TERASTAL_%s = %d", &function, &number); n == 2 {
			fronts++
			if known, ok := numbers[function]; ok && known != number {
				t.Errorf("%s is number %d in any-cpu.c, %d in api.h", function, number, known)
			}
			numbers[function] = number
		}
	}
	if want := fmt.Sprintf("API_VERSION = %d,", apiVersion); fronts != 2 || !strings.Contains(string(front), want) {
		t.Errorf("any-cpu.c has %d functions, or no %q", fronts, want)
	}
	of := offsets(t, folder, slices.Sorted(maps.Keys(numbers)))
	if want := fmt.Sprintf("FUNCTIONS = %d\n", of["FUNCTIONS"]); !strings.Contains(string(front), want) {
		t.Errorf("any-cpu.c has no %q", want)
	}
	delete(of, "FUNCTIONS")
	for function, number := range of {
		if numbers[function] != number {
			t.Errorf("%s is number %d in api.h, %d in OrtApi", function, numbers[function], number)
		}
	}
}

// offsets asks a C compiler for the numbers of members of struct OrtApi.
func offsets(t *testing.T, folder string, functions []string) map[string]int {
	t.Helper()
	dir := t.TempDir()
	var program strings.Builder
	program.WriteString("#include <stddef.h>\n#include <stdio.h>\n#include \"onnxruntime_c_api.h\"\nint main(void) {\n")
	program.WriteString("  printf(\"FUNCTIONS %zu\\n\", sizeof(OrtApi) / sizeof(void *));\n")
	for _, f := range functions {
		fmt.Fprintf(&program, "  printf(\"%s %%zu\\n\", offsetof(OrtApi, %s) / sizeof(void *));\n", f, f)
	}
	program.WriteString("  return 0;\n}\n")
	source, binary := filepath.Join(dir, "numbers.c"), filepath.Join(dir, "numbers")
	testkit.Write(t, source, program.String())
	if out, err := exec.Command(cmp.Or(os.Getenv("CC"), "cc"), "-I"+folder, "-o", binary,
		source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out := testkit.Must(exec.Command(binary).Output())(t)
	numbers := map[string]int{}
	for line := range strings.Lines(string(out)) {
		var function string
		var number int
		testkit.Must(fmt.Sscanf(line, "%s %d", &function, &number))(t)
		numbers[function] = number
	}
	return numbers
}
