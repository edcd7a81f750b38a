package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// exits runs a command that has to fail with the given code, the last line on
// standard error saying why, without a stack trace or native chatter:
//
//	exits CODE COMMAND ARG...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		ts.Fatalf("%v: want exit code %d, got %v", args[1:], want, err)
	}
	if exit.ExitCode() != want {
		ts.Fatalf("%v: want exit code %d, got %d", args[1:], want, exit.ExitCode())
	}
	stderr := strings.TrimSuffix(ts.ReadFile("stderr"), "\n")
	last := stderr[strings.LastIndex(stderr, "\n")+1:]
	if !strings.HasPrefix(last, "terastal: ") || strings.Contains(stderr, "goroutine ") ||
		strings.Contains(stderr, "onnxruntime::") {
		ts.Fatalf("want one clear line, got:\n%s", stderr)
	}
}

// writeArray writes an array of ones (as bytes) as NumPy does; -fortran in columns, -short without its last byte:
//
//	npy [-fortran|-short] FILE TYPE DIM,DIM...
func writeArray(ts *testscript.TestScript, neg bool, args []string) {
	order, missing := "False", 0
	switch {
	case len(args) == 4 && args[0] == "-fortran":
		order, args = "True", args[1:]
	case len(args) == 4 && args[0] == "-short":
		missing, args = 1, args[1:]
	}
	if neg || len(args) != 3 {
		ts.Fatalf("usage: npy [-fortran|-short] FILE TYPE DIM,DIM...")
	}
	size, err := strconv.Atoi(args[1][len(args[1])-1:])
	ts.Check(err)
	for d := range strings.SplitSeq(args[2], ",") {
		n, err := strconv.Atoi(d)
		ts.Check(err)
		size *= n
	}
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': (%s,), }\n", args[1], order, args[2])
	file := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), 0)
	file = append(file, header...)
	file = append(file, bytes.Repeat([]byte{1}, size-missing)...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), file, 0o644))
}

// query looks into a JSON file: every further argument is a condition PATH=VALUE, PATH>VALUE or PATH<VALUE; a * in the
// path stands for every element.
//
//	query FILE policies.*.failed=0
func query(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: query FILE PATH=VALUE...")
	}
	var doc any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &doc))
	for _, cond := range args[1:] {
		at := strings.IndexAny(cond, "=<>")
		if at < 0 {
			ts.Fatalf("condition %q has no =, < or >", cond)
		}
		path, op, want := cond[:at], cond[at], cond[at+1:]
		values, err := lookup(doc, strings.Split(path, "."))
		ts.Check(err)
		if len(values) == 0 {
			ts.Fatalf("%s: nothing there", path)
		}
		for _, v := range values {
			if !holds(v, op, want) {
				ts.Fatalf("%s is %v, want %c %s", path, v, op, want)
			}
		}
	}
}

func lookup(v any, path []string) ([]any, error) {
	if len(path) == 0 {
		return []any{v}, nil
	}
	switch v := v.(type) {
	case map[string]any:
		if path[0] != "*" {
			return lookup(v[path[0]], path[1:])
		}
		var all []any
		for _, x := range v {
			found, err := lookup(x, path[1:])
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	case []any:
		if path[0] == "len" {
			return []any{float64(len(v))}, nil
		}
		var all []any
		for i, x := range v {
			if path[0] != "*" && path[0] != strconv.Itoa(i) {
				continue
			}
			found, err := lookup(x, path[1:])
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	case nil:
		return []any{nil}, nil // what is not there is nil all the way down
	}
	return nil, fmt.Errorf("%v has no %q", v, path[0])
}

func holds(v any, op byte, want string) bool {
	n, isNumber := v.(float64)
	w, err := strconv.ParseFloat(want, 64)
	switch {
	case op == '=' && isNumber && err == nil:
		return n == w
	case op == '=':
		return fmt.Sprint(v) == want
	case !isNumber || err != nil:
		return false
	case op == '<':
		return n < w
	}
	return n > w
}

// await waits until a file has so many bytes:
//
//	await FILE BYTES
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE BYTES")
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	for {
		if info, err := os.Stat(ts.MkAbs(args[0])); err == nil && info.Size() >= size {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
