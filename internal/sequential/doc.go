// Package sequential lets tests of long arithmetic in one goroutine run where they are fast. The race detector slows
// loops over floats five to twenty times and finds nothing in them: they share no memory with another goroutine. So
// such tests skip themselves under it, and make test runs every package whose tests import this one a second time
// without it, in full.
//
// A test of code that starts goroutines, or is called by several, is not for this package: it has to run under the
// detector, with as much as it takes for the goroutines to meet.
package sequential
