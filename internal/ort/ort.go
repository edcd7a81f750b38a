// Package ort is ONNX Runtime for one process: it finds the shared library, starts it once with telemetry off, and
// opens and runs sessions on its execution providers. It is for the packages that run models; it knows nothing of
// layers or scheduling.
//
// It builds on github.com/yalue/onnxruntime_go and adds what that wrapper leaves out: the version is checked before the
// library is used, tensors may have no dimensions or no elements, models may have no inputs, every fixed-size element
// type works, and a run makes no garbage.
package ort

import (
	"errors"
	"fmt"
	"os"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// Version is the ONNX Runtime version that terastal needs, exactly.
const Version = "1.29.0"

var errNotStarted = errors.New("ONNX Runtime is not started: call ort.Start first")

// process is the ONNX Runtime of this process. The library allows one.
var process struct {
	sync.RWMutex
	library Library
	started bool
}

func started() error {
	process.RLock()
	defer process.RUnlock()
	if !process.started {
		return errNotStarted
	}
	return nil
}

// Start locates ONNX Runtime and starts it, once per process, with telemetry off and only errors logged. It may be
// called often and from any goroutine: later calls return the library in use. A later call that names a different
// library is an error, because a process can hold only one.
func Start(explicit string) (Library, error) {
	process.Lock()
	defer process.Unlock()
	if process.started {
		if explicit != "" && !samePath(explicit, process.library.Path) {
			return Library{}, fmt.Errorf("ONNX Runtime already runs from %s: name the same library, not %s",
				process.library.Path, explicit)
		}
		return process.library, nil
	}
	library, err := Locate(explicit)
	if err != nil {
		return Library{}, err
	}
	ort.SetSharedLibraryPath(library.Path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return Library{}, fmt.Errorf("starting ONNX Runtime from %s: %s", library.Path, oneLine(err.Error()))
	}
	if err := errors.Join(ort.DisableTelemetry(), attach(library.Path)); err != nil {
		ort.DestroyEnvironment()
		return Library{}, fmt.Errorf("starting ONNX Runtime from %s: %s", library.Path, oneLine(err.Error()))
	}
	process.library, process.started = library, true
	return library, nil
}

// samePath tells whether two paths lead to one file.
func samePath(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
