package validation

import (
	"fmt"
	"path/filepath"
)

// Folder is the folder of the logs, if all lie in one.
func (d *Document) Folder() (dir string, one bool) {
	for i := range d.Validations {
		next := filepath.Dir(d.Validations[i].Log)
		if i > 0 && next != dir {
			return "", false
		}
		dir = next
	}
	return dir, true
}

// Replayed returns an error if a replayed decision was another than the recorded one.
func (d *Document) Replayed() error {
	for i := range d.Validations {
		if v := &d.Validations[i]; v.Difference != "" {
			return fmt.Errorf("%s: a replayed decision differs: %s", v.Log, v.Difference)
		}
	}
	return nil
}
