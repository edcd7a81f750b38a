// Package page makes the report of a folder of results: one HTML file that
// needs nothing else. It loads nothing from a network (its own policy forbids
// it to), opens from disk, prints, and follows the reader's light or dark
// theme. The same documents give the same bytes.
//
// [Open] and [OpenLogs] read documents, [Page.Write] writes the file. The
// charts are SVG drawn here; the timeline is drawn by the script in page.js
// from data that the file carries. Names in documents are the user's: they
// reach the page through html/template, or through the escaping of chart.go.
package view

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"

	"github.com/terastal/terastal/internal/document"
)

//go:embed page.html
var layout string

//go:embed page.css
var style string

//go:embed page.js
var script string

// FileName is what the report of a folder is called in it.
const FileName = "report.html"

// Write writes the report to a file, atomically.
func (p *Page) Write(path string) error {
	data, err := p.HTML()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return document.WriteFile(path, data)
}

// HTML is the report.
func (p *Page) HTML() ([]byte, error) {
	t, err := template.New("report").Parse(layout)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p.view()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// policy is the page's Content-Security-Policy: nothing may be loaded, and only
// this very script and style apply.
func policy() string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; script-src " + hash(script) + "; style-src " + hash(style) + "; base-uri 'none'; form-action 'none'"
}
