package main

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

// root is the repository's folder.
var root = filepath.Join("..", "..")

// documents are the repository's Markdown files, relative to root, with their text.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	testkit.OK(t, fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || path == "out" ||
			path == "shared"):
			return fs.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		out[path] = string(text)
		return err
	}))
	if len(out) < 8 {
		t.Fatalf("%d documents were found", len(out))
	}
	return out
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	code    = regexp.MustCompile("`[^`\n]+`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	marks   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestLinks: files and headings that documents link to exist, and every document can be reached from the README.
func TestLinks(t *testing.T) {
	docs := documents(t)
	anchors := map[string]map[string]bool{}
	for path, text := range docs {
		anchors[path] = map[string]bool{}
		for _, h := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			anchors[path][strings.ReplaceAll(marks.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
		}
	}
	links := map[string][]string{}
	for path, text := range docs {
		text = code.ReplaceAllString(fenced.ReplaceAllString(text, ""), "")
		for _, l := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(l[1], "#")
			to := path
			if file != "" {
				to = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s links to %s: %v", path, l[1], err)
			}
			if anchor != "" && !anchors[to][anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", path, l[1], to)
			}
			links[path] = append(links[path], to)
		}
	}
	reached, next := map[string]bool{}, []string{"README.md"}
	for len(next) > 0 {
		path := next[0]
		next = next[1:]
		if !reached[path] {
			reached[path], next = true, append(next, links[path]...)
		}
	}
	for path := range docs {
		if !reached[path] {
			t.Errorf("no links lead from the README to %s", path)
		}
	}
}

var (
	symbol = regexp.MustCompile(`^([a-z]+)((?:\.[A-Za-z]\w*)+)$`)
	source = regexp.MustCompile(`^[a-z][\w/]*\.go$`)
)

// TestNamesInMethod: the code that the method's description points at is there.
func TestNamesInMethod(t *testing.T) {
	packages := map[string]string{"stats": "internal/stats", "study": "cmd/terastal/internal/study",
		"sched": "sched", "sim": "sched/sim", "policy": "sched/policy", "fluid": "sched/fluid", "traffic": "sched/traffic",
		"plan": "sched/plan", "eventlog": "sched/eventlog",
		"profiler": "profiler", "runtime": "runtime", "models": "models", "variants": "variants",
		"accuracy": "variants/accuracy"}
	names := map[string]map[string]bool{}
	found := 0
	for _, path := range []string{"docs/METHOD.md", "docs/NUMBERS.md", "docs/evaluation/rollout.md"} {
		text := documents(t)[path]
		for _, span := range code.FindAllString(fenced.ReplaceAllString(text, ""), -1) {
			span = strings.Trim(span, "`")
			if source.MatchString(span) {
				found++
				// Several files of one folder are named after the first.
				a, _ := filepath.Glob(filepath.Join(root, span))
				b, _ := filepath.Glob(filepath.Join(root, "sched", span))
				if len(a)+len(b) == 0 {
					t.Errorf("%s names %s, which is not there", path, span)
				}
				continue
			}
			m := symbol.FindStringSubmatch(span)
			if m == nil || packages[m[1]] == "" {
				continue
			}
			found++
			if names[m[1]] == nil {
				names[m[1]] = declared(t, filepath.Join(root, packages[m[1]]))
			}
			for _, name := range strings.Split(m[2][1:], ".") {
				if !names[m[1]][name] {
					t.Errorf("%s names %s, and package %s declares no %s", path, span, packages[m[1]], name)
				}
			}
		}
	}
	if found < 30 {
		t.Errorf("%d names were found", found)
	}
}

// declared are the names of a package's types, functions, methods, fields, constants and variables.
func declared(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files := testkit.Must(filepath.Glob(filepath.Join(dir, "*.go")))(t)
	out := map[string]bool{}
	for _, path := range files {
		f := testkit.Must(parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution))(t)
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				out[n.Name.Name] = true
				return false
			case *ast.TypeSpec:
				out[n.Name.Name] = true
			case *ast.Field:
				for _, name := range n.Names {
					out[name.Name] = true
				}
			case *ast.ValueSpec:
				for _, name := range n.Names {
					out[name.Name] = true
				}
			}
			return true
		})
	}
	return out
}
