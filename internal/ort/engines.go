package ort

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/terastal/terastal/internal/enginecache"
)

// This file has providers that compile keep what they compile.

// engineLimit bounds the folder of engines.
const engineLimit = 4 << 30

// contextFile is the model in which a provider leaves what it compiled, where
// it does it so: it is opened in place of the original.
const contextFile = "context.onnx"

// engines says how a provider is told to keep engines in a folder: by options,
// or by a context model where that is nil. {} stands for the folder.
type engines struct {
	options map[string]string
	context bool
}

// keeping are the providers that compile.
var keeping = map[string]engines{
	"openvino": {options: map[string]string{"cache_dir": "{}"}},
	"tensorrt": {options: map[string]string{"trt_engine_cache_enable": "1", "trt_engine_cache_path": "{}",
		"trt_timing_cache_enable": "1", "trt_timing_cache_path": "{}"}},
	"nvtensorrtrtx": {options: map[string]string{"nv_runtime_cache_path": "{}"}},
	"coreml":        {options: map[string]string{"ModelCacheDirectory": "{}"}},
	"vitisai":       {options: map[string]string{"cache_dir": "{}", "cache_key": "engine"}},
	"qnn":           {context: true},
}

// openVINOPlugin is how OpenVINO's plugin is told, whose options are others.
var openVINOPlugin = engines{options: map[string]string{"CACHE_DIR": "{}"}}

// keeps is how the provider of a filled Config is told to keep engines; false where it does not compile, or is not to.
func (c Config) keeps() (engines, bool) {
	if c.Engines == "" {
		return engines{}, false
	}
	if c.Provider == "openvino" && c.Library != "" {
		return openVINOPlugin, true
	}
	k, ok := keeping[c.Provider]
	return k, ok
}

// isEngineOption tells the options by which a document could say where engines lie.
func isEngineOption(key string) bool {
	for _, k := range append(slices.Collect(maps.Values(keeping)), openVINOPlugin) {
		if _, ok := k.options[key]; ok {
			return true
		}
	}
	return strings.HasPrefix(key, "ep.context_")
}

// CheckEngines tells whether a session like this can keep its engine.
func CheckEngines(c Config) error {
	if _, ok := c.filled().keeps(); !ok {
		return nil
	}
	if err := enginecache.Check(c.Engines); err != nil {
		return fmt.Errorf("%w: set TERASTAL_CACHE to a folder of your own, or cache: off", err)
	}
	return nil
}

// engine finds the entry for a model, nil where the provider keeps none.
func (c Config) engine(model []byte) (*enginecache.Entry, error) {
	if _, ok := c.keeps(); !ok || len(model) == 0 {
		return nil, nil
	}
	process.RLock()
	path := process.library.Path
	process.RUnlock()
	runtime, err := fingerprint(path)
	if err != nil {
		return nil, err
	}
	library := runtime
	if c.Library != "" {
		if library, err = fingerprint(c.Library); err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256(model)
	options := c.entries()
	for key, value := range c.Options {
		options["option "+key] = value
	}
	options["threads"], options["optimization"] = fmt.Sprint(c.Threads), c.Optimization
	if c.Provider == "tensorrt" {
		options[tf32Override] = os.Getenv(tf32Override)
	}
	return enginecache.Open(c.Engines, enginecache.Key{
		Model: hex.EncodeToString(sum[:]), Provider: c.Provider, Library: library, Runtime: Version + " " + runtime,
		Device: c.Device, Machine: c.Machine, Options: options,
	})
}

// with is c with the provider told to keep its engine in the entry, and the model
// file to open in place of the original, if there is one.
func (c Config) with(e *enginecache.Entry) (told Config, file string) {
	k, _ := c.keeps()
	for key, value := range k.options {
		c = c.option(key, strings.ReplaceAll(value, "{}", e.Dir))
	}
	if !k.context {
		return c, ""
	}
	file = filepath.Join(e.Dir, contextFile)
	if e.Hit {
		return c, file
	}
	return c.option("ep.context_enable", "1").option("ep.context_embed_mode", "1").option("ep.context_file_path", file), ""
}

// LibrarySHA256 is the hash of a library's file, in hexadecimal.
func LibrarySHA256(path string) (string, error) {
	sum, err := enginecache.SHA256(path)
	if err != nil {
		return "", fmt.Errorf("the library of a provider: %w", err)
	}
	return sum, nil
}

// fingerprints are what fingerprint found, by path: a library in use does not change.
var fingerprints sync.Map

// fingerprint tells a library from others, and from itself with other libraries around it, which it loads: its hash,
// and the names, sizes and times of those in its folder.
func fingerprint(path string) (string, error) {
	if known, ok := fingerprints.Load(path); ok {
		return known.(string), nil
	}
	own, err := LibrarySHA256(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, own)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("the folder of a provider's library: %w", err)
	}
	for _, d := range entries {
		if !strings.Contains(d.Name(), ".so") && !strings.HasSuffix(d.Name(), ".dylib") &&
			!strings.HasSuffix(d.Name(), ".dll") {
			continue
		}
		// What a link leads to counts.
		info, err := os.Stat(filepath.Join(filepath.Dir(path), d.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("a library next to a provider's: %w", err)
		}
		fmt.Fprintf(h, "%q %d %d\n", d.Name(), info.Size(), info.ModTime().UnixNano())
	}
	sum := hex.EncodeToString(h.Sum(nil))
	fingerprints.Store(path, sum)
	return sum, nil
}
