// Package testkit is what the tests of many packages share: checks of errors in one line, and files. It imports nothing
// of the project, so that every package's tests can use it; testkit/rig has models, executors and profiles.
package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// T is what the kit needs of a test, a benchmark, a fuzz target or a property.
type T interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// OK stops the test where err is an error.
func OK(t T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Must takes what a call returns, as in Must(f())(t), and passes its value on; an error stops the test.
func Must[V any](v V, err error) func(T) V {
	return func(t T) V {
		t.Helper()
		OK(t, err)
		return v
	}
}

// Must2 is Must for calls with two values.
func Must2[V, W any](v V, w W, err error) func(T) (V, W) {
	return func(t T) (V, W) {
		t.Helper()
		OK(t, err)
		return v, w
	}
}

// Fails checks that err is one clear line that wraps every wanted error and contains every wanted text.
func Fails(t T, err error, want ...any) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one that says %q", want)
		return
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error %q has several lines", err)
	}
	for _, w := range want {
		if target, is := w.(error); is && !errors.Is(err, target) {
			t.Errorf("the error %q does not wrap %q", err, target)
		} else if !is && !strings.Contains(err.Error(), fmt.Sprint(w)) {
			t.Errorf("the error %q does not say %q", err, w)
		}
	}
}

// Says is Fails for tables of which some rows fail: without a text, err is to be nil.
func Says(t T, err error, text string) {
	t.Helper()
	if text != "" {
		Fails(t, err, text)
	} else if err != nil {
		t.Errorf("the error %q, want none", err)
	}
}

// Refused is Fails for calls that return a value, too, as in Refused(f())(t, ErrSpec, "no such core").
func Refused[V any](_ V, err error) func(t T, want ...any) {
	return func(t T, want ...any) {
		t.Helper()
		Fails(t, err, want...)
	}
}

// Refused2 is Refused for calls with two values.
func Refused2[V, W any](_ V, _ W, err error) func(t T, want ...any) { return Refused(0, err) }

// Equal checks that two values are the same, as cmp.Diff compares them.
func Equal(t T, want, got any, options ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, options...); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// Write writes a file, in folders that it makes, and returns its path.
func Write[D ~string | ~[]byte](t T, path string, data D) string {
	t.Helper()
	OK(t, os.MkdirAll(filepath.Dir(path), 0o755))
	OK(t, os.WriteFile(path, []byte(data), 0o600))
	return path
}
