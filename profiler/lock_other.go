//go:build !unix

package profiler

import "os"

// lock does nothing where there is no advisory lock.
func lock(*os.File) (func(), error) { return func() {}, nil }
