package view

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
)

// render makes the report of a folder and checks what holds for every report.
func rendered(t *testing.T, dir string) string {
	t.Helper()
	p := testkit.Must(Open(dir))(t)
	return markup(t, p)
}

func markup(t *testing.T, p *Page) string {
	t.Helper()
	data := testkit.Must(p.HTML())(t)
	again := testkit.Must(p.HTML())(t)
	if !bytes.Equal(data, again) {
		t.Error("the same documents gave different bytes")
	}
	page := strings.ReplaceAll(string(data), "\u00a0", " ")
	wellFormed(t, page)
	offline(t, page)
	linked(t, page)
	return page
}

// wellFormed checks that every element is closed where it has to be, that text
// has no stray markup, and elements neither styles nor handlers.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	// Script and style are not markup.
	page = regexp.MustCompile(`(?s)(<script[^>]*>).*?(</script>)`).ReplaceAllString(page, "$1$2")
	page = regexp.MustCompile(`(?s)(<style>).*?(</style>)`).ReplaceAllString(page, "$1$2")
	// What HTML leaves open or out, XML does not.
	page = regexp.MustCompile(`<((?:meta|input)\b[^>]*)>`).ReplaceAllString(page, "<$1/>")
	page = strings.ReplaceAll(page, " hidden>", ` hidden="">`)
	d := xml.NewDecoder(strings.NewReader(page))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on") {
					t.Errorf("<%s> has the attribute %s=%q, which the page's own policy forbids", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// offline checks that nothing on the page refers to anything outside it, and that its policy forbids it.
func offline(t *testing.T, page string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`\s(src|srcset|href|action|xlink:href|data|poster|background)\s*=\s*"([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(m[2], "#") {
			t.Errorf("the page refers to %s=%q", m[1], m[2])
		}
	}
	for _, word := range []string{"http:", "https:", "@import", "url(//", "fetch(", "XMLHttpRequest", "WebSocket",
		"sendBeacon", "import("} {
		if strings.Contains(page, word) {
			t.Errorf("the page has %q", word)
		}
	}
	if !strings.Contains(page, `http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; script-src &#39;sha256-`) {
		t.Error("the page has no policy that forbids all loading")
	}
}

// linked checks that links within the page and references by id resolve, and that ids are there once.
func linked(t *testing.T, page string) {
	t.Helper()
	ids := map[string]int{}
	for _, m := range regexp.MustCompile(`\sid="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]]++; ids[m[1]] > 1 {
			t.Errorf("the id %q is there twice", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`\s(?:href="#|aria-labelledby="|aria-describedby=")([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] == 0 {
			t.Errorf("nothing has the id %q that is referred to", m[1])
		}
	}
	if strings.Contains(page, `id="timeline-data"`) != strings.Contains(page, `id="lanes"`) {
		t.Error("the timeline has no data, or the data no timeline")
	}
}

