package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

// Limits of size. What is longer is two things.
const (
	root         = "../.."
	fileLines    = 600
	functionRows = 80
	coreLines    = 2500 // of package sched, without its tests
	docColumns   = 120
)

// TestSizes: files and functions fit on a few screens, the scheduler's core is read in one sitting.
func TestSizes(t *testing.T) {
	core := 0
	for path, text := range files(t, ".go") {
		if strings.Contains(text, "\n// Code generated ") || strings.HasPrefix(text, "// Code generated ") {
			continue
		}
		n := strings.Count(text, "\n")
		if n > fileLines {
			t.Errorf("%s has %d lines, at most %d", path, n, fileLines)
		}
		if filepath.Dir(path) == "sched" && !strings.HasSuffix(path, "_test.go") {
			core += n
		}
		set := token.NewFileSet()
		file := testkit.Must(parser.ParseFile(set, path, text, parser.SkipObjectResolution))(t)
		for _, d := range file.Decls {
			f, is := d.(*ast.FuncDecl)
			if !is {
				continue
			}
			if n := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; n > functionRows {
				t.Errorf("%s: %s has %d lines, at most %d", path, f.Name.Name, n, functionRows)
			}
		}
	}
	if core > coreLines {
		t.Errorf("package sched has %d lines, at most %d", core, coreLines)
	}
}

// TestDocumentsAreNarrow: prose has lines of at most 120 columns; tables, code
// blocks, links and pictures cannot be broken.
func TestDocumentsAreNarrow(t *testing.T) {
	for path, text := range files(t, ".md") {
		code := false
		for i, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				code = !code
			}
			if code || strings.HasPrefix(line, "|") || strings.HasPrefix(line, "<") || len([]rune(line)) <= docColumns {
				continue
			}
			t.Errorf("%s:%d has %d columns, at most %d", path, i+1, len([]rune(line)), docColumns)
		}
	}
}

// replaced are words that the project does not use, and those that it does.
var replaced = []struct{ word, instead string }{
	{`flights?|inflight`, "requests that run"},
	{`homecoming|goAbroad|touchAbroad|[aA]broad`, "copy home, device memory"},
	{`settleIn`, "place"},
	{`anew`, "again"},
}

// TestWords: one word for one thing.
func TestWords(t *testing.T) {
	for _, x := range replaced {
		word := regexp.MustCompile(`\b(` + x.word + `)\b`)
		for _, ext := range []string{".go", ".md"} {
			for path, text := range files(t, ext) {
				if strings.HasPrefix(path, "internal/house/") {
					continue
				}
				if at := word.FindStringIndex(text); at != nil {
					t.Errorf("%s:%d says %q, say: %s", path, 1+strings.Count(text[:at[0]], "\n"), text[at[0]:at[1]], x.instead)
				}
			}
		}
	}
}

// files returns the texts of the project's files that end in ext, by path.
func files(t *testing.T, ext string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "out") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ext {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		out[filepath.ToSlash(rel)] = string(data)
		return nil
	})
	testkit.OK(t, err)
	if len(out) == 0 {
		t.Fatalf("no %s files", ext)
	}
	return out
}
