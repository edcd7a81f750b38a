package view

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/stats"
)

// Words for figures. Tables, texts and charts all use these.

func percent(x float64) string {
	switch {
	case x > 0 && x < 0.0001:
		return "<0.01 %"
	case x > 0 && x < 0.001:
		return fmt.Sprintf("%.2f %%", 100*x)
	}
	return fmt.Sprintf("%.1f %%", 100*x)
}

// signed is a relative difference.
func signed(x float64) string { return fmt.Sprintf("%+.1f %%", 100*x) }

// points is a difference of two shares.
func points(x float64) string { return fmt.Sprintf("%+.2f points", 100*x) }

// hundredths is a share in per cent without its sign.
func hundredths(x float64) string { return fmt.Sprintf("%.2f", 100*x) }

// msText words milliseconds with a sensible number of digits, usText microseconds.
func msText(ms float64) string {
	switch {
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case ms >= 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}

func usText(us float64) string {
	if us >= 1000 {
		return msText(us / 1e3)
	}
	return fmt.Sprintf("%.1f us", us)
}

// took words a time of a layer.
func took(d time.Duration) string { return usText(float64(d) / 1e3) }

// sum words a time of a model.
func sumText(d time.Duration) string { return msText(d.Seconds() * 1e3) }

func signedMS(x float64) string {
	if x < 0 {
		return "-" + msText(-x)
	}
	return "+" + msText(x)
}

func secondsText(d time.Duration) string { return fmt.Sprintf("%.3g s", d.Seconds()) }

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// number has no more digits than it needs.
func number(x float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", math.Round(x*1e6)/1e6), "0"), ".")
}

// compact is a number of any size in few characters, for the ticks of charts.
func compact(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1e6:
		return number(x/1e6) + "M"
	case a >= 1e4:
		return number(x/1e3) + "k"
	}
	return number(x)
}

func percentTick(x float64) string { return number(100*x) + " %" }

// optional words a value that may be unknown, "-" then.
func optional[T any](x *T, word func(T) string) string {
	if x == nil {
		return "-"
	}
	return word(*x)
}

// kept words a normalised accuracy.
func kept(x float64) string { return fmt.Sprintf("%.2f %%", 100*x) }

// pValue is empty where nothing was tested.
func pValue(p *float64) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%.3f", *p)
}

// between is an interval; a unit that both ends have stands once.
func between(low, high string) string {
	if n := strings.LastIndex(low, " "); n >= 0 && strings.HasSuffix(high, low[n:]) {
		low = low[:n]
	}
	return low + " to " + high
}

// group separates thousands in running text.
func group(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u00a0" + s[i:]
	}
	return s
}

// firstOf lists the first few names.
func firstOf(names []string, most int) string {
	text := strings.Join(names[:min(most, len(names))], ", ")
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return text
}

// plural is "1 layer", "2 layers".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return group(n) + " " + what + "s"
}

// verdict is a word for whether something is valid.
func verdict(valid bool) string {
	if valid {
		return "VALID"
	}
	return "INVALID"
}

// shorten keeps the end of a long name, which tells layers apart; clip keeps its beginning.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return "…" + string(r[len(r)-n+1:])
	}
	return s
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// fewNote explains the star at percentiles.
func fewNote() string {
	return fmt.Sprintf("* too few finished requests to claim it: that takes %d for p50, %d for p90, %d for p99",
		jobsFor(0.50), jobsFor(0.90), jobsFor(0.99))
}

func jobsFor(q float64) int { return stats.MinJobs(q, stats.ClaimConfidence, 0) }

// percentile words a percentile of the times of n finished requests: "-" of none,
// with a star where n are too few to claim it.
func percentile(ms, q float64, n int) string {
	switch {
	case n == 0:
		return "-"
	case !stats.Claimable(n, q):
		return msText(ms) + "*"
	}
	return msText(ms)
}

// percentiles are p50, p90 and p99.
func percentiles(p50, p90, p99 float64, n int) (string, string, string) {
	return percentile(p50, .5, n), percentile(p90, .9, n), percentile(p99, .99, n)
}

// sorted are a map's keys in order.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
