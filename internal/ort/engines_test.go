package ort

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/enginecache"
	"github.com/terastal/terastal/internal/testkit"
)

// contents are the files below a folder, with their times.
func contents(t *testing.T, root string) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	testkit.OK(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		out[path] = info.ModTime()
		return err
	}))
	return out
}

// OpenVINO's compiled model is kept, found again, and found by nobody whose
// model, options, device, machine or number of threads is another.
func TestOpenVINOKeepsEngines(t *testing.T) {
	c := openVINO(t)
	root := filepath.Join(t.TempDir(), "engines")
	c.Engines, c.Machine = root, "this one"
	weights := make([]float32, 16)
	model := func(weight float32) []byte {
		weights[0] = weight
		return modelBytes(node("MatMul", []string{"x", "w"}, []string{"y"}),
			constant("w", Float, []int64{4, 4}, floats(weights...)), input("x", Float, 1, 4), output("y", Float, 1, 4))
	}
	open := func(weight float32, c Config) {
		t.Helper()
		if y := run(t, model(weight), c, []int64{1, 4}, []float32{1, 2, 3, 4}); y[0] != weight {
			t.Fatalf("computes %v, want %v: a stale engine", y[0], weight)
		}
	}
	entries := func() int {
		list := testkit.Must(os.ReadDir(root))(t)
		return len(list)
	}
	open(3, c)
	if entries() != 1 {
		t.Fatalf("%d entries after the first session", entries())
	}
	kept := contents(t, root)
	if !slices.ContainsFunc(keysOf(kept), func(name string) bool { return strings.HasSuffix(name, ".blob") }) {
		t.Fatalf("OpenVINO left no blob: %v", keysOf(kept))
	}
	open(3, c)
	for name, at := range contents(t, root) {
		if before, ok := kept[name]; !ok || !before.Equal(at) {
			t.Errorf("%s was written again: the engine is not used", name)
		}
	}
	// Only the weights differ: caches that look at a graph's shape alone fail here.
	open(5, c)
	want := 2
	for name, change := range map[string]func(*Config){
		"machine": func(c *Config) { c.Machine = "another" },
		"device":  func(c *Config) { c.Device = "0" },
		"option":  func(c *Config) { c.Options = map[string]string{"INFERENCE_PRECISION_HINT": "bf16"} },
		"level":   func(c *Config) { c.Optimization = "basic" },
	} {
		other := c
		change(&other)
		open(3, other)
		if want++; entries() != want {
			t.Errorf("another %s: %d entries, want %d", name, entries(), want)
		}
	}
	off := c
	off.Engines = ""
	open(7, off)
	if entries() != want {
		t.Error("an engine was kept that was not to be")
	}
	// An engine that was damaged is replaced, not used.
	for name := range kept {
		if strings.HasSuffix(name, ".blob") {
			testkit.OK(t, os.Truncate(name, 10))
		}
	}
	open(3, c)
	for name := range kept {
		if info, err := os.Stat(name); err == nil && info.Size() <= 10 {
			t.Errorf("%s is still damaged", name)
		}
	}
}

func keysOf(m map[string]time.Time) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// Every provider that compiles is told where to keep it, by its own options or
// by a context model that is opened in place of the original next time.
func TestToldToKeep(t *testing.T) {
	entry := &enginecache.Entry{Dir: "/engines/x"}
	for provider, k := range keeping {
		c := Config{Provider: provider, Engines: "/engines", Options: map[string]string{"device_id": "1"}}.filled()
		told, file := c.with(entry)
		if told.Options["device_id"] != "1" || len(c.Options) != 1 {
			t.Errorf("%s: the options became %v, those given %v", provider, told.Options, c.Options)
		}
		named := false
		for _, value := range told.Options {
			named = named || strings.HasPrefix(value, "/engines/x")
		}
		if !named || file != "" {
			t.Errorf("%s: %v does not name the folder, or %q is to be opened before it is there", provider, told.Options, file)
		}
		hit := *entry
		hit.Hit = true
		if _, file := c.with(&hit); (file == "/engines/x/"+contextFile) != k.context {
			t.Errorf("%s: opens %q", provider, file)
		}
		// And a document may not.
		for key := range told.Options {
			if key != "device_id" {
				if err := (Config{Provider: provider, Options: map[string]string{key: "x"}}).Validate(); err == nil {
					t.Errorf("%s takes %s from a document", provider, key)
				}
			}
		}
	}
	for _, c := range []Config{{Provider: "cpu", Engines: "/engines"}, {Provider: "cuda", Engines: "/engines"},
		{Provider: "tensorrt"}} {
		if _, ok := c.filled().keeps(); ok {
			t.Errorf("%+v keeps engines", c)
		}
	}
}

// A library is told from others by what it and its neighbours are.
func TestFingerprint(t *testing.T) {
	make := func(files ...string) string {
		dir := t.TempDir()
		for i, name := range append([]string{"liba.so"}, files...) {
			file := filepath.Join(dir, name)
			testkit.Write(t, file, name)
			at := time.Unix(int64(i), 0)
			testkit.OK(t, os.Chtimes(file, at, at))
		}
		return filepath.Join(dir, "liba.so")
	}
	print := func(path string) string {
		return testkit.Must(fingerprint(path))(t)
	}
	alone := print(make())
	if print(make()) != alone || print(make("notes.txt")) != alone {
		t.Error("the same library has two fingerprints")
	}
	if print(make("libb.so.1")) == alone || print(make("libb.so.1", "libc.so")) == print(make("libc.so", "libb.so.1")) {
		t.Error("a neighbour does not count")
	}
	if _, err := fingerprint(filepath.Join(t.TempDir(), "gone.so")); err == nil {
		t.Error("a library that is not there has a fingerprint")
	}
}