// sections are the ids of a page's sections.
func sections(page string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`<section id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

func TestWholeFolder(t *testing.T) {
	dir := folder(t, "mobile", time.Second)
	page := rendered(t, dir)
	want := []string{"ran", "misses", "comparison", "responses", "timeline", "layers", "budgets", "skew", "capacity",
		"accuracy", "validation", "sweep", "machine", "provenance", "reading"}
	if got := sections(page); !slices.Equal(got, want) {
		t.Errorf("sections %v, want %v", got, want)
	}
	for _, text := range []string{
		"terastal missed the fewest deadlines: 6.0 %. Next is edf with 10.0 %, 4.0 points more.", // from the comparison
		"<strong>VALID</strong>", "a machine that was planted", "seed 7", "a=1, b=2", "top-1 accuracy", "95.00 %",
		">−4.00 points<", ">−5.10 to −2.80 points<", "~", ">−2.10 to +0.20 points<", "75 % confidence",
		"3 repeats are too few",
		"edf again (A/A)", "A/A: between two runs of edf in the same repeat the mean miss rate differs by +0.30 points " +
			"(-0.80 to " +
			"+1.50 points)", "✓ kept", "interference", ">0.712 to 0.932<", "All rates of planted.yaml",
		">0.80x<",
		"too few requests", "- (1)", "a doubt about the profile", "which no prediction knows",
		"terastal in detail: 1 of 3 checks held", ">1 of 3<", ">2 of 3<", ">−1.0 %<", ">✗ +25.0 %<", ">−1.0 points<",
		">✗ +7.9 points<", ">✗ −18.0 %<", ">2.8 %<", "at its pace", "advances in steps of 50 ns",
		"cannot run", "planted processor", "SHA-256 abab", "medians over repeats of the whole run", "6.1 % < 11.0 %",
	} {
		if !strings.Contains(html.UnescapeString(page), text) {
			t.Errorf("the page does not say %q", text)
		}
	}
	if strings.Contains(page, "DISTORTED") {
		t.Error("the page doubts times that nothing distorted")
	}
	if save := os.Getenv("TERASTAL_PAGE"); save != "" { // to look at it
		testkit.Write(t, save, page)
	}
}

// TestSectionsNeedData: every section is there if and only if its data is.
func TestSectionsNeedData(t *testing.T) {
	dir := folder(t, "mobile", 300*msec)
	for _, c := range []struct {
		without []string
		gone    []string
	}{
		{[]string{"validation.json"}, []string{"validation"}},
		{[]string{"curves.json"}, []string{"sweep"}},
		{[]string{"result.json"}, []string{"comparison", "machine"}},
		{[]string{"edf.log.json", "terastal.log.json"}, []string{"timeline", "budgets"}},
		{[]string{"edf.log.json", "terastal.log.json", "plan.json", "profile.json"}, []string{"timeline", "budgets",
			"layers", "skew", "capacity", "accuracy"}},
		{[]string{"edf.log.json", "terastal.log.json", "result.json"}, []string{"misses", "comparison", "responses",
			"timeline", "budgets", "accuracy", "machine"}},
		{[]string{"edf.log.json", "terastal.log.json", "result.json", "profile.json", "plan.json"}, []string{"ran",
			"misses", "comparison", "responses", "timeline", "layers", "budgets", "skew", "capacity", "accuracy", "machine"}},
	} {
		some := t.TempDir()
		entries := testkit.Must(os.ReadDir(dir))(t)
		for _, e := range entries {
			if !slices.Contains(c.without, e.Name()) {
				copyFile(t, filepath.Join(dir, e.Name()), filepath.Join(some, e.Name()))
			}
		}
		want := []string{"ran", "misses", "comparison", "responses", "timeline", "layers", "budgets", "skew", "capacity",
			"accuracy", "validation", "sweep", "machine", "provenance", "reading"}
		want = slices.DeleteFunc(want, func(s string) bool { return slices.Contains(c.gone, s) })
		if got := sections(rendered(t, some)); !slices.Equal(got, want) {
			t.Errorf("without %v: sections %v, want %v", c.without, got, want)
		}
	}
}

// TestEscapes: names are the user's.
func TestEscapes(t *testing.T) {
	const name = `</script></title></style><img src=x onerror=alert(1)>"'&{{.}}<!--`
	page := rendered(t, folder(t, name, 300*msec))
	if strings.Contains(page, "<img") || strings.Contains(page, "<!--") {
		at := strings.Index(page, "<img")
		t.Errorf("a name is markup: ...%s", page[max(0, at-100):at+60])
	}
	if got, want := strings.Count(page, "</script>"), 2; got != want {
		t.Errorf("%d scripts end, want %d", got, want)
	}
	if !strings.Contains(page, "&lt;img src=x onerror=alert(1)&gt;") {
		t.Error("the name is not there as text")
	}
	var data timeline
	testkit.OK(t, json.Unmarshal([]byte(between2(page, `id="timeline-data">`, "</script>")), &data))
	if got := data.Systems[0].Models[0].Name; got != name {
		t.Errorf("the timeline has the name %q", got)
	}
}

// between2 is what stands between two texts.
func between2(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// TestInvalid: reasons are shown, and one invalid document makes the page so.
func TestInvalid(t *testing.T) {
	dir := folder(t, "mobile", 300*msec)
	v := planted("mobile")
	v.Log = "x/terastal.2.log.json"
	v.Valid, v.Reasons = false, []string{"only 30 requests: raise --duration"}
	testkit.OK(t, validated(planted("mobile"), v).Write(filepath.Join(dir, "validation.json")))
	page := rendered(t, dir)
	if !strings.Contains(page, "<strong>INVALID</strong>") || strings.Contains(page, "<strong>VALID</strong>") ||
		!strings.Contains(page, "<li>terastal: only 30 requests: raise --duration</li>") {
		t.Error("the page does not say that the run is invalid, and why")
	}
	if !strings.Contains(page, ">terastal.2.log.json<") || strings.Count(page, "terastal in detail") != 1 {
		t.Error("the page does not tell repeated runs apart, or shows all in detail")
	}
}

// Commands in sentences are set as code, and what a sentence says about stays text.
func TestSentence(t *testing.T) {
	for in, want := range map[string]string{
		"`a b` and <c>":  "<code>a b</code> and &lt;c&gt;",
		"nothing":        "nothing",
		"one ` by <i>":   "one ` by &lt;i&gt;",
		"`<b>` or `c`, ": "<code>&lt;b&gt;</code> or <code>c</code>, ",
	} {
		if got := string(sentence(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
