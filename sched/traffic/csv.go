package traffic

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// latest bounds a recorded release (2.4 hours).
const latest = time.Duration(1) << 43

// Read reads recorded arrivals from CSV with the header "model,release_us": a model's name and the release in
// microseconds from the start, which may have decimals. Rows may be in any order; simultaneous releases keep theirs.
// models gives the names, in the order of the system.
func Read(r io.Reader, models []string) ([]Arrival, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = 2
	in.TrimLeadingSpace = true
	in.Comment = '#'
	header, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: arrivals: %w", ErrInvalid, noEOF(err))
	}
	if strings.TrimSpace(header[0]) != "model" || strings.TrimSpace(header[1]) != "release_us" {
		return nil, fmt.Errorf("%w: arrivals: the header is %q, want model,release_us", ErrInvalid, strings.Join(header, ","))
	}
	var out []Arrival
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: arrivals: %w", ErrInvalid, err)
		}
		line, _ := in.FieldPos(0)
		a, err := parseArrival(row, models)
		if err != nil {
			return nil, fmt.Errorf("%w: arrivals, line %d: %w", ErrInvalid, line, err)
		}
		if len(out) == MaxArrivals {
			return nil, fmt.Errorf("%w: more than %d arrivals", ErrInvalid, MaxArrivals)
		}
		out = append(out, a)
	}
	slices.SortStableFunc(out, func(a, b Arrival) int { return int(max(-1, min(1, a.At-b.At))) })
	return out, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty, want the header model,release_us")
	}
	return err
}

func parseArrival(row, models []string) (Arrival, error) {
	name := strings.TrimSpace(row[0])
	m := slices.Index(models, name)
	if m < 0 {
		return Arrival{}, fmt.Errorf("unknown model %q, have %s", name, strings.Join(models, ", "))
	}
	us, err := strconv.ParseFloat(strings.TrimSpace(row[1]), 64)
	if err != nil || !(us >= 0) || us > latest.Seconds()*1e6 {
		return Arrival{}, fmt.Errorf("release %q, must be microseconds from 0 to %.0f", row[1], latest.Seconds()*1e6)
	}
	return Arrival{At: time.Duration(math.Round(us * 1e3)), Model: m}, nil
}
