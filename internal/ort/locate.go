package ort

import (
	"debug/elf"
	"debug/macho"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// ErrNotFound says that there is no ONNX Runtime library on this machine.
var ErrNotFound = errors.New("ONNX Runtime " + Version +
	" not found: run scripts/setup-onnxruntime.sh, or name the library with --ort or ONNXRUNTIME_LIB")

// ErrVersion says that a library has the wrong version.
var ErrVersion = errors.New("wrong ONNX Runtime version")

// Library is an ONNX Runtime shared library of the right version.
type Library struct {
	Path    string // absolute
	Version string // such as "1.29.0"
	Source  string // how it was found: "flag", "ONNXRUNTIME_LIB", "cache" or "system"
}

// Locate finds the library, without starting it: the explicit path, else the one in the environment variable
// ONNXRUNTIME_LIB, else the one that scripts/setup-onnxruntime.sh put in the cache folder (the build with CUDA first,
// where that is there), else an installed one. A path that somebody gave has to be right; a wrong one is an error, not
// a reason to look further. Errors match ErrNotFound or ErrVersion.
func Locate(explicit string) (Library, error) {
	return here().locate(explicit)
}

// search is where Locate looks.
type search struct {
	getenv func(string) string
	home   string
	dirs   []string // of installed libraries
}

// here is where this process looks.
func here() search {
	home, _ := os.UserHomeDir()
	return search{getenv: os.Getenv, home: home, dirs: systemDirs(runtime.GOOS, runtime.GOARCH)}
}

func (s search) locate(explicit string) (Library, error) {
	if explicit != "" {
		return given(explicit, "flag", "--ort")
	}
	if path := s.getenv("ONNXRUNTIME_LIB"); path != "" {
		return given(path, "ONNXRUNTIME_LIB", "ONNXRUNTIME_LIB")
	}
	var wrong error // the first library that was there, but of no use
	try := func(path, source string) (Library, bool) {
		if !isFile(path) {
			return Library{}, false
		}
		lib, err := check(path, source)
		if err != nil && wrong == nil {
			wrong = err
		}
		return lib, err == nil
	}
	if dir := s.cached("onnxruntime", Version); dir != "" { // that scripts/setup-onnxruntime.sh downloads to
		// The build with CUDA is there because somebody asked for it.
		for _, dir := range []string{dir + "-cuda", dir} {
			if lib, ok := try(filepath.Join(dir, fileNames(runtime.GOOS)[0]), "cache"); ok {
				return lib, nil
			}
		}
	}
	dirs := append(filepath.SplitList(s.getenv("LD_LIBRARY_PATH")), s.dirs...)
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		for _, name := range fileNames(runtime.GOOS) {
			if lib, ok := try(filepath.Join(dir, name), "system"); ok {
				return lib, nil
			}
		}
	}
	if wrong != nil {
		return Library{}, fmt.Errorf("%w; run scripts/setup-onnxruntime.sh to get %s", wrong, Version)
	}
	return Library{}, ErrNotFound
}

// EnginesDir is the folder in the user's cache that engines are kept in: see
// Config.Engines. It is "" where there is no cache folder.
func EnginesDir() string { return here().cached("engines") }

// CalibrationsDir is the folder that calibrations of accelerators are kept in; "" where there is none.
func CalibrationsDir() string { return here().cached("calibrations") }

// cached is a path below base, "" where there is none.
func (s search) cached(path ...string) string {
	base := s.base()
	if base == "" {
		return ""
	}
	return filepath.Join(base, filepath.Join(path...))
}

// base is the user's cache folder for everything of ours, "" where there is none.
func (s search) base() string {
	if base := s.getenv("TERASTAL_CACHE"); base != "" {
		return base
	}
	if xdg := s.getenv("XDG_CACHE_HOME"); xdg != "" {
		return filepath.Join(xdg, "terastal")
	}
	if s.home != "" {
		return filepath.Join(s.home, ".cache", "terastal")
	}
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// given checks a library that somebody named.
func given(path, source, setting string) (Library, error) {
	if !isFile(path) {
		return Library{}, fmt.Errorf("%s names %s, which is not a file: correct it, or leave it out (%w)", setting, path,
			ErrNotFound)
	}
	lib, err := check(path, source)
	if err != nil {
		return Library{}, fmt.Errorf("%s: %w; correct it, or run scripts/setup-onnxruntime.sh and leave it out", setting, err)
	}
	return lib, nil
}

// check makes sure that a file is a whole library of the right version.
func check(path, source string) (Library, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Library{}, fmt.Errorf("finding %s: %w", path, err)
	}
	// Loading a library that was cut short kills the process, so look first.
	if err := whole(abs); err != nil {
		return Library{}, fmt.Errorf("%w: %s is not an ONNX Runtime library for this machine: %w", ErrVersion, abs, err)
	}
	version, err := libraryVersion(abs)
	if err != nil {
		return Library{}, fmt.Errorf("%w: %s cannot be loaded: %w", ErrVersion, abs, err)
	}
	if version != Version {
		return Library{}, fmt.Errorf("%w: %s is %s, needed is %s", ErrVersion, abs, version, Version)
	}
	return Library{Path: abs, Version: version, Source: source}, nil
}

// whole tells whether a shared library has all the bytes its header promises.
func whole(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	size := uint64(info.Size())
	if runtime.GOOS == "darwin" {
		f, err := macho.Open(path)
		if err != nil {
			// Also a universal binary, which the loader can judge.
			if fat, fatErr := macho.OpenFat(path); fatErr == nil {
				return fat.Close()
			}
			return err
		}
		defer f.Close()
		for _, load := range f.Loads {
			if s, ok := load.(*macho.Segment); ok && s.Offset+s.Filesz > size {
				return fmt.Errorf("it is cut short at %d bytes", size)
			}
		}
		return nil
	}
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Off+p.Filesz > size {
			return fmt.Errorf("it is cut short at %d bytes", size)
		}
	}
	return nil
}

// fileNames are the library's usual file names, the most exact one first.
func fileNames(goos string) []string {
	if goos == "darwin" {
		return []string{"libonnxruntime." + Version + ".dylib", "libonnxruntime.1.dylib", "libonnxruntime.dylib"}
	}
	return []string{"libonnxruntime.so." + Version, "libonnxruntime.so.1", "libonnxruntime.so"}
}

// systemDirs are the folders that libraries are installed in.
func systemDirs(goos, goarch string) []string {
	if goos == "darwin" {
		return []string{"/opt/homebrew/lib", "/opt/homebrew/opt/onnxruntime/lib", "/usr/local/lib", "/usr/lib"}
	}
	triple := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[goarch]
	return []string{
		"/usr/local/lib", "/usr/local/lib/" + triple, "/usr/lib/" + triple, "/usr/lib", "/usr/lib64", "/usr/local/lib64",
		"/opt/onnxruntime/lib", "/home/linuxbrew/.linuxbrew/lib",
	}
}
