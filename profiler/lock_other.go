//go:build !unix

package profiler

import "os"

// lock does nothing where there is no advisory lock.
func lock(*os.File) error { return nil }
