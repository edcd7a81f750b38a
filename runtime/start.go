package runtime

import "github.com/terastal/terastal/internal/ort"

// Library says which ONNX Runtime library is in use, and where it was found.
type Library = ort.Library

// Start finds and starts ONNX Runtime, with its telemetry off: the library at path if that is not empty, else the one
// that the environment variable ONNXRUNTIME_LIB names, else one in the user's cache folder (where
// scripts/setup-onnxruntime.sh puts it) or in the system's library folders. It has to be called before models are
// loaded or accelerators opened; calling it again does nothing.
func Start(path string) (Library, error) { return ort.Start(path) }

// Quieten keeps the other threads of this process from interrupting the calling one, to which its goroutine must be
// locked, where the system can: Go's own threads wake up thousands of times a second while it computes. The function
// returned undoes it.
func Quieten() (undo func()) { return quieten([]int{threadID()}) }
